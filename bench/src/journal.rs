//! A registry that was never published to: its journal, written straight into the store. The
//! gateways that read it check every entry and the chain of their hashes.

use cratehouse_tests::krate::{index_path, sha256};
use cratehouse_tests::memory_s3::MemoryS3;
use serde_json::{Value, json};

/// The one user, who owns every crate.
pub(crate) const LOGIN: &str = "bench";

/// Dependencies of each version.
const DEPENDENCIES: usize = 8;
const REGISTRY: &str = "00112233445566778899aabbccddeeff";

/// A journal being written.
#[derive(Debug)]
pub(crate) struct Journal<'a> {
    store: &'a MemoryS3,
    seq: u64,
    prev: String,
}

impl<'a> Journal<'a> {
    /// A registry in an empty store, with its user.
    pub(crate) fn found(store: &'a MemoryS3) -> Self {
        let format = json!({ "format": 1, "registry": REGISTRY });
        store.put("format.json", format.to_string().into_bytes());
        let mut journal = Self { store, seq: 0, prev: sha256(REGISTRY.as_bytes()) };
        let user = json!({ "by": "operator", "event": "user_created", "user": 1, "login": LOGIN });
        journal.append(&[user]);
        journal
    }

    /// That many versions spread over that many crates, a version an entry; the first one of a
    /// crate is followed by its owner.
    pub(crate) fn publish(&mut self, versions: usize, crates: usize) {
        for nth in 0..versions {
            let (name, number) = (name(nth % crates), nth / crates);
            let mut events = vec![published(&name, &format!("1.0.{number}"))];
            if number == 0 {
                let owner = json!({ "event": "owner_added", "krate": name, "user": 1 });
                events.push(by_the_operator(owner));
            }
            self.append(&events);
        }
    }

    /// The number of the last entry.
    pub(crate) fn head(&self) -> u64 {
        self.seq
    }

    fn append(&mut self, events: &[Value]) {
        self.seq += 1;
        let entry = json!({
            "seq": self.seq,
            "id": format!("{:032x}", self.seq),
            "prev": self.prev,
            "time": "2026-01-01T00:00:00Z",
            "replica": "bench",
            "events": events,
        });
        let bytes = entry.to_string().into_bytes();
        self.prev = sha256(&bytes);
        self.store.put(&format!("journal/{:020}.json", self.seq), bytes);
    }
}

/// The name of a crate.
pub(crate) fn name(nth: usize) -> String {
    format!("acme-crate-{nth:05}")
}

/// Where its index file is.
pub(crate) fn path(nth: usize) -> String {
    index_path(&name(nth))
}

/// How many versions were published in a store, whoever did it.
pub(crate) fn count_published(store: &MemoryS3) -> usize {
    let mut count = 0;
    store.each("journal", |bytes| {
        let entry: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let events = entry.get("events").and_then(Value::as_array);
        let published = |event: &&Value| event.get("event").is_some_and(|e| e == "published");
        count += events.into_iter().flatten().filter(published).count();
    });
    count
}

fn by_the_operator(mut event: Value) -> Value {
    if let Some(fields) = event.as_object_mut() {
        fields.insert("by".to_owned(), json!("operator"));
    }
    event
}

fn published(name: &str, version: &str) -> Value {
    let line = index_line(name, version, "2026-01-01T00:00:00Z");
    let metadata = json!({ "description": format!("What {name} does"), "license": "MIT" });
    by_the_operator(json!({
        "event": "published", "line": line, "size": 10_000, "metadata": metadata,
    }))
}

/// An index line of about 1.3 kB, as long as those of crates with some dependencies are.
pub(crate) fn index_line(name: &str, version: &str, pubtime: &str) -> Value {
    let dependency = |nth: usize| {
        json!({
            "name": format!("dependency-{nth}"), "req": "^1.2.3", "features": ["derive"],
            "optional": false, "default_features": true, "target": null, "kind": "normal",
        })
    };
    json!({
        "name": name,
        "vers": version,
        "deps": (0..DEPENDENCIES).map(dependency).collect::<Vec<_>>(),
        "cksum": sha256(format!("{name} {version}").as_bytes()),
        "features": { "default": ["std"], "std": [] },
        "yanked": false,
        "pubtime": pubtime,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_stand_in_a_chain_of_entries() {
        let store = MemoryS3::start();
        let mut journal = Journal::found(&store);
        journal.publish(7, 3);
        assert_eq!(journal.head(), 8);
        assert_eq!(count_published(&store), 7);
        let (mut prev, mut events) = (sha256(REGISTRY.as_bytes()), 0);
        store.each("journal", |bytes| {
            let entry: Value = serde_json::from_slice(bytes).unwrap();
            assert_eq!(entry["prev"], prev);
            prev = sha256(bytes);
            events += entry["events"].as_array().unwrap().len();
        });
        assert_eq!(events, 1 + 7 + 3, "the user, the versions, an owner for each crate");
    }
}
