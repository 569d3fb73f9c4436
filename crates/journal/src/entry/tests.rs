//! What an entry is, and what it refuses to be.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// An entry with every kind of event that has parts of its own.
fn rich() -> Value {
    let line = json!({
        "name": "foo", "vers": "1.0.0", "cksum": Checksum::of(b"a"), "yanked": false,
        "features": {}, "deps": [{
            "name": "bar", "req": "^1", "features": [], "optional": false,
            "default_features": true, "target": null, "kind": "normal"
        }],
    });
    json!({
        "seq": 1, "id": "00".repeat(16), "prev": Checksum::of(b"registry"),
        "time": "2026-01-01T00:00:00Z", "replica": "one",
        "events": [
            { "by": "operator", "event": "published", "line": line, "size": 1,
              "metadata": { "description": "text" } },
            { "by": { "user": { "user": 1, "token": 2 } }, "event": "removed",
              "krate": "foo", "version": "1.0.0", "reason": "why" },
            { "by": "operator", "event": "token_created", "token": 1, "user": 1, "name": "ci",
              "hash": Checksum::of(b"t"), "grant": { "scopes": ["yank"], "crates": ["a-*"] } },
        ],
    })
}

fn open(text: &str) -> Result<(Entry, Checksum), ChainError> {
    Entry::open(text.as_bytes(), 1, &Checksum::of(b"registry"))
}

/// The places of all objects in a value.
fn objects(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.push(at.to_owned());
            fields.iter().for_each(|(k, v)| objects(v, &format!("{at}/{k}"), found));
        }
        Value::Array(items) => {
            (0..).zip(items).for_each(|(n, v)| objects(v, &format!("{at}/{n}"), found));
        }
        _ => {}
    }
}

#[test]
fn what_this_release_does_not_know_is_never_passed_over() {
    open(&rich().to_string()).unwrap();
    let mut places = Vec::new();
    objects(&rich(), "", &mut places);
    assert!(places.len() >= 9, "{places:?}");
    // In the map of features every key is a feature.
    for place in places.iter().filter(|place| !place.ends_with("/features")) {
        let mut entry = rich();
        let object = entry.pointer_mut(place).unwrap().as_object_mut().unwrap();
        object.insert("novelty".to_owned(), json!(1));
        let refused = open(&entry.to_string());
        assert!(matches!(refused, Err(ChainError::Unreadable(1, _))), "at `{place}`: {refused:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_an_entry_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Entry::open(&bytes, 1, &Checksum::of(b"registry"));
    }

    /// Cut short, it is no entry; with another byte it is an error or another entry, which
    /// its hash tells.
    #[test]
    fn a_damaged_entry_is_an_error_or_has_another_hash(at: prop::sample::Index, byte: u8) {
        let text = rich().to_string().into_bytes();
        let at = at.index(text.len());
        prop_assert!(Entry::open(&text[..at], 1, &Checksum::of(b"registry")).is_err());
        let mut damaged = text.clone();
        damaged[at] = byte;
        if let Ok((_, hash)) = Entry::open(&damaged, 1, &Checksum::of(b"registry")) {
            prop_assert_eq!(hash == Checksum::of(&text), damaged == text);
        }
    }
}

fn entry(seq: u64, prev: Checksum) -> Entry {
    let what = EventKind::UserCreated {
        user: UserId(1),
        login: "alice".to_owned(),
        kind: PrincipalKind::Person,
    };
    let token =
        Event { by: Actor::User { user: UserId(1), token: TokenId(2) }, what: what.clone() };
    Entry {
        seq,
        id: EntryId::random(),
        prev,
        time: Timestamp::UNIX_EPOCH,
        replica: "one".to_owned(),
        level: Level::FIRST,
        events: vec![Event { by: Actor::Operator, what }, token],
    }
}

#[test]
fn an_entry_that_enables_an_unknown_level_is_where_this_release_stops() {
    let genesis = Checksum::of(b"registry");
    let enabling = |level| {
        let what = EventKind::LevelEnabled { level };
        let mut entry = entry(1, genesis);
        entry.events.push(Event { by: Actor::Operator, what });
        Entry::open(&entry.seal().unwrap().0, 1, &genesis)
    };
    assert_eq!(enabling(Level::KNOWN).unwrap().0.enables(), Some(Level::KNOWN));
    let refusal = enabling(Level::KNOWN.next()).unwrap_err();
    assert!(matches!(refusal, ChainError::Newer { at: 1, .. }), "{refusal}");
    assert!(refusal.to_string().contains("upgrade this replica"), "{refusal}");
}

#[test]
fn an_entry_reads_back_as_it_was_written() {
    let genesis = Checksum::of(b"registry");
    let first = entry(1, genesis);
    let (bytes, hash) = first.seal().unwrap();
    assert_eq!(Entry::open(&bytes, 1, &genesis).unwrap(), (first, hash));
}

#[test]
fn a_chain_that_does_not_hold_is_named() {
    let genesis = Checksum::of(b"registry");
    let (bytes, _) = entry(1, genesis).seal().unwrap();
    assert!(matches!(Entry::open(&bytes, 2, &genesis), Err(ChainError::Number { at: 2, says: 1 })));
    assert!(matches!(Entry::open(&bytes, 1, &Checksum::of(b"x")), Err(ChainError::Broken(1))));
    let unknown =
        String::from_utf8(bytes.to_vec()).unwrap().replace("user_created", "user_praised");
    assert!(matches!(
        Entry::open(unknown.as_bytes(), 1, &genesis),
        Err(ChainError::Unreadable(1, _))
    ));
}
