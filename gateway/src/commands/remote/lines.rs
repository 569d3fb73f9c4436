//! An event of the trail as a server sends it: a JSON object whose keys stay as they are, also those that this release
//! does not know.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::flows::store::show;
use cratehouse_core::error::{Error, Result};
use jiff::Timestamp;

/// What a server adds to an event, in words.
const WORDS: [&str; 2] = ["who", "deed"];

/// A page of the trail.
#[derive(Debug, Deserialize)]
pub(in crate::commands) struct TrailPage {
    pub(in crate::commands) events: Vec<Line>,
    pub(in crate::commands) next: Option<u64>,
}

/// An event.
#[derive(Debug)]
pub(in crate::commands) struct Line(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Line;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Line, A::Error> {
                let mut keys = Vec::new();
                while let Some(key) = map.next_entry()? {
                    keys.push(key);
                }
                Ok(Line(keys))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

impl Line {
    /// For programs: as `journal show --json` has it of a store.
    ///
    /// # Errors
    /// When a key has no form in JSON, which no text's has.
    pub(in crate::commands) fn json(&self) -> Result<String> {
        let mut text = "{".to_owned();
        for (key, value) in self.0.iter().filter(|(key, _)| !WORDS.contains(&key.as_str())) {
            if text.len() > 1 {
                text.push(',');
            }
            text += &serde_json::to_string(key).map_err(Error::internal)?;
            text.push(':');
            text += value.get();
        }
        text.push('}');
        Ok(text)
    }

    /// For people.
    ///
    /// # Errors
    /// Internal, when a key is missing.
    pub(in crate::commands) fn line(&self) -> Result<String> {
        let (seq, time): (u64, Timestamp) = (self.value("seq")?, self.value("time")?);
        let (who, deed): (String, String) = (self.value("who")?, self.value("deed")?);
        let plain = |text: String| text.replace(char::is_control, " ");
        Ok(show::line(seq, time, &plain(who), &plain(deed)))
    }

    fn value<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<T> {
        let found = self.0.iter().find(|(found, _)| found == key);
        let text = found.map_or("null", |(_, value)| value.get());
        serde_json::from_str(text).map_err(Error::internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_printed_as_it_came_but_for_the_words() {
        let text = r#"{"seq":7,"time":"2026-01-02T03:04:05.678Z","replica":"a","by":{"user":{"user":1,"token":2}},"event":"party","what":[1, 2],"who":"al","deed":"did\u001bit"}"#;
        let line: Line = serde_json::from_str(text).unwrap();
        let wanted = r#"{"seq":7,"time":"2026-01-02T03:04:05.678Z","replica":"a","by":{"user":{"user":1,"token":2}},"event":"party","what":[1, 2]}"#;
        assert_eq!(line.json().unwrap(), wanted);
        assert_eq!(line.line().unwrap(), "7\t2026-01-02T03:04:05Z\tal\tdid it");
        let page: TrailPage =
            serde_json::from_str(&format!(r#"{{"events":[{text}],"next":7}}"#)).unwrap();
        assert_eq!((page.events.len(), page.next), (1, Some(7)));
        assert!(serde_json::from_str::<Line>("{}").unwrap().line().is_err());
    }
}
