//! Log lines: to standard error, for people or for machines. A line that cannot be written is lost and
//! counted (`crates/core/src/console.rs`), and nothing that logs waits for it.

pub mod requests;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::Log;
use cratehouse_core::console::{self, LogFormat};

/// Why logging did not start.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// `[log] filter` is none.
    #[error("`log.filter` is not a filter: {0}")]
    Filter(#[from] ParseError),
    /// It has started already.
    #[error("logging has started already: {0}")]
    Twice(#[from] TryInitError),
}

/// Starts logging for the whole process; a panic becomes a log line like any other, with the id
/// of its request.
///
/// # Errors
/// A filter that cannot be parsed, or a second start.
pub fn init(log: &Log) -> Result<(), LoggingError> {
    subscriber(log, console::stderr, io::stderr().is_terminal())?.try_init()?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let trace = Backtrace::capture(); // where RUST_BACKTRACE asks for it
        let trace = (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string());
        tracing::error!(place, reason = panic.payload_as_str(), trace, "a panic");
    }));
    Ok(())
}

/// The fields of the spans around a line (the request's id among them) stand on the line. What the
/// library would say of its own failures it would say past the queue, with std's macro that panics.
fn subscriber(
    log: &Log,
    writer: impl for<'w> MakeWriter<'w> + Send + Sync + 'static,
    colours: bool,
) -> Result<Box<dyn tracing::Subscriber + Send + Sync>, ParseError> {
    let lines = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(&log.filter)?)
        .with_ansi(colours)
        .log_internal_errors(false)
        .with_writer(writer);
    Ok(match log.format {
        LogFormat::Human => Box::new(lines.finish()),
        LogFormat::Json => {
            Box::new(lines.json().flatten_event(true).with_span_list(false).finish())
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(format: LogFormat) -> String {
        let page = Page::default();
        let writer = page.clone();
        let log = Log { format, filter: "info".to_owned() };
        let subscriber = subscriber(&log, move || writer.clone(), false).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("request", id = "r-1");
            let _entered = span.enter();
            tracing::info!(seq = 7, "published");
            tracing::debug!("not wanted");
        });
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_line_for_machines_is_one_object_with_the_request_id() {
        let text = written(LogFormat::Json);
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!((&line["message"], &line["seq"]), (&"published".into(), &7.into()));
        assert_eq!((&line["span"]["id"], &line["level"]), (&"r-1".into(), &"INFO".into()));
    }

    #[test]
    fn a_line_for_people_has_the_request_id() {
        let text = written(LogFormat::Human);
        assert_eq!(text.lines().count(), 1);
        assert!(text.contains("r-1") && text.contains("published"), "{text}");
    }
}
