//! Minutes of constant load on three replicas: memory, descriptors and the journal's lag do not
//! grow. `tests/run --soak` runs it; `CRATEHOUSE_SOAK_MINUTES` says for how long.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};
use std::{fs, thread};

use cratehouse_tests::client::{Client, Reply};
use cratehouse_tests::fleet::Fleet;
use cratehouse_tests::gateway::{Gateway, UpstreamConfig};
use cratehouse_tests::krate::{Krate, index_path};
use cratehouse_tests::upstream::Upstream;
use reqwest::Method;

const MINUTES: u64 = 10;
const BETWEEN_SAMPLES: Duration = Duration::from_secs(1);
/// How much more the last third may have than the middle one, in percent.
const MOST_GROWTH: f64 = 5.0;
/// A mean lag below the time between two reads of the journal is none, in seconds.
const NO_LAG: f64 = 0.5;

/// Clients at one time, the time between two requests of one, and after how many it connects anew.
const CLIENTS: usize = 6;
const BETWEEN_REQUESTS: Duration = Duration::from_millis(60);
const REQUESTS_A_CONNECTION: usize = 50;
const BETWEEN_PUBLISHES: Duration = Duration::from_millis(500);

/// More than the caches below hold, so that these are full within the first third: 28 MB of crate
/// files, and with their overhead some 2 MB of index files.
const PUBLIC: usize = 400;
const PUBLIC_BYTES: usize = 70_000;
/// Hosted crates. Their versions are all that grows, so no file of them gets large.
const HOSTED: usize = 100;

/// Small caches, and records that leave often: what has no bound would show.
const BOUNDS: &[(&str, &str)] = &[
    ("cache", "crates_mib = 16"),
    ("cache", "index_mib = 1"),
    ("catalog", "cache_mib = 1"),
    ("catalog", "checkpoint_entries = 200"),
    ("limits", "fill_memory_mib = 256"),
    ("pulls", "flush_seconds = 5"),
];

/// What one replica looked like at one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    resident_mb: f64,
    descriptors: f64,
    lag_seconds: f64,
}

/// An end that everybody who paces themselves hears of.
#[derive(Default)]
struct End {
    over: Mutex<bool>,
    told: Condvar,
}

impl End {
    /// Waits for this time, or for the end; says whether to go on.
    fn pause(&self, time: Duration) -> bool {
        let over = self.over.lock().unwrap();
        let (over, _) = self.told.wait_timeout_while(over, time, |over| !*over).unwrap();
        !*over
    }

    fn tell(&self) {
        *self.over.lock().unwrap() = true;
        self.told.notify_all();
    }
}

/// Tells the end also when a test fails.
struct TellAtTheEnd<'a>(&'a End);

impl Drop for TellAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.tell();
    }
}

fn public(n: usize) -> Krate {
    Krate::new(&format!("public-{n}"), "1.0.0").ballast(PUBLIC_BYTES)
}

fn fleet(upstream: &Upstream) -> Fleet {
    Fleet::start(|builder| {
        let builder = builder
            .upstream(UpstreamConfig::from(upstream).fresh_seconds(20))
            .reserved(&["server-*"]);
        BOUNDS.iter().fold(builder, |builder, (section, line)| builder.set(section, line))
    })
}

/// What the load came to.
#[derive(Default)]
struct Load {
    reads: AtomicUsize,
    publishes: AtomicUsize,
    failed: Mutex<Vec<String>>,
}

impl Load {
    fn note(&self, counter: &AtomicUsize, what: &str, reply: reqwest::Result<Reply>) {
        counter.fetch_add(1, Ordering::SeqCst);
        let wrong = match reply {
            Ok(reply) if reply.status == 200 => return,
            Ok(reply) => reply.to_string(),
            Err(e) => format!("{e:?}"),
        };
        self.failed.lock().unwrap().push(format!("{what}: {wrong}"));
    }

    /// One client: two lookups for each download, all crates in turn, from a place of its own.
    fn read(&self, nth: usize, connect: impl Fn() -> Client, end: &End) {
        let (mut client, mut turn) = (connect(), nth * PUBLIC / CLIENTS);
        while end.pause(BETWEEN_REQUESTS) {
            turn += 1;
            let name = format!("public-{}", turn / 3 % PUBLIC);
            let path = match turn % 3 {
                0 => format!("/index/{}", index_path(&name)),
                1 => format!("/api/v1/crates/{name}/1.0.0/download"),
                _ => format!("/index/{}", index_path(&format!("server-{}", turn / 3 % HOSTED))),
            };
            self.note(&self.reads, &path, client.try_send(Method::GET, &path, &[], None));
            if turn.is_multiple_of(REQUESTS_A_CONNECTION) {
                client = connect();
            }
        }
    }

    fn publish(&self, from: usize, client: &Client, token: &str, end: &End) {
        let mut turn = from;
        while end.pause(BETWEEN_PUBLISHES) {
            let body = hosted(turn).publish_body();
            let headers = [("authorization", token)];
            let sent = client.try_send(Method::PUT, "/api/v1/crates/new", &headers, Some(body));
            self.note(&self.publishes, "publish", sent);
            turn += 1;
        }
    }
}

fn hosted(turn: usize) -> Krate {
    Krate::new(&format!("server-{}", turn % HOSTED), &format!("1.0.{}", turn / HOSTED))
}

fn sample(replica: &Gateway) -> Sample {
    let process = format!("/proc/{}", replica.pid());
    let status = fs::read_to_string(format!("{process}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kb: f64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    Sample {
        resident_mb: kb / 1024.0,
        descriptors: fs::read_dir(format!("{process}/fd")).unwrap().count() as f64,
        lag_seconds: replica.metric("cratehouse_journal_lag_seconds", &[]),
    }
}

fn mean(values: impl Iterator<Item = f64> + Clone) -> f64 {
    values.clone().sum::<f64>() / values.count() as f64
}

/// By how many percent the mean of the last third is above that of the middle one.
fn growth(values: &[f64]) -> f64 {
    let third = values.len() / 3;
    let part = |from: usize, to: usize| mean(values[from..to].iter().copied());
    let (middle, last) = (part(third, 2 * third), part(2 * third, values.len()));
    (last / middle - 1.0) * 100.0
}

fn column(samples: &[Sample], of: fn(&Sample) -> f64) -> Vec<f64> {
    samples.iter().map(of).collect()
}

/// One line for each tenth of the time.
fn print_table(replicas: &[Vec<Sample>]) {
    println!("replica | part | resident MB | descriptors | longest lag s");
    for (nth, samples) in replicas.iter().enumerate() {
        for (tenth, part) in samples.chunks(samples.len().div_ceil(10)).enumerate() {
            let lag = part.iter().map(|sample| sample.lag_seconds).fold(0.0, f64::max);
            println!(
                "{nth} | {} | {:.1} | {:.1} | {lag:.2}",
                tenth + 1,
                mean(part.iter().map(|sample| sample.resident_mb)),
                mean(part.iter().map(|sample| sample.descriptors)),
            );
        }
    }
}

#[test]
#[ignore = "takes ten minutes: `tests/run --soak`"]
fn memory_descriptors_and_lag_do_not_grow_under_constant_load() {
    let minutes = std::env::var("CRATEHOUSE_SOAK_MINUTES").ok().map(|text| text.parse().unwrap());
    let upstream = Upstream::with(&(0..PUBLIC).map(public).collect::<Vec<_>>());
    let fleet = fleet(&upstream);
    let token = fleet.replicas[0].token("alice");
    let client = fleet.client();
    for turn in 0..HOSTED {
        client.publish(&hosted(turn), &token).assert_status(200);
    }
    fleet.settle();
    let (end, load) = (End::default(), Load::default());
    let mut samples = vec![Vec::new(); fleet.replicas.len()];
    let over = Instant::now() + Duration::from_secs(60 * minutes.unwrap_or(MINUTES));
    thread::scope(|scope| {
        let _end = TellAtTheEnd(&end);
        let (end, load, fleet) = (&end, &load, &fleet);
        for nth in 0..CLIENTS {
            scope.spawn(move || load.read(nth, || fleet.client(), end));
        }
        scope.spawn(|| load.publish(HOSTED, &client, &token, end));
        while Instant::now() < over && end.pause(BETWEEN_SAMPLES) {
            for (samples, replica) in samples.iter_mut().zip(&fleet.replicas) {
                samples.push(sample(replica));
            }
        }
    });
    print_table(&samples);
    let (reads, publishes) =
        (load.reads.load(Ordering::SeqCst), load.publishes.load(Ordering::SeqCst));
    let failed = load.failed.into_inner().unwrap();
    println!("{reads} reads, {publishes} publishes, {} failed", failed.len());
    failed.iter().take(20).for_each(|wrong| println!("{wrong}"));
    let mut too_much = Vec::new();
    for (nth, samples) in samples.iter().enumerate() {
        let resident = column(samples, |sample| sample.resident_mb);
        let descriptors = column(samples, |sample| sample.descriptors);
        for (what, values) in [("resident MB", resident), ("descriptors", descriptors)] {
            let growth = growth(&values);
            println!("replica {nth}: {what}: last third {growth:+.1} % on the middle one");
            if growth > MOST_GROWTH {
                too_much.push(format!("replica {nth}: {what} grew by {growth:.1} %"));
            }
        }
        let lags = column(samples, |sample| sample.lag_seconds);
        let lag = mean(lags[2 * lags.len() / 3..].iter().copied());
        println!("replica {nth}: mean lag of the last third {lag:.3} s");
        if lag > NO_LAG && growth(&lags) > MOST_GROWTH {
            too_much.push(format!("replica {nth}: the lag grew to {lag:.1} s"));
        }
    }
    fleet.settle();
    assert!(failed.is_empty() && too_much.is_empty(), "{too_much:?}, {} failed", failed.len());
}

#[test]
fn growth_is_of_the_last_third_on_the_middle_one() {
    assert_eq!(growth(&[1.0, 1.0, 100.0, 100.0, 125.0, 125.0]), 25.0);
    assert!(growth(&[90.0, 91.0, 100.0, 100.0, 99.0, 99.0, 99.0]) < 0.0);
    assert!(growth(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) > MOST_GROWTH);
}
