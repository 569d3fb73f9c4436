//! The policies that come with Cratehouse say what their texts promise.

use super::tests::{Case, NOW, at};
use super::*;

fn policy(files: &[(&str, &str)]) -> Policy {
    let text = |(name, text): &(&str, &str)| PolicyText {
        name: (*name).to_owned(),
        text: (*text).to_owned(),
    };
    let files: Vec<_> = files.iter().map(text).collect();
    Policy::parse(&files).unwrap_or_else(|error| panic!("{error}"))
}

fn starter() -> Policy {
    policy(&[("policy.toml", include_str!("../../../policies/starter/policy.toml"))])
}

fn strict() -> Policy {
    policy(&[
        ("rules.toml", include_str!("../../../policies/strict/rules.toml")),
        ("bans.toml", include_str!("../../../policies/strict/bans.toml")),
    ])
}

fn database() -> Advisories {
    let all = [
        (
            "RUSTSEC-2026-0001",
            "critical",
            "cvss = \"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H\"",
        ),
        ("RUSTSEC-2026-0002", "vulnerable", ""),
        ("RUSTSEC-2026-0003", "unsound", "informational = \"unsound\""),
        ("RUSTSEC-2026-0005", "malware", "aliases = [\"MAL-2026-1\"]"),
        ("RUSTSEC-2026-0004", "left", "informational = \"unmaintained\""),
    ];
    let all = all.into_iter().filter_map(|(id, name, more)| {
        let text = format!(
            "```toml\n[advisory]\nid = \"{id}\"\npackage = \"{name}\"\ndate = \"2026-01-02\"\n{more}\n\
             [versions]\npatched = []\n```\n# T\nWords.\n"
        );
        Advisory::parse(&text).unwrap()
    });
    Advisories::of(all).unwrap()
}

fn days_old(days: i64) -> AgeFact {
    AgeFact::Published(at(NOW) - jiff::SignedDuration::from_hours(24 * days))
}

/// What each of the two says of a subject.
fn verdicts(case: &Case) -> (Verdict, Verdict) {
    let database = database();
    let judged = |policy: &Policy| case.judged(policy, Some(&database), NOW).verdict;
    (judged(&starter()), judged(&strict()))
}

#[test]
fn the_verdicts_of_the_examples_are_what_they_promise() {
    use Verdict::{Allow, Deny, Hold};
    let aged = |days| Case { age: days_old(days), ..Case::new("foo") };
    let licensed = |fact| Case { license: Some(fact), ..Case::new("foo") };
    let stated = |text: &str| LicenseFact::Stated(text.to_owned());
    for (case, expected) in [
        (Case::new("foo"), (Allow, Allow)),
        (aged(1), (Hold, Deny)),
        (aged(3), (Allow, Deny)),
        (aged(14), (Allow, Allow)),
        (Case { age: AgeFact::Unknown, ..Case::new("foo") }, (Hold, Hold)),
        (Case::new("critical"), (Deny, Deny)),
        (Case::new("vulnerable"), (Hold, Deny)),
        (Case::new("malware"), (Deny, Deny)),
        (Case::new("unsound"), (Allow, Deny)),
        (Case::new("left"), (Allow, Hold)),
        (Case { yanked: true, ..Case::new("foo") }, (Allow, Deny)),
        (licensed(stated("MIT/Apache-2.0")), (Allow, Allow)),
        (licensed(stated("GPL-3.0-only")), (Allow, Deny)),
        (licensed(stated("Ours")), (Allow, Hold)),
        (licensed(LicenseFact::Missing), (Allow, Deny)),
        (Case::new("openssl-sys"), (Allow, Deny)),
        (Case::new("time 0.1.45"), (Allow, Allow)),
        (Case::new("left-pad"), (Allow, Deny)),
        (Case::new("left_pad_core"), (Allow, Allow)),
        (Case { integrity: IntegrityFact::ChecksumChanged, ..Case::new("foo") }, (Deny, Deny)),
        (Case { upstream: None, ..Case::new("vulnerable") }, (Allow, Allow)),
    ] {
        assert_eq!(verdicts(&case), expected, "{case:?}");
    }
}

/// What stands commented in the starter can be taken up as it stands.
#[test]
fn the_commented_parts_of_the_starter_are_good_too() {
    let text = include_str!("../../../policies/starter/policy.toml");
    let written = |line: &str| {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        let code = bare.starts_with("[[")
            || bare.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
        if code { bare.to_owned() } else { line.to_owned() }
    };
    let lines: Vec<_> = text.lines().map(written).collect();
    let whole = policy(&[("policy.toml", &lines.join("\n"))]);
    assert_eq!(whole.waivers().len(), 1);
    assert_ne!(whole.version(), starter().version());
}

/// The reference names every key of the schema: the words that an unknown key is answered with.
#[test]
fn the_reference_names_every_key() {
    let reference = include_str!("../../../policies/README.md");
    let sections = [
        "",
        "[[ban]]",
        "[[allow]]",
        "[[waiver]]",
        "[allow_list]",
        "[age]",
        "[advisories]",
        "[licenses]",
        "[names]",
        "[integrity]",
        "[publish]",
    ];
    for section in sections {
        let text = format!("{section}\nno_such_key = 1");
        let file = PolicyText { name: "p.toml".to_owned(), text };
        let message = Policy::parse(&[file]).unwrap_err().problems[0].message.clone();
        let keys: Vec<_> = message.split('`').skip(3).step_by(2).map(str::to_owned).collect();
        assert!(!keys.is_empty(), "{message}");
        for key in keys {
            assert!(
                reference.contains(&format!("`{key}`")) || reference.contains(&format!("[{key}]")),
                "{section} {key} is not in policies/README.md"
            );
        }
    }
}
