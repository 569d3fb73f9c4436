//! Who pulled what: the record of downloads, and questions about such records.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZero;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use cratehouse_core::checksum::Checksum;
use cratehouse_journal::principal::{Principal, TokenId, UserId};
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;
use cratehouse_policy::Requirement;

/// Downloads that were answered with the bytes: all those of one version by one token from one
/// address, on one day (UTC), between two writes of a replica. As JSON, a line of at most
/// [`MAX_LINE_BYTES`]. A later release may add fields, so unknown ones are passed over.
///
/// A record of a single download has neither `count` nor `last`, and is written as release 0.1
/// wrote each download. That release passes the two over: it reads a record as its first download.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pull {
    /// When the answer to the first of them was decided, by the replica's clock.
    pub time: Timestamp,
    /// The same of the last of them; absent: there was one alone, or all were at one time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
    /// How many they were; absent: one.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: NonZero<u64>,
    /// The crate.
    #[serde(rename = "crate")]
    pub krate: CrateName,
    /// The version.
    pub version: CrateVersion,
    /// SHA-256 of the bytes.
    pub checksum: Checksum,
    /// Who asked; nobody is known where reads need no token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Puller>,
    /// The IP address that the request came from: that of a proxy, where there is one. After 16 of one
    /// IPv6 network of 64 bits, the network's own (its other bits 0) stands for the further ones.
    pub address: IpAddr,
    /// The replica that answered.
    pub replica: String,
}

/// Who asked: numbers for the audit trail, the name for people, and never the token itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Puller {
    /// The user's name.
    pub login: String,
    /// The user.
    pub user: UserId,
    /// The token.
    pub token: TokenId,
}

fn one() -> NonZero<u64> {
    NonZero::<u64>::MIN
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_one(count: &NonZero<u64>) -> bool {
    *count == one()
}

/// A bound for one line, in bytes: name 64, version 150, login 64, replica 64, checksum 64, and the
/// rest of fixed size.
pub const MAX_LINE_BYTES: usize = 800;

/// `NAME[@REQ]`: the versions of a crate that a question is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The crate, in any spelling.
    pub name: CrateName,
    /// Its versions.
    pub versions: Versions,
}

/// Some versions of a crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Versions {
    /// All of them.
    All,
    /// A version written in full means itself, build metadata included: `foo@1.2.3+b` is another
    /// one. `foo@=1.2.3` means both.
    One(CrateVersion),
    /// A requirement, which sees pre-releases.
    Matching(Requirement),
}

/// What a question selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The crate and its versions.
    pub subject: Subject,
    /// Only pulls from here on.
    pub since: Option<Timestamp>,
    /// Only those of this user.
    pub user: Option<String>,
    /// Only those with this token.
    pub token: Option<TokenId>,
}

/// What a batch has for a question.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The selected ones, in the batch's order.
    pub pulls: Vec<Pull>,
    /// Lines that are no pulls: an answer without them may not be whole.
    pub unreadable: u64,
}

/// How many pulls each token made. Grows with the number of tokens, not with that of pulls.
#[derive(Debug, Clone, Default)]
pub struct Totals(BTreeMap<Option<Puller>, (u64, Timestamp)>);

impl From<&Principal> for Puller {
    fn from(who: &Principal) -> Self {
        Self { login: who.login.clone(), user: who.user, token: who.token }
    }
}

/// One JSON object a line.
///
/// # Errors
/// When a value has no form in JSON, which no pull's has.
pub fn encode<'a>(pulls: impl IntoIterator<Item = &'a Pull>) -> serde_json::Result<Vec<u8>> {
    let mut lines = Vec::new();
    for pull in pulls {
        serde_json::to_writer(&mut lines, pull)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

impl Selection {
    /// The selected ones among the lines of a batch.
    pub fn among(&self, lines: &[u8]) -> Found {
        let mut found = Found::default();
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<Pull>(line) {
                Ok(pull) if self.has(&pull) => found.pulls.push(pull),
                Ok(_) => {}
                Err(_) => found.unreadable += 1,
            }
        }
        found
    }

    /// A record that begins before `since` and goes on after it counts as a whole.
    fn has(&self, pull: &Pull) -> bool {
        self.since.is_none_or(|since| pull.last() >= since)
            && self.subject.has(pull)
            && self.is_by(pull)
    }

    fn is_by(&self, pull: &Pull) -> bool {
        let by = pull.by.as_ref();
        let user = |login: &String| by.is_some_and(|by| by.login.eq_ignore_ascii_case(login));
        self.user.as_ref().is_none_or(user)
            && self.token.is_none_or(|token| by.is_some_and(|by| by.token == token))
    }
}

impl Subject {
    fn has(&self, pull: &Pull) -> bool {
        self.name.key() == pull.krate.key() && self.versions.have(&pull.version)
    }
}

impl Versions {
    /// Whether a version is among them.
    pub fn have(&self, version: &CrateVersion) -> bool {
        match self {
            Self::All => true,
            Self::One(one) => one == version,
            Self::Matching(requirement) => requirement.matches(version),
        }
    }
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, versions) = match text.split_once('@') {
            None => (text, Versions::All),
            Some((name, wanted)) => (name, wanted.parse()?),
        };
        Ok(Self { name: name.parse().map_err(|e| format!("{e}"))?, versions })
    }
}

impl FromStr for Versions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(version) => Ok(Self::One(version)),
            Err(_) => text.parse().map(Self::Matching).map_err(|e| e.to_string()),
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.versions {
            Versions::All => write!(f, "{}", self.name),
            Versions::One(version) => write!(f, "{}@{version}", self.name),
            Versions::Matching(requirement) => write!(f, "{}@{requirement}", self.name),
        }
    }
}

/// The heads of the columns of [`Pull::line`].
pub const COLUMNS: &str = "time\tcrate\tversion\tuser\ttoken\taddress\treplica\tcount\tlast";

impl Pull {
    /// One download.
    pub fn single(
        time: Timestamp,
        (krate, version, checksum): (CrateName, CrateVersion, Checksum),
        by: Option<Puller>,
        address: IpAddr,
        replica: String,
    ) -> Self {
        Self { time, last: None, count: one(), krate, version, checksum, by, address, replica }
    }

    /// The same with so many downloads, the last of them at a time.
    #[must_use]
    pub fn repeated(self, count: NonZero<u64>, last: Timestamp) -> Self {
        let last = Some(last).filter(|last| *last > self.time); // a clock may be set back
        Self { count, last, ..self }
    }

    /// When the last of the downloads was.
    pub fn last(&self) -> Timestamp {
        self.last.unwrap_or(self.time)
    }

    /// For people, in the order of [`COLUMNS`]; `-` where nobody is known. No text of a record
    /// reaches a terminal with control characters.
    pub fn line(&self) -> String {
        let Pull { time, krate, version, by, address, replica, count, .. } = self;
        let (user, token) = match by {
            Some(by) => (plain(&by.login), by.token.to_string()),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let (replica, last) = (plain(replica), self.last());
        format!(
            "{time:.3}\t{krate}\t{version}\t{user}\t{token}\t{address}\t{replica}\t{count}\t\
             {last:.3}"
        )
    }
}

impl Totals {
    /// Counts the downloads of a record.
    pub fn add(&mut self, pull: &Pull) {
        let (count, last) = self.0.entry(pull.by.clone()).or_insert((0, pull.time));
        *count = count.saturating_add(pull.count.get());
        *last = (*last).max(pull.last());
    }

    /// All pulls, by whomever.
    pub fn pulls(&self) -> u64 {
        self.0.values().fold(0, |sum, (count, _)| sum.saturating_add(*count))
    }

    /// Who they were by, a line each, by login and token; nobody comes first.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(by, (count, last))| {
            let who = match by {
                Some(by) => {
                    format!("{} (user {}) with token {}", plain(&by.login), by.user, by.token)
                }
                None => "without a token".to_owned(),
            };
            format!("{who}: {count}, the last at {last:.0}")
        })
    }
}

fn plain(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
pub(crate) mod fixture {
    use super::*;

    /// A pull of `foo` with its time, version and login; `""`: nobody.
    pub(crate) fn pull(time: &str, version: &str, login: &str) -> Pull {
        let by = Puller { login: login.to_owned(), user: UserId(1), token: TokenId(7) };
        let krate = CrateName::parse("foo").unwrap();
        let what = (krate, version.parse().unwrap(), Checksum::of(b"foo"));
        let by = (!login.is_empty()).then_some(by);
        let address = IpAddr::from([10, 0, 0, 1]);
        Pull::single(time.parse().unwrap(), what, by, address, "test".to_owned())
    }

    /// Everything that is recorded about a subject.
    pub(crate) fn all_of(subject: &str) -> Selection {
        Selection { subject: subject.parse().unwrap(), since: None, user: None, token: None }
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::{all_of, pull};
    use super::*;

    const NOON: &str = "2026-11-22T12:00:00Z";

    #[test]
    fn a_pull_is_one_line_of_json_that_names_its_token_by_number_alone() {
        let known = pull(NOON, "1.0.0", "alice");
        let text = String::from_utf8(encode([&known]).unwrap()).unwrap();
        let sum = Checksum::of(b"foo");
        assert_eq!(
            text,
            format!(
                "{{\"time\":\"2026-11-22T12:00:00Z\",\"crate\":\"foo\",\"version\":\"1.0.0\",\
                 \"checksum\":\"{sum}\",\"by\":{{\"login\":\"alice\",\"user\":1,\"token\":7}},\
                 \"address\":\"10.0.0.1\",\"replica\":\"test\"}}\n"
            )
        );
        let nobody = pull(NOON, "1.0.0", "");
        let lines = encode([&known, &nobody]).unwrap();
        assert_eq!(all_of("foo").among(&lines).pulls, [known, nobody]);
    }

    #[test]
    fn a_record_of_many_says_how_many_and_until_when_and_one_of_release_0_1_is_one_download() {
        let (first, last) = (pull(NOON, "1.0.0", "alice"), "2026-11-22T12:00:59Z");
        let many = first.clone().repeated(NonZero::new(3).unwrap(), last.parse().unwrap());
        let text = String::from_utf8(encode([&many]).unwrap()).unwrap();
        assert!(text.contains("\"last\":\"2026-11-22T12:00:59Z\",\"count\":3,"), "{text}");
        assert_eq!(all_of("foo").among(text.as_bytes()).pulls.first(), Some(&many));
        let lines = encode([&many, &first]).unwrap();
        let mut totals = Totals::default();
        all_of("foo").among(&lines).pulls.iter().for_each(|pull| totals.add(pull));
        assert_eq!(totals.pulls(), 4);
        assert!(totals.lines().all(|line| line.ends_with(": 4, the last at 2026-11-22T12:00:59Z")));
        let since = |time: &str| {
            let selection = Selection { since: Some(time.parse().unwrap()), ..all_of("foo") };
            selection.among(&lines).pulls.len()
        };
        assert_eq!(
            (since(NOON), since("2026-11-22T12:00:30Z"), since("2026-11-22T12:01:00Z")),
            (2, 1, 0)
        );
        let nothing = text.replace("\"count\":3", "\"count\":0");
        assert_eq!(all_of("foo").among(nothing.as_bytes()).unreadable, 1);
    }

    #[test]
    fn the_longest_line_is_within_its_bound() {
        let mut longest = pull("2026-11-22T12:00:00.123456789Z", "1.0.0", &"a".repeat(64));
        longest.krate = CrateName::parse(&"a".repeat(64)).unwrap();
        longest.version = format!("1.0.0-{}", "a".repeat(144)).parse().unwrap();
        longest.replica = "r".repeat(64);
        longest.address = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap();
        let by = Puller { login: "a".repeat(64), user: UserId(u32::MAX), token: TokenId(u32::MAX) };
        longest.by = Some(by);
        let last = "2026-11-22T23:59:59.123456789Z".parse().unwrap();
        let longest = longest.repeated(NonZero::<u64>::MAX, last);
        assert!(encode([&longest]).unwrap().len() <= MAX_LINE_BYTES);
    }

    #[test]
    fn a_subject_is_a_name_in_any_spelling_one_version_or_a_requirement() {
        let asked = |subject: &str, krate: &str, version: &str| {
            let mut pull = pull(NOON, version, "");
            pull.krate = CrateName::parse(krate).unwrap();
            subject.parse::<Subject>().unwrap().has(&pull)
        };
        assert!(asked("foo-bar", "Foo_Bar", "1.0.0") && !asked("foo-bar", "foo", "1.0.0"));
        assert!(asked("foo@1.2.3", "foo", "1.2.3") && !asked("foo@1.2.3", "foo", "1.2.3+b"));
        assert!(asked("foo@1.2.3+b", "foo", "1.2.3+b") && !asked("foo@1.2.3+b", "foo", "1.2.3"));
        assert!(asked("foo@=1.2.3", "foo", "1.2.3") && asked("foo@=1.2.3", "foo", "1.2.3+b"));
        assert!(!asked("foo@=1.2.3+a", "foo", "1.2.3+b"));
        assert!(!asked("foo@1.2.3", "foo", "1.2.4") && !asked("foo@1.2.3", "foo", "1.2.3-rc.1"));
        assert!(asked("foo@1.2", "foo", "1.9.0") && asked("foo@<1.2.3", "foo", "1.2.3-rc.1"));
        assert!(asked("foo@>=1.2, <1.4", "foo", "1.3.0") && asked("foo@*", "foo", "0.0.0-0"));
        assert!("1foo".parse::<Subject>().is_err());
        assert!("foo@soon".parse::<Subject>().unwrap_err().contains("requirement"));
        for text in ["foo", "foo@1.2.3", "foo@>=1, <2"] {
            assert_eq!(text.parse::<Subject>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_selected_are_found_and_lines_that_cannot_be_read_are_counted() {
        let (early, late) = (pull(NOON, "1.0.0", ""), pull("2026-11-22T13:00:00Z", "2.0.0", ""));
        let mut lines = encode([&early, &late]).unwrap();
        lines.extend(b"{\"time\":\n\n");
        let mut selection = all_of("foo");
        selection.since = Some(late.time);
        assert_eq!(selection.among(&lines), Found { pulls: vec![late.clone()], unreadable: 1 });
        let newer = "{\"mood\":\"good\",".to_owned()
            + &String::from_utf8(encode([&late]).unwrap()).unwrap()[1..];
        assert_eq!(selection.among(newer.as_bytes()), Found { pulls: vec![late], unreadable: 0 });
    }

    #[test]
    fn people_read_who_and_how_often_without_control_characters() {
        let mut totals = Totals::default();
        for pull in [pull(NOON, "1.0.0", "al\u{1b}ice"), pull(NOON, "1.0.0", "")] {
            totals.add(&pull);
            totals.add(&pull);
        }
        assert_eq!(totals.pulls(), 4);
        assert_eq!(
            totals.lines().collect::<Vec<_>>(),
            [
                "without a token: 2, the last at 2026-11-22T12:00:00Z",
                "al ice (user 1) with token 7: 2, the last at 2026-11-22T12:00:00Z",
            ]
        );
        let line = pull(NOON, "1.0.0", "a\tb").line();
        assert_eq!(
            line,
            "2026-11-22T12:00:00.000Z\tfoo\t1.0.0\ta b\t7\t10.0.0.1\ttest\t1\t2026-11-22T12:00:00.000Z"
        );
        assert_eq!(line.split('\t').count(), COLUMNS.split('\t').count());
    }
}
