//! Words of others in our sentences: an error, a log line or a page shows no more than an excerpt of
//! them, and none of their characters acts on a terminal or on the direction of what follows.

use std::fmt::{self, Write as _};

/// The most characters of one foreign text in a message.
pub const EXCERPT_CHARS: usize = 200;
/// The most characters of a whole message: ours with a few excerpts.
pub const MESSAGE_CHARS: usize = 2000;

/// The beginning of a foreign text, printable and on one line.
pub fn excerpt(text: &str) -> String {
    Shown { text, chars: EXCERPT_CHARS }.to_string()
}

/// The same of bytes that should be text.
pub fn excerpt_bytes(bytes: &[u8]) -> String {
    // Twice four bytes for each character: what is cut off is not decoded.
    let head = bytes.get(..EXCERPT_CHARS * 8).unwrap_or(bytes);
    excerpt(&String::from_utf8_lossy(head))
}

/// A whole message, which may have foreign words in it, made safe to show: what acts on a terminal is
/// escaped but for line breaks, and no message is longer than [`MESSAGE_CHARS`].
pub fn message(text: String) -> String {
    let is_fine = text.len() <= MESSAGE_CHARS && !text.chars().any(|c| c != '\n' && acts(c));
    if is_fine {
        return text;
    }
    let mut out = String::with_capacity(text.len().min(MESSAGE_CHARS * 2));
    for (nth, c) in text.chars().enumerate() {
        if nth == MESSAGE_CHARS {
            out.push('…');
            break;
        }
        match c {
            '\n' => out.push(c),
            c => push(&mut out, c),
        }
    }
    out
}

/// A foreign text as it is shown: `Display` writes the excerpt, and allocates nothing.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    text: &'a str,
    chars: usize,
}

impl<'a> Shown<'a> {
    /// At most [`EXCERPT_CHARS`] of it.
    pub fn new(text: &'a str) -> Self {
        Self { text, chars: EXCERPT_CHARS }
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.text.chars();
        for c in chars.by_ref().take(self.chars) {
            match acts(c) {
                true => write!(f, "{}", c.escape_unicode())?,
                false => f.write_char(c)?,
            }
        }
        match chars.next() {
            Some(_) => f.write_char('…'),
            None => Ok(()),
        }
    }
}

fn push(out: &mut String, c: char) {
    match acts(c) {
        true => out.extend(c.escape_unicode()),
        false => out.push(c),
    }
}

/// Whether a character does something else than to be seen: control characters, those that set the
/// direction of text (Unicode `Bidi_Control`), line and paragraph separators, and those without width
/// that make two texts look the same (Unicode `Default_Ignorable_Code_Point`).
pub fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_short_on_one_line_and_says_that_it_is_cut() {
        assert_eq!(excerpt("größe `x`"), "größe `x`");
        assert_eq!(excerpt(&"é".repeat(200)), "é".repeat(200));
        assert_eq!(excerpt(&"é".repeat(4_000_000)), format!("{}…", "é".repeat(200)));
        assert_eq!(
            excerpt("a\nb\u{1b}[31m\u{202e}c\u{200b}"),
            "a\\u{a}b\\u{1b}[31m\\u{202e}c\\u{200b}"
        );
        assert_eq!(excerpt_bytes(b"a\xff"), "a\u{fffd}");
        assert!(excerpt_bytes(&[0xff; 100_000]).chars().count() <= EXCERPT_CHARS + 1);
    }

    #[test]
    fn a_message_keeps_its_lines_and_nothing_else_that_acts() {
        assert_eq!(message("one\ntwo".to_owned()), "one\ntwo");
        assert_eq!(message("a\rb\u{2066}".to_owned()), "a\\u{d}b\\u{2066}");
        let long = message("x".repeat(10_000_000));
        assert_eq!(long.chars().count(), MESSAGE_CHARS + 1);
        assert!(message("\u{1b}".repeat(10_000_000)).len() <= MESSAGE_CHARS * 10);
    }
}
