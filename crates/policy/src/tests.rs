//! Table tests of the rules.

use super::*;
use cratehouse_core::checksum::Checksum;
use cratehouse_package::index::Listed;
use cratehouse_package::version::CrateVersion;

pub(super) fn policy(text: &str) -> Policy {
    Policy::parse(&[PolicyText { name: "policy.toml".to_owned(), text: text.to_owned() }])
        .unwrap_or_else(|error| panic!("{error}"))
}

/// A version and its facts, owned.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: CrateName,
    pub(super) version: CrateVersion,
    pub(super) upstream: Option<&'static str>,
    pub(super) age: AgeFact,
    pub(super) yanked: bool,
    pub(super) license: Option<LicenseFact>,
    pub(super) integrity: IntegrityFact,
}

impl Case {
    pub(super) fn new(spec: &str) -> Self {
        let (name, version) = spec.split_once(' ').unwrap_or((spec, "1.0.0"));
        Self {
            name: name.parse().unwrap(),
            version: version.parse().unwrap(),
            upstream: Some("crates-io"),
            age: AgeFact::Old,
            yanked: false,
            license: Some(LicenseFact::Stated("MIT".to_owned())),
            integrity: IntegrityFact::Sound,
        }
    }

    fn hosted(spec: &str) -> Self {
        Self { upstream: None, ..Self::new(spec) }
    }

    fn licensed(fact: LicenseFact) -> Self {
        Self { license: Some(fact), ..Self::new("foo") }
    }

    pub(super) fn judged(&self, policy: &Policy, db: Option<&Advisories>, now: &str) -> Judgement {
        let source = self.upstream.map_or(Source::Hosted, |upstream| Source::Mirrored { upstream });
        let subject = Subject {
            name: &self.name,
            version: &self.version,
            source,
            age: self.age,
            yanked: self.yanked,
            license: self.license.as_ref(),
            integrity: self.integrity,
        };
        policy.judge(&subject, db, at(now))
    }

    fn verdict(&self, text: &str) -> Verdict {
        self.judged(&policy(text), None, NOW).verdict
    }
}

pub(super) const NOW: &str = "2026-06-15T12:00:00Z";

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn advisory(id: &str, name: &str, more: &str, versions: &str) -> String {
    format!(
        "```toml\n[advisory]\nid = \"{id}\"\npackage = \"{name}\"\ndate = \"2026-01-02\"\n{more}\n\
         [versions]\n{versions}\n```\n\n# A title\n\nWords.\n"
    )
}

fn database(files: &[String]) -> Advisories {
    Advisories::of(files.iter().filter_map(|text| Advisory::parse(text).unwrap())).unwrap()
}

const CRITICAL: &str =
    "cvss = \"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H\"\naliases = [\"CVE-2026-1\"]";
const LOW: &str = "cvss = \"CVSS:3.1/AV:L/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N\"";
const VERSION_4: &str =
    "cvss = \"CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:H/SI:H/SA:H\"";

#[test]
fn no_policy_allows_everything() {
    let case = Case { age: AgeFact::Unknown, yanked: true, license: None, ..Case::new("foo") };
    let judged = case.judged(&Policy::default(), None, NOW);
    assert_eq!(judged, Judgement::default());
    assert_eq!(policy("").version(), Policy::default().version());
}

#[test]
fn a_ban_concerns_the_versions_that_it_names() {
    let text = "[[ban]]\nname = \"Evil-*\"\nversion = \"<1.2.0\"\nreason = \"steals keys\"";
    assert_eq!(Case::new("evil_one 1.2.0-rc.1").verdict(text), Verdict::Deny);
    assert_eq!(Case::hosted("evil-one 1.1.0").verdict(text), Verdict::Deny);
    assert_eq!(Case::new("evil-one 1.2.0").verdict(text), Verdict::Allow);
    assert_eq!(Case::new("evi 1.0.0").verdict(text), Verdict::Allow);
    let from = format!("{text}\naction = \"hold\"\nupstream = \"crates-io\"");
    assert_eq!(Case::new("evil-one").verdict(&from), Verdict::Hold);
    assert_eq!(Case::hosted("evil-one").verdict(&from), Verdict::Allow);
    let elsewhere = Case { upstream: Some("other"), ..Case::new("evil-one") };
    assert_eq!(elsewhere.verdict(&from), Verdict::Allow);
}

#[test]
fn an_allow_lifts_bans_and_nothing_else() {
    let text = "[[ban]]\nname = \"*\"\n[[allow]]\ncrate = \"foo\"\nversion = \"1\"\n[age]\nminimum = \"3d\"";
    assert_eq!(Case::new("foo 1.9.0").verdict(text), Verdict::Allow);
    assert_eq!(Case::new("foo 2.0.0").verdict(text), Verdict::Deny);
    let young = Case { age: AgeFact::Published(at("2026-06-15T00:00:00Z")), ..Case::new("foo") };
    assert_eq!(young.verdict(text), Verdict::Hold);
    let judged = Case::new("foo").judged(&policy(text), None, NOW);
    assert_eq!(judged.allowed_by.as_deref(), Some("`foo` 1"));
}

#[test]
fn an_allow_list_has_what_it_names() {
    let text = "[allow_list]\n[[allow]]\nname = \"foo\"";
    assert_eq!(Case::new("foo").verdict(text), Verdict::Allow);
    assert_eq!(Case::new("bar").verdict(text), Verdict::Deny);
    assert_eq!(Case::hosted("bar").verdict(text), Verdict::Allow);
    assert_eq!(Case::hosted("bar").verdict("[allow_list]\nhosted = true"), Verdict::Deny);
    assert_eq!(Case::new("bar").verdict("[allow_list]\naction = \"hold\""), Verdict::Hold);
    let other = "[allow_list]\nupstreams = [\"other\"]";
    assert_eq!(Case::new("bar").verdict(other), Verdict::Allow);
}

#[test]
fn a_young_version_is_held_until_its_age() {
    let text =
        "[age]\nminimum = \"3d\"\nexceptions = [\"acme-*\", { name = \"bar\", version = \"2\" }]";
    let rules = policy(text);
    let published = at("2026-06-15T00:00:00Z");
    for age in [AgeFact::Published(published), AgeFact::FirstSeen(published)] {
        let case = Case { age, ..Case::new("foo") };
        let judged = case.judged(&rules, None, NOW);
        let end = at("2026-06-18T00:00:00Z");
        assert_eq!((judged.verdict, judged.changes_at), (Verdict::Hold, Some(end)));
        assert_eq!(
            (judged.findings[0].since, judged.findings[0].until),
            (Some(published), Some(end))
        );
        assert_eq!(case.judged(&rules, None, "2026-06-17T23:59:59Z").verdict, Verdict::Hold);
        assert_eq!(case.judged(&rules, None, "2026-06-18T00:00:00Z"), Judgement::default());
        assert_eq!(Case { age, ..Case::hosted("foo") }.verdict(text), Verdict::Allow);
        assert_eq!(Case { age, ..Case::new("acme-x") }.verdict(text), Verdict::Allow);
        assert_eq!(Case { age, ..Case::new("bar 2.1.0") }.verdict(text), Verdict::Allow);
        assert_eq!(Case { age, ..Case::new("bar 1.1.0") }.verdict(text), Verdict::Hold);
    }
    let unknown = Case { age: AgeFact::Unknown, ..Case::new("foo") };
    assert_eq!(unknown.verdict(text), Verdict::Hold);
    assert_eq!(unknown.verdict("[age]\nminimum = \"3d\"\nunknown = \"allow\""), Verdict::Allow);
    assert_eq!(Case::new("foo").verdict(text), Verdict::Allow);
    let end_of_time = Case { age: AgeFact::Published(Timestamp::MAX), ..Case::new("foo") };
    assert_eq!(end_of_time.verdict(text), Verdict::Hold);
}

#[test]
fn advisories_count_by_kind_and_severity() {
    let patched = "patched = [\">=1.2.0\"]";
    let db = database(&[
        advisory("RUSTSEC-2026-0001", "bad-crit", CRITICAL, patched),
        advisory("RUSTSEC-2026-0002", "bad_low", LOW, patched),
        advisory("RUSTSEC-2026-0003", "bad", "", patched),
        advisory("RUSTSEC-2026-0004", "shaky", "informational = \"unsound\"", patched),
        advisory("RUSTSEC-2026-0005", "left", "informational = \"unmaintained\"", "patched = []"),
        advisory("RUSTSEC-2026-0006", "noted", "informational = \"else\"", patched),
        advisory("RUSTSEC-2026-0007", "wrong", "withdrawn = \"2026-02-01\"", patched),
        advisory("RUSTSEC-2026-0008", "new-cvss", VERSION_4, patched),
        advisory("RUSTSEC-2026-0009", "evil", "aliases = [\"MAL-2026-1\"]", "patched = []"),
        advisory("RUSTSEC-2026-0010", "vile", "categories = [\"malicious\"]", "patched = []"),
        advisory("RUSTSEC-2026-0011", "gone", "expect-deleted = true", "patched = []"),
    ]);
    assert_eq!(db.len(), 10);
    let verdict = |text: &str, spec: &str| {
        let mut case = Case::new(spec);
        case.yanked = spec.starts_with("yanked");
        case.judged(&policy(text), Some(&db), NOW).verdict
    };
    let text = "[advisories]\ncritical = \"deny\"\nlow = \"allow\"";
    for (spec, expected) in [
        ("bad-crit", Verdict::Deny),
        ("bad_crit 1.2.0-rc.1", Verdict::Deny),
        ("bad-crit 1.2.0", Verdict::Allow),
        ("bad-crit 1.2.0+b", Verdict::Allow),
        ("bad-low", Verdict::Allow),
        ("bad", Verdict::Hold),
        ("shaky", Verdict::Allow),
        ("left 9.0.0", Verdict::Allow),
        ("noted", Verdict::Allow),
        ("wrong", Verdict::Allow),
        ("new-cvss", Verdict::Deny),
        ("yanked", Verdict::Allow),
        ("evil", Verdict::Deny),
        ("vile", Verdict::Deny),
        ("gone", Verdict::Deny),
    ] {
        assert_eq!(verdict(text, spec), expected, "{spec}");
    }
    let mild = "[advisories]\nmalicious = \"hold\"";
    assert_eq!(verdict(mild, "evil"), Verdict::Hold);
    let strict = "[advisories]\nvulnerability = \"deny\"\nunsound = \"hold\"\nunmaintained = \"hold\"\n\
                  notice = \"hold\"\nyanked = \"deny\"\nignore = [\"RUSTSEC-2026-0003\", { id = \"CVE-2026-1\" }]";
    for (spec, expected) in [
        ("bad-low", Verdict::Deny),
        ("bad-crit", Verdict::Allow),
        ("bad", Verdict::Allow),
        ("shaky", Verdict::Hold),
        ("left 9.0.0", Verdict::Hold),
        ("noted", Verdict::Hold),
        ("yanked", Verdict::Deny),
    ] {
        assert_eq!(verdict(strict, spec), expected, "{spec}");
    }
    let silent = Case::new("bad-crit").judged(&policy(text), None, NOW);
    assert_eq!(silent.verdict, Verdict::Allow, "without a database");
    assert_eq!(
        Case::hosted("bad-crit").judged(&policy(text), Some(&db), NOW).verdict,
        Verdict::Allow
    );
    let judged = Case::new("bad-crit").judged(&policy(text), Some(&db), NOW);
    assert_eq!(judged.findings[0].advisory.as_deref(), Some("RUSTSEC-2026-0001"));
    assert_eq!(judged.findings[0].since, Some(at("2026-01-02T00:00:00Z")));
    assert!(judged.findings[0].reason.contains("critical vulnerability, https://"));
}

#[test]
fn what_is_no_advisory_is_refused() {
    for bad in [
        "",
        "é".repeat(20).as_str(),
        "```toml\n```",
        "```toml\n[advisory]\nid = \"RUSTSEC-2026-0001\"\n```\n# T\nx",
        &advisory("RUSTSEC-2026-0001", "a b", "", "patched = []"),
        &advisory("RUSTSEC-2026-0001", "a", "cvss = \"CVSS:9.0/X:Y\"", "patched = []"),
        &advisory("RUSTSEC-2026-0001", "a", "", "fixed = []"),
    ] {
        assert!(Advisory::parse(bad).is_err(), "{bad}");
    }
    let windows = advisory("RUSTSEC-2026-0001", "a", "", "patched = []").replace('\n', "\r\n");
    assert!(Advisory::parse(&windows).unwrap().is_some());
    let draft = advisory("RUSTSEC-0000-0000", "a", "", "patched = []");
    assert!(Advisory::parse(&draft).unwrap().is_none());
}

#[test]
fn licences_are_read_as_crates_write_them() {
    let allow = "[licenses]\nallow = [\"MIT\", \"Apache-2.0\", \"Apache-2.0 WITH LLVM-exception\", \"Unicode-3.0\"]";
    let deny = "[licenses]\ndeny = [\"GPL-3.0-only\", \"AGPL-3.0\"]";
    let (good, bad) = (Verdict::Allow, Verdict::Deny);
    for (text, by_allow, by_deny) in [
        ("MIT", good, good),
        ("MIT/Apache-2.0", good, good),
        ("MIT / Apache-2.0", good, good),
        ("MIT OR GPL-3.0", good, good),
        ("GPL-3.0+/MIT", good, good),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", good, good),
        ("MIT AND BSD-3-Clause", bad, good),
        ("Apache-2.0 WITH LLVM-exception", good, good),
        ("MIT AND GPL-3.0-or-later", bad, bad),
        ("GPL-3.0", bad, bad),
        ("GPL-3.0-only WITH Classpath-exception-2.0", bad, bad),
        ("GPL-2.0-or-later", bad, good),
        ("AGPL-3.0-or-later", bad, bad),
        ("LicenseRef-acme", bad, good),
        ("proprietary", bad, bad),
        ("", bad, bad),
        ("MIT OR", bad, bad),
    ] {
        let case = Case::licensed(LicenseFact::of(Some(text), None));
        assert_eq!(case.verdict(allow), by_allow, "{text}");
        assert_eq!(case.verdict(deny), by_deny, "{text}");
    }
}

#[test]
fn missing_and_unparsable_licences_have_their_own_action() {
    let text = "[licenses]\nallow = [\"MIT\"]\nmissing = \"hold\"\nunparsable = \"allow\"";
    let verdict = |license, file| Case::licensed(LicenseFact::of(license, file)).verdict(text);
    assert_eq!(verdict(None, None), Verdict::Hold);
    assert_eq!(verdict(Some(" "), None), Verdict::Hold);
    assert_eq!(verdict(None, Some("LICENSE")), Verdict::Hold);
    assert_eq!(verdict(Some("ours"), None), Verdict::Allow);
    assert_eq!(verdict(Some("ISC"), Some("LICENSE")), Verdict::Deny);
    assert_eq!(verdict(Some(&"(".repeat(100_000)), None), Verdict::Allow);
}

#[test]
fn exceptions_make_more_licences_good_for_some_crates() {
    let text = "[licenses]\nallow = [\"MIT\"]\ndeny = [\"ISC\"]\nexceptions = [\n\
        { name = \"foo\", version = \"<2\", allow = [\"ISC\"] }, { crate = \"acme-*\" }]";
    let licensed = |spec: &str, license| Case { license: Some(license), ..Case::new(spec) };
    let isc = || LicenseFact::Stated("MIT AND ISC".to_owned());
    assert_eq!(licensed("foo", isc()).verdict(text), Verdict::Allow);
    assert_eq!(licensed("foo 2.0.0", isc()).verdict(text), Verdict::Deny);
    assert_eq!(licensed("bar", isc()).verdict(text), Verdict::Deny);
    assert_eq!(licensed("acme-x", LicenseFact::Missing).verdict(text), Verdict::Allow);
    assert_eq!(Case { license: Some(isc()), ..Case::hosted("bar") }.verdict(text), Verdict::Allow);
    let hosted = format!("{text}\nhosted = true");
    assert_eq!(
        Case { license: Some(isc()), ..Case::hosted("bar") }.verdict(&hosted),
        Verdict::Deny
    );
}

#[test]
fn a_licence_is_read_when_it_could_change_the_verdict() {
    let read = |text: &str, case: Case| {
        Case { license: None, ..case }.judged(&policy(text), None, NOW).read_license
    };
    let text = "[licenses]\nallow = [\"MIT\"]\n";
    assert_eq!(read(text, Case::new("foo")), ReadLicense::BeforeDownload);
    assert_eq!(read(text, Case::hosted("foo")), ReadLicense::No);
    assert_eq!(read("", Case::new("foo")), ReadLicense::No);
    let observed = format!("mode = \"observe\"\n{text}");
    assert_eq!(read(&observed, Case::new("foo")), ReadLicense::WhenAtHand);
    let held = format!("{text}action = \"hold\"\n");
    assert_eq!(read(&held, Case::new("foo")), ReadLicense::WhenAtHand);
    let no_text = format!("{held}missing = \"deny\"\n");
    assert_eq!(read(&no_text, Case::new("foo")), ReadLicense::BeforeDownload);
    let banned = format!("{text}[[ban]]\nname = \"foo\"");
    assert_eq!(read(&banned, Case::new("foo")), ReadLicense::WhenAtHand);
    let exempt = format!("{text}exceptions = [{{ name = \"foo\" }}]");
    assert_eq!(read(&exempt, Case::new("foo")), ReadLicense::No);
    let off = format!("{text}action = \"allow\"");
    assert_eq!(read(&off, Case::new("foo")), ReadLicense::No);
    let known = Case::new("foo").judged(&policy(text), None, NOW);
    assert_eq!(known.read_license, ReadLicense::No);
}

#[test]
fn an_upstream_that_goes_back_on_its_word_is_not_believed_without_any_policy() {
    let changed = Case { integrity: IntegrityFact::ChecksumChanged, ..Case::new("foo") };
    let waived = "[[waiver]]\nname = \"foo\"\nuntil = 2099-01-01\nreason = \"r\"\nwho = \"w\"";
    for (text, verdict) in [
        ("", Verdict::Deny),
        ("mode = \"observe\"", Verdict::Deny),
        ("[integrity]\nmode = \"observe\"", Verdict::Allow),
        ("[integrity]\nchecksum_changed = \"hold\"", Verdict::Hold),
        ("[integrity]\nchecksum_changed = \"allow\"", Verdict::Allow),
        (waived, Verdict::Allow),
    ] {
        assert_eq!(changed.verdict(text), verdict, "{text}");
    }
}

#[test]
fn a_waiver_wins_from_its_first_day_to_the_end_of_its_last() {
    let text = "[[ban]]\nname = \"foo\"\n[[waiver]]\nname = \"foo\"\nversion = \"=1.0.0\"\n\
        from = 2026-06-15\nuntil = \"2026-06-16\"\nreason = \"needed\"\nwho = \"ada\"";
    let rules = policy(text);
    let at_time = |now: &str| {
        let judged = Case::new("foo").judged(&rules, None, now);
        (judged.verdict, judged.waiver.is_some(), judged.changes_at.map(|at| at.to_string()))
    };
    let (begin, end) = ("2026-06-15T00:00:00Z", "2026-06-17T00:00:00Z");
    assert_eq!(at_time("2026-06-14T23:59:59Z"), (Verdict::Deny, false, Some(begin.to_owned())));
    assert_eq!(at_time(begin), (Verdict::Allow, true, Some(end.to_owned())));
    assert_eq!(at_time("2026-06-16T23:59:59Z"), (Verdict::Allow, true, Some(end.to_owned())));
    assert_eq!(at_time(end), (Verdict::Deny, false, None));
    assert_eq!(Case::new("foo 1.0.1").verdict(text), Verdict::Deny);
    let waived = Case::new("foo").judged(&rules, None, begin);
    assert_eq!(waived.findings.len(), 1, "what it waives is told");
    assert_eq!(waived.unmitigated(), Verdict::Deny);
}

#[test]
fn of_several_waivers_the_longest_is_told_and_every_edge_is_a_change() {
    let waiver = |until: &str| {
        format!("[[waiver]]\nname = \"foo\"\nuntil = {until}\nreason = \"r\"\nwho = \"{until}\"\n")
    };
    let text = ["2026-06-20", "2026-06-30", "2026-06-10"].map(waiver).join("");
    let judged = Case::new("foo").judged(&policy(&text), None, NOW);
    assert_eq!(judged.waiver.unwrap().who, "2026-06-30");
    assert_eq!(judged.changes_at, Some(at("2026-06-21T00:00:00Z")));
}

#[test]
fn the_most_severe_enforced_finding_is_the_verdict() {
    let bans =
        "[[ban]]\nname = \"foo\"\naction = \"hold\"\n[[ban]]\nname = \"f*\"\nmode = \"observe\"\n";
    let judged = Case::new("foo").judged(&policy(bans), None, NOW);
    assert_eq!(judged.verdict, Verdict::Hold);
    assert_eq!(judged.unmitigated(), Verdict::Deny);
    let told: Vec<_> = judged.findings.iter().map(|f| (f.action, f.mode)).collect();
    assert_eq!(told, [(Verdict::Hold, Mode::Enforce), (Verdict::Deny, Mode::Observe)]);
    let both = format!("{bans}[[ban]]\nname = \"foo\"");
    assert_eq!(Case::new("foo").verdict(&both), Verdict::Deny);
    let observed = format!("mode = \"observe\"\n{both}");
    assert_eq!(Case::new("foo").verdict(&observed), Verdict::Allow);
    let stubborn = "mode = \"observe\"\n[[ban]]\nname = \"foo\"\nmode = \"enforce\"";
    assert_eq!(Case::new("foo").verdict(stubborn), Verdict::Allow);
}

#[test]
fn a_refusal_says_why_what_else_and_whom_to_ask() {
    let text = "[[ban]]\nname = \"foo\"\nreason = \"steals\\nkeys.\"\n[age]\nminimum = \"3d\"\naction = \"deny\"";
    let case =
        Case { age: AgeFact::Published(at("2026-06-15T00:00:00Z")), ..Case::new("foo 1.2.3") };
    let judged = case.judged(&policy(text), None, NOW);
    let newest = Newest::Version("1.2.2".parse().unwrap());
    let contact = Some("#platform, or platform@acme.example");
    assert_eq!(
        refusal(&case.name, &case.version, &judged, &newest, contact),
        "`foo` 1.2.3 is denied by the policy of this registry, rule `ban`: steals keys; and rule \
         `age`: it was published at 2026-06-15 00:00 UTC, and it must be 3 days old (until \
         2026-06-18T00:00:00Z); the newest allowed version is 1.2.2; ask #platform, or \
         platform@acme.example"
    );
    let alone = refusal(&case.name, &case.version, &judged, &Newest::None, None);
    assert!(alone.ends_with("; no version of it is allowed"), "{alone}");
}

#[test]
fn the_newest_allowed_version_is_a_release_where_there_is_one() {
    let newest = |judged: &[(&str, Verdict)]| {
        let judge = |verdict| Judgement { verdict, ..Judgement::default() };
        let judged = judged.iter().map(|(text, verdict)| (text.parse().unwrap(), judge(*verdict)));
        let judged: Vec<(CrateVersion, Judgement)> = judged.collect();
        let newest = newest_allowed(judged.iter().map(|(version, judged)| (version, judged)));
        newest.version().map(ToString::to_string)
    };
    let (allow, hold, deny) = (Verdict::Allow, Verdict::Hold, Verdict::Deny);
    let all = [("1.0.0", allow), ("1.2.0", hold), ("0.9.0", allow), ("2.0.0-rc.1", allow)];
    assert_eq!(newest(&all).as_deref(), Some("1.0.0"));
    assert_eq!(
        newest(&[("1.0.0-rc.2", allow), ("1.0.0-rc.1", allow)]).as_deref(),
        Some("1.0.0-rc.2")
    );
    assert_eq!(newest(&[("1.0.0", deny), ("1.1.0", hold)]), None);
}

#[test]
fn no_version_is_named_whose_licence_may_still_forbid_it() {
    let open = Judgement { is_open: true, ..Judgement::default() };
    let listed = |text: &str, yanked: bool| Listed {
        name: "foo".parse().unwrap(),
        version: text.parse().unwrap(),
        cksum: Checksum::of(text.as_bytes()),
        yanked,
        pubtime: None,
    };
    let newest = |file: &[(Listed, Judgement)]| {
        newest_allowed(file.iter().map(|(listed, judged)| (&listed.version, judged))).to_string()
    };
    let candidates = |file: &[(Listed, Judgement)]| -> Vec<String> {
        unread_candidates(file).into_iter().map(|listed| listed.version.to_string()).collect()
    };
    let unread = [
        (listed("1.0.0", false), open.clone()),
        (listed("2.0.0-rc.1", false), open.clone()),
        (listed("1.2.0", true), open.clone()),
        (listed("1.1.0", false), open.clone()),
    ];
    assert!(newest(&unread).starts_with("no version of it is known to be allowed"));
    assert_eq!(candidates(&unread), ["1.1.0", "1.0.0", "2.0.0-rc.1"]);
    let mut read = unread.clone();
    read[0].1.is_open = false;
    assert_eq!(newest(&read), "the newest allowed version is 1.0.0");
    assert_eq!(candidates(&read), ["1.1.0"], "nothing older than what is known to be allowed");
    assert_eq!(newest(&[]), "no version of it is allowed");
}

#[test]
fn look_alikes_are_refused_but_for_exceptions() {
    let hosted: Vec<CrateName> = vec!["acme-tokens".parse().unwrap()];
    let objection =
        |text: &str| policy(text).objection_to_name(&"acme-token".parse().unwrap(), &hosted);
    let found = objection("[names]").unwrap();
    assert!(found.mode == Mode::Enforce && found.sentence.contains("`acme-tokens`"));
    assert_eq!(objection("[names]\nmode = \"observe\"").unwrap().mode, Mode::Observe);
    assert_eq!(objection("[names]\nexceptions = [\"acme-*\"]"), None);
    assert_eq!(objection(""), None);
}

#[test]
fn the_upstreams_that_are_named_are_told() {
    let text =
        "[[ban]]\nname = \"a\"\nupstream = \"b\"\n[age]\nminimum = \"1d\"\nupstreams = [\"a\"]";
    assert_eq!(policy(text).upstreams().into_iter().collect::<Vec<_>>(), ["a", "b"]);
}
