//! Rules about names: who may create crates, and who may read them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::catalog::{RuleRow, Tables, View};
use crate::commands::{ActorCommand, Command, CommandActor};
use crate::subject::SubjectName;
use crate::writer::JournalHandle;
use cratehouse_core::error::Result;
use cratehouse_package::name::{CrateName, NamePattern};

/// A rule as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The names.
    pub pattern: NamePattern,
    /// Who may; those that are no more are left out.
    pub subjects: Vec<SubjectName>,
}

/// An open crate whose index file names a restricted one: its readers learn the name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Exposed {
    /// The restricted crate.
    pub krate: CrateName,
    /// The open one that depends on it.
    pub dependent: CrateName,
}

/// All rules about who creates crates.
///
/// # Errors
/// When the catalog fails.
pub async fn creators(journal: &JournalHandle) -> Result<Vec<Listed>> {
    journal.catalog().scan(|view: &View<_>| listed(view, view.creator_rules()?)).await
}

/// All rules about who reads crates.
///
/// # Errors
/// When the catalog fails.
pub async fn restrictions(journal: &JournalHandle) -> Result<Vec<Listed>> {
    journal.catalog().scan(|view: &View<_>| listed(view, view.restrictions()?)).await
}

fn listed<T: Tables>(view: &View<T>, rules: Vec<RuleRow>) -> Result<Vec<Listed>> {
    let listed = rules.into_iter().map(|rule| {
        let names = rule.subjects.iter().map(|subject| view.subject_name(*subject));
        let subjects = names.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        Ok(Listed { pattern: rule.pattern, subjects })
    });
    listed.collect()
}

/// The open hosted crates that depend on hosted ones which a pattern restricts. Reads every version.
///
/// # Errors
/// When the catalog fails.
pub async fn exposed(journal: &JournalHandle, pattern: &NamePattern) -> Result<Vec<Exposed>> {
    let pattern = pattern.clone();
    let read = move |view: &View<_>| {
        let mut found = BTreeSet::new();
        for krate in view.crates()? {
            if view.readers(&krate.name.key())?.is_some() {
                continue;
            }
            for version in view.versions(&krate.name.key())?.iter().filter(|row| !row.removed) {
                let deps = version.line.deps.iter().filter(|dep| dep.registry.is_none());
                let names = deps.filter_map(|dep| {
                    dep.package.clone().or_else(|| CrateName::parse(&dep.name).ok())
                });
                for name in names.filter(|name| pattern.covers(&name.key())) {
                    found.insert(Exposed { krate: name, dependent: krate.name.clone() });
                }
            }
        }
        Ok(found.into_iter().collect())
    };
    journal.catalog().scan(read).await
}

/// Has a command about rules, teams or roles done.
///
/// # Errors
/// The refusal of the judge.
pub async fn change(journal: &JournalHandle, by: CommandActor, command: Command) -> Result<()> {
    journal.append(ActorCommand { by, command }).await.map(drop)
}
