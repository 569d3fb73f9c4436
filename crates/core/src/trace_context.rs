//! The trace that a request belongs to: the header `traceparent` of W3C Trace Context (level 1,
//! section 3.2).

use std::fmt;
use std::str::FromStr;

/// The length of version 00, in bytes; later ones may go on after it.
const LENGTH: usize = 55;
/// The flag that says that the caller records this trace.
const SAMPLED: u8 = 1;

/// A trace, and the span in it that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace: TraceId,
    /// The span that asks.
    pub span: SpanId,
    /// Whether the trace is recorded.
    pub sampled: bool,
}

/// The number of a trace; never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(pub [u8; 16]);

/// The number of a span; never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanId(pub [u8; 8]);

/// It is no `traceparent`: a service that gets such a one begins a trace of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent")]
pub struct NoTraceParent;

impl TraceId {
    /// A new one.
    pub fn random() -> Self {
        Self(rand::random::<u128>().max(1).to_be_bytes())
    }
}

impl SpanId {
    /// A new one.
    pub fn random() -> Self {
        Self(rand::random::<u64>().max(1).to_be_bytes())
    }
}

impl FromStr for TraceParent {
    type Err = NoTraceParent;

    fn from_str(text: &str) -> Result<Self, NoTraceParent> {
        let (known, more) = text.split_at_checked(LENGTH).ok_or(NoTraceParent)?;
        let mut parts = known.split('-');
        let [version] = bytes(parts.next())?;
        let (trace, span) = (bytes(parts.next())?, bytes(parts.next())?);
        let [flags] = bytes(parts.next())?;
        let fits = match version {
            0 => more.is_empty(),
            0xff => false,
            _ => more.is_empty() || more.starts_with('-'),
        };
        let is_one = fits && trace != [0; 16] && span != [0; 8] && parts.next().is_none();
        let (trace, span, sampled) = (TraceId(trace), SpanId(span), flags & SAMPLED != 0);
        is_one.then_some(Self { trace, span, sampled }).ok_or(NoTraceParent)
    }
}

/// Hexadecimal in lower case, as the standard wants it.
fn bytes<const N: usize>(part: Option<&str>) -> Result<[u8; N], NoTraceParent> {
    let part = part.filter(|part| !part.bytes().any(|byte| byte.is_ascii_uppercase()));
    let mut bytes = [0; N];
    hex::decode_to_slice(part.ok_or(NoTraceParent)?, &mut bytes).map_err(|_| NoTraceParent)?;
    Ok(bytes)
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace, span, sampled } = self;
        write!(f, "00-{trace}-{span}-{:02x}", u8::from(*sampled) * SAMPLED)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_example_of_the_standard_is_read_and_written() {
        let parent: TraceParent = EXAMPLE.parse().unwrap();
        assert_eq!(parent.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(parent.span.to_string(), "00f067aa0ba902b7");
        assert!(parent.sampled);
        assert_eq!(parent.to_string(), EXAMPLE);
    }

    #[test]
    fn later_versions_may_say_more_and_other_flags_are_passed_over() {
        let read = |text: &str| text.parse::<TraceParent>();
        assert!(read(&EXAMPLE.replacen("00-", "cc-", 1)).is_ok());
        assert!(read(&(EXAMPLE.replacen("00-", "cc-", 1) + "-more")).is_ok());
        assert!(!read(&EXAMPLE.replace("-01", "-02")).unwrap().sampled);
    }

    #[test]
    fn what_the_standard_calls_invalid_is_none() {
        for invalid in [
            String::new(),
            EXAMPLE.to_uppercase(),
            EXAMPLE.replacen("00-", "ff-", 1),
            EXAMPLE.to_owned() + "-more",
            EXAMPLE.replacen("00-", "cc-", 1) + "more",
            EXAMPLE.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            EXAMPLE.replace("00f067aa0ba902b7", &"0".repeat(16)),
            EXAMPLE.replace('b', "x"),
            EXAMPLE.replace('-', "_"),
        ] {
            assert_eq!(invalid.parse::<TraceParent>(), Err(NoTraceParent), "{invalid}");
        }
    }

    proptest! {
        #[test]
        fn nothing_from_the_network_makes_it_panic(text in ".{0,80}") {
            let _ = text.parse::<TraceParent>();
        }
    }
}
