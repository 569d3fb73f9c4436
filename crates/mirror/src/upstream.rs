//! One upstream registry over HTTP: its index files, and its crate files.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, io};

use jiff::Timestamp;
use moka::future::Cache;
use reqwest::Response;
use reqwest::header::{self, HeaderValue};
use serde::Deserialize;
use tokio::time::timeout;
use url::{Origin, Url};

use crate::settings;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::Result;
use cratehouse_core::metrics::Metrics;
use cratehouse_core::traces::{self, KeyValue, Side, Told, Trace};
use cratehouse_package::dl::DlTemplate;
use cratehouse_package::index::Listed;
use cratehouse_package::name::CrateName;

use self::endpoint::Endpoint;
use self::error::{Meaning, explain, meaning, retry_after};
use self::permits::{Place, UpstreamPermits};
use crowded::Crowded;
use wire::{collector, headers, read_certificates, shown, token_header, validators};

mod answer;
mod body;
mod crowded;
mod endpoint;
mod error;
mod guard;
mod permits;
mod try_out;
mod wire;

pub use self::answer::{Answer, CrateAnswer, CratePlace, Validators};
pub(crate) use self::error::is_crowded;
pub use self::error::{UpstreamError, UpstreamErrorKind};
pub use self::permits::Turn;
pub use body::Body;

/// How long a revalidation waits for a place.
const HELD_WAIT: Duration = Duration::from_secs(2);
/// How long a `config.json` is believed.
const CONFIG_FRESH: Duration = Duration::from_secs(600);
/// A `config.json` older than this is asked for again when its `dl` has no such crate file.
const CONFIG_DOUBT: Duration = Duration::from_secs(30);
/// The largest `config.json`, in bytes.
const CONFIG_BYTES: u64 = 64 << 10;
/// The header that says which trace a request belongs to (W3C Trace Context). For the configured
/// origins alone.
const TRACE_PARENT: &str = "traceparent";
/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(10);
/// For how long an upstream that did not answer is not asked about what we have a copy of.
pub const REST: Duration = Duration::from_secs(5);

/// One upstream registry.
pub struct Upstream {
    config: settings::Upstream,
    index_bytes: usize,
    fill: Duration,
    /// The largest crate file that is taken, in bytes.
    crate_bytes: u64,
    redirects: usize,
    /// Reaches any address: for the origins that the configuration names.
    home: Endpoint,
    /// Reaches public addresses alone: for every other origin.
    foreign: Endpoint,
    /// The origins that the configuration names. They alone are shown the token.
    trusted: Vec<Origin>,
    token: Option<HeaderValue>,
    index_requests: UpstreamPermits,
    crate_requests: UpstreamPermits,
    learned: Cache<(), Arc<Learned>>,
    last_learned: Mutex<Option<Arc<Learned>>>,
    resting: Mutex<Option<(Instant, UpstreamError)>>,
    crowded: Crowded,
    metrics: Metrics,
}

/// What a `config.json` said, and when.
#[derive(Debug)]
struct Learned {
    template: DlTemplate,
    at: Instant,
}

#[derive(Deserialize)]
struct ConfigJson {
    dl: String,
}

/// One thing to ask for.
struct UpstreamRequest<'a> {
    /// The metric's label.
    kind: &'static str,
    url: Url,
    validators: Option<&'a Validators>,
    /// Whether the body may be compressed on the way. Never a crate file: those are gzip
    /// themselves, and some servers label them so.
    inflate: bool,
    permit: AskPermit<'a>,
    /// The most bytes that its body may have, whatever room there is.
    largest: u64,
    arriving: Arriving<'a>,
    within: Duration,
    /// What it is a part of.
    trace: Option<Trace>,
}

/// Told how many bytes a body has, where that is announced, it says how many it may have. The
/// body is then read or refused; nobody waits for room while an answer stands open.
pub type AskPermit<'a> = &'a mut (dyn FnMut(Option<u64>) -> u64 + Send + Sync);

/// Told of so many more bytes of a body, it says whether there is memory for them.
pub type Arriving<'a> = &'a mut (dyn FnMut(u64) -> bool + Send + Sync);

impl Upstream {
    /// Builds the clients; no request is made.
    ///
    /// # Errors
    /// When a CA file cannot be read, or the token cannot stand in a header.
    pub fn new(
        config: &settings::Upstream,
        limits: &settings::UpstreamLimits,
        extra_ca: Option<&Path>,
        metrics: Metrics,
    ) -> Result<Self> {
        let mut roots = Vec::new();
        for file in extra_ca.into_iter().chain(config.ca_file.as_deref()) {
            roots.extend(read_certificates(file)?);
        }
        let roots: Arc<[_]> = roots.into();
        let dl = config.dl.as_deref().and_then(|dl| Url::parse(dl).ok());
        metrics.expect_upstream(&config.name);
        Ok(Self {
            index_bytes: limits.index_bytes,
            fill: limits.fill,
            redirects: limits.redirects,
            crate_bytes: limits.crate_bytes,
            home: Endpoint::new(config, Arc::clone(&roots), false)?,
            foreign: Endpoint::new(config, roots, true)?,
            trusted: std::iter::once(&config.index).chain(&dl).map(Url::origin).collect(),
            token: config.token.as_ref().map(|t| token_header(config, t)).transpose()?,
            index_requests: UpstreamPermits::new(limits.requests, &limits.per_address),
            crate_requests: UpstreamPermits::new(limits.requests, &limits.per_address),
            crowded: Crowded::default(),
            learned: Cache::builder().max_capacity(1).time_to_live(CONFIG_FRESH).build(),
            last_learned: Mutex::default(),
            resting: Mutex::default(),
            metrics,
            config: config.clone(),
        })
    }

    /// Its name in the configuration, in the store and in messages.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// How it is configured.
    pub fn config(&self) -> &settings::Upstream {
        &self.config
    }

    /// How many requests are under way to it: for its index, for its crate files.
    pub fn under_way(&self) -> [(&'static str, usize); 2] {
        [("index", self.index_requests.taken()), ("crate", self.crate_requests.taken())]
    }

    /// Asks for the index file of a crate, conditionally when there are validators. How many bytes
    /// it has is seldom announced, so they are counted as they come.
    ///
    /// # Errors
    /// [`UpstreamError`] for everything but a definite answer.
    pub async fn index_file(
        &self,
        turn: Turn,
        name: &CrateName,
        validators: Option<&Validators>,
        arriving: Arriving<'_>,
    ) -> Result<Answer, UpstreamError> {
        let url = self.index_url(&name.index_path())?;
        let largest = self.index_bytes as u64;
        let (permit, within) = (&mut |_| largest, self.config.timeout);
        let request = UpstreamRequest {
            kind: "index",
            url,
            validators,
            inflate: true,
            permit,
            largest,
            arriving,
            within,
            trace: None,
        };
        let answer = self.run_in_turn(turn, request).await;
        self.note(&answer);
        self.crowded.note(turn, &answer);
        answer
    }

    /// A place for a crate file's request, when its turn has come. It is waited for before there is
    /// memory for the answer: those that only wait must not hold any.
    ///
    /// # Errors
    /// [`UpstreamError`], when it takes longer than a fill may.
    pub async fn crate_place(&self, turn: Turn) -> Result<CratePlace, UpstreamError> {
        self.place(&self.crate_requests, turn, self.fill).await.map(|_place| CratePlace { _place })
    }

    /// Asks for the crate file of a version, as far as there is `room`. The bytes are not
    /// verified.
    ///
    /// # Errors
    /// [`UpstreamError`] for everything but a definite answer.
    pub async fn crate_file(
        &self,
        _place: &CratePlace,
        listed: &Listed,
        permit: AskPermit<'_>,
    ) -> Result<CrateAnswer, UpstreamError> {
        let learned = self.template().await?;
        let answer = self.crate_at(&learned.template, listed, permit).await?;
        let doubtful = self.config.dl.is_none() && learned.at.elapsed() > CONFIG_DOUBT;
        if !(doubtful && matches!(answer, CrateAnswer::NotFound)) {
            return Ok(answer);
        }
        self.learned.invalidate(&()).await;
        let again = self.template().await?;
        match again.template == learned.template {
            true => Ok(answer),
            false => self.crate_at(&again.template, listed, permit).await,
        }
    }

    /// The failure that this upstream was in a moment ago, if any: what we have a copy of need
    /// not be asked for just now.
    pub fn resting(&self) -> Option<UpstreamError> {
        let resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        resting.as_ref().filter(|(until, _)| Instant::now() < *until).map(|(_, t)| t.clone())
    }

    /// Whether a client had no place in time to have something revalidated, a moment ago: it need not
    /// wait again for each file that it asks for.
    pub fn is_crowded_for(&self, client: ClientKey) -> bool {
        self.crowded.holds(client)
    }

    fn note(&self, answer: &Result<Answer, UpstreamError>) {
        let rest = match answer {
            Err(failure) if failure.is_ours() => return,
            Err(failure) if failure.is_general() => {
                let rest = failure.retry_after.unwrap_or(REST).max(REST);
                Some((Instant::now() + rest, failure.clone()))
            }
            _ => None,
        };
        *self.resting.lock().unwrap_or_else(PoisonError::into_inner) = rest;
    }

    async fn crate_at(
        &self,
        template: &DlTemplate,
        listed: &Listed,
        permit: AskPermit<'_>,
    ) -> Result<CrateAnswer, UpstreamError> {
        let text = template.expand(listed);
        let url = Url::parse(&text)
            .map_err(|e| self.nonsense(format!("its `dl` leads to `{text}`: {e}")))?;
        let request = UpstreamRequest {
            kind: "crate",
            url,
            validators: None,
            inflate: false,
            permit,
            largest: self.crate_bytes,
            arriving: &mut |_| true,
            within: self.fill,
            trace: None,
        };
        match self.run(request).await? {
            Answer::Found { body, .. } => {
                Ok(CrateAnswer::Found(body.unpack().map_err(|e| self.misfit(&e))?))
            }
            Answer::NotModified | Answer::NotFound => Ok(CrateAnswer::NotFound),
        }
    }

    /// Where the crate files are: as configured, else as `config.json` says, else as it last said.
    async fn template(&self) -> Result<Arc<Learned>, UpstreamError> {
        if let Some(dl) = &self.config.dl {
            return Ok(Arc::new(Learned { template: DlTemplate::new(dl), at: Instant::now() }));
        }
        match self.learned.try_get_with((), self.learn()).await {
            Ok(learned) => {
                let mut last = self.last_learned.lock().unwrap_or_else(PoisonError::into_inner);
                *last = Some(Arc::clone(&learned));
                Ok(learned)
            }
            Err(failure) => {
                let last = self.last_learned.lock().unwrap_or_else(PoisonError::into_inner);
                last.clone().ok_or_else(|| (*failure).clone())
            }
        }
    }

    async fn learn(&self) -> Result<Arc<Learned>, UpstreamError> {
        let url = self.index_url("config.json")?;
        let request = UpstreamRequest {
            kind: "config",
            url,
            validators: None,
            inflate: true,
            permit: &mut |_| CONFIG_BYTES,
            largest: CONFIG_BYTES,
            arriving: &mut |_| true,
            within: self.config.timeout,
            trace: None,
        };
        // All crate files of all clients wait for it.
        let turn = Turn { held: true, ..Turn::OWN };
        let answer = self.run_in_turn(turn, request).await?;
        let Answer::Found { body, .. } = answer else {
            return Err(self.nonsense("it has no config.json"));
        };
        let bytes = body.unpack().map_err(|e| self.misfit(&e))?;
        let json: ConfigJson = serde_json::from_slice(&bytes)
            .map_err(|e| self.nonsense(format!("its config.json: {e}")))?;
        Ok(Arc::new(Learned { template: DlTemplate::new(&json.dl), at: Instant::now() }))
    }

    fn index_url(&self, path: &str) -> Result<Url, UpstreamError> {
        self.config.index.join(path).map_err(|e| self.nonsense(format!("{path}: {e}")))
    }

    /// Runs an request at the index when its turn has come. What a client revalidates is held: the last known
    /// answer is better than a long wait.
    async fn run_in_turn(
        &self,
        turn: Turn,
        request: UpstreamRequest<'_>,
    ) -> Result<Answer, UpstreamError> {
        let is_held = turn.held && turn.client != ClientKey::OWN;
        let within = if is_held { request.within.min(HELD_WAIT) } else { request.within };
        let _place = self.place(&self.index_requests, turn, within).await?;
        self.run(request).await
    }

    /// Runs an request that has its place, within its time, and measures it.
    async fn run(&self, mut request: UpstreamRequest<'_>) -> Result<Answer, UpstreamError> {
        let started = Instant::now();
        request.trace = traces::current().map(|trace| trace.part());
        let answer = match timeout(request.within, self.ask(&mut request)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.failure(
                UpstreamErrorKind::Timeout,
                format!("no whole answer from {} in {:?}", shown(&request.url), request.within),
            )),
        };
        let outcome = match &answer {
            Ok(Answer::Found { .. }) => "200".to_owned(),
            Ok(Answer::NotModified) => "304".to_owned(),
            Ok(Answer::NotFound) => "404".to_owned(),
            Err(failure) => failure.outcome(),
        };
        let took = started.elapsed();
        match &answer {
            Err(failure) if failure.is_ours() => self.count_refused(failure),
            _ => {
                let labels = [self.name(), request.kind, &outcome];
                let requests = self.metrics.upstream_requests.with_label_values(&labels);
                requests.observe(took.as_secs_f64());
            }
        }
        if let Some(trace) = request.trace {
            trace.tell(Told {
                name: format!("upstream {}", request.kind).into(),
                side: Side::Client,
                took,
                facts: vec![
                    KeyValue::new("cratehouse.upstream", self.name().to_owned()),
                    KeyValue::new("cratehouse.outcome", outcome),
                    KeyValue::new("url.full", shown(&request.url)),
                ],
                failed: answer.is_err(),
            });
        }
        answer
    }

    async fn place(
        &self,
        places: &UpstreamPermits,
        turn: Turn,
        within: Duration,
    ) -> Result<Place, UpstreamError> {
        timeout(within, places.turn(turn)).await.map_err(|_| {
            let failure =
                self.failure(UpstreamErrorKind::Crowded, "too many requests of ours wait for it");
            self.count_refused(&failure);
            failure
        })
    }

    fn count_refused(&self, failure: &UpstreamError) {
        let labels = [self.name(), failure.reason()];
        self.metrics.upstream_refused.with_label_values(&labels).inc();
    }

    /// Asks, and follows redirects.
    async fn ask(&self, request: &mut UpstreamRequest<'_>) -> Result<Answer, UpstreamError> {
        let mut url = request.url.clone();
        for _ in 0..=self.redirects {
            let response = self.send(request, &url).await?;
            let conditional = request.validators.is_some_and(|v| *v != Validators::default());
            match meaning(response.status().as_u16(), conditional) {
                Meaning::Found => return self.receive(request, response).await,
                Meaning::NotModified => return Ok(Answer::NotModified),
                Meaning::NotFound => return Ok(Answer::NotFound),
                Meaning::Redirect => url = self.redirected(&url, &response)?,
                Meaning::Trouble(kind) => return Err(self.refused(kind, &url, &response)),
            }
        }
        Err(self.nonsense(format!(
            "more than {} redirects from {}",
            self.redirects,
            shown(&request.url)
        )))
    }

    async fn send(
        &self,
        request: &UpstreamRequest<'_>,
        url: &Url,
    ) -> Result<Response, UpstreamError> {
        let (door, token) = self.door(url)?;
        let mut headers = headers(request.validators, request.inflate, token);
        let trace = request.trace.as_ref().filter(|_| self.trusted.contains(&url.origin()));
        if let Some(Ok(value)) = trace.map(|trace| HeaderValue::try_from(trace.header())) {
            headers.insert(TRACE_PARENT, value);
        }
        door.get(url, headers).await.map_err(|e| self.broken(url, e))
    }

    /// Which client may ask for a URL, and whether with the token.
    fn door(&self, url: &Url) -> Result<(&Endpoint, Option<&HeaderValue>), UpstreamError> {
        if self.trusted.contains(&url.origin()) {
            return Ok((&self.home, self.token.as_ref()));
        }
        let refuse =
            |reason: String| self.nonsense(format!("it leads to {}: {reason}", shown(url)));
        match (self.config.index.scheme(), url.scheme()) {
            (_, "https") | ("http", "http") => {}
            ("https", "http") => {
                return Err(refuse(
                    "from https to http, and the configuration does not say so".into(),
                ));
            }
            (_, scheme) => return Err(refuse(format!("`{scheme}` is neither https nor http"))),
        }
        if self.config.private_dl {
            return Ok((&self.home, None));
        }
        guard::check_foreign(url).map_err(refuse)?;
        Ok((&self.foreign, None))
    }

    fn redirected(&self, from: &Url, response: &Response) -> Result<Url, UpstreamError> {
        let to = response
            .headers()
            .get(header::LOCATION)
            .and_then(|location| from.join(location.to_str().ok()?).ok())
            .ok_or_else(|| self.nonsense(format!("{} redirects to nowhere", shown(from))))?;
        match (from.scheme(), to.scheme()) {
            ("https", "http") => {
                Err(self.nonsense(format!("{} redirects to plain http", shown(from))))
            }
            _ => Ok(to),
        }
    }

    async fn receive(
        &self,
        request: &mut UpstreamRequest<'_>,
        mut response: Response,
    ) -> Result<Answer, UpstreamError> {
        let (url, announced) = (shown(&request.url), response.content_length());
        let validators = validators(response.headers());
        let (permit, largest) = ((request.permit)(announced), request.largest);
        let is_allowed = permit < largest && announced.is_none_or(|bytes| bytes <= largest);
        let unusable = |e: io::Error| match e.kind() {
            io::ErrorKind::FileTooLarge if is_allowed => {
                self.failure(UpstreamErrorKind::NoRoom { announced }, format!("{url}: {e}"))
            }
            _ => self.unusable(&url, announced, &e),
        };
        let permit = usize::try_from(permit).unwrap_or(usize::MAX);
        let mut body = collector(request.inflate, permit, &response).map_err(unusable)?;
        let received = self.metrics.upstream_bytes.with_label_values(&[self.name()]);
        while let Some(piece) = response.chunk().await.map_err(|e| self.broken(&request.url, e))? {
            let bytes = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            received.inc_by(bytes);
            if !(request.arriving)(bytes) {
                return Err(
                    self.failure(UpstreamErrorKind::NoMemory, format!("{url}: no memory for it"))
                );
            }
            body.push(&piece).map_err(unusable)?;
        }
        Ok(Answer::Found { body: body.finish(), validators })
    }

    /// What it means that a body of its could not be unpacked.
    pub fn misfit(&self, error: &io::Error) -> UpstreamError {
        self.unusable("a compressed answer", None, error)
    }

    fn unusable(&self, url: &str, announced: Option<u64>, error: &io::Error) -> UpstreamError {
        let kind = match error.kind() {
            io::ErrorKind::FileTooLarge => UpstreamErrorKind::TooLarge { announced },
            _ => UpstreamErrorKind::Nonsense,
        };
        self.failure(kind, format!("{url}: {error}"))
    }

    fn refused(&self, kind: UpstreamErrorKind, url: &Url, response: &Response) -> UpstreamError {
        let status = response.status();
        let wait = response.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok());
        UpstreamError {
            status: Some(status.as_u16()),
            retry_after: wait.and_then(|text| retry_after(text, Timestamp::now())),
            ..self.failure(kind, format!("{} answered {status}", shown(url)))
        }
    }

    fn broken(&self, url: &Url, error: reqwest::Error) -> UpstreamError {
        let kind = match error.is_timeout() {
            true => UpstreamErrorKind::Timeout,
            false => UpstreamErrorKind::Unreachable,
        };
        self.failure(kind, format!("{}: {}", shown(url), explain(&error.without_url())))
    }

    fn nonsense(&self, detail: impl Into<String>) -> UpstreamError {
        self.failure(UpstreamErrorKind::Nonsense, detail)
    }

    fn failure(&self, kind: UpstreamErrorKind, detail: impl Into<String>) -> UpstreamError {
        UpstreamError::new(self.name(), kind, detail)
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("name", &self.config.name).finish_non_exhaustive()
    }
}

#[cfg(any(test, feature = "test-util"))]
pub mod test_util;
#[cfg(test)]
mod tests;
