//! A collector of OpenTelemetry traces: an HTTP server that takes OTLP as protobuf, and as much of a
//! decoder as shows what is in a span (opentelemetry-proto, `trace/v1/trace.proto`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::http::{Action, Response, Server};

/// A running collector.
#[derive(Debug)]
pub struct Collector {
    server: Server,
    refusing: Arc<AtomicBool>,
}

/// A span, as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// In hexadecimal.
    pub trace: String,
    /// Its own number, in hexadecimal.
    pub id: String,
    /// That of the span which it is a part of, in hexadecimal; empty without one.
    pub parent: String,
    /// What it is called.
    pub name: String,
    /// Its attributes, those of the resource under `resource.…`; numbers as text.
    pub facts: BTreeMap<String, String>,
    /// Whether its status is an error.
    pub failed: bool,
}

impl Collector {
    /// Takes everything.
    pub fn start() -> Self {
        let refusing = Arc::<AtomicBool>::default();
        let refuses = Arc::clone(&refusing);
        let server = Server::start(move |_, _| {
            let status = if refuses.load(Ordering::SeqCst) { 400 } else { 200 };
            Action::Answer(Response::status(status))
        });
        Self { server, refusing }
    }

    /// Its address, for a gateway's configuration.
    pub fn url(&self) -> String {
        self.server.origin()
    }

    /// From now on it takes nothing.
    pub fn refuse(&self, refusing: bool) {
        self.refusing.store(refusing, Ordering::SeqCst);
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.server.requests().len()
    }

    /// All spans that came.
    pub fn spans(&self) -> Vec<Span> {
        let requests = self.server.requests();
        let fitting = requests.iter().inspect(|request| {
            assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/traces"));
            assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
        });
        fitting.flat_map(|request| spans(&request.body)).collect()
    }

    /// Those of one trace.
    pub fn spans_of(&self, trace: &str) -> Vec<Span> {
        self.spans().into_iter().filter(|span| span.trace == trace).collect()
    }
}

/// The spans of an `ExportTraceServiceRequest`.
fn spans(request: &[u8]) -> Vec<Span> {
    let mut spans = Vec::new();
    for resource_spans in messages(request, 1) {
        let resource = messages(resource_spans, 1).flat_map(|resource| facts(resource, 1));
        let resource: BTreeMap<_, _> =
            resource.map(|(key, value)| (format!("resource.{key}"), value)).collect();
        let scopes = messages(resource_spans, 2);
        for span in scopes.flat_map(|scope| messages(scope, 2)) {
            let mut span = read_span(span);
            span.facts.extend(resource.clone());
            spans.push(span);
        }
    }
    spans
}

fn read_span(span: &[u8]) -> Span {
    let number = |field| messages(span, field).next().map(hex::encode).unwrap_or_default();
    let code = messages(span, 15).flat_map(fields).find(|(field, _)| *field == 3);
    Span {
        trace: number(1),
        id: number(2),
        parent: number(4),
        name: messages(span, 5).next().map(text).unwrap_or_default(),
        facts: facts(span, 9).collect(),
        failed: matches!(code, Some((_, Value::Number(2)))),
    }
}

/// The `KeyValue`s of a field; their values are texts or numbers.
fn facts(message: &[u8], field: u64) -> impl Iterator<Item = (String, String)> {
    messages(message, field).map(|fact| {
        let value = messages(fact, 2).flat_map(fields).next().map(|(_, value)| match value {
            Value::Bytes(bytes) => text(bytes),
            Value::Number(number) => number.to_string(),
        });
        (messages(fact, 1).next().map(text).unwrap_or_default(), value.unwrap_or_default())
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn messages(message: &[u8], wanted: u64) -> impl Iterator<Item = &[u8]> {
    fields(message).filter_map(move |(field, value)| match value {
        Value::Bytes(bytes) if field == wanted => Some(bytes),
        _ => None,
    })
}

/// What a field holds, as far as the wire tells.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message (Protocol Buffers, "Encoding").
fn fields(mut rest: &[u8]) -> impl Iterator<Item = (u64, Value<'_>)> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let tag = varint(&mut rest);
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut rest)),
            1 => fixed(&mut rest, 8),
            2 => {
                let length = usize::try_from(varint(&mut rest)).unwrap();
                let (bytes, more) = rest.split_at(length);
                rest = more;
                Value::Bytes(bytes)
            }
            5 => fixed(&mut rest, 4),
            other => panic!("wire type {other}"),
        };
        Some((tag >> 3, value))
    })
}

fn fixed<'a>(rest: &mut &'a [u8], length: usize) -> Value<'a> {
    let (bytes, more) = rest.split_at(length);
    *rest = more;
    Value::Number(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn varint(rest: &mut &[u8]) -> u64 {
    let (mut number, mut shift) = (0, 0);
    loop {
        let (byte, more) = rest.split_first().unwrap();
        *rest = more;
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return number;
        }
    }
}
