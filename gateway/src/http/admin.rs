//! The admin listener: plain http, for Prometheus, for probes, and for whoever looks after a
//! replica. It shows nothing that is secret and changes nothing.

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
use crate::gateway::Gateway;
use crate::http::lanes::Lanes;
use crate::http::listen::{Bounds, IDLE, Listening, STALL};
use crate::http::measure::measure;
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
    Starting,
    /// Requests are answered.
    Serving(Arc<Gateway>),
    /// A signal came: what is under way is finished.
    Stopping(Arc<Gateway>),
}

/// Serves the admin pages until `shutdown`, and then until the last answer is out.
pub async fn serve_admin(
    listener: TcpListener,
    stage: watch::Receiver<Stage>,
    shutdown: CancellationToken,
) {
    Listening { tls: None, bounds: BOUNDS, metrics: None, shutdown, lanes: Lanes::here() }
        .run(listener, move |request, _: SocketAddr| {
            let stage = stage.borrow().clone();
            answer(stage, request)
        })
        .await;
}

async fn answer(stage: Stage, request: Request<Incoming>) -> Answer {
    let is_head = request.method() == Method::HEAD;
    let (outcome, allow) = if is_head || request.method() == Method::GET {
        (look(&stage, request.uri().path()), None)
    } else {
        let (error, allow) = respond::refused(Refused::Method("GET, HEAD".to_owned()));
        (Err(error), allow)
    };
    let id = RequestId::random();
    let answer = outcome.unwrap_or_else(|error| {
        tracing::debug!(id = id.as_str(), error = error.chain(), "the admin listener refused");
        respond::error(&error, Form::Text, "", id)
    });
    respond::finish(answer, is_head, allow.as_deref(), id)
}

fn look(stage: &Stage, path: &str) -> Result<Answer> {
    match path {
        "/" => summary(stage),
        "/livez" => Ok(respond::text("alive\n")),
        "/readyz" => match stage.ready() {
            Ok(()) => Ok(respond::text("ready\n")),
            Err(why) => Err(not_ready(&why)),
        },
        "/metrics" => metrics(stage),
        _ => Err(Error::absent("there is nothing here but /, /livez, /readyz and /metrics")),
    }
}

impl Stage {
    /// Whether this replica may get requests.
    fn ready(&self) -> Result<(), String> {
        match self {
            Self::Starting => Err("starting".to_owned()),
            Self::Serving(gateway) => gateway.journal.ready(),
            Self::Stopping(_) => Err("stopping".to_owned()),
        }
    }

    fn gateway(&self) -> Result<&Gateway> {
        match self {
            Self::Starting => Err(not_ready("starting")),
            Self::Serving(gateway) | Self::Stopping(gateway) => Ok(gateway),
        }
    }
}

fn not_ready(why: &str) -> Error {
    Error::new(Kind::Unavailable, format!("not ready: {why}")).retry_after(NOT_READY)
}

fn metrics(stage: &Stage) -> Result<Answer> {
    let gateway = stage.gateway()?;
    measure(gateway, stage.ready().is_ok())?;
    let families = gateway.metrics.registry.gather();
    let text = TextEncoder::new().encode_to_string(&families).map_err(Error::internal)?;
    Ok(respond::metrics(text))
}

fn summary(stage: &Stage) -> Result<Answer> {
    let gateway = stage.gateway()?;
    let head = gateway.catalog.head()?;
    let ready = stage.ready().map_or_else(|why| format!("no: {why}"), |()| "yes".into());
    Ok(respond::text(format!(
        "Cratehouse {version}, replica {replica}\n\
         url           {url}\n\
         ready         {ready}\n\
         journal head  {seq} {hash}\n\
         \n\
         /metrics  for Prometheus\n\
         /livez    whether the process serves\n\
         /readyz   whether this replica may get requests\n",
        version = env!("CARGO_PKG_VERSION"),
        replica = gateway.config.server.replica,
        url = gateway.url,
        seq = head.seq,
        hash = head.hash,
    )))
}
