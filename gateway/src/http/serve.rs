//! The registry's listener, and the life of one request: its id, its span, its answer, its line
//! in the log and its numbers.

use std::any::Any;
use std::cell::OnceCell;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::level_filters::LevelFilter;
use tracing::{Instrument as _, Level, Span};

use crate::config::ProxyHeader;
use crate::gateway::Gateway;
use crate::http::api::call::{Asker, Call};
use crate::http::app::App;
use crate::http::dispatch;
use crate::http::request::body::Upload;
use crate::http::request::route::{self, Form, Refused, Route};
use crate::http::request::{forwarded, host, in_flight};
use crate::http::response::respond::{self, Answer, RequestId};
use crate::http::transport::kept_head;
use crate::http::transport::listen::{Bounds, ConnectionShares, IDLE, Listening, STALL};
use crate::http::transport::workers::Workers;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::excerpt::{Shown, excerpt};
use cratehouse_core::trace_context::TraceParent;
use cratehouse_core::traces::{KeyValue, Side, Told, Trace};
use cratehouse_core::{deadline, threads};

/// The label of requests that mean nothing here.
const NO_ROUTE: &str = "none";
/// The status of requests whose client left before the answer (nginx's number for them).
const LEFT: &str = "499";
/// The header that says which trace a request belongs to (W3C Trace Context).
const TRACE_PARENT: &str = "traceparent";
/// Routes that need no token, by label, and whose answers have a line because they are no reads.
const OPEN_ROUTES: &[&str] = &["policy_check", "token_report"];

/// Serves the registry until `shutdown`, and then until the last answer is out; the caller
/// owns the socket and bounds the wait.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    gateway: Arc<Gateway>,
    shutdown: CancellationToken,
    workers: Workers,
) {
    let limits = &gateway.config.limits;
    let bounds = Bounds {
        connections: limits.connections,
        streams: limits.streams,
        head: limits.head,
        idle: IDLE,
        stall: STALL,
    };
    let metrics = Some(gateway.metrics.clone());
    let proxies = gateway.config.server.proxies.as_ref();
    let introduced_by = proxies
        .filter(|proxies| proxies.header == ProxyHeader::ProxyV2)
        .map(|proxies| proxies.trusted.clone());
    let tls = tls.map(TlsAcceptor::from);
    let shares = limits.per_address.share_of(limits.connections).map(|most| {
        let config = Arc::clone(&gateway.config);
        let of_site = most.max(limits.connections / 2);
        ConnectionShares::new((most, of_site), move |peer| {
            forwarded::client_key(&config, peer, &HeaderMap::new())
        })
    });
    let url = Some(gateway.url.clone());
    let app = Arc::new(App::new(gateway));
    Listening { introduced_by, tls, url, bounds, shares, metrics, shutdown, workers }
        .run(listener, move |request, peer| answer(&app, request, peer))
        .await;
}

/// An answer that is there already, or on its way. What comes at once needs neither a task nor the
/// memory that the longest of the long ways would take.
enum Answering {
    AtHand(Option<Box<Answer>>),
    Later(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

impl Future for Answering {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        match &mut *self {
            Self::AtHand(answer) => answer.take().map_or(Poll::Pending, |it| Poll::Ready(*it)),
            Self::Later(answer) => answer.as_mut().poll(context),
        }
    }
}

/// One request, from its head to its answer.
fn answer(app: &Arc<App>, request: Request<Incoming>, peer: SocketAddr) -> Answering {
    let (at, (head, body)) = (Instant::now(), request.into_parts());
    let traces = app.gateway.traces.as_ref();
    let trace = traces.and_then(|traces| {
        let came_with = trace_parent(&head.headers);
        traces.begin(came_with, came_with.is_some() && says_what_is_traced(&app.gateway, peer))
    });
    let asked = Asked { id: RequestId::random(), peer, at, trace };
    let route = host::check(&head)
        .and_then(|()| route::route(&head.method, head.uri.path(), head.uri.query()));
    let asker = asked.asker(&head);
    let at_hand = route.as_ref().ok().and_then(|route| {
        let answer = AssertUnwindSafe(|| dispatch::at_hand(app, route, &head.headers, asker));
        let outcome =
            catch_unwind(answer).unwrap_or_else(|panic| Some(panicked(panic.as_ref())))?;
        Some(Line::of(&app.gateway, &asked, &head, route.label()).end(outcome, None))
    });
    match at_hand {
        Some(answer) => {
            Upload::new(body, &head.headers).let_go();
            Answering::AtHand(Some(Box::new(answer)))
        }
        None => Answering::Later(at_home(in_turn(Arc::clone(app), asked, head, body, route))),
    }
}

/// Runs work on the runtime of the process, and not on the thread that serves the connection: it may
/// need threads of its own. It ends when nobody waits for it any more.
fn at_home(
    work: impl Future<Output = Answer> + Send + 'static,
) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
    let Some(home) = threads::home() else { return Box::pin(work) };
    let task = AbortOnDropHandle::new(home.spawn(work));
    let broken = |e| respond::error(&Error::internal(e), Form::Text, "", RequestId::random());
    Box::pin(async move { task.await.unwrap_or_else(broken) })
}

/// The long way to an answer, once there is a place for it. What is made for it holds the place until
/// it was sent.
async fn in_turn(
    app: Arc<App>,
    asked: Asked,
    mut head: Parts,
    body: Incoming,
    route: std::result::Result<Route, Refused>,
) -> Answer {
    head.headers = kept_head::kept(head.headers);
    let label = route.as_ref().map_or(NO_ROUTE, Route::label);
    let unanswered = Unanswered(Some(Line::of(&app.gateway, &asked, &head, label)));
    let client = forwarded::client_key(&app.gateway.config, asked.peer, &head.headers);
    let upload = Upload::new(body, &head.headers);
    // What judges a lock file, or sees to the registry, takes longer than cargo waits.
    let is_patient = matches!(route, Ok(Route::Policy(_) | Route::Admin(_)));
    match in_flight::enter(&app.gateway, client).await {
        Ok(place) => {
            let asker = (asked.asker(&head), client);
            // Not before there is a place: this is what takes the memory.
            let finding = find(&app, &head, asker, upload, route, unanswered);
            let answer = match is_patient {
                true => Box::pin(finding).await,
                false => Box::pin(deadline::of_request(asked.at.into(), finding)).await,
            };
            answer.map(|body| body.holding(place))
        }
        Err(refused) => {
            upload.let_go();
            unanswered.end(Err(refused), None)
        }
    }
}

async fn find(
    app: &App,
    head: &Parts,
    asker: (Asker, ClientKey),
    mut upload: Upload<Incoming>,
    route: std::result::Result<Route, Refused>,
    unanswered: Unanswered<'_>,
) -> Answer {
    let (outcome, allow) = match route {
        Ok(route) => {
            let work = async {
                admit(app, head)?;
                let (asker, client) = asker;
                let (headers, upload) = (&head.headers, &mut upload);
                let who = None; // the gate says
                dispatch::dispatch(Call { app, headers, asker, client, who, upload }, route).await
            };
            (survive(work).instrument(unanswered.span()).await, None)
        }
        Err(refused) => {
            let (error, allow) = respond::refused(refused, &app.gateway.url);
            (Err(error), allow)
        }
    };
    upload.let_go();
    unanswered.end(outcome, allow.as_deref())
}

/// Refuses what a page of another site made a browser send.
fn admit(app: &App, head: &Parts) -> Result<()> {
    let own = app.origins.admit(&head.method, &head.headers);
    own.inspect_err(|_| app.gateway.metrics.foreign_requests.inc())
}

/// A panic is a fault of ours that costs one request, not its connection.
async fn survive(work: impl Future<Output = Result<Answer>>) -> Result<Answer> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| panicked(panic.as_ref()))
}

fn panicked(panic: &(dyn Any + Send)) -> Result<Answer> {
    Err(Error::internal(Panicked(words(panic))))
}

#[derive(Debug, thiserror::Error)]
#[error("a panic: {0}")]
struct Panicked(String);

fn words(panic: &(dyn Any + Send)) -> String {
    let fixed = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    fixed.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// What is known of a request before it is read.
#[derive(Debug)]
struct Asked {
    id: RequestId,
    peer: SocketAddr,
    at: Instant,
    /// Its trace, where that is told.
    trace: Option<Trace>,
}

impl Asked {
    fn asker(&self, head: &Parts) -> Asker {
        let takes_body = head.method != Method::HEAD;
        Asker { peer: self.peer, takes_body }
    }
}

/// Whether the trace that a request came with says if it is traced: where a trusted proxy has sent it.
/// What another client says only links its request to its trace.
fn says_what_is_traced(gateway: &Gateway, peer: SocketAddr) -> bool {
    forwarded::is_trusted(gateway.config.server.proxies.as_ref(), peer)
}

/// The trace that a request came with.
fn trace_parent(headers: &HeaderMap) -> Option<TraceParent> {
    headers.get(TRACE_PARENT)?.to_str().ok()?.parse().ok()
}

/// What is told of a request: never its query and its headers, which may hold secrets.
struct Line<'a> {
    gateway: &'a Gateway,
    asked: &'a Asked,
    label: &'static str,
    head: &'a Parts,
    /// Made when it is needed: most requests are answered without a line.
    span: OnceCell<Span>,
}

/// A request until its answer is there: clients that leave before it are logged, too.
struct Unanswered<'a>(Option<Line<'a>>);

impl Unanswered<'_> {
    fn span(&self) -> Span {
        self.0.as_ref().map_or_else(Span::none, |line| line.span().clone())
    }

    fn end(mut self, outcome: Result<Answer>, allow: Option<&str>) -> Answer {
        match self.0.take() {
            Some(line) => line.end(outcome, allow),
            None => Answer::default(), // never: it is taken once
        }
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(line) = self.0.take() {
            line.count(LEFT, 0, None);
            line.trace(LEFT);
            let (path, ms) = (excerpt(line.path()), line.ms());
            let Some(suppressed) = line.gateway.lines.admit(499, true) else { return };
            line.span()
                .in_scope(|| tracing::info!(path, ms, suppressed, "ended without an answer"));
        }
    }
}

impl<'a> Line<'a> {
    fn of(gateway: &'a Gateway, asked: &'a Asked, head: &'a Parts, label: &'static str) -> Self {
        Self { gateway, asked, label, head, span: OnceCell::new() }
    }

    fn path(&self) -> &'a str {
        self.head.uri.path()
    }

    /// Who asks, whatever stands between.
    fn client(&self) -> forwarded::Client {
        let proxies = self.gateway.config.server.proxies.as_ref();
        forwarded::client(proxies, self.asked.peer, &self.head.headers)
    }

    /// An error's level, so that no filter takes the id from the lines that it lets pass.
    fn span(&self) -> &Span {
        self.span.get_or_init(|| {
            let Asked { id, trace, .. } = self.asked;
            let peer = self.client();
            let (id, method, route) =
                (id.as_str(), Shown::new(self.head.method.as_str()), self.label);
            let passing = || trace_parent(&self.head.headers).map(Trace::passing);
            let trace = trace.clone().or_else(passing);
            let number = trace.as_ref().map(|trace| tracing::field::display(trace.id()));
            let span = tracing::error_span!("request", %id, %peer, %method, route, trace = number);
            if let Some(trace) = trace {
                trace.carry(&span);
            }
            span
        })
    }

    /// The answer that an outcome is, counted and told.
    fn end(&self, outcome: Result<Answer>, allow: Option<&str>) -> Answer {
        let (answer, failure) = match outcome {
            Ok(answer) => (answer, None),
            Err(error) => {
                let login = format!("{}/me", self.gateway.url);
                let form = Form::of(self.path());
                (respond::error(&error, form, &login, self.asked.id), Some(error))
            }
        };
        let is_head = self.head.method == Method::HEAD;
        let answer = respond::finish(answer, is_head, allow, self.asked.id);
        self.count(answer.status().as_str(), respond::body_bytes(&answer), failure.as_ref());
        self.log(answer.status().as_u16(), failure.as_ref());
        self.trace(answer.status().as_str());
        answer
    }

    /// Tells the request's span; only of those requests that are traced.
    fn trace(&self, status: &str) {
        let Some(trace) = &self.asked.trace else { return };
        let number = status.parse::<i64>().unwrap_or_default();
        let (method, client) = (excerpt(self.head.method.as_str()), self.client().address);
        trace.tell(Told {
            name: format!("{method} {}", self.label).into(),
            side: Side::Server,
            took: self.asked.at.elapsed(),
            facts: vec![
                KeyValue::new("http.request.method", method.clone()),
                KeyValue::new("http.route", self.label),
                KeyValue::new("http.response.status_code", number),
                KeyValue::new("url.path", excerpt(self.path())),
                KeyValue::new("client.address", client.to_string()),
                KeyValue::new("cratehouse.request_id", self.asked.id.as_str().to_owned()),
            ],
            failed: number >= 500,
        });
    }

    fn count(&self, status: &str, bytes: u64, failure: Option<&Error>) {
        let metrics = &self.gateway.metrics;
        let took = self.asked.at.elapsed().as_secs_f64();
        metrics.requests.with_label_values(&[self.label, status]).observe(took);
        metrics.bytes_sent.with_label_values(&[self.label]).inc_by(bytes);
        if let Some(error) = failure {
            metrics.refusals.with_label_values(&[respond::label(error.kind)]).inc();
        }
    }

    fn log(&self, status: u16, failure: Option<&Error>) {
        let level = level(self.label, &self.head.method, status);
        if level > LevelFilter::current() {
            return;
        }
        let open = OPEN_ROUTES.contains(&self.label);
        let admitted = (level <= Level::INFO).then(|| self.gateway.lines.admit(status, open));
        let Some(suppressed) = admitted.unwrap_or(Some(0)) else { return };
        let suppressed = (suppressed > 0).then_some(suppressed);
        let (path, ms) = (excerpt(self.path()), self.ms());
        let path = path.as_str();
        let error = failure.map(Error::chain);
        let error = error.as_deref();
        self.span().in_scope(|| match level {
            Level::ERROR => tracing::error!(path, status, ms, error, suppressed, "failed"),
            Level::WARN => tracing::warn!(path, status, ms, error, suppressed, "failed"),
            Level::INFO => tracing::info!(path, status, ms, error, suppressed, "answered"),
            _ => tracing::debug!(path, status, ms, error, "answered"),
        });
    }

    fn ms(&self) -> f64 {
        milliseconds(self.asked.at.elapsed())
    }
}

/// Two decimals at most.
fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 100_000.0).round() / 100.0
}

/// Cargo asks for crates that do not exist all day, and reads are many: both stay quiet.
fn level(label: &str, method: &Method, status: u16) -> Level {
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    match status {
        500 => Level::ERROR,
        501.. => Level::WARN,
        404 if label.ends_with("index_file") => Level::DEBUG,
        400.. => Level::INFO,
        _ if is_read => Level::DEBUG,
        _ => Level::INFO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cratehouse_package::view::View;

    #[test]
    fn writes_and_failures_are_logged_louder_than_reads() {
        assert_eq!(level("index_file", &Method::GET, 200), Level::DEBUG);
        assert_eq!(level("index_file", &Method::GET, 304), Level::DEBUG);
        for view in [View::Own, View::CratesIo] {
            let label = Route::IndexFile(view, "foo".parse().unwrap()).label();
            assert_eq!(level(label, &Method::GET, 404), Level::DEBUG, "{label}");
        }
        assert_eq!(level("download", &Method::GET, 404), Level::INFO);
        assert_eq!(level("publish", &Method::PUT, 200), Level::INFO);
        assert_eq!(level("index_file", &Method::GET, 503), Level::WARN);
        assert_eq!(level("publish", &Method::PUT, 500), Level::ERROR);
    }

    #[tokio::test]
    async fn a_panic_becomes_an_internal_error_that_tells_the_log_alone() {
        let error = survive(async { panic!("the {}", "reason") }).await.unwrap_err();
        assert_eq!(error.kind, cratehouse_core::error::Kind::Internal);
        assert!(!error.message.contains("reason"));
        assert!(error.chain().contains("the reason"));
    }

    #[test]
    fn a_time_is_told_in_milliseconds_with_two_decimals_at_most() {
        let told = |micros| milliseconds(Duration::from_micros(micros)).to_string();
        assert_eq!(
            [1180, 1184, 7, 4, 25_000_000].map(told),
            ["1.18", "1.18", "0.01", "0", "25000"]
        );
    }
}
