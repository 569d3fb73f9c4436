//! What holds for all policies.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::tests::{Case, NOW, at, policy};
use super::*;

/// Parts of a policy; any of them can be written or left out.
fn list_part() -> impl Strategy<Value = String> {
    let name = select(vec!["foo", "f*", "*", "bar"]);
    let version = select(vec!["*", "1", "<1.0.0", "=1.0.0"]);
    let action = select(vec!["allow", "hold", "deny"]);
    let mode = select(vec!["enforce", "observe"]);
    prop_oneof![
        (name.clone(), version.clone(), action, mode).prop_map(|(n, v, a, m)| format!(
            "[[ban]]\nname = \"{n}\"\nversion = \"{v}\"\naction = \"{a}\"\nmode = \"{m}\"\n"
        )),
        (name.clone(), version.clone())
            .prop_map(|(n, v)| format!("[[allow]]\nname = \"{n}\"\nversion = \"{v}\"\n")),
        (name, version, 10u8..20).prop_map(|(n, v, day)| format!(
            "[[waiver]]\nname = \"{n}\"\nversion = \"{v}\"\nuntil = 2026-06-{day}\nreason = \"r\"\nwho = \"w\"\n"
        )),
    ]
}

const ACTIONS: [&str; 3] = ["allow", "hold", "deny"];

/// Sections whose every action is a digit of `levels`; a zero at the end leaves them out.
fn sections(levels: &[usize]) -> Vec<String> {
    let action = |at: usize| ACTIONS[levels[at]];
    let all = [
        format!("[age]\nminimum = \"3d\"\naction = \"{}\"\n", action(0)),
        format!("[allow_list]\naction = \"{}\"\n", action(1)),
        format!(
            "[licenses]\nallow = [\"MIT\"]\naction = \"{}\"\nmissing = \"{}\"\n",
            action(2),
            action(3)
        ),
        format!("[advisories]\nyanked = \"{}\"\n", action(4)),
        format!("[integrity]\nchecksum_changed = \"{}\"\n", action(5)),
    ];
    all.into()
}

fn case() -> impl Strategy<Value = Case> {
    let ages = [
        AgeFact::Old,
        AgeFact::Unknown,
        AgeFact::Published(at("2026-06-15T00:00:00Z")),
        AgeFact::FirstSeen(at("2026-06-01T00:00:00Z")),
    ];
    let licenses = [
        None,
        Some(LicenseFact::Missing),
        Some(LicenseFact::Stated("MIT".to_owned())),
        Some(LicenseFact::Stated("ISC".to_owned())),
    ];
    let integrity = [IntegrityFact::Sound, IntegrityFact::ChecksumChanged];
    let spec = select(vec!["foo 1.0.0", "foo 1.0.0-rc.1", "bar 2.0.0", "baz 0.1.0"]);
    let (ages, licenses) = (select(ages.to_vec()), select(licenses.to_vec()));
    let sources = select(vec![None, Some("crates-io")]);
    (spec, ages, licenses, select(integrity.to_vec()), sources, any::<bool>()).prop_map(
        |(spec, age, license, integrity, upstream, yanked)| Case {
            age,
            license,
            integrity,
            upstream,
            yanked,
            ..Case::new(spec)
        },
    )
}

fn verdict(case: &Case, text: &str) -> Verdict {
    case.judged(&policy(text), None, NOW).verdict
}

proptest! {
    #[test]
    fn a_stricter_policy_never_allows_more(
        case in case(),
        lists in vec(list_part(), 0..5),
        levels in vec(0usize..3, 6),
        raised in 0usize..6,
        ban in list_part().prop_filter("a ban", |part| part.starts_with("[[ban]]")),
    ) {
        let lists = lists.concat();
        let whole = |levels: &[usize]| format!("{lists}{}", sections(levels).concat());
        let before = verdict(&case, &whole(&levels));

        let with_ban = format!("{ban}{}", whole(&levels));
        prop_assert!(verdict(&case, &with_ban) >= before, "a ban more:\n{with_ban}");

        let mut higher = levels.clone();
        higher[raised] = (higher[raised] + 1).min(2);
        prop_assert!(verdict(&case, &whole(&higher)) >= before, "an action raised");

        for (from, to) in [
            ("action = \"allow\"", "action = \"hold\""),
            ("\"hold\"", "\"deny\""),
            ("\"3d\"", "\"30d\""),
        ] {
            let stricter = whole(&levels).replace(from, to);
            prop_assert!(verdict(&case, &stricter) >= before, "{from} becomes {to}");
        }

        // [integrity] is left out last: what it says without being written is the strictest.
        let parts = sections(&levels);
        let optional = &parts[..parts.len() - 1];
        let left_out = raised % optional.len();
        let fewer: String = optional.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, s)| s.as_str()).collect();
        let fewer = format!("{lists}{fewer}{}", parts[parts.len() - 1]);
        prop_assert!(before >= verdict(&case, &fewer), "a section added");

        let observed = format!("mode = \"observe\"\n{}", whole(&levels));
        prop_assert!(before >= verdict(&case, &observed) , "observed");
    }

    #[test]
    fn the_order_of_files_does_not_matter(
        case in case(),
        lists in vec(list_part(), 0..6),
        levels in vec(0usize..3, 6),
        turn in 0usize..11,
    ) {
        let texts: Vec<_> = lists.into_iter().chain(sections(&levels)).collect();
        let file = |(at, text): (usize, String)| PolicyText { name: format!("{at}.toml"), text };
        let mut turned: Vec<_> = texts.iter().rev().cloned().collect();
        turned.rotate_left(turn % texts.len());
        let first: Vec<_> = texts.into_iter().enumerate().map(file).collect();
        let other: Vec<_> = turned.into_iter().enumerate().map(file).collect();
        let (first, other) = (Policy::parse(&first).unwrap(), Policy::parse(&other).unwrap());
        prop_assert_eq!(first.version(), other.version());
        prop_assert_eq!(case.judged(&first, None, NOW), case.judged(&other, None, NOW));
    }

    /// Between now and `changes_at` nothing changes by itself.
    #[test]
    fn a_judgement_stands_until_the_instant_that_it_tells(
        case in case(),
        lists in vec(list_part(), 0..5),
        levels in vec(0usize..3, 6),
        hours in 0i64..400,
    ) {
        let rules = policy(&format!("{}{}", lists.concat(), sections(&levels).concat()));
        let now = case.judged(&rules, None, NOW);
        let later = at(NOW) + jiff::SignedDuration::from_hours(hours);
        if now.changes_at.is_none_or(|at| later < at) {
            prop_assert_eq!(case.judged(&rules, None, &later.to_string()), now);
        }
    }

    #[test]
    fn comments_and_layout_do_not_change_the_version(lists in vec(list_part(), 0..4)) {
        let plain = lists.concat();
        let spaced = plain.replace('\n', "  # why\n\n").replace(" = ", "=");
        prop_assert_eq!(policy(&plain).version().to_owned(), policy(&spaced).version().to_owned());
    }

    #[test]
    fn any_text_of_a_licence_is_judged(
        text in "(MIT|GPL-2.0\\+|LicenseRef-a| OR | AND | WITH |/|\\(|\\)|LLVM-exception| |é|x){0,12}",
    ) {
        let license = Some(LicenseFact::Stated(text));
        let case = Case { license, ..Case::new("foo") };
        let rules = "[licenses]\nallow = [\"MIT\"]\ndeny = [\"LicenseRef-a\"]";
        prop_assert_ne!(verdict(&case, rules), Verdict::Hold);
    }

    #[test]
    fn no_text_is_an_advisory_that_panics(text in "(```toml|\n|```|# t|\\[advisory\\]|id = \"R|é|\"){0,20}") {
        let _ = Advisory::parse(&text);
    }
}
