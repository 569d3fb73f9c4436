//! Who asks: h2load, with one thread, so that on two cores the server is what is slow.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Serialize;
use tempfile::TempDir;

use crate::Result;
use crate::stats::Waits;

/// A connection on which nothing happens for so long fails, and with it the run.
const INACTIVITY: &str = "--connection-inactivity-timeout=30s";

/// How a server is asked. Every client goes round the URLs in their order.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// Connections, each kept until the end.
    pub(crate) connections: usize,
    /// Requests under way on each; over HTTP/1.1 they would be pipelined, which nobody does: 1.
    pub(crate) streams: usize,
    /// HTTP/1.1 rather than HTTP/2.
    pub(crate) http1: bool,
    /// Sent with every request.
    pub(crate) headers: Vec<(String, String)>,
    /// The one class of statuses that is an answer; any other fails the run.
    pub(crate) expected: Expected,
}

/// A class of statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// 2xx.
    Success,
    /// 3xx: 304.
    NotModified,
}

/// What h2load saw.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Seen {
    /// All were answered as expected.
    pub(crate) requests: u64,
    pub(crate) requests_per_second: f64,
    /// Bodies and heads with their frames, before TLS.
    pub(crate) bytes: u64,
    /// The bodies.
    pub(crate) body_bytes: u64,
    /// TLS version, cipher suite, key exchange and protocol that were agreed upon.
    pub(crate) agreed: String,
}

impl Default for Load {
    /// 8 connections with 32 requests under way on each, that take gzip.
    fn default() -> Self {
        Self {
            connections: 8,
            streams: 32,
            http1: false,
            headers: vec![("accept-encoding".to_owned(), "gzip".to_owned())],
            expected: Expected::Success,
        }
    }
}

impl Load {
    /// With one more header.
    #[must_use]
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Asks so many times. `base` is the server's URL without a slash at its end, the paths begin
    /// with one.
    pub(crate) fn run(&self, base: &str, paths: &[String], requests: u64) -> Result<Seen> {
        let folder = tempfile::tempdir()?;
        let text = self.output(&folder, base, paths, requests, None)?;
        let seen = parse(&text).ok_or_else(|| format!("not to be read: {text}"))?;
        self.check(&seen, requests).map_err(|why| format!("{why}:\n{text}"))?;
        Ok(seen.seen)
    }

    /// Asks so many times, and gives how long each request took. Writing that down costs time, so
    /// nothing else is measured meanwhile.
    pub(crate) fn waits(&self, base: &str, paths: &[String], requests: u64) -> Result<Waits> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("log");
        self.output(&folder, base, paths, requests, Some(&log))?;
        let wanted = |status: u16| match self.expected {
            Expected::Success => (200..300).contains(&status),
            Expected::NotModified => status == 304,
        };
        let waits = waits_in(&fs::read_to_string(&log)?, wanted)?;
        match waits.len() as u64 == requests {
            true => Ok(Waits::new(waits)),
            false => Err(format!("{} of {requests} requests were logged", waits.len()).into()),
        }
    }

    fn output(
        &self,
        folder: &TempDir,
        base: &str,
        paths: &[String],
        requests: u64,
        log: Option<&Path>,
    ) -> Result<String> {
        let urls: String = paths.iter().map(|path| format!("{base}{path}\n")).collect();
        fs::write(folder.path().join("urls"), urls)?;
        let mut command = Command::new("h2load");
        command.current_dir(folder.path()).args(self.arguments(requests));
        if let Some(log) = log {
            command.arg("--log-file").arg(log);
        }
        let output = command.stdin(Stdio::null()).output().map_err(missing)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.success() {
            true => Ok(text),
            false => {
                let errors = String::from_utf8_lossy(&output.stderr);
                Err(format!("h2load: {}: {text}{errors}", output.status).into())
            }
        }
    }

    fn arguments(&self, requests: u64) -> Vec<String> {
        let mut all = vec![
            "--threads=1".to_owned(),
            format!("--clients={}", self.connections),
            format!("--max-concurrent-streams={}", self.streams),
            format!("--requests={requests}"),
            "--input-file=urls".to_owned(),
            INACTIVITY.to_owned(),
        ];
        all.extend(self.http1.then(|| "--h1".to_owned()));
        all.extend(self.headers.iter().map(|(name, value)| format!("--header={name}: {value}")));
        all
    }

    fn check(&self, parsed: &Parsed, requests: u64) -> Result<(), String> {
        let expected = match self.expected {
            Expected::Success => parsed.success,
            Expected::NotModified => parsed.redirects,
        };
        let protocol = if self.http1 { "http/1.1" } else { "h2" };
        if (parsed.seen.requests, expected) != (requests, requests) || parsed.failure > 0 {
            return Err("h2load had other answers than expected".to_owned());
        }
        match parsed.seen.agreed.ends_with(protocol) {
            true => Ok(()),
            false => Err(format!("not {protocol}")),
        }
    }
}

/// What it calls itself: `h2load nghttp2/1.52.0`.
pub(crate) fn version() -> Result<String> {
    let output = Command::new("h2load").arg("--version").output().map_err(missing)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn missing(error: std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => {
            "there is no h2load: run bench/install, or install it (Debian: nghttp2-client)"
                .to_owned()
        }
        _ => format!("h2load: {error}"),
    }
}

#[derive(Debug, PartialEq)]
struct Parsed {
    seen: Seen,
    /// Answers with 2xx.
    success: u64,
    /// Answers with 3xx.
    redirects: u64,
    /// Requests without an answer, or with 4xx or 5xx.
    failure: u64,
}

/// Reads what it prints at its end.
fn parse(text: &str) -> Option<Parsed> {
    let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start));
    let rate = line("finished in ")?.split(", ").nth(1)?.strip_suffix(" req/s")?;
    let (requests, codes, traffic) =
        (line("requests: ")?, line("status codes: ")?, line("traffic: ")?);
    let count = |list: &str, what: &str| {
        list.split(", ").find_map(|part| part.strip_suffix(what)?.trim().parse::<u64>().ok())
    };
    let exact = |what: &str| {
        let part = traffic.split(", ").find(|part| part.contains(what))?;
        part.split_once('(')?.1.split_once(')')?.0.parse::<u64>().ok()
    };
    let agreed = ["TLS Protocol: ", "Cipher: ", "Server Temp Key: ", "Application protocol: "];
    Some(Parsed {
        seen: Seen {
            requests: count(requests, " done")?,
            requests_per_second: rate.parse().ok()?,
            bytes: exact(" total")?,
            body_bytes: exact(" data")?,
            agreed: agreed.map(|start| line(start).unwrap_or("?")).join(", "),
        },
        success: count(codes, " 2xx")?,
        redirects: count(codes, " 3xx")?,
        failure: count(requests, " failed")?
            + count(requests, " errored")?
            + count(requests, " timeout")?,
    })
}

/// Its log: a line for each request, with the time of its start, the status and the microseconds
/// that it took.
fn waits_in(log: &str, wanted: impl Fn(u16) -> bool) -> Result<Vec<Duration>> {
    let wait = |line: &str| -> Option<Duration> {
        let mut fields = line.split('\t').skip(1);
        let status = fields.next()?.parse().ok().filter(|status| wanted(*status));
        status.and(Some(Duration::from_micros(fields.next()?.parse().ok()?)))
    };
    log.lines().map(|line| Ok(wait(line).ok_or_else(|| format!("h2load: {line}"))?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
starting benchmark...
spawning thread #0: 8 total client(s). 1000 total requests
TLS Protocol: TLSv1.3
Cipher: TLS_AES_128_GCM_SHA256
Server Temp Key: X25519 253 bits
Application protocol: h2
progress: 100% done

finished in 6.15s, 16266.25 req/s, 3.43MB/s
requests: 1000 total, 1000 started, 1000 done, 1000 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 990 2xx, 10 3xx, 0 4xx, 0 5xx
traffic: 21.08MB (22100392) total, 4.77MB (5000000) headers (space savings 49.49%), 14.59MB (15300000) data
                     min         max         mean         sd        +/- sd
time for request:      119us     73.72ms     14.76ms      9.10ms    72.33%
";

    #[test]
    fn the_exact_numbers_are_read() {
        let parsed = parse(OUTPUT).unwrap();
        let seen = Seen {
            requests: 1000,
            requests_per_second: 16266.25,
            bytes: 22_100_392,
            body_bytes: 15_300_000,
            agreed: "TLSv1.3, TLS_AES_128_GCM_SHA256, X25519 253 bits, h2".to_owned(),
        };
        assert_eq!(parsed, Parsed { seen, success: 990, redirects: 10, failure: 0 });
        assert_eq!(parse("starting benchmark...\n"), None);
    }

    #[test]
    fn every_answer_must_be_as_expected() {
        let load = Load::default();
        let check =
            |from: &str, to: &str| load.check(&parse(&OUTPUT.replace(from, to)).unwrap(), 1000);
        assert!(check("990 2xx, 10", "1000 2xx, 0").is_ok());
        assert!(check("", "").is_err(), "some were redirects");
        assert!(load.check(&parse(OUTPUT).unwrap(), 1001).is_err(), "one is missing");
        let failed = OUTPUT.replace("990 2xx, 10", "1000 2xx, 0").replace("0 failed", "1 failed");
        assert!(load.check(&parse(&failed).unwrap(), 1000).is_err());
        let http1 = Load { http1: true, ..Load::default() };
        let all = parse(&OUTPUT.replace("990 2xx, 10", "1000 2xx, 0")).unwrap();
        assert_eq!(http1.check(&all, 1000).unwrap_err(), "not http/1.1");
    }

    #[test]
    fn what_it_is_told_is_what_was_asked_for() {
        let load = Load { http1: true, streams: 1, ..Load::default() }.header("x", "y: z");
        let arguments = load.arguments(70);
        for wanted in ["--clients=8", "--max-concurrent-streams=1", "--requests=70", "--h1"] {
            assert!(arguments.iter().any(|one| one == wanted), "{arguments:?}");
        }
        assert!(arguments.ends_with(&["--header=x: y: z".to_owned()]));
    }

    #[test]
    fn a_log_has_a_wait_for_every_request_unless_one_failed() {
        let log = "1795380592575352\t200\t6764\n1795380592575353\t200\t68\n";
        let waits = waits_in(log, |status| status == 200).unwrap();
        assert_eq!(waits, [Duration::from_micros(6764), Duration::from_micros(68)]);
        assert!(waits_in(log, |status| status == 304).is_err());
        assert!(waits_in("1795380592575352\t200\n", |_| true).is_err());
    }
}
