//! Replacements of parts of a text, the rest of which stays as it is, byte for byte.

use std::ops::Range;

use bytes::Bytes;

/// Replacements, in the order of the text.
pub struct Edits<'a> {
    text: &'a str,
    done: Vec<(Range<usize>, &'static str)>,
}

impl<'a> Edits<'a> {
    /// No edits yet of this text.
    pub fn new(text: &'a str) -> Self {
        Self { text, done: Vec::new() }
    }

    /// Replaces a part, which must be a slice of the text itself, behind those before it.
    pub fn replace(&mut self, part: &'a str, by: &'static str) {
        let start = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        let end = start + part.len();
        match self.done.last_mut() {
            // Many lines that vanish are one edit: a file of nothing else would take 40 bytes for each.
            Some((before, "")) if by.is_empty() && before.end == start => before.end = end,
            _ => self.done.push((start..end, by)),
        }
    }

    /// The text with its replacements: `body`, whose text it is, when there are none.
    pub fn apply(self, body: &Bytes) -> Bytes {
        if self.done.is_empty() {
            return body.clone();
        }
        let longer: usize = self.done.iter().map(|(_, by)| by.len()).sum();
        let mut out = String::with_capacity(self.text.len() + longer);
        let mut from = 0;
        for (range, by) in self.done {
            out.push_str(self.text.get(from..range.start).unwrap_or_default());
            out.push_str(by);
            from = range.end;
        }
        out.push_str(self.text.get(from..).unwrap_or_default());
        Bytes::from(out)
    }
}
