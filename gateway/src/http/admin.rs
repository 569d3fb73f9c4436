//! The admin listener: plain http, for Prometheus, for probes, and for whoever looks after a
//! replica. It shows nothing that is secret and changes nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Method, Request};
use prometheus::TextEncoder;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Kind, Result};
use crate::gateway::Gateway;
use crate::http::listen::{Bounds, Listening};
use crate::http::respond::{self, Answer};
use crate::http::route::{Form, Refused};

const BOUNDS: Bounds = Bounds { connections: 64, streams: 16, head: Duration::from_secs(10) };

/// When a probe may ask again.
const NOT_READY: Duration = Duration::from_secs(1);

/// Serves the admin pages until `shutdown`, and then until the last answer is out.
pub async fn serve_admin(
    listener: TcpListener,
    gateway: Arc<Gateway>,
    shutdown: CancellationToken,
) {
    Listening { tls: None, bounds: BOUNDS, metrics: None, shutdown }
        .run(listener, move |request, _: SocketAddr| answer(Arc::clone(&gateway), request))
        .await;
}

async fn answer(gateway: Arc<Gateway>, request: Request<Incoming>) -> Answer {
    let is_head = request.method() == Method::HEAD;
    let (outcome, allow) = if is_head || request.method() == Method::GET {
        (look(&gateway, request.uri().path()), None)
    } else {
        let (error, allow) = respond::refused(Refused::Method("GET, HEAD".to_owned()));
        (Err(error), allow)
    };
    let id = format!("{:016x}", rand::random::<u64>());
    let answer = outcome.unwrap_or_else(|error| {
        tracing::debug!(id, error = error.chain(), "the admin listener refused");
        respond::error(&error, Form::Text, "", &id)
    });
    respond::finish(answer, is_head, allow.as_deref(), &id)
}

fn look(gateway: &Gateway, path: &str) -> Result<Answer> {
    match path {
        "/" => summary(gateway),
        "/livez" => Ok(respond::text("alive\n")),
        "/readyz" => {
            match gateway.journal.ready() {
                Ok(()) => Ok(respond::text("ready\n")),
                Err(why) => Err(Error::new(Kind::Unavailable, format!("not ready: {why}"))
                    .retry_after(NOT_READY)),
            }
        }
        "/metrics" => {
            let age = gateway.journal.read_age().map_or(-1, |age| age.as_secs().cast_signed());
            gateway.metrics.journal_read_age.set(age);
            let families = gateway.metrics.registry.gather();
            let text = TextEncoder::new().encode_to_string(&families).map_err(Error::internal)?;
            Ok(respond::metrics(text))
        }
        _ => Err(Error::absent("there is nothing here but /, /livez, /readyz and /metrics")),
    }
}

fn summary(gateway: &Gateway) -> Result<Answer> {
    let head = gateway.catalog.head()?;
    let ready = gateway.journal.ready().map_or_else(|why| format!("no: {why}"), |()| "yes".into());
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
