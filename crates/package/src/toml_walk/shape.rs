//! Which tables and values a TOML text has written so far, as hashes: enough to know what may follow.
//! The rules are those of the `toml` crate (TOML 1.1, "Table"); but a dotted key through an array of
//! tables is always refused here.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;

/// A table: the root, one of a header or of dotted keys, an inline one, or one item of an array.
pub(super) type Id = u32;

/// What a key of a table is.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// A value that is complete: inline tables and arrays too.
    Value,
    /// A table that no header has written yet.
    Implied {
        /// By a dotted key: then no header may.
        dotted: bool,
    },
    /// A table with a header.
    Written,
    /// An array of tables: the id is that of its last one.
    Tables,
}

/// All keys so far, by the table that they are in. Keys are told apart by 64 bits of a hash that
/// nobody outside can foresee.
#[derive(Debug, Default)]
pub(super) struct Shape {
    keys: HashMap<(Id, u64), (Id, Kind)>,
    hasher: RandomState,
    last: Id,
}

impl Shape {
    pub(super) fn root(&self) -> Id {
        0
    }

    pub(super) fn hash(&self, key: &str) -> u64 {
        self.hasher.hash_one(key)
    }

    /// A new inline table.
    pub(super) fn inline(&mut self) -> Id {
        self.next()
    }

    /// The table that a part of a dotted key leads to; `None` where it may not.
    pub(super) fn dotted(&mut self, table: Id, key: u64) -> Option<Id> {
        let new = self.next();
        match self.keys.entry((table, key)) {
            Entry::Vacant(free) => {
                free.insert((new, Kind::Implied { dotted: true }));
                Some(new)
            }
            Entry::Occupied(mut held) => match held.get_mut() {
                (id, Kind::Implied { dotted }) => {
                    *dotted = true;
                    Some(*id)
                }
                _ => None,
            },
        }
    }

    /// Notes a key with its value. Says whether it may stand there.
    pub(super) fn assign(&mut self, table: Id, key: u64) -> bool {
        match self.keys.entry((table, key)) {
            Entry::Vacant(free) => {
                free.insert((0, Kind::Value));
                true
            }
            Entry::Occupied(_) => false,
        }
    }

    /// The table that a header passes through, and whether it is the last of an array; `None` where
    /// it may not.
    pub(super) fn parent(&mut self, table: Id, key: u64) -> Option<(Id, bool)> {
        let new = self.next();
        match self.keys.entry((table, key)).or_insert((new, Kind::Implied { dotted: false })) {
            (id, Kind::Tables) => Some((*id, true)),
            (id, Kind::Implied { .. } | Kind::Written) => Some((*id, false)),
            (_, Kind::Value) => None,
        }
    }

    /// The table of a header `[…]`; `None` where there is one already.
    pub(super) fn table(&mut self, table: Id, key: u64) -> Option<Id> {
        let new = self.next();
        match self.keys.entry((table, key)) {
            Entry::Vacant(free) => {
                free.insert((new, Kind::Written));
                Some(new)
            }
            Entry::Occupied(mut held) => match held.get_mut() {
                (id, kind @ Kind::Implied { dotted: false }) => {
                    *kind = Kind::Written;
                    Some(*id)
                }
                _ => None,
            },
        }
    }

    /// The next table of a header `[[…]]`, and whether it is the first.
    pub(super) fn array_table(&mut self, table: Id, key: u64) -> Option<(Id, bool)> {
        let new = self.next();
        match self.keys.entry((table, key)) {
            Entry::Vacant(free) => {
                free.insert((new, Kind::Tables));
                Some((new, true))
            }
            Entry::Occupied(mut held) => match held.get_mut() {
                (id, Kind::Tables) => {
                    *id = new;
                    Some((new, false))
                }
                _ => None,
            },
        }
    }

    fn next(&mut self) -> Id {
        self.last = self.last.saturating_add(1);
        self.last
    }
}
