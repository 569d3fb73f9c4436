//! An upstream's index file: checked, and passed on byte for byte.

use std::borrow::Cow;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use url::Url;

use crate::edits::Edits;
use crate::index::{IndexFile, Listed};
use crate::name::CrateName;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::excerpt::excerpt;

/// An upstream's index file as it is served here.
#[derive(Debug, Clone)]
pub struct Mirrored {
    /// The lines; the very bytes of the upstream unless something had to change.
    pub lines: Bytes,
    /// What the lines say of each version's bytes.
    pub versions: Vec<Listed>,
    /// The lines that were left out.
    pub skipped: Skipped,
}

/// Lines that cargo would skip, and that are not passed on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skipped {
    /// How many they are.
    pub lines: u64,
    /// What is wrong with the first.
    pub first: Option<Unreadable>,
}

impl Skipped {
    fn note(&mut self, why: Unreadable) {
        self.lines += 1;
        self.first.get_or_insert(why);
    }
}

impl Mirrored {
    /// The file that is served; `body` is what was read, and `sum` its SHA-256. Compresses: run it
    /// off the async threads.
    pub fn render(self, body: &Bytes, sum: &Checksum) -> IndexFile {
        // Nothing had to change: then it is the checksum of the lines too.
        let same = self.lines.as_ptr() == body.as_ptr() && self.lines.len() == body.len();
        match same {
            true => IndexFile::summed(self.lines, sum, self.versions),
            false => IndexFile::new(self.lines, self.versions),
        }
    }
}

/// Why a line of an upstream's answer is left out; or why the whole is no index file: then it is a failure,
/// and nothing of it is served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// There is no line at all.
    #[error("the index file has no lines")]
    Empty,
    /// A line is not text.
    #[error("line {0} of the index file is not UTF-8")]
    NotText(usize),
    /// A line is not a JSON object with `name`, `vers` and `cksum`. A file that was cut short
    /// ends in one.
    #[error("line {0} of the index file is not an index line: {1}")]
    NotALine(usize, String),
    /// A line is about another crate.
    #[error("line {0} of the index file is about another crate")]
    OtherName(usize),
    /// A line's `cksum` is no SHA-256.
    #[error("line {0} of the index file has no SHA-256 checksum")]
    NoChecksum(usize),
    /// A line's `vers` is no SemVer.
    #[error("line {0} of the index file has no version that cargo reads")]
    NoVersion(usize),
    /// Not one line can be read; what is wrong with the first.
    #[error("the index file has no line that can be read: {0}")]
    NoneReadable(Box<Unreadable>),
}

/// The index URLs that become null in the dependencies of a chained-in registry: its own, and
/// every one of ours. Empty for crates.io and its mirrors, whose lines pass verbatim.
#[derive(Debug, Clone, Default)]
pub struct OwnRegistries(Vec<String>);

impl OwnRegistries {
    /// From index URLs, with or without `sparse+`.
    pub fn new<'a>(urls: impl IntoIterator<Item = &'a str>) -> Self {
        Self(urls.into_iter().map(plain_url).collect())
    }

    fn has(&self, url: &str) -> bool {
        let url = plain_url(url);
        self.0.contains(&url)
    }
}

/// An index URL without `sparse+`, default port and final slash, so that two spellings of one
/// URL compare equal.
fn plain_url(text: &str) -> String {
    let text = text.strip_prefix("sparse+").unwrap_or(text);
    let url = Url::parse(text).map_or_else(|_| text.to_owned(), |url| url.to_string());
    url.trim_end_matches('/').to_owned()
}

/// Reads an upstream's index file of the crate `name` (compared without case). Parses the whole
/// file: run it off the async threads.
///
/// A line that cannot be read is left out, as cargo leaves it out: one bad line must not take the whole
/// crate away. But the end of an answer that was cut short is such a line too, one without its newline;
/// and a line about another crate shows that the whole answer is not what was asked for.
///
/// # Errors
/// [`Unreadable`] when the answer was cut short, is about another crate, or has no line that can be read.
pub fn read(body: &Bytes, name: &CrateName, own: &OwnRegistries) -> Result<Mirrored, Unreadable> {
    let (body, skipped) = as_text(body)?;
    let text = std::str::from_utf8(&body).map_err(|_| Unreadable::NotText(1))?;
    let mut reading = Reading {
        own,
        spelled: name.clone(),
        versions: Vec::new(),
        skipped,
        edits: Edits::new(text),
    };
    for (at, line) in text.split_inclusive('\n').enumerate() {
        reading.line(line, at + 1)?;
    }
    let Reading { versions, skipped, edits, .. } = reading;
    match (versions.is_empty(), skipped.first.clone()) {
        (true, None) => Err(Unreadable::Empty),
        (true, Some(first)) => Err(Unreadable::NoneReadable(Box::new(first))),
        _ => Ok(Mirrored { lines: edits.apply(&body), versions, skipped }),
    }
}

/// The body without the lines that are no UTF-8: hardly ever another one than it came.
fn as_text(body: &Bytes) -> Result<(Bytes, Skipped), Unreadable> {
    let mut skipped = Skipped::default();
    if std::str::from_utf8(body).is_ok() {
        return Ok((body.clone(), skipped));
    }
    let mut kept = Vec::with_capacity(body.len());
    for (at, line) in body.split_inclusive(|byte| *byte == b'\n').enumerate() {
        match std::str::from_utf8(line) {
            Ok(_) => kept.extend_from_slice(line),
            Err(_) if line.ends_with(b"\n") => skipped.note(Unreadable::NotText(at + 1)),
            Err(_) => return Err(Unreadable::NotText(at + 1)),
        }
    }
    Ok((kept.into(), skipped))
}

/// A file that is being read, line by line.
struct Reading<'a, 'o> {
    own: &'o OwnRegistries,
    /// The name as the line before had it: most share one text.
    spelled: CrateName,
    versions: Vec<Listed>,
    skipped: Skipped,
    edits: Edits<'a>,
}

impl<'a> Reading<'a, '_> {
    fn line(&mut self, line: &'a str, at: usize) -> Result<(), Unreadable> {
        if line.trim().is_empty() {
            self.edits.replace(line, "");
            return Ok(());
        }
        let parsed = Line::parse(line, at);
        let (parsed, listed) = match parsed.and_then(|l| Ok((l.check(&mut self.spelled, at)?, l))) {
            Ok((listed, parsed)) => (parsed, listed),
            // What cargo skips, unless it is the torn end of a file.
            Err(Unreadable::OtherName(at)) => return Err(Unreadable::OtherName(at)),
            Err(why) if line.ends_with('\n') => {
                self.edits.replace(line, "");
                self.skipped.note(why);
                return Ok(());
            }
            Err(why) => return Err(why),
        };
        self.versions.push(listed);
        if let Some(deps) = parsed.deps.filter(|_| !self.own.0.is_empty()) {
            for registry in registries(deps, self.own) {
                self.edits.replace(registry, "null");
            }
        }
        if !line.ends_with('\n') {
            self.edits.replace(line.get(line.len()..).unwrap_or_default(), "\n");
        }
        Ok(())
    }
}

/// What we read of a line. Everything else in it is cargo's business.
#[derive(Deserialize)]
pub struct Line<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    /// The version, as it stands there.
    #[serde(borrow)]
    pub vers: Cow<'a, str>,
    #[serde(borrow)]
    cksum: Cow<'a, str>,
    /// As it stands there, `null` too.
    #[serde(borrow, default, deserialize_with = "as_it_stands")]
    pub yanked: Option<&'a RawValue>,
    #[serde(borrow, default)]
    deps: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pubtime: Option<&'a RawValue>,
}

fn as_it_stands<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

impl<'a> Line<'a> {
    /// Reads line number `at` of a file.
    ///
    /// # Errors
    /// When it is no line of an index.
    pub fn parse(line: &'a str, at: usize) -> Result<Self, Unreadable> {
        // serde would also take an array for a struct.
        if !line.trim_start().starts_with('{') {
            return Err(Unreadable::NotALine(at, "it is not a JSON object".to_owned()));
        }
        serde_json::from_str(line).map_err(|e| Unreadable::NotALine(at, excerpt(&e.to_string())))
    }

    /// `spelled` is the name as the line before had it: most share one text.
    fn check(&self, spelled: &mut CrateName, at: usize) -> Result<Listed, Unreadable> {
        if self.name != spelled.as_str() {
            let name = CrateName::parse(&self.name).map_err(|_| Unreadable::OtherName(at))?;
            if !name.as_str().eq_ignore_ascii_case(spelled.as_str()) {
                return Err(Unreadable::OtherName(at));
            }
            *spelled = name;
        }
        let name = spelled.clone();
        let cksum: Checksum = self.cksum.parse().map_err(|_| Unreadable::NoChecksum(at))?;
        let yanked = self.yanked.is_some_and(|yanked| yanked.get() == "true");
        let version = self.vers.parse().map_err(|_| Unreadable::NoVersion(at))?;
        let pubtime = self.pubtime();
        Ok(Listed { name, version, cksum, yanked, pubtime })
    }

    /// When the version was published; one that is no time is as good as none.
    fn pubtime(&self) -> Option<Timestamp> {
        let text: Cow<'_, str> = serde_json::from_str(self.pubtime?.get()).ok()?;
        text.parse().ok()
    }
}

#[derive(Deserialize)]
struct Dep<'a> {
    #[serde(borrow, default)]
    registry: Option<&'a RawValue>,
}

/// The `registry` values of a line's dependencies that name a registry of ours, as they stand
/// in the line.
fn registries<'a>(deps: &'a RawValue, own: &OwnRegistries) -> Vec<&'a str> {
    let deps: Vec<Dep<'a>> = serde_json::from_str(deps.get()).unwrap_or_default();
    let ours = |value: &&str| {
        serde_json::from_str::<Cow<'_, str>>(value).is_ok_and(|registry| own.has(&registry))
    };
    deps.iter().filter_map(|dep| dep.registry.map(RawValue::get)).filter(ours).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUM: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn line(name: &str, vers: &str) -> String {
        format!(
            r#"{{"name":"{name}","vers":"{vers}","deps":[],"cksum":"{SUM}","features":{{}},"yanked":false,"new":1}}"#
        )
    }

    fn read_text(text: impl Into<String>) -> Result<Mirrored, Unreadable> {
        read(&Bytes::from(text.into()), &"foo".parse().unwrap(), &OwnRegistries::default())
    }

    #[test]
    fn an_ordinary_file_passes_without_a_copy() {
        let body = Bytes::from(format!("{}\n{}\n", line("Foo", "1.0.0"), line("foo", "1.1.0+b")));
        let read =
            read(&body, &"foo".parse().unwrap(), &OwnRegistries::new(["https://x/"])).unwrap();
        assert_eq!(read.lines.as_ptr(), body.as_ptr());
        assert_eq!(read.lines, body);
        let listed: Vec<_> =
            read.versions.iter().map(|v| format!("{} {}", v.name, v.version)).collect();
        assert_eq!(listed, ["Foo 1.0.0", "foo 1.1.0+b"]);
    }

    #[test]
    fn an_etag_is_of_the_lines_whether_or_not_they_are_the_body() {
        let line = line("foo", "1.0.0");
        for end in ["\n", ""] {
            let body = Bytes::from(format!("{line}{end}"));
            let own = OwnRegistries::default();
            let read = read(&body, &"foo".parse().unwrap(), &own).unwrap();
            let file = read.render(&body, &Checksum::of(&body));
            let expected = IndexFile::new(Bytes::from(format!("{line}\n")), Vec::new());
            assert_eq!(file.identity.etag, expected.identity.etag);
        }
    }

    #[test]
    fn a_missing_final_newline_is_added_and_blank_lines_vanish() {
        let (a, b) = (line("foo", "1.0.0"), line("foo", "2.0.0"));
        let expected = format!("{a}\n{b}\n");
        for text in [format!("\n{a}\n\n \n{b}"), format!("{a}\n{b}\n  ")] {
            assert_eq!(read_text(text).unwrap().lines, expected);
        }
    }

    #[test]
    fn spaces_escapes_and_other_orders_are_fine() {
        let text = format!(
            "{{ \"vers\" : \"1.0.0\", \"cksum\": \"{SUM}\", \"name\": \"f\\u006fo\", \"yanked\": true }}\r\n"
        );
        let read = read_text(text.clone()).unwrap();
        assert_eq!(read.lines, text);
        assert!(read.versions[0].yanked);
    }

    #[test]
    fn a_line_that_cargo_skips_is_left_out_and_counted() {
        let (a, b) = (line("foo", "1.0.0"), line("foo", "1.1.0"));
        let sum = line("foo", "2.0.0").replace("ba78", "");
        let vers = line("foo", "not a version");
        let cut = &a[..a.len() - 10];
        for odd in ["<html>", "[\"foo\",\"1.0.0\"]", "null", "{}", cut, &sum, &vers] {
            let read = read_text(format!("{odd}\n{a}\n{odd}\n{odd}\n{b}\n{odd}\n")).unwrap();
            assert_eq!(read.lines, format!("{a}\n{b}\n"), "{odd}");
            assert_eq!((read.versions.len(), read.skipped.lines), (2, 4), "{odd}");
        }
        let binary = [a.as_bytes(), b"\n\xff\n", b.as_bytes(), b"\n"].concat();
        let read = read(&Bytes::from(binary), &"foo".parse().unwrap(), &OwnRegistries::default());
        let read = read.unwrap();
        assert_eq!(read.lines, format!("{a}\n{b}\n"));
        assert_eq!(read.skipped, Skipped { lines: 1, first: Some(Unreadable::NotText(2)) });
    }

    #[test]
    fn the_time_of_publication_is_read_where_there_is_one() {
        let with = |field: &str| format!("{}\n", line("foo", "1.0.0").replace("\"new\":1", field));
        let pubtime = |field: &str| read_text(with(field)).unwrap().versions[0].pubtime;
        let expected = "2025-11-01T10:00:00Z".parse().unwrap();
        assert_eq!(pubtime(r#""pubtime":"2025-11-01T10:00:00Z""#), Some(expected));
        for none in [r#""new":1"#, r#""pubtime":null"#, r#""pubtime":17"#, r#""pubtime":"today""#] {
            assert_eq!(pubtime(none), None, "{none}");
        }
    }

    #[test]
    fn a_torn_end_another_crate_and_nothing_readable_are_trouble() {
        let good = line("foo", "1.0.0");
        assert_eq!(read_text("").unwrap_err(), Unreadable::Empty);
        assert_eq!(read_text("\n \n").unwrap_err(), Unreadable::Empty);
        let other = read_text(format!("{good}\n{}\n", line("fop", "1.0.0"))).unwrap_err();
        assert_eq!(other, Unreadable::OtherName(2));
        let sum = read_text(good.replace("ba78", "")).unwrap_err();
        assert_eq!(sum, Unreadable::NoChecksum(1));
        for nothing in ["<html>\n", "{}\n{}\n", "\n[]\n", &format!("{}\n", line("foo", "1"))] {
            let failure = read_text(nothing).unwrap_err();
            assert!(matches!(failure, Unreadable::NoneReadable(_)), "{nothing}: {failure}");
        }
        let cut = &good[..good.len() - 10];
        for bad in ["<html>", "[\"foo\",\"1.0.0\"]", "null", "{}", cut] {
            let failure = read_text(format!("{good}\n{bad}")).unwrap_err();
            assert!(matches!(failure, Unreadable::NotALine(2, _)), "{bad}: {failure}");
        }
        let binary = Bytes::from([good.as_bytes(), b"\n\xff"].concat());
        let own = OwnRegistries::default();
        let failure = read(&binary, &"foo".parse().unwrap(), &own).unwrap_err();
        assert_eq!(failure, Unreadable::NotText(2));
    }

    #[test]
    fn registries_of_ours_become_null_and_nothing_else_changes() {
        let text = format!(
            concat!(
                r#"{{"name": "foo","vers":"1.0.0","cksum":"{}","deps":["#,
                r#"{{"name":"a","registry":"sparse+https://Up.example:443/index/"}},"#,
                r#"{{"name":"b","registry" : "https:\/\/gw.example/index"}},"#,
                r#"{{"name":"c","registry":null}},{{"name":"d"}},"#,
                r#"{{"name":"e","registry":"https://github.com/rust-lang/crates.io-index"}}"#,
                r#"],"x":[1, 2]}}"#,
                "\n"
            ),
            SUM
        );
        let expected = text
            .replace(r#""sparse+https://Up.example:443/index/""#, "null")
            .replace(r#""https:\/\/gw.example/index""#, "null");
        let own = OwnRegistries::new(["https://up.example/index/", "https://gw.example/index/"]);
        let body = Bytes::from(text);
        assert_eq!(read(&body, &"foo".parse().unwrap(), &own).unwrap().lines, expected);
        assert_eq!(read_text(String::from_utf8_lossy(&body)).unwrap().lines, body);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_file_or_trouble(bytes in proptest::collection::vec(0u8..255, 0..200)) {
            let own = OwnRegistries::new(["https://x/"]);
            let _ = read(&Bytes::from(bytes), &"foo".parse().unwrap(), &own);
        }

        #[test]
        fn a_file_cut_short_anywhere_lists_no_version_that_the_whole_does_not(cut in 0usize..400) {
            let whole = format!("{}\n{}\n", line("foo", "1.0.0"), line("foo", "1.1.0"));
            if let Ok(read) = read_text(&whole[..cut.min(whole.len())]) {
                assert!(whole.starts_with(std::str::from_utf8(&read.lines).unwrap()));
            }
        }
    }
}
