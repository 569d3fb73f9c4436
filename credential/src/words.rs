//! What is said to people.

use std::io::Write as _;

/// As much of what others say as is shown, in characters.
const LONGEST: usize = 300;

/// A line on standard error, which cargo leaves to the terminal.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}"); // nobody reads: nothing to be done
}

/// Other people's text on one line, without what moves a terminal's cursor, and not too long.
pub(crate) fn plain(text: &str) -> String {
    let mut shown: String = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .filter(|c| !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
        .take(LONGEST + 1)
        .collect();
    if shown.chars().count() > LONGEST {
        shown.pop();
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_move_the_cursor_and_ends() {
        assert_eq!(plain(" a\x1b[2Jb\nc\u{202e} "), "a [2Jb c");
        let long = plain(&"é".repeat(LONGEST + 5));
        assert_eq!(long.chars().count(), LONGEST + 1);
        assert!(long.ends_with("é…"));
    }
}
