//! The policy in force: one value that is replaced as a whole, so that nobody ever sees half of a change.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;

use crate::{Advisories, Policy};

/// A policy and the advisories that it is applied with.
#[derive(Debug, Default)]
pub struct PolicyGeneration {
    /// The rules.
    pub policy: Policy,
    /// The advisory database, where there is one.
    pub advisories: Option<Arc<Advisories>>,
    /// Another number for another policy or database.
    pub stamp: u64,
}

impl PolicyGeneration {
    /// Whether it allows everything, so that nobody need be asked.
    pub fn is_silent(&self) -> bool {
        self.policy.allows_everything()
    }
}

/// The generation that verdicts are given by now. Whoever has
/// the [`PolicySwitch`] replaces it; until then it allows everything.
#[derive(Debug)]
pub struct PolicyInForce {
    generation: RwLock<Arc<PolicyGeneration>>,
    /// The number of the generation, to be compared without a lock.
    stamp: AtomicU64,
    silent: AtomicBool,
    clock: fn() -> Timestamp,
}

/// The right to replace the policy in force.
#[derive(Debug)]
pub struct PolicySwitch(Arc<PolicyInForce>);

impl Default for PolicyInForce {
    fn default() -> Self {
        Self::at(Timestamp::now)
    }
}

impl PolicySwitch {
    /// A policy that allows everything, until another is put; verdicts are given at the time that
    /// `clock` tells.
    pub fn new(clock: fn() -> Timestamp) -> Self {
        Self(Arc::new(PolicyInForce::at(clock)))
    }

    /// What is replaced.
    pub fn in_force(&self) -> &Arc<PolicyInForce> {
        &self.0
    }

    /// Replaces the policy in force.
    pub fn put(&self, next: PolicyGeneration) {
        let (stamp, silent) = (next.stamp, next.is_silent());
        let place = &self.0;
        // First of all, so that nobody passes by a policy that is coming into force.
        place.silent.fetch_and(silent, Ordering::AcqRel);
        *place.generation.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        place.stamp.store(stamp, Ordering::Release);
        place.silent.store(silent, Ordering::Release);
    }
}

impl PolicyInForce {
    fn at(clock: fn() -> Timestamp) -> Self {
        let (stamp, silent) = (AtomicU64::new(0), AtomicBool::new(true));
        Self { generation: RwLock::default(), stamp, silent, clock }
    }

    /// The policy in force.
    pub fn generation(&self) -> Arc<PolicyGeneration> {
        Arc::clone(&self.generation.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The number of the policy in force.
    pub fn stamp(&self) -> u64 {
        self.stamp.load(Ordering::Acquire)
    }

    /// Whether the policy in force allows everything.
    pub fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Acquire)
    }

    /// The time that verdicts are given at.
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }
}
