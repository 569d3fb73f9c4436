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

use crate::flows::open::Part;
use crate::flows::store::store_watch;
use crate::gateway::Gateway;
use crate::http::ops::measure::{measure, measure_start};
use crate::http::request::host;
use crate::http::request::route::{Form, Refused};
use crate::http::response::respond::{self, Answer, RequestId};
use crate::http::transport::listen::{Bounds, IDLE, Listening, STALL};
use crate::http::transport::watchdog::Watchdog;
use crate::http::transport::workers::Workers;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_core::metrics::Metrics;

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
        failure: Option<String>,
    },
    /// Requests are answered.
    Serving(Arc<Gateway>),
    /// A signal came: what is under way is finished.
    Stopping(Arc<Gateway>),
}

/// What the admin pages show.
#[derive(Debug, Clone)]
pub struct Views {
    /// How far the process is.
    pub stage: watch::Receiver<Stage>,
    /// Whether it turns.
    pub watchdog: Arc<Watchdog>,
    /// What it counts, from its first moment.
    pub metrics: Metrics,
}

/// Serves the admin pages until `shutdown`, and then until the last answer is out.
pub async fn serve_admin(listener: TcpListener, views: Views, shutdown: CancellationToken) {
    let (bounds, workers) = (BOUNDS, Workers::here());
    let (introduced_by, tls, url, shares, metrics) = (None, None, None, None, None);
    Listening { introduced_by, tls, url, bounds, shares, metrics, shutdown, workers }
        .run(listener, move |request, _: SocketAddr| answer(views.clone(), request))
        .await;
}

async fn answer(views: Views, request: Request<Incoming>) -> Answer {
    let (head, _) = request.into_parts();
    let is_head = head.method == Method::HEAD;
    let refused = match host::check(&head) {
        Ok(()) if is_head || head.method == Method::GET => None,
        Ok(()) => Some(Refused::Method("GET, HEAD".to_owned())),
        Err(refused) => Some(refused),
    };
    let (outcome, allow) = match refused.map(|refused| respond::refused(refused, "")) {
        None => (look(&views, head.uri.path()), None),
        Some((error, allow)) => (Err(error), allow),
    };
    let id = RequestId::random();
    let answer = outcome.unwrap_or_else(|error| {
        tracing::debug!(id = id.as_str(), error = error.chain(), "the admin listener refused");
        respond::error(&error, Form::Text, "", id)
    });
    respond::finish(answer, is_head, allow.as_deref(), id)
}

fn look(views: &Views, path: &str) -> Result<Answer> {
    let stage = views.stage.borrow().clone();
    match path {
        "/" => summary(&stage),
        "/livez" => match views.watchdog.stuck() {
            None => Ok(respond::text("alive\n")),
            Some(why) => Err(Error::new(Kind::Unavailable, format!("stuck: {why}"))),
        },
        "/readyz" => readiness(&stage.parts()),
        "/metrics" => metrics(&stage, &views.metrics),
        _ => Err(Error::absent("there is nothing here but /, /livez, /readyz and /metrics")),
    }
}

/// The parts that have to be well before requests come, and what is wrong with each; what there is to
/// say of one that is well enough.
type Parts = [(&'static str, Result<Option<String>, String>); 5];

impl Stage {
    fn parts(&self) -> Parts {
        let fine = |state: Result<(), String>| state.map(|()| None);
        let (store, catalog, journal, policy, process) = match self {
            Self::Starting { at, failure } => {
                let part = |part| fine(opened(part, *at, failure.as_deref()));
                let process = Err("starting".to_owned());
                let journal = part(Part::Journal);
                (part(Part::Store), part(Part::Catalog), journal, part(Part::Policy), process)
            }
            Self::Serving(gateway) | Self::Stopping(gateway) => {
                let (store, catalog) =
                    (Ok(store_trouble(gateway)), gateway.journal.catalog_ready());
                let journal = gateway.journal.journal_ready().map(|()| journal_trouble(gateway));
                let process = match self {
                    Self::Stopping(_) => Err("stopping".to_owned()),
                    _ => Ok(None),
                };
                (store, fine(catalog), journal, Ok(None), process)
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

/// What keeps the store from taking anything. It is no reason to get no requests: what is there can be
/// read, and all replicas of one store would leave their balancer at once.
fn store_trouble(gateway: &Gateway) -> Option<String> {
    let refusal = store_watch::refusal(&gateway.metrics)?;
    Some(format!("nothing can be published or changed: {}", refusal.words()))
}

/// What keeps this replica from following, until an operator has looked; likewise no reason to leave.
fn journal_trouble(gateway: &Gateway) -> Option<String> {
    let refusal = gateway.journal.refusal()?;
    Some(format!("what changes is not seen: {}", refusal.words()))
}

/// Whether a part is there while another is being opened.
fn opened(part: Part, at: Part, failure: Option<&str>) -> Result<(), String> {
    match (part.cmp(&at), failure) {
        (Ordering::Less, _) => Ok(()),
        (Ordering::Equal, None) => Err("it is being opened".to_owned()),
        (Ordering::Equal, Some(why)) => Err(format!("tried again, because: {why}")),
        (Ordering::Greater, _) => Err("it waits for those before".to_owned()),
    }
}

/// A line for each part.
fn readiness(parts: &Parts) -> Result<Answer> {
    let line = |(part, state): &(&str, Result<Option<String>, String>)| match state {
        Ok(None) => format!("{part}: ok\n"),
        Ok(Some(failure)) => format!("{part}: ok to read; {failure}\n"),
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

/// While the store is waited for, too: an alert on what is not there would tell nobody why.
fn metrics(stage: &Stage, metrics: &Metrics) -> Result<Answer> {
    let ready = stage.parts().iter().all(|(_, state)| state.is_ok());
    match stage {
        Stage::Starting { .. } => measure_start(metrics),
        Stage::Serving(gateway) | Stage::Stopping(gateway) => measure(gateway, ready)?,
    }
    let families = metrics.registry.gather();
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
        let starting = |at, failure: Option<&str>| {
            let stage = Stage::Starting { at, failure: failure.map(str::to_owned) };
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
