//! Tokens as their owners hold them: `crh_p_` (a person's; `s` a service account's, `x` an exchanged one, `w` a
//! session), random characters, and the CRC-32 of all that. Scanners find them by their form, and one that was cut
//! off or made up is refused before it is looked up. Those of release 0.1 are `crh_` and random characters alone.

use std::fmt;

use flate2::Crc;
use rand::RngExt;

use crate::principal::PrincipalKind;
use cratehouse_core::checksum::Checksum;

/// What every token begins with.
const PREFIX: &str = "crh_";
/// Random characters of a token, of 62: 190 bits.
const RANDOM_CHARS: usize = 32;
/// Characters of its CRC-32, of 62.
const CRC_CHARS: usize = 6;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A token as its owner holds it. Shown once; only its SHA-256 is kept.
pub struct TokenSecret(String);

/// What a token is for, as its prefix tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A person's own.
    Person,
    /// A service account's.
    Service,
    /// One that a CI job got for the identity that its platform gave it.
    Exchanged,
    /// A session of a browser.
    Session,
}

/// The text has the form of a token of this registry's kind, and is none: characters are missing or wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this token is not whole: its checksum does not fit, so characters were cut off or changed when it was copied"
)]
pub struct NotWhole;

impl TokenKind {
    const ALL: [Self; 4] = [Self::Person, Self::Service, Self::Exchanged, Self::Session];

    fn letter(self) -> char {
        match self {
            Self::Person => 'p',
            Self::Service => 's',
            Self::Exchanged => 'x',
            Self::Session => 'w',
        }
    }

    fn prefix(self) -> String {
        format!("{PREFIX}{}_", self.letter())
    }
}

impl From<PrincipalKind> for TokenKind {
    fn from(kind: PrincipalKind) -> Self {
        match kind {
            PrincipalKind::Person => Self::Person,
            PrincipalKind::Service => Self::Service,
        }
    }
}

impl TokenSecret {
    /// A new one.
    pub fn random(kind: TokenKind) -> Self {
        let mut rng = rand::rng();
        let random = (0..RANDOM_CHARS).map(|_| char::from(rng.sample(rand::distr::Alphanumeric)));
        let mut text: String = kind.prefix().chars().chain(random).collect();
        text.push_str(&crc(&text));
        Self(text)
    }

    /// What is kept of it.
    pub fn hash(&self) -> Checksum {
        Checksum::of(self.0.as_bytes())
    }

    /// The text, to be shown to its owner and to nobody else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Refuses what cannot be a token, by its form alone: what has the prefix of a kind must be whole. Whether it is one
/// is for the catalog to say.
///
/// # Errors
/// [`NotWhole`].
pub fn check_form(text: &str) -> Result<(), NotWhole> {
    let of_a_kind = TokenKind::ALL.into_iter().any(|kind| text.starts_with(&kind.prefix()));
    if !of_a_kind {
        return Ok(());
    }
    let at = text.len().checked_sub(CRC_CHARS).filter(|at| text.is_char_boundary(*at));
    let (body, tail) = text.split_at_checked(at.ok_or(NotWhole)?).ok_or(NotWhole)?;
    match crc(body) == tail {
        true => Ok(()),
        false => Err(NotWhole),
    }
}

/// The CRC-32 of a text in characters that a double click selects.
fn crc(text: &str) -> String {
    let mut crc = Crc::new();
    crc.update(text.as_bytes());
    let (mut rest, mut digits) = (crc.sum() as usize, ['0'; CRC_CHARS]);
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS.get(rest % DIGITS.len()).map_or('0', |byte| char::from(*byte));
        rest /= DIGITS.len();
    }
    digits.iter().collect()
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(…)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn secrets_differ_and_do_not_print() {
        let random = || TokenSecret::random(TokenKind::Person);
        let (a, b) = (random(), random());
        assert_ne!(a.hash(), b.hash());
        assert_eq!(a.reveal().len(), "crh_p_".len() + RANDOM_CHARS + CRC_CHARS);
        assert!(!format!("{a:?}").contains(a.reveal()));
    }

    #[test]
    fn a_token_of_any_kind_is_whole_and_none_that_was_cut_or_changed_is() {
        for kind in TokenKind::ALL {
            let secret = TokenSecret::random(kind);
            let text = secret.reveal();
            assert!(text.starts_with(&kind.prefix()), "{text}");
            assert_eq!(check_form(text), Ok(()));
            for end in kind.prefix().len()..text.len() {
                assert_eq!(check_form(&text[..end]), Err(NotWhole), "cut at {end}");
            }
            for at in kind.prefix().len()..text.len() {
                let other = if &text[at..=at] == "a" { "b" } else { "a" };
                let changed = [&text[..at], other, &text[at + 1..]].concat();
                assert_eq!(check_form(&changed), Err(NotWhole), "changed at {at}");
            }
            assert_eq!(check_form(&format!("{text}x")), Err(NotWhole));
        }
    }

    #[test]
    fn tokens_of_before_and_of_others_are_for_the_catalog() {
        for text in ["crh_jWguwoYyRxDMudr65rcnaEGH5TcOUfFT", "cio123", "", "crh_", "crh_pqrs"] {
            assert_eq!(check_form(text), Ok(()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_looked_at_without_harm(text in "(crh_[psxw]_)?\\PC{0,60}") {
            let _ = check_form(&text);
        }
    }
}
