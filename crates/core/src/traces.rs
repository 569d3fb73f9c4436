//! Traces: which one a piece of work belongs to, and where its spans are told. A log span carries the
//! trace of its request, so that whatever works inside of it, in whichever task, finds it.
//!
//! Without a collector nothing is told, and the trace that a request came with is passed on as it is.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
pub use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanContext, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{InstrumentationScope, SpanId as OtelSpanId, TraceId as OtelTraceId};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use tokio::sync::mpsc;
use tracing::Span;
use tracing_subscriber::Registry;
use tracing_subscriber::registry::LookupSpan;

use crate::metrics::Metrics;
use crate::trace_context::{SpanId, TraceId, TraceParent};

/// Where spans go. A cheap handle.
#[derive(Debug, Clone)]
pub struct Traces(Arc<Way>);

#[derive(Debug)]
struct Way {
    spans: mpsc::Sender<SpanData>,
    ratio: f64,
    metrics: Metrics,
}

/// A piece of work in a trace.
#[derive(Debug, Clone)]
pub struct Trace {
    /// What others are asked with on its behalf.
    own: TraceParent,
    /// The span that this is a part of, and whether somebody else tells that one.
    parent: Option<(SpanId, bool)>,
    /// Where it is told; `None`: nowhere.
    to: Option<Traces>,
}

/// What there is to tell of a piece of work when it is done.
#[derive(Debug)]
pub struct Told {
    /// Its name, of which there are few.
    pub name: Cow<'static, str>,
    /// Whether we were asked or asked somebody.
    pub side: Side,
    /// How long it took, until now.
    pub took: Duration,
    /// What else is known of it; the keys are OpenTelemetry's, where it has one.
    pub facts: Vec<KeyValue>,
    /// Whether it failed, by our own fault or by that of the service that was asked.
    pub failed: bool,
}

/// The two ends of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// We were asked.
    Server,
    /// We asked.
    Client,
}

impl Traces {
    /// A handle, and what is sent through it: of so many spans, more than which do not wait. Of requests
    /// that came without a trace to believe, `ratio` are told.
    pub fn new(ratio: f64, queue: usize, metrics: Metrics) -> (Self, mpsc::Receiver<SpanData>) {
        let (spans, waiting) = mpsc::channel(queue);
        (Self(Arc::new(Way { spans, ratio, metrics })), waiting)
    }

    /// The trace of a request that came with this header, where it is to be told: as its sender has
    /// decided, if that is believed, else a share of all requests.
    pub fn begin(&self, came_with: Option<TraceParent>, is_believed: bool) -> Option<Trace> {
        let drawn = || rand::random::<f64>() < self.0.ratio;
        let decided = came_with.filter(|_| is_believed);
        decided.map_or_else(drawn, |parent| parent.sampled).then(|| Trace {
            own: TraceParent {
                trace: came_with.map_or_else(TraceId::random, |parent| parent.trace),
                span: SpanId::random(),
                sampled: true,
            },
            parent: came_with.map(|parent| (parent.span, true)),
            to: Some(self.clone()),
        })
    }

    fn send(&self, span: SpanData) {
        if self.0.spans.try_send(span).is_err() {
            self.0.metrics.spans.with_label_values(&["dropped"]).inc();
        }
    }
}

impl Trace {
    /// One that is not told here, only passed on.
    pub fn passing(came_with: TraceParent) -> Self {
        Self { own: came_with, parent: None, to: None }
    }

    /// Its number.
    pub fn id(&self) -> TraceId {
        self.own.trace
    }

    /// The header `traceparent` for the service that is asked on its behalf.
    pub fn header(&self) -> String {
        self.own.to_string()
    }

    /// A part of it.
    #[must_use]
    pub fn part(&self) -> Self {
        let Self { own, to, .. } = self.clone();
        match to {
            None => self.clone(),
            Some(_) => Self {
                own: TraceParent { span: SpanId::random(), ..own },
                parent: Some((own.span, false)),
                to,
            },
        }
    }

    /// Tells it, where it is told. Waits for nothing.
    pub fn tell(&self, told: Told) {
        let Some(to) = &self.to else { return };
        let end = SystemTime::from(Timestamp::now());
        let (parent, is_remote) = self.parent.unwrap_or((SpanId([0; 8]), false));
        to.send(SpanData {
            span_context: SpanContext::new(
                OtelTraceId::from_bytes(self.own.trace.0),
                OtelSpanId::from_bytes(self.own.span.0),
                TraceFlags::SAMPLED,
                false,
                TraceState::NONE,
            ),
            parent_span_id: OtelSpanId::from_bytes(parent.0),
            parent_span_is_remote: is_remote,
            span_kind: match told.side {
                Side::Server => SpanKind::Server,
                Side::Client => SpanKind::Client,
            },
            name: told.name,
            start_time: end.checked_sub(told.took).unwrap_or(end),
            end_time: end,
            attributes: told.facts,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: if told.failed { Status::error("") } else { Status::Unset },
            instrumentation_scope: InstrumentationScope::builder("cratehouse").build(),
        });
    }

    /// Lets a log span carry it.
    pub fn carry(&self, span: &Span) {
        span.with_subscriber(|(id, dispatch)| {
            let span = dispatch.downcast_ref::<Registry>().and_then(|spans| spans.span(id));
            span.map(|span| span.extensions_mut().replace(self.clone()))
        });
    }
}

/// What the work that runs just now belongs to, where it is known: it is not, where the log's filter
/// lets not even errors of `cratehouse::http` pass.
pub fn current() -> Option<Trace> {
    let found = Span::current().with_subscriber(|(id, dispatch)| {
        let span = dispatch.downcast_ref::<Registry>()?.span(id)?;
        span.scope().find_map(|span| span.extensions().get::<Trace>().cloned())
    });
    found.flatten()
}

#[cfg(test)]
mod tests;
