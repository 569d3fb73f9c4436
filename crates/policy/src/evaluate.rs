//! One version before the rules: each is asked, and their findings become a judgement.

use std::cmp::Reverse;

use jiff::Timestamp;

use crate::advisory_db::Advisories;
use crate::evaluation::{Evaluation, described};
use crate::facts::Subject;
use crate::judgement::{Finding, Judgement, ReadLicense, Rule, WaiverInForce};
use crate::parse::Rules;
use crate::rules::{advisory, age, allow_list, ban, integrity, license, yanked};
use crate::schema::{Allow, Ban, Waiver};
use crate::words::{Day, Mode, Verdict};
use cratehouse_package::name::{CrateName, NameKey};

/// What a policy says of one crate: its entries about others, of which there may be hundreds, are
/// passed over once and not for every version.
#[derive(Debug)]
pub struct RulesAbout<'a> {
    rules: &'a Rules,
    key: NameKey,
    bans: Vec<&'a Ban>,
    allows: Vec<&'a Allow>,
    waivers: Vec<&'a Waiver>,
}

impl<'a> RulesAbout<'a> {
    pub(super) fn of(rules: &'a Rules, name: &CrateName) -> Self {
        let key = name.key();
        let bans = rules.bans.iter().filter(|ban| ban.name.covers(&key)).collect();
        let allows = rules.allows.iter().filter(|allow| allow.name.covers(&key)).collect();
        let waivers = rules.waivers.iter().filter(|waiver| waiver.name.covers(&key)).collect();
        Self { rules, key, bans, allows, waivers }
    }

    /// The verdict on a version of the crate; see [`crate::Policy::judge`].
    pub fn judge(
        &self,
        subject: &Subject<'_>,
        advisories: Option<&Advisories>,
        now: Timestamp,
    ) -> Judgement {
        let mut evaluation = Evaluation::new(subject, &self.key, self.rules.mode, now);
        let allowed_by = ban::allowed_by(&self.allows, &evaluation);
        for rule in Rule::ALL {
            self.ask(*rule, advisories, allowed_by.is_some(), &mut evaluation);
        }
        let waiver = in_force(&self.waivers, &mut evaluation);
        close(evaluation, self.rules, allowed_by, waiver)
    }

    /// Asks one rule. Bans count only where nothing allows; the allow list is satisfied by what does.
    fn ask(
        &self,
        rule: Rule,
        advisories: Option<&Advisories>,
        is_allowed: bool,
        evaluation: &mut Evaluation<'_>,
    ) {
        let rules = self.rules;
        match rule {
            Rule::Ban if !is_allowed => ban::check(&self.bans, evaluation),
            Rule::AllowList if !is_allowed => {
                let section = rules.allow_list.iter();
                section.for_each(|section| allow_list::check(section, evaluation));
            }
            Rule::Ban | Rule::AllowList => {}
            Rule::Age => rules.age.iter().for_each(|section| age::check(section, evaluation)),
            Rule::Advisory => {
                if let Some((section, advisories)) = rules.advisories.as_ref().zip(advisories) {
                    advisory::check(section, advisories, evaluation);
                }
            }
            Rule::Yanked => {
                rules.advisories.iter().for_each(|section| yanked::check(section, evaluation));
            }
            Rule::License => {
                if let Some((section, fact)) =
                    rules.licenses.as_ref().zip(evaluation.subject.license)
                {
                    license::check(section, fact, evaluation);
                }
            }
            Rule::Integrity => integrity::check(&rules.integrity, evaluation),
        }
    }
}

/// The waiver that is in force for a version, the one that ends last.
fn in_force(waivers: &[&Waiver], evaluation: &mut Evaluation<'_>) -> Option<WaiverInForce> {
    let mut in_force: Option<&Waiver> = None;
    for waiver in waivers.iter().filter(|w| w.version.matches(evaluation.subject.version)) {
        match waiver.from.map(Day::begin).filter(|begin| *begin > evaluation.now) {
            Some(begin) => evaluation.changes_at(begin),
            None if waiver.until.end() > evaluation.now => {
                evaluation.changes_at(waiver.until.end());
                in_force = in_force.filter(|w| w.until >= waiver.until).or(Some(waiver));
            }
            None => {}
        }
    }
    in_force.map(WaiverInForce::of)
}

/// The findings, in the order of their weight, and what follows from them.
fn close(
    mut evaluation: Evaluation<'_>,
    rules: &Rules,
    allowed_by: Option<String>,
    waiver: Option<WaiverInForce>,
) -> Judgement {
    evaluation.findings.sort_by(|a, b| {
        let rank = |f: &Finding| (f.mode == Mode::Observe, Reverse(f.action), f.rule);
        rank(a).cmp(&rank(b))
    });
    let enforced = evaluation.findings.iter().filter(|finding| finding.mode == Mode::Enforce);
    let found = enforced.map(|finding| finding.action).max().unwrap_or_default();
    let verdict = if waiver.is_some() { Verdict::Allow } else { found };
    let (read_license, is_open) = read_license(&evaluation, rules, found, waiver.is_some());
    let (findings, changes_at) = (evaluation.findings, evaluation.changes_at);
    Judgement { verdict, findings, waiver, allowed_by, changes_at, read_license, is_open }
}

/// When the licence is to be read, and whether that may make the verdict a worse one.
fn read_license(
    evaluation: &Evaluation<'_>,
    rules: &Rules,
    found: Verdict,
    waived: bool,
) -> (ReadLicense, bool) {
    let Some(rule) = rules.licenses.as_ref().filter(|_| evaluation.subject.license.is_none())
    else {
        return (ReadLicense::No, false);
    };
    let enforced = evaluation.mode.and(rule.mode) == Mode::Enforce;
    let mine = evaluation.among(rule.hosted, &rule.upstreams) && !rule.exempts(evaluation);
    let worst = rule.worst();
    if !mine || worst == Verdict::Allow {
        return (ReadLicense::No, false);
    }
    let is_open = enforced && !waived && worst > found;
    match is_open && worst == Verdict::Deny {
        true => (ReadLicense::BeforeDownload, is_open),
        false => (ReadLicense::WhenAtHand, is_open),
    }
}

impl WaiverInForce {
    fn of(waiver: &Waiver) -> Self {
        Self {
            of: described(&waiver.name, &waiver.version, None),
            last_day: waiver.until,
            until: waiver.until.end(),
            reason: waiver.reason.clone(),
            who: waiver.who.clone(),
        }
    }
}
