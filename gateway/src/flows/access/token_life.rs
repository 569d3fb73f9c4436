//! How long tokens count: what the configuration says of those that are made.

use jiff::{SignedDuration, Timestamp};

use crate::config::TokenLife;
use cratehouse_core::error::{Error, Result};

impl TokenLife {
    /// When a token ends that is made now: as it was asked for, else after the usual time; never later than its maker's
    /// own end, where there is one.
    ///
    /// # Errors
    /// Invalid, when it was asked for a longer life than there may be.
    pub fn end(
        &self,
        asked: Option<Timestamp>,
        makers: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Option<Timestamp>> {
        let after = |span: SignedDuration| now.checked_add(span).map_err(Error::internal);
        let latest = self.longest.map(after).transpose()?;
        if let (Some(asked), Some(latest)) = (asked, latest)
            && asked > latest
        {
            return Err(Error::invalid(format_args!(
                "tokens count for {} days at most here (`auth.longest_token_days`): ask for an earlier end",
                self.longest.unwrap_or_default().as_hours() / 24
            )));
        }
        if asked.is_some() {
            return Ok(asked);
        }
        let usual = self.usual.map(after).transpose()?;
        Ok([usual, latest, makers].into_iter().flatten().min())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_as_asked_or_usual_and_never_beyond_the_longest() {
        let day = |day: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * day);
        let days = |days: i64| Some(SignedDuration::from_hours(24 * days));
        let now = day(0);
        let life = TokenLife { usual: days(30), longest: days(90) };
        assert_eq!(life.end(None, None, now).unwrap(), Some(day(30)));
        assert_eq!(life.end(None, Some(day(7)), now).unwrap(), Some(day(7)));
        assert_eq!(life.end(Some(day(90)), None, now).unwrap(), Some(day(90)));
        let refused = life.end(Some(day(91)), None, now).unwrap_err();
        assert!(refused.message.contains("90 days at most"), "{refused}");
        let bounded = TokenLife { usual: None, longest: days(90) };
        assert_eq!(bounded.end(None, None, now).unwrap(), Some(day(90)));
        let free = TokenLife::default();
        assert_eq!(free.end(None, None, now).unwrap(), None);
        assert_eq!(free.end(None, Some(day(5)), now).unwrap(), Some(day(5)));
        assert_eq!(free.end(Some(day(9999)), None, now).unwrap(), Some(day(9999)));
    }
}
