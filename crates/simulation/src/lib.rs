//! Replicas in one process, under a seeded and paused clock, over a store that loses, delays and
//! contradicts: a run is a function of its seed, and takes no time. What was asked and answered
//! is compared with the simplest registry there is.
//!
//! `CRATEHOUSE_SEEDS=20000` runs more of them; `CRATEHOUSE_SEED=17` runs one and tells its story.

#![cfg(test)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_macros,
    reason = "nothing here but tests"
)]

mod allowed;
mod changes;
mod found;
mod history;
mod operations;
mod process;
mod reads;
mod registry;
mod rights;
mod store;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::process::Remembers;
use crate::world::{Plan, Run};
use cratehouse_journal::writer::bugs::Bug;

/// Seeds in one run of the tests.
const SEEDS: u64 = 100;
/// Within so many each mistake below is found; most of them much sooner.
const SEEDS_OF_MISTAKES: u64 = 500;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// Runs seeds on all CPUs until one goes wrong; gives the first that did.
fn first_wrong(seeds: u64, plan: &Plan) -> Option<String> {
    first(seeds, plan, |_| true)
}

/// The same, of those that go wrong in a certain way.
fn first(seeds: u64, plan: &Plan, is_it: impl Fn(&str) -> bool + Sync) -> Option<String> {
    let next = AtomicU64::new(0);
    let work = || {
        let mut wrong = None;
        while wrong.is_none() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                break;
            }
            let outcome = world::run(seed, plan).outcome;
            wrong = outcome.err().filter(|why| is_it(why)).map(|why| (seed, why));
        }
        next.fetch_add(if wrong.is_some() { seeds } else { 0 }, Ordering::Relaxed);
        wrong
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut wrong: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().filter_map(|worker| worker.join().unwrap()).collect()
    });
    wrong.sort();
    let (seed, why) = wrong.into_iter().next()?;
    Some(format!("CRATEHOUSE_SEED={seed}: {why}"))
}

#[test]
fn whatever_the_store_does_the_replicas_are_one_registry() {
    if let Some(seed) = number("CRATEHOUSE_SEED") {
        let Run { story, outcome, .. } = world::run(seed, &Plan::default());
        story.iter().for_each(|line| println!("{line}"));
        return outcome.unwrap();
    }
    let seeds = number("CRATEHOUSE_SEEDS").unwrap_or(SEEDS);
    if let Some(wrong) = first_wrong(seeds, &Plan::default()) {
        panic!("{wrong}");
    }
    println!("{seeds} seeds");
}

#[test]
fn a_run_is_a_function_of_its_seed() {
    for seed in 0..5 {
        let [first, second] = [0, 1].map(|_| world::run(seed, &Plan::default()));
        assert_eq!(first.story, second.story);
    }
}

/// Else the others prove nothing.
#[test]
fn runs_are_eventful() {
    let runs: Vec<_> = (0..30).map(|seed| world::run(seed, &Plan::default())).collect();
    let told = |words: &str| {
        let count = |run: &Run| run.story.iter().filter(|line| line.contains(words)).count();
        runs.iter().map(count).sum::<usize>()
    };
    for words in [
        "Certain(Done)",
        "Certain(Already)",
        "Certain(Refused)",
        "NotDone",
        "Unknown",
        "is killed",
        "begins with an empty disk",
        "begins with its disk",
        "loads checkpoint",
        "writes checkpoint",
        "forges checkpoint",
        "is cut off",
        "nothing moves",
        "swept",
        "sweep has stopped",
        "for alpha, which is there: true",
        "for alpha, which is there: false",
        "for last, which is there: true",
        "for last, which is there: false",
        "RemoveTeam",
        "Disable",
        "SetOwners",
    ] {
        assert!(told(words) >= 3, "{words}: {}", told(words));
    }
}

/// Some other complaint may come first: a mistake shows in more than one way.
fn is_found(plan: &Plan, why: &str) {
    let found = first(SEEDS_OF_MISTAKES, plan, |found| found.contains(why));
    assert!(found.is_some(), "{plan:?} is not found: `{why}`");
}

#[test]
fn every_mistake_of_an_append_is_found() {
    for (bug, why) in [
        (Bug::MovesOn, ", and entry"),
        (Bug::BelievesAnError, ", and entry"),
        (Bug::AnswersUnproven, "it was never done"),
        (Bug::RefusesOutOfLag, "was true at no time meanwhile"),
    ] {
        is_found(&Plan { bug: Some(bug), ..Plan::default() }, why);
    }
}

#[test]
fn every_mistake_about_who_may_what_is_found() {
    for (bug, why) in [
        (Bug::JudgesAsShown, "holds what is not allowed"),
        (Bug::LeavesNoAdmin, "leaves no administrator"),
        (Bug::MissesDisabled, "is by somebody who was disabled"),
        (Bug::KeepsMembers, "it was read by who might at no time"),
    ] {
        is_found(&Plan { bug: Some(bug), ..Plan::default() }, why);
    }
}

#[test]
fn a_replica_that_remembers_who_may_read_is_found() {
    for remembers in [Remembers::Beginning, Remembers::Holders] {
        let plan = Plan { remembers: Some(remembers), ..Plan::default() };
        is_found(&plan, "it was read by who might at no time");
    }
}

#[test]
fn a_publish_that_forgets_when_its_bytes_were_put_is_found() {
    is_found(&Plan { forgets_puts: true, ..Plan::default() }, "are lost");
}

#[test]
fn a_replica_that_believes_every_checkpoint_is_found() {
    let plan = Plan { believes: true, ..Plan::default() };
    let found = first_wrong(SEEDS_OF_MISTAKES, &plan).unwrap();
    assert!(found.contains("catalogs differ") || found.contains("is another"), "{found}");
}

#[test]
fn a_store_that_overwrites_is_found() {
    let plan = Plan { overwrites: true, ..Plan::default() };
    let found = first_wrong(SEEDS_OF_MISTAKES, &plan);
    assert!(found.is_some());
}
