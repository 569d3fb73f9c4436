//! The files of a folder become one set of rules.

use std::fmt;

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::schema::{
    Advising, Age, Allow, AllowList, Ban, Integrity, Licensing, Naming, PolicyFile, Publishing,
    Waiver,
};
use super::words::{Mode, Verdict};

/// A policy file: its name, as errors show it, and what stands in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyText {
    /// The file's name.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Why files are no policy: everything that is wrong, the first failure of each file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct PolicyError {
    /// One at the least.
    pub problems: Vec<Problem>,
}

/// Something that is wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file's name.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there, and what is allowed.
    pub message: String,
}

/// All rules, merged; lists in an order that does not come from the files'.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Rules {
    pub(super) mode: Mode,
    pub(super) contact: Option<String>,
    pub(super) bans: Vec<Ban>,
    pub(super) allows: Vec<Allow>,
    pub(super) waivers: Vec<Waiver>,
    pub(super) allow_list: Option<AllowList>,
    pub(super) age: Option<Age>,
    pub(super) advisories: Option<Advising>,
    pub(super) licenses: Option<Licensing>,
    pub(super) names: Option<Naming>,
    pub(super) integrity: Integrity,
    pub(super) publish: Option<Publishing>,
}

/// Reads and merges files, whatever their order.
///
/// # Errors
/// What is not TOML or not in the schema, and what stands in two files though it may in one only.
pub(super) fn parse(files: &[PolicyText]) -> Result<Rules, PolicyError> {
    let mut files: Vec<_> = files.iter().collect();
    files.sort_by(|a, b| a.name.cmp(&b.name)); // so that problems do not depend on the order
    let (mut problems, mut read) = (Vec::new(), Vec::new());
    for file in files {
        match toml::from_str::<PolicyFile>(&file.text) {
            Ok(parsed) => read.push((file, parsed)),
            Err(error) => problems.push(not_in_the_schema(file, &error)),
        }
    }
    let mut merge = Merge { problems, ..Merge::default() };
    for (file, parsed) in read {
        merge.add(file, parsed);
    }
    match merge.problems.is_empty() {
        true => Ok(merge.finish()),
        false => Err(PolicyError { problems: merge.problems }),
    }
}

#[derive(Default)]
struct Merge<'a> {
    problems: Vec<Problem>,
    bans: Vec<Ban>,
    allows: Vec<Allow>,
    waivers: Vec<Waiver>,
    mode: Single<'a, Mode>,
    contact: Single<'a, String>,
    allow_list: Single<'a, AllowList>,
    age: Single<'a, Age>,
    advisories: Single<'a, Advising>,
    licenses: Single<'a, Licensing>,
    names: Single<'a, Naming>,
    integrity: Single<'a, Integrity>,
    publish: Single<'a, Publishing>,
}

/// What may stand in one file only, and where it stands.
type Single<'a, T> = Option<(&'a PolicyText, Spanned<T>)>;

impl<'a> Merge<'a> {
    fn add(&mut self, file: &'a PolicyText, parsed: PolicyFile) {
        self.bans.extend(parsed.ban);
        self.allows.extend(parsed.allow);
        for waiver in parsed.waiver {
            self.problems.extend(never_in_force(file, &waiver));
            self.waivers.push(waiver.into_inner());
        }
        let problems = &mut self.problems;
        problems.extend(parsed.integrity.as_ref().and_then(|found| not_to_be_had(file, found)));
        problems.extend(once("mode", file, &mut self.mode, parsed.mode));
        problems.extend(once("contact", file, &mut self.contact, parsed.contact));
        problems.extend(once("[allow_list]", file, &mut self.allow_list, parsed.allow_list));
        problems.extend(once("[age]", file, &mut self.age, parsed.age));
        problems.extend(once("[advisories]", file, &mut self.advisories, parsed.advisories));
        problems.extend(once("[licenses]", file, &mut self.licenses, parsed.licenses));
        problems.extend(once("[names]", file, &mut self.names, parsed.names));
        problems.extend(once("[integrity]", file, &mut self.integrity, parsed.integrity));
        problems.extend(once("[publish]", file, &mut self.publish, parsed.publish));
    }

    fn finish(self) -> Rules {
        Rules {
            mode: value(self.mode).unwrap_or_default(),
            contact: value(self.contact),
            bans: in_order(self.bans),
            allows: in_order(self.allows),
            waivers: in_order(self.waivers),
            allow_list: value(self.allow_list),
            age: value(self.age),
            advisories: value(self.advisories),
            licenses: value(self.licenses),
            names: value(self.names),
            integrity: value(self.integrity).unwrap_or_default(),
            publish: value(self.publish),
        }
    }
}

fn once<'a, T>(
    what: &str,
    file: &'a PolicyText,
    slot: &mut Single<'a, T>,
    found: Option<Spanned<T>>,
) -> Option<Problem> {
    let found = found?;
    let line = line_at(&file.text, found.span().start);
    let Some((first, former)) = slot else {
        *slot = Some((file, found));
        return None;
    };
    let former = line_at(&first.text, former.span().start);
    let message = format!(
        "`{what}` stands in `{}`, line {former}, too: write it in one of the two files",
        first.name
    );
    Some(Problem { file: file.name.clone(), line, message })
}

fn value<T>(single: Single<'_, T>) -> Option<T> {
    single.map(|(_, value)| value.into_inner())
}

/// By their content, so that neither findings nor the version depend on the order of files.
fn in_order<T: Serialize>(mut list: Vec<T>) -> Vec<T> {
    list.sort_by_cached_key(|item| serde_json::to_string(item).unwrap_or_default());
    list
}

fn never_in_force(file: &PolicyText, waiver: &Spanned<Waiver>) -> Option<Problem> {
    let (from, until) = (waiver.get_ref().from?, waiver.get_ref().until);
    let message = format!(
        "the waiver's first day {from} comes after its last, {until}: write a `from` that is not \
         later than `until`, or leave it out"
    );
    let line = line_at(&file.text, waiver.span().start);
    (from > until).then(|| Problem { file: file.name.clone(), line, message })
}

fn not_to_be_had(file: &PolicyText, integrity: &Spanned<Integrity>) -> Option<Problem> {
    let wanted = integrity.get_ref().version_removed;
    let message = format!(
        "`version_removed = \"{}\"` cannot be had, and `version_removed` is no setting any more: \
         remove it. A version that its upstream has removed is not listed here either, so that no \
         build can choose it",
        wanted.label()
    );
    let line = line_at(&file.text, integrity.span().start);
    (wanted != Verdict::Deny).then(|| Problem { file: file.name.clone(), line, message })
}

fn not_in_the_schema(file: &PolicyText, error: &toml::de::Error) -> Problem {
    let line = line_at(&file.text, error.span().map_or(0, |span| span.start));
    let message = error.message().chars().take(500);
    let message = message.map(|c| if c.is_control() { ' ' } else { c }).collect();
    Problem { file: file.name.clone(), line, message }
}

fn line_at(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, problem) in self.problems.iter().enumerate() {
            let separator = if nth == 0 { "" } else { "; " };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "policy file `{}`, line {}: {}", self.file, self.line, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> PolicyText {
        PolicyText { name: name.to_owned(), text: text.to_owned() }
    }

    fn refusal(text: &str) -> String {
        parse(&[file("a.toml", text)]).unwrap_err().to_string()
    }

    #[test]
    fn an_error_names_file_and_line_and_what_is_allowed() {
        for (text, line, hint) in [
            ("mode = \"warn\"", 1, "`enforce` or `observe`"),
            ("\nmodus = 1", 2, "expected one of `mode`"),
            ("[age]\nminimum = \"3 mice\"", 2, "36h"),
            ("[age]\nminimum = 3", 2, "string"),
            ("\n[age]\naction = \"hold\"", 2, "missing field `minimum`"),
            ("[[ban]]\nname = \"a b\"", 2, "write a crate name"),
            ("[[ban]]\nname = \"a\"\nversion = \"1.x.y.z\"", 3, ">=1.2, <1.4"),
            ("[[ban]]\nname = \"a\"\naction = \"warn\"", 3, "`allow`, `hold`, `deny`"),
            ("[[ban]]\nname = \"a\"\nsince = 1", 3, "expected one of"),
            ("[[allow]]\nname = \"a\"\naction = \"deny\"", 3, "unknown field `action`"),
            ("[licenses]\nallow = [\n\"MIT\",\n\"MTI\"]", 4, "SPDX"),
            ("[licenses]\ndeny = [\"MIT OR ISC\"]", 2, "not one licence"),
            ("[licenses]\ndeny = [\"MIT WITH LLVM-exception OR ISC\"]", 2, "not one licence"),
            ("[advisories]\nignore = [\"RUSTSEC_1\"]", 2, "RUSTSEC-…"),
            ("[advisories]\nignore = [{ id = \"CVE-1\", because = \"x\" }]", 2, "reason"),
            ("[age]\nminimum = \"1d\"\nexceptions = [{ name = \"a\", min = 1 }]", 3, "version"),
            ("[publish]\nrequire = [\n\"docs\"]", 3, "`rust-version`"),
            ("[names]\nexceptions = [\n\"ok\",\n\"no no\"]", 4, "write a crate name"),
            ("[[waiver]]\nname=\"a\"\nuntil=\"soon\"\nreason=\"\"\nwho=\"\"", 3, "2027-01-31"),
            (
                "[[waiver]]\nname=\"a\"\nuntil=2027-01-31T10:00:00Z\nreason=\"\"\nwho=\"\"",
                3,
                "2027",
            ),
            ("\n[[waiver]]\nname = \"a\"", 2, "missing field `until`"),
            ("x = [", 1, ""),
        ] {
            let refused = refusal(text);
            let place = format!("policy file `a.toml`, line {line}: ");
            assert!(refused.starts_with(&place) && refused.contains(hint), "{text:?}: {refused}");
        }
    }

    #[test]
    fn a_section_in_two_files_is_an_error_that_names_both() {
        let one = file("a.toml", "# x\n[age]\nminimum = \"1d\"");
        let other = file("b.toml", "[age]\nminimum = \"1d\"");
        for files in [[one.clone(), other.clone()], [other, one]] {
            let refused = parse(&files).unwrap_err().to_string();
            assert_eq!(
                refused,
                "policy file `b.toml`, line 1: `[age]` stands in `a.toml`, line 2, too: write it \
                 in one of the two files"
            );
        }
        let twice = [file("a.toml", "mode = \"observe\""), file("b.toml", "mode = \"observe\"")];
        assert_eq!(parse(&twice).unwrap_err().problems.len(), 1);
    }

    #[test]
    fn every_file_with_trouble_is_named() {
        let refused = parse(&[file("b.toml", "x = 1"), file("a.toml", "y = 1")]).unwrap_err();
        let files: Vec<_> = refused.problems.iter().map(|p| p.file.as_str()).collect();
        assert_eq!(files, ["a.toml", "b.toml"]);
    }

    #[test]
    fn a_waiver_that_can_never_be_in_force_is_refused() {
        let text = "[[waiver]]\nname = \"a\"\nfrom = 2027-02-01\nuntil = \"2027-01-31\"\n\
                    reason = \"r\"\nwho = \"w\"";
        assert!(refusal(text).contains("first day 2027-02-01"), "{}", refusal(text));
        assert!(parse(&[file("a.toml", &text.replace("-02-01", "-01-31"))]).is_ok());
    }

    #[test]
    fn a_removed_version_cannot_be_had_by_any_setting() {
        assert!(parse(&[file("a.toml", "[integrity]\nversion_removed = \"deny\"")]).is_ok());
        for action in ["allow", "hold"] {
            let text = format!("\n[integrity]\nversion_removed = \"{action}\"");
            let refused = refusal(&text);
            assert!(
                refused.contains("line 2") && refused.contains("no setting any more: remove it"),
                "{refused}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(\\[|\\]|=|\"|'|ban|age|name|x|1|\n|\\.|é| |#|,|\\{|\\}){0,60}") {
            let _ = parse(&[file("a.toml", &text)]);
        }
    }
}
