//! The way to a collector: OTLP over HTTP, as protobuf. Requests never wait for it.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use hyper::{Request, Response};
use opentelemetry::KeyValue;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use reqwest::{Certificate, Client};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Tracing;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::metrics::Metrics;
use cratehouse_core::traces::Traces;

/// Spans that wait for the next batch, about 1 KiB each; beyond it they are dropped, and counted.
const QUEUE_SPANS: usize = 8192;
/// Spans in one request to the collector.
const BATCH_SPANS: usize = 512;
/// How often what waits is sent.
const EVERY: Duration = Duration::from_secs(1);
/// How long one batch may take, with its repetitions.
const EXPORT: Duration = Duration::from_secs(10);
/// What a stop may spend on what still waits.
const LAST_EXPORT: Duration = Duration::from_secs(5);
/// How much of a collector's answer is read, in bytes.
const ANSWER_BYTES: usize = 64 << 10;
/// Where a collector takes spans, below its address (OTLP specification, "OTLP/HTTP Request").
const PATH: &str = "v1/traces";

/// The task's side of [`Traces`].
#[derive(Debug)]
pub struct Exporting {
    spans: mpsc::Receiver<SpanData>,
    exporter: SpanExporter,
    metrics: Metrics,
    /// Whether the last batch was not taken: told once.
    failing: bool,
}

impl Exporting {
    /// The way to the configured collector, under this replica's name; `None` without one. Asks nobody.
    ///
    /// # Errors
    /// When a CA file cannot be used.
    pub fn open(
        config: &Tracing,
        replica: &str,
        extra_ca: Option<&Path>,
        metrics: &Metrics,
    ) -> Result<Option<(Traces, Self)>> {
        let Some(collector) = &config.otlp else { return Ok(None) };
        let endpoint = format!("{}/{PATH}", collector.as_str().trim_end_matches('/'));
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Courier(client(extra_ca)?))
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .with_timeout(EXPORT)
            .build()
            .map_err(|e| Error::invalid(format!("`tracing.otlp`: {e}")))?;
        let resource = Resource::builder_empty().with_attributes([
            KeyValue::new("service.name", "cratehouse"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", replica.to_owned()),
        ]);
        exporter.set_resource(&resource.build());
        let (traces, spans) = Traces::new(config.sample_ratio, QUEUE_SPANS, metrics.clone());
        let exporting = Self { spans, exporter, metrics: metrics.clone(), failing: false };
        Ok(Some((traces, exporting)))
    }

    /// Sends what comes until told to stop, and then what still waits.
    pub async fn run(mut self, stop: CancellationToken) {
        let sending = async {
            while stop.run_until_cancelled(sleep(EVERY)).await.is_some() {
                self.send_waiting().await;
            }
            self.send_waiting().await;
        };
        let given_up = async {
            stop.cancelled().await;
            sleep(LAST_EXPORT).await;
        };
        tokio::select! {
            () = sending => (),
            () = given_up => warn!("the collector did not take the last spans in time"),
        }
    }

    async fn send_waiting(&mut self) {
        loop {
            let waiting = std::iter::from_fn(|| self.spans.try_recv().ok());
            let batch: Vec<_> = waiting.take(BATCH_SPANS).collect();
            if batch.is_empty() {
                return;
            }
            self.send(batch).await;
        }
    }

    async fn send(&mut self, batch: Vec<SpanData>) {
        let count = batch.len() as u64;
        let sent = self.exporter.export(batch).await;
        let outcome = if sent.is_ok() { "exported" } else { "failed" };
        self.metrics.spans.with_label_values(&[outcome]).inc_by(count);
        match &sent {
            Ok(()) if self.failing => info!("the collector takes spans again"),
            Err(error) if !self.failing => {
                warn!(%error, "the collector does not take spans; those are lost, and counted");
            }
            _ => (),
        }
        self.failing = sent.is_err();
    }
}

fn client(extra_ca: Option<&Path>) -> Result<Client> {
    let unusable = |e: &dyn std::fmt::Display| {
        Error::invalid(format!("the CA certificates for the collector of traces: {e}"))
    };
    let mut builder = Client::builder().timeout(EXPORT);
    if let Some(path) = extra_ca {
        let pem = std::fs::read(path).map_err(|e| unusable(&e))?;
        for certificate in Certificate::from_pem_bundle(&pem).map_err(|e| unusable(&e))? {
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build().map_err(|e| unusable(&e))
}

/// Our own HTTP client, as the exporter wants it.
#[derive(Debug)]
struct Courier(Client);

#[async_trait]
impl HttpClient for Courier {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let mut answer = self.0.execute(request.try_into()?).await?;
        let (status, headers) = (answer.status(), std::mem::take(answer.headers_mut()));
        let mut body = BytesMut::new();
        while let Some(piece) = answer.chunk().await? {
            if body.len() + piece.len() > ANSWER_BYTES {
                return Err("the collector's answer is too large".into());
            }
            body.extend_from_slice(&piece);
        }
        let mut response = Response::new(body.freeze());
        (*response.status_mut(), *response.headers_mut()) = (status, headers);
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cratehouse_core::traces::{Side, Told};

    /// A collector that takes a connection and never answers.
    #[tokio::test]
    async fn a_stop_waits_for_a_silent_collector_no_longer_than_it_may() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let otlp = format!("http://{}", listener.local_addr().unwrap()).parse().ok();
        let config = Tracing { otlp, sample_ratio: 1.0 };
        let metrics = Metrics::new().unwrap();
        let (traces, exporting) =
            Exporting::open(&config, "test", None, &metrics).unwrap().unwrap();
        traces.begin(None, false).unwrap().tell(Told {
            name: "work".into(),
            side: Side::Server,
            took: Duration::from_millis(5),
            facts: Vec::new(),
            failed: false,
        });
        let stop = tokio_util::sync::CancellationToken::new();
        let running = tokio::spawn(exporting.run(stop.clone()));
        let (_connection, _) = listener.accept().await.unwrap();
        tokio::time::pause(); // from here on nothing happens but waiting
        stop.cancel();
        let in_time = LAST_EXPORT + Duration::from_secs(1);
        tokio::time::timeout(in_time, running).await.unwrap().unwrap();
    }
}
