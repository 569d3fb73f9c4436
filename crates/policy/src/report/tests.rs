//! Lock files and judgements become rows, tables and JSON.

use super::super::tests::{Case, NOW, at, policy};
use super::*;
use cratehouse_core::checksum::Checksum;

const POLICY: &str = "contact = \"sec\"\n\
    [[ban]]\nname = \"evil*\"\nreason = \"steals\\u001b[31m keys\"\n\
    [[ban]]\nname = \"odd\"\naction = \"hold\"\nmode = \"observe\"\n\
    [[ban]]\nname = \"slow\"\naction = \"hold\"\n\
    [[ban]]\nname = \"spared\"\n\
    [[waiver]]\nname = \"spared\"\nuntil = 2026-12-31\nreason = \"reviewed\"\nwho = \"ada\"";

fn locked(spec: &str) -> Locked {
    let (name, version) = spec.split_once(' ').unwrap();
    Locked {
        name: name.to_owned(),
        version: version.to_owned(),
        source: LockedSource::Registry,
        registry: None,
        identity: None,
        cksum: Some(Checksum::of(b"x")),
    }
}

/// The versions of an index file; one that ends in `!` is yanked.
fn judged(by: &str, name: &str, versions: &[&str]) -> Vec<(Listed, Judgement)> {
    let by = policy(by);
    let one = |text: &&str| {
        let (text, yanked) = text.strip_suffix('!').map_or((*text, false), |text| (text, true));
        let case = Case::new(&format!("{name} {text}"));
        let listed = Listed {
            name: case.name.clone(),
            version: case.version.clone(),
            cksum: Checksum::of(b"x"),
            yanked,
            pubtime: None,
        };
        (listed, case.judged(&by, None, NOW))
    };
    versions.iter().map(one).collect()
}

fn row(by: &str, spec: &str) -> Row {
    let (name, version) = spec.split_once(' ').unwrap();
    Row::of(&locked(spec), &judged(by, name, &[version]), None)
}

fn report(by: &str, rows: Vec<Row>) -> Report {
    Report::of(&policy(by), None, rows)
}

#[test]
fn a_row_has_the_verdict_of_its_very_version_and_the_newest_that_is_allowed() {
    let text = "[[ban]]\nname = \"foo\"\nversion = \"=1.0.0\"";
    let file = judged(text, "foo", &["1.0.0", "1.1.0", "1.2.0!", "2.0.0-rc.1", "1.0.0+b"]);
    let of = |spec: &str| Row::of(&locked(spec), &file, None);
    let banned = of("foo 1.0.0");
    assert_eq!(banned.judgement.as_ref().unwrap().verdict, Verdict::Deny);
    assert_eq!(banned.newest_allowed, Newest::Version("1.1.0".parse().unwrap()));
    assert!(banned.why().ends_with("the newest allowed version is 1.1.0"), "{}", banned.why());
    let fine = of("foo 1.1.0");
    assert_eq!(
        (fine.standing(), fine.newest_allowed, fine.problem),
        (Standing::Allow, Newest::None, None)
    );
}

#[test]
fn what_the_index_does_not_have_is_unknown() {
    let file = judged("", "Foo", &["1.0.0"]);
    for (spec, why) in [("Foo 1.0.1", "does not list"), ("foo 1.0.0", "spells its name `Foo`")] {
        let row = Row::of(&locked(spec), &file, None);
        assert_eq!((row.standing(), &row.judgement), (Standing::Unknown, &None));
        assert!(row.problem.as_ref().unwrap().contains(why), "{row:?}");
    }
}

#[test]
fn another_checksum_is_a_problem_beside_the_verdict() {
    let other = |spec| Locked { cksum: Some(Checksum::of(b"y")), ..locked(spec) };
    let allowed = Row::of(&other("foo 1.0.0"), &judged(POLICY, "foo", &["1.0.0"]), None);
    assert!(allowed.problem.as_ref().unwrap().contains("checksum"));
    assert_eq!(allowed.standing(), Standing::Unknown);
    let denied = Row::of(&other("evil 1.0.0"), &judged(POLICY, "evil", &["1.0.0"]), None);
    assert_eq!(denied.standing(), Standing::Deny);
    assert!(denied.why().contains("checksum") && denied.why().contains("rule `ban`"));
    let unlocked = Locked { cksum: None, ..locked("foo 1.0.0") };
    assert_eq!(Row::of(&unlocked, &judged("", "foo", &["1.0.0"]), None).problem, None);
}

#[test]
fn a_licence_that_nobody_has_read_is_no_verdict_where_it_may_deny() {
    let unread = |text: &str| {
        let case = Case { license: None, ..Case::new("foo") };
        let mut file = judged("", "foo", &["1.0.0"]);
        file[0].1 = case.judged(&policy(text), None, NOW);
        Row::of(&locked("foo 1.0.0"), &file, None).standing()
    };
    assert_eq!(unread("[licenses]\nallow = [\"MIT\"]"), Standing::Unknown);
    assert_eq!(unread("[licenses]\nallow = [\"MIT\"]\naction = \"hold\""), Standing::Allow);
}

#[test]
fn the_outcome_is_the_worst_that_is_certain() {
    let (allow, hold, deny) =
        (row(POLICY, "foo 1.0.0"), row(POLICY, "slow 1.0.0"), row(POLICY, "evil 1.0.0"));
    let unknown = Row::unknown(&locked("gone 1.0.0"), "there is none");
    let git = Locked { source: LockedSource::Git, ..locked("forked 1.0.0") };
    let outside = Row::outside(&git);
    let outcome = |rows: &[&Row]| report(POLICY, rows.iter().copied().cloned().collect()).outcome;
    assert_eq!(outcome(&[]), Outcome::Passed);
    assert_eq!(outcome(&[&allow, &hold, &outside]), Outcome::Passed);
    assert_eq!(outcome(&[&allow, &unknown]), Outcome::Unknown);
    assert_eq!(outcome(&[&unknown, &deny, &hold]), Outcome::Denied);
    let counts = report(POLICY, vec![allow, hold, deny, unknown, outside]).counts;
    assert_eq!(counts, Counts { allow: 1, hold: 1, deny: 1, unknown: 1, outside: 1 });
}

#[test]
fn the_table_has_the_worst_first_and_no_control_characters() {
    let rows = ["evil-one 1.0.0", "foo 10.20.30", "odd 1.0.0", "slow 1.0.0", "spared 1.0.0"];
    let mut rows: Vec<_> = rows.iter().map(|spec| row(POLICY, spec)).collect();
    rows.push(Row::outside(&Locked { source: LockedSource::Path, ..locked("zz\u{7} 0.1.0") }));
    rows.push(Row::unknown(&locked("zzz 1.0.0"), "there is no crate `zzz`"));
    let report = report(POLICY, rows);
    let wanted = "\
package   version   verdict  why
evil-one  1.0.0     deny     rule `ban`: steals [31m keys; no version of it is allowed
zzz       1.0.0     unknown  there is no crate `zzz`
slow      1.0.0     hold     rule `ban`: `slow` is banned; no version of it is allowed
foo       10.20.30  allow
odd       1.0.0     allow    observed: rule `ban`: `odd` is banned
spared    1.0.0     allow    waived until 2026-12-31 by ada: reviewed; rule `ban`: `spared` is banned
zz        0.1.0     -        it is from no registry
7 packages by policy ";
    let table = report.to_string();
    assert!(table.starts_with(wanted), "{table}");
    let counts = ": 3 allowed, 1 held, 1 denied, 1 unknown, 1 from no registry";
    assert!(table.ends_with(counts), "{table}");
    assert!(!table.chars().any(|c| c.is_control() && c != '\n'), "{table:?}");
    assert_eq!(read_back(&report).to_string(), table);
}

/// As who asks a server gets it.
fn read_back(report: &Report) -> Report {
    serde_json::from_str(&serde_json::to_string(report).unwrap()).unwrap()
}

#[test]
fn a_report_that_was_read_back_says_the_same_of_licences_that_nobody_has_read() {
    let denied = Row::of(&locked("evil 1.0.0"), &judged(POLICY, "evil", &["1.0.0"]), None);
    let unread = report(POLICY, vec![Row { newest_allowed: Newest::Unread, ..denied }]);
    assert!(unread.to_string().contains("licences of others"), "{unread}");
    assert_eq!(read_back(&unread).to_string(), unread.to_string());
}

#[test]
fn the_json_of_a_row_is_flat_and_without_a_verdict_where_there_is_none() {
    let mut file = judged(POLICY, "evil", &["1.0.0"]);
    file.extend(judged("", "evil", &["0.9.0"]));
    let denied = Row::of(&locked("evil 1.0.0"), &file, None);
    let unknown = Row::unknown(&locked("gone 1.0.0"), "there is none");
    let json = serde_json::to_value(report(POLICY, vec![denied, unknown])).unwrap();
    assert_eq!((&json["outcome"], &json["mode"]), (&"denied".into(), &"enforce".into()));
    assert_eq!(json["counts"]["deny"], 1);
    let row = &json["packages"][0];
    assert_eq!(row["name"], "evil");
    assert_eq!((&row["source"], &row["verdict"]), (&"registry".into(), &"deny".into()));
    assert_eq!((&row["newest_allowed"], &row["problem"]), (&"0.9.0".into(), &().into()));
    let finding = &row["findings"][0];
    assert_eq!((&finding["rule"], &finding["action"]), (&"ban".into(), &"deny".into()));
    let row = json["packages"][1].as_object().unwrap();
    assert!(!row.contains_key("verdict") && row["problem"] == "there is none", "{row:?}");
}

#[test]
fn what_makes_an_answer_other_than_it_looks_is_noted() {
    let noted = |text: &str, db| notes(&policy(text), db).len();
    assert_eq!(noted(POLICY, None), 0);
    assert_eq!(noted("mode = \"observe\"", None), 1);
    assert_eq!(noted("[advisories]", None), 1);
    assert_eq!(noted("[advisories]", Some(&Advisories::default())), 0);
    let report = report("[advisories]", Vec::new());
    assert!(report.to_string().starts_with("note: there is no advisory database"), "{report}");
}

#[test]
fn a_difference_has_only_what_changes_and_says_whether_more_is_denied() {
    let specs = ["evil 1.0.0", "foo 1.0.0", "slow 1.0.0"];
    let of = |text: &str| report(text, specs.iter().map(|spec| row(text, spec)).collect());
    let (strict, open) = (of(POLICY), of(""));
    let stricter = open.to(&strict);
    assert_eq!(stricter.outcome, Outcome::Denied);
    let changed: Vec<_> =
        stricter.changes.iter().map(|c| (c.name.as_str(), c.old.verdict, c.new.verdict)).collect();
    let (allow, hold, deny) = (Verdict::Allow, Verdict::Hold, Verdict::Deny);
    assert_eq!(changed, [("evil", allow, deny), ("slow", allow, hold)]);
    let table = stricter.to_string();
    assert!(table.contains("evil     1.0.0    allow -> deny  rule `ban`: steals"), "{table}");
    let looser = strict.to(&open);
    assert_eq!((looser.outcome, looser.changes.len()), (Outcome::Passed, 2));
    assert!(looser.to_string().contains("deny -> allow  no longer rule `ban`"), "{looser}");
    let same = strict.to(&strict);
    assert_eq!((same.outcome, same.changes.len()), (Outcome::Passed, 0));
    assert!(same.to_string().starts_with("3 packages from policy"), "{same}");
}

#[test]
fn a_difference_that_is_not_known_is_unknown() {
    let rows = || vec![Row::unknown(&locked("gone 1.0.0"), "there is none")];
    let diff = report("", rows()).to(&report(POLICY, rows()));
    assert_eq!((diff.outcome, diff.unknown.len()), (Outcome::Unknown, 1));
    assert!(diff.to_string().contains("gone     1.0.0    unknown  there is none"), "{diff}");
}

#[test]
fn waivers_are_listed_with_their_state_those_in_force_first() {
    use super::super::{WaiverState, Waivers};
    let waiver = |name: &str, days: &str| {
        format!("[[waiver]]\nname = \"{name}\"\n{days}\nreason = \"r\"\nwho = \"ada\"\n")
    };
    let text = [
        waiver("ended", "until = 2026-06-14"),
        waiver("later", "until = 2026-07-01"),
        waiver("today", "until = 2026-06-15"),
        waiver("ahead", "from = 2026-06-16\nuntil = 2026-06-20"),
    ];
    let list = Waivers::of(policy(&text.concat()).waivers(), at(NOW));
    let states: Vec<_> = list.waivers.iter().map(|w| (w.waiver.name.as_str(), w.state)).collect();
    let (in_force, ahead, ended) = (WaiverState::InForce, WaiverState::Ahead, WaiverState::Ended);
    let wanted = [("today", in_force), ("later", in_force), ("ahead", ahead), ("ended", ended)];
    assert_eq!(states, wanted);
    let table = list.to_string();
    assert!(table.contains("ahead  *        ahead     2026-06-16  2026-06-20  ada  r"), "{table}");
    assert!(table.ends_with("4 waivers, 2 in force"), "{table}");
    let json = serde_json::to_value(&list).unwrap();
    assert_eq!(json["waivers"][0]["until"], "2026-06-15");
    assert_eq!(json["waivers"][0]["state"], "in_force");
}

#[test]
fn an_explanation_has_all_versions_the_newest_first_or_one() {
    use super::super::Explanation;
    let text = "[[ban]]\nname = \"foo\"\nversion = \"<1\"";
    let explain = |only: Option<&str>| {
        let file = judged(text, "foo", &["0.9.0", "1.10.0", "1.9.0", "2.0.0!"]);
        let only = only.map(|text| text.parse().unwrap());
        let upstream = Some("main".to_owned());
        let name = "foo".parse().unwrap();
        Explanation::of((&policy(text), None), name, upstream, file, only.as_ref())
    };
    let all = explain(None).unwrap();
    let versions: Vec<_> = all.versions.iter().map(|v| v.version.to_string()).collect();
    assert_eq!(versions, ["2.0.0", "1.10.0", "1.9.0", "0.9.0"]);
    assert_eq!(all.newest_allowed, Newest::Version("1.10.0".parse().unwrap()));
    let json = serde_json::to_value(explain(Some("0.9.0"))).unwrap();
    assert_eq!(json["versions"].as_array().unwrap().len(), 1);
    assert_eq!(json["versions"][0]["verdict"], "deny");
    assert_eq!((&json["upstream"], &json["newest_allowed"]), (&"main".into(), &"1.10.0".into()));
    assert_eq!(explain(Some("3.0.0")), None);
    let page = |before: Option<&str>, most| {
        let before = before.map(|text| text.parse().unwrap());
        let page = explain(None).unwrap().page(before.as_ref(), most);
        let versions: Vec<_> = page.versions.iter().map(|v| v.version.to_string()).collect();
        (versions.join(" "), page.next.map(|next| next.to_string()))
    };
    assert_eq!(page(None, 2), ("2.0.0 1.10.0".to_owned(), Some("1.10.0".to_owned())));
    assert_eq!(page(Some("1.10.0"), 2), ("1.9.0 0.9.0".to_owned(), None));
    assert_eq!(page(Some("0.9.0"), 2), (String::new(), None));
    assert_eq!(json.get("next"), None, "where nothing is left out, all is as it was");
}
