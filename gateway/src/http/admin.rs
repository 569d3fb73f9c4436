//! The admin listener: plain http, for Prometheus, for probes, and for whoever looks after a
//! replica. It shows nothing that is secret and changes nothing.

use std::cmp::Ordering;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Method, Request};
use prometheus::TextEncoder;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Kind, Result};
use crate::flows::open::Part;
use crate::gateway::Gateway;
use crate::http::host;
use crate::http::lanes::Lanes;
use crate::http::listen::{Bounds, IDLE, Listening, STALL};
use crate::http::measure::measure;
use crate::http::pulse::Pulse;
use crate::http::respond::{self, Answer, RequestId};
use crate::http::route::{Form, Refused};

const BOUNDS: Bounds = Bounds {
    connections: 64,
    streams: 16,
    head: Duration::from_secs(10),
    idle: IDLE,
    stall: STALL,
};

/// When a probe may ask again.
const NOT_READY: Duration = Duration::from_secs(1);

/// How far the process is. Only what serves is ready; all of it is alive.
#[derive(Debug, Clone)]
pub enum Stage {
    /// The store and the journal are being read.
    Starting {
        /// What is being opened.
        at: Part,
        /// Why that, or what comes before it, has to be tried again.
        trouble: Option<String>,
    },
    /// Requests are answered.
    Serving(Arc<Gateway>),
    /// A signal came: what is under way is finished.
    Stopping(Arc<Gateway>),
}

/// Serves the admin pages until `shutdown`, and then until the last answer is out.
pub async fn serve_admin(
    listener: TcpListener,
    stage: watch::Receiver<Stage>,
    pulse: Arc<Pulse>,
    shutdown: CancellationToken,
) {
    let (bounds, lanes) = (BOUNDS, Lanes::here());
    let (introduced_by, tls, shares, metrics) = (None, None, None, None);
    Listening { introduced_by, tls, bounds, shares, metrics, shutdown, lanes }
        .run(listener, move |request, _: SocketAddr| {
            let stage = stage.borrow().clone();
            answer(stage, Arc::clone(&pulse), request)
        })
        .await;
}

async fn answer(stage: Stage, pulse: Arc<Pulse>, request: Request<Incoming>) -> Answer {
    let (head, _) = request.into_parts();
    let is_head = head.method == Method::HEAD;
    let refused = match host::check(&head) {
        Ok(()) if is_head || head.method == Method::GET => None,
        Ok(()) => Some(Refused::Method("GET, HEAD".to_owned())),
        Err(refused) => Some(refused),
    };
    let (outcome, allow) = match refused.map(respond::refused) {
        None => (look(&stage, &pulse, head.uri.path()), None),
        Some((error, allow)) => (Err(error), allow),
    };
    let id = RequestId::random();
    let answer = outcome.unwrap_or_else(|error| {
        tracing::debug!(id = id.as_str(), error = error.chain(), "the admin listener refused");
        respond::error(&error, Form::Text, "", id)
    });
    respond::finish(answer, is_head, allow.as_deref(), id)
}

fn look(stage: &Stage, pulse: &Pulse, path: &str) -> Result<Answer> {
    match path {
        "/" => summary(stage),
        "/livez" => match pulse.stuck() {
            None => Ok(respond::text("alive\n")),
            Some(why) => Err(Error::new(Kind::Unavailable, format!("stuck: {why}"))),
        },
        "/readyz" => readiness(&stage.parts()),
        "/metrics" => metrics(stage),
        _ => Err(Error::absent("there is nothing here but /, /livez, /readyz and /metrics")),
    }
}

/// The parts that have to be well before requests come, and what is wrong with each.
type Parts = [(&'static str, Result<(), String>); 5];

impl Stage {
    fn parts(&self) -> Parts {
        let (store, catalog, journal, policy, process) = match self {
            Self::Starting { at, trouble } => {
                let part = |part| opened(part, *at, trouble.as_deref());
                let process = Err("starting".to_owned());
                let journal = part(Part::Journal);
                (part(Part::Store), part(Part::Catalog), journal, part(Part::Policy), process)
            }
            Self::Serving(gateway) => {
                let journal = gateway.journal.journal_ready();
                (Ok(()), gateway.journal.catalog_ready(), journal, Ok(()), Ok(()))
            }
            Self::Stopping(gateway) => {
                let journal = gateway.journal.journal_ready();
                let process = Err("stopping".to_owned());
                (Ok(()), gateway.journal.catalog_ready(), journal, Ok(()), process)
            }
        };
        [
            ("store", store),
            ("catalog", catalog),
            ("journal", journal),
            ("policy", policy),
            ("process", process),
        ]
    }

    fn gateway(&self) -> Result<&Gateway> {
        match self {
            Self::Starting { .. } => {
                Err(Error::new(Kind::Unavailable, "starting").retry_after(NOT_READY))
            }
            Self::Serving(gateway) | Self::Stopping(gateway) => Ok(gateway),
        }
    }
}

/// Whether a part is there while another is being opened.
fn opened(part: Part, at: Part, trouble: Option<&str>) -> Result<(), String> {
    match (part.cmp(&at), trouble) {
        (Ordering::Less, _) => Ok(()),
        (Ordering::Equal, None) => Err("it is being opened".to_owned()),
        (Ordering::Equal, Some(why)) => Err(format!("tried again, because: {why}")),
        (Ordering::Greater, _) => Err("it waits for those before".to_owned()),
    }
}

/// A line for each part.
fn readiness(parts: &Parts) -> Result<Answer> {
    let line = |(part, state): &(&str, Result<(), String>)| match state {
        Ok(()) => format!("{part}: ok\n"),
        Err(why) => format!("{part}: {why}\n"),
    };
    let lines: String = parts.iter().map(line).collect();
    match parts.iter().all(|(_, state)| state.is_ok()) {
        true => Ok(respond::text(format!("ready\n{lines}"))),
        false => {
            let text = format!("not ready\n{}", lines.trim_end());
            Err(Error::new(Kind::Unavailable, text).retry_after(NOT_READY))
        }
    }
}

fn metrics(stage: &Stage) -> Result<Answer> {
    let gateway = stage.gateway()?;
    let ready = stage.parts().iter().all(|(_, state)| state.is_ok());
    measure(gateway, ready)?;
    let families = gateway.metrics.registry.gather();
    let text = TextEncoder::new().encode_to_string(&families).map_err(Error::internal)?;
    Ok(respond::metrics(text))
}

fn summary(stage: &Stage) -> Result<Answer> {
    let gateway = stage.gateway()?;
    let head = gateway.catalog.head()?;
    let wrong = stage.parts().into_iter().find_map(|(_, state)| state.err());
    let ready = wrong.map_or_else(|| "yes".to_owned(), |why| format!("no: {why}"));
    Ok(respond::text(format!(
        "Cratehouse {version}, replica {replica}\n\
         url           {url}\n\
         ready         {ready}\n\
         journal head  {seq} {hash}\n\
         \n\
         /metrics  for Prometheus\n\
         /livez    whether the process turns\n\
         /readyz   whether this replica may get requests\n",
        version = env!("CARGO_PKG_VERSION"),
        replica = gateway.config.server.replica,
        url = gateway.url,
        seq = head.seq,
        hash = head.hash,
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_open_yet_says_why() {
        let starting = |at, trouble: Option<&str>| {
            let stage = Stage::Starting { at, trouble: trouble.map(str::to_owned) };
            readiness(&stage.parts()).unwrap_err().message
        };
        let text = starting(Part::Journal, None);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "not ready",
                "store: ok",
                "catalog: ok",
                "journal: it is being opened",
                "policy: it waits for those before",
                "process: starting",
            ]
        );
        let text = starting(Part::Store, Some("it does not answer"));
        assert!(text.contains("store: tried again, because: it does not answer"), "{text}");
    }
}
