//! What the servers are asked.

use cratehouse_tests::krate::sha256;
use serde::Serialize;

use super::gateways::{Contestant, Houses, KINDS, Kind};
use crate::Result;
use crate::corpus::Corpus;
use crate::h2load::{Expected, Load, Seen};
use crate::handshakes::{Door, Sort};

/// One of the things that servers are compared in.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) label: &'static str,
    /// The most CPU time that the gateway may need for a request, for each of nginx's.
    pub(super) limit: Option<f64>,
    /// Which servers are asked.
    pub(super) kinds: &'static [Kind],
    /// What they are asked for, in turn.
    pub(super) paths: Vec<String>,
    ask: Ask,
}

/// How they are asked.
#[derive(Debug, Clone)]
enum Ask {
    /// On connections that are kept.
    Load(Load),
    /// The same, by who has the answer already.
    Revalidate(Load),
    /// On a new connection each time.
    Knock(Sort),
}

/// What one server showed in one turn.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Sample {
    pub(super) requests: u64,
    pub(super) requests_per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// CPU time of the server for a request.
    pub(super) cpu_us: f64,
    /// Heads and bodies with their frames, before TLS, for a request.
    pub(super) bytes: f64,
    /// The bodies alone, of all; where each connection is a new one, they are not told apart.
    pub(super) body_bytes: Option<u64>,
    /// What was resident afterwards, in bytes.
    pub(super) resident: u64,
    /// What was agreed upon by TLS, where h2load tells it.
    pub(super) agreed: Option<String>,
}

const ONLY_PLAIN: &[Kind] = &[Kind::Nginx, Kind::Gateway];
/// The sizes of the single files, in bytes: an index file as it is sent, and crate files.
const SMALL: u64 = 10_000;
const SMALL_CRATE: u64 = 30_000;
const LARGE_CRATE: u64 = 10_000_000;
/// Requests under way on a connection for what is so large that more would only wait.
const STREAMS_FOR_LARGE: usize = 4;
/// Waits are measured in a turn of their own, with this part of the requests.
const WAITS_PART: u64 = 4;
/// A turn that is shorter than this says little about the pace.
const CALIBRATION_SECONDS: f64 = 0.3;

/// All of them, in the order of the table.
pub(super) fn all(corpus: &Corpus, servers: &Houses) -> Result<Vec<Case>> {
    let mut mix: Vec<String> = corpus.index.iter().map(|file| file.url_path()).collect();
    mix.sort_by_key(|path| sha256(path.as_bytes())); // shuffled, the same way each time
    let largest = corpus.index.iter().max_by_key(|file| file.bytes).ok_or("an empty corpus")?;
    let packed = corpus.index.iter().zip(&servers.site.packed_bytes);
    let small = packed.min_by_key(|(_, bytes)| bytes.abs_diff(SMALL)).ok_or("an empty corpus")?.0;
    let [small, largest] = [small, largest].map(|file| vec![file.url_path()]);
    let krate = |bytes| Ok::<_, crate::Error>(vec![corpus.crate_of(bytes)?.url_path()]);
    let gzip = Load::default();
    let identity =
        Load { headers: Vec::new(), ..Load::default() }.header("accept-encoding", "identity");
    let http1 = Load { http1: true, streams: 1, ..Load::default() };
    let large = Load { streams: STREAMS_FOR_LARGE, ..Load::default() };
    let revalidate = Ask::Revalidate(Load { expected: Expected::NotModified, ..Load::default() });
    let case = |label, limit, paths: &Vec<String>, ask| Case {
        label,
        limit,
        kinds: ONLY_PLAIN,
        paths: paths.clone(),
        ask,
    };
    Ok(vec![
        Case { kinds: &KINDS, ..case("index mix", Some(0.95), &mix, Ask::Load(gzip.clone())) },
        case("small file", Some(0.95), &small, Ask::Load(gzip.clone())),
        case("304", Some(0.7), &small, revalidate),
        case("index mix, identity", None, &mix, Ask::Load(identity)),
        case("largest index file", None, &largest, Ask::Load(gzip.clone())),
        case("crate of 30 kB", Some(1.0), &krate(SMALL_CRATE)?, Ask::Load(gzip)),
        case("crate of 10 MB", Some(1.0), &krate(LARGE_CRATE)?, Ask::Load(large)),
        case("index mix, HTTP/1.1", None, &mix, Ask::Load(http1)),
        case("new connection, full", None, &small, Ask::Knock(Sort::Full)),
        case("new connection, resumed", None, &small, Ask::Knock(Sort::Resumed)),
    ])
}

impl Case {
    /// How many requests take about so long: whole rounds of the paths for every connection, so
    /// that each server sends the same bytes.
    pub(super) fn calibrated(&self, servers: &Houses, seconds: f64) -> Result<u64> {
        let server = servers.of(Kind::Nginx)?;
        let (mut requests, least) = (self.unit(), CALIBRATION_SECONDS.min(seconds));
        loop {
            let pace = self.pace(servers, server, requests)?;
            if requests as f64 / pace >= least {
                let units = (pace * seconds / self.unit() as f64).round() as u64;
                return Ok(units.max(1) * self.unit());
            }
            requests *= 4;
        }
    }

    /// One turn of one server.
    pub(super) fn turn(
        &self,
        servers: &Houses,
        server: &Contestant,
        requests: u64,
    ) -> Result<Sample> {
        let mut sample = self.asked(servers, server, requests)?;
        if let Some(load) = self.load(server)? {
            let part = (requests / WAITS_PART / self.unit()).max(1) * self.unit();
            let waits = load.waits(&server.url(), &self.paths, part)?;
            sample.p50_ms = waits.quantile(0.5).as_secs_f64() * 1e3;
            sample.p99_ms = waits.quantile(0.99).as_secs_f64() * 1e3;
        }
        sample.resident = server.resident()?;
        Ok(sample)
    }

    /// A turn without the waits of kept connections.
    fn asked(&self, servers: &Houses, server: &Contestant, requests: u64) -> Result<Sample> {
        let before = server.threads()?;
        let mut sample = match (&self.ask, self.load(server)?) {
            (Ask::Knock(sort), _) => self.knock(servers, server, *sort, requests)?,
            (_, Some(load)) => Sample::seen(load.run(&server.url(), &self.paths, requests)?),
            (_, None) => return Err("nothing to ask".into()),
        };
        let used = server.threads()?.since(&before);
        sample.cpu_us = used.as_secs_f64() * 1e6 / sample.requests as f64;
        Ok(sample)
    }

    fn pace(&self, servers: &Houses, server: &Contestant, requests: u64) -> Result<f64> {
        Ok(self.asked(servers, server, requests)?.requests_per_second)
    }

    fn knock(
        &self,
        servers: &Houses,
        server: &Contestant,
        sort: Sort,
        requests: u64,
    ) -> Result<Sample> {
        let path = self.paths.first().ok_or("nothing to ask for")?;
        let seen = Door::new(server.addr(), path, &servers.authority, sort)?.knock(requests)?;
        Ok(Sample {
            requests: seen.connections,
            requests_per_second: seen.connections as f64 / seen.took.as_secs_f64(),
            p50_ms: seen.waits.quantile(0.5).as_secs_f64() * 1e3,
            p99_ms: seen.waits.quantile(0.99).as_secs_f64() * 1e3,
            bytes: seen.bytes as f64 / seen.connections as f64,
            ..Sample::default()
        })
    }

    /// How h2load asks this server.
    fn load(&self, server: &Contestant) -> Result<Option<Load>> {
        let load = match &self.ask {
            Ask::Knock(_) => return Ok(None),
            Ask::Load(load) => load.clone(),
            Ask::Revalidate(load) => {
                let path = self.paths.first().ok_or("nothing to ask for")?;
                load.clone().header("if-none-match", &server.etag(path)?)
            }
        };
        let with = |load: Load, (name, value): &(String, String)| load.header(name, value);
        Ok(Some(server.headers.iter().fold(load, with)))
    }

    /// The least number of requests in which every connection goes round all paths.
    fn unit(&self) -> u64 {
        let connections = match &self.ask {
            Ask::Load(load) | Ask::Revalidate(load) => load.connections,
            Ask::Knock(_) => 2,
        };
        (connections * self.paths.len()).max(1) as u64
    }
}

impl Sample {
    fn seen(seen: Seen) -> Self {
        Self {
            requests: seen.requests,
            requests_per_second: seen.requests_per_second,
            bytes: seen.bytes as f64 / seen.requests as f64,
            body_bytes: Some(seen.body_bytes),
            agreed: Some(seen.agreed),
            ..Self::default()
        }
    }
}
