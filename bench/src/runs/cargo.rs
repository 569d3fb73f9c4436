//! The real cargo, many processes at once with nothing in their homes: how long they take, from the
//! gateway and from who else could serve them.

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use cratehouse_tests::authority::Authority;
use cratehouse_tests::gateway::{Gateway, UpstreamConfig};
use serde::Serialize;
use serde_json::json;
use tempfile::TempDir;

use self::clients::{Does, race};
use self::shelf::serve;
use crate::Result;
use crate::corpus::{self, Corpus};
use crate::nginx::Nginx;
use crate::origin::Origin;
use crate::process::Threads;
use crate::report::{MustBe, Report};
use crate::site::Site;
use crate::stats::median;

mod clients;
mod shelf;

/// What is measured.
#[derive(Debug, Args, Serialize)]
pub(crate) struct Options {
    /// Cargo processes at one time
    #[arg(long, default_value_t = 8)]
    processes: usize,
    /// Rounds of what is warm; each has every case once
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Rounds of what is cold
    #[arg(long, default_value_t = 5)]
    cold_rounds: usize,
    /// How long the upstream takes for an answer, in milliseconds, where things are cold
    #[arg(long, value_delimiter = ',', default_value = "0,50")]
    upstream_ms: Vec<u64>,
    /// Also cold, through the gateway, against direct, from crates.io itself
    #[arg(long)]
    crates_io: bool,
    #[command(flatten)]
    corpus: corpus::Source,
}

/// Who serves, seen by a cargo.
#[derive(Debug)]
struct Registry {
    label: &'static str,
    /// `None`: crates.io, as cargo knows it by itself.
    index: Option<String>,
    /// Whether public crates have an index of their own there.
    has_view: bool,
    ca: PathBuf,
    /// Its processes, where they are its own.
    pids: Vec<u32>,
}

/// All races of one sort.
#[derive(Debug, Serialize)]
struct Outcome {
    case: String,
    does: Does,
    processes: usize,
    server: &'static str,
    /// From the start of the processes until the last has ended, by round.
    seconds: Vec<f64>,
    /// CPU time of the server meanwhile.
    server_cpu_seconds: Vec<f64>,
}

const COLUMNS: &[&str] =
    &["case", "cargo", "processes", "server", "seconds", "% of the other", "server CPU s"];

/// The promised numbers: a race from the gateway in terms of the same round from the other.
const WARM_PER_CENT: f64 = 105.0;
const COLD_PER_CENT: f64 = 115.0;

pub(crate) fn measure(options: &Options) -> Result<Report> {
    let mut report = Report::begin("cargo", options, COLUMNS)?;
    let corpus = Corpus::open(&options.corpus)?;
    let lock = fs::read_to_string(corpus::LOCK)?;
    let locked = |name: &str| lock.contains(&format!("name = \"{name}\""));
    if !corpus.crates.iter().all(|file| locked(&file.name)) {
        return Err("cargo needs the real corpus, and there is only a made one".into());
    }
    report.note(corpus.to_string());
    let stage = Stage::set(&corpus)?;
    for does in [Does::Fetch, Does::Resolve] {
        stage.warm(options, does, &mut report)?;
    }
    for upstream_ms in &options.upstream_ms {
        stage.origin.set_latency(Duration::from_millis(*upstream_ms));
        for processes in [1, options.processes] {
            stage.cold(
                options,
                &format!("cold, upstream at {upstream_ms} ms"),
                processes,
                &mut report,
            )?;
        }
    }
    if options.crates_io {
        stage.crates_io(options, &mut report)?;
    }
    Ok(report)
}

/// The same registry in three places: an upstream in this process, nginx, and a gateway that has
/// all of it.
struct Stage {
    origin: Origin,
    nginx: Nginx,
    gateway: Gateway,
    /// Whom clients of nginx and of the upstream must trust.
    trust: TempDir,
    _site: Site,
    /// Gateways that are no longer needed. Their folders stay until the end: ext4 passes over the
    /// inodes of files that were deleted in the last minutes, one by one, whenever it creates one.
    spent: RefCell<Vec<Gateway>>,
}

const NGINX_CA: &str = "nginx.pem";
const ORIGIN_CA: &str = "origin.pem";

impl Stage {
    fn set(corpus: &Corpus) -> Result<Self> {
        let upstream = corpus.upstream();
        let config = UpstreamConfig::new("corpus", &format!("{}/index/", upstream.origin()));
        let site = Site::of(&Gateway::mirroring(config), corpus)?;
        let authority = Authority::new();
        let nginx = Nginx::start(site.path(), &authority)?;
        let origin = serve(site.path())?;
        let dl = json!({ "dl": format!("{}/api/v1/crates", nginx.url()), "api": null });
        fs::write(site.path().join("index/config.json"), dl.to_string())?;
        let trust = tempfile::tempdir()?;
        fs::write(trust.path().join(NGINX_CA), &authority.ca)?;
        fs::write(trust.path().join(ORIGIN_CA), &origin.authority().ca)?;
        let stage = Self {
            gateway: empty(&origin)?,
            origin,
            nginx,
            trust,
            _site: site,
            spent: RefCell::default(),
        };
        // Whatever is ever asked for is there before anything counts.
        for does in [Does::Fetch, Does::Resolve] {
            race(&stage.of_gateway(&stage.gateway), does, 1)?;
        }
        Ok(stage)
    }

    fn of_gateway(&self, gateway: &Gateway) -> Registry {
        let (index, ca) = (Some(gateway.index_url()), gateway.ca_path());
        Registry { label: "gateway", index, has_view: true, ca, pids: vec![gateway.pid()] }
    }

    fn of_nginx(&self) -> Result<Registry> {
        let index = Some(format!("sparse+{}/index/", self.nginx.url()));
        let (ca, pids) = (self.trust.path().join(NGINX_CA), self.nginx.pids()?);
        Ok(Registry { label: "nginx", index, has_view: false, ca, pids })
    }

    fn of_origin(&self) -> Registry {
        let index = Some(format!("sparse+{}/index/", self.origin.url()));
        let ca = self.trust.path().join(ORIGIN_CA);
        Registry { label: "upstream", index, has_view: false, ca, pids: Vec::new() }
    }

    fn warm(&self, options: &Options, does: Does, report: &mut Report) -> Result<()> {
        let (gateway, nginx) = (self.of_gateway(&self.gateway), self.of_nginx()?);
        let mut races = [
            Outcome::of("warm", does, options.processes, "gateway"),
            Outcome::of("warm", does, options.processes, "nginx"),
        ];
        for round in 0..=options.rounds {
            for nth in [round % 2, (round + 1) % 2] {
                let registry = if nth == 0 { &gateway } else { &nginx };
                if let Some(outcome) = races.get_mut(nth) {
                    outcome.run(registry, round > 0)?;
                }
            }
        }
        tell(report, &races, WARM_PER_CENT)
    }

    /// Each time a gateway that has nothing.
    fn cold(
        &self,
        options: &Options,
        case: &str,
        processes: usize,
        report: &mut Report,
    ) -> Result<()> {
        let does = Does::Fetch;
        let [mut through, mut direct] =
            ["gateway", "upstream"].map(|server| Outcome::of(case, does, processes, server));
        for round in 0..options.cold_rounds {
            for nth in [round % 2, (round + 1) % 2] {
                if nth == 0 {
                    let mut gateway = empty(&self.origin)?;
                    through.run(&self.of_gateway(&gateway), true)?;
                    gateway.stop();
                    self.spent.borrow_mut().push(gateway);
                } else {
                    direct.run(&self.of_origin(), true)?;
                }
            }
        }
        tell(report, &[through, direct], COLD_PER_CENT)
    }

    fn crates_io(&self, options: &Options, report: &mut Report) -> Result<()> {
        let [mut through, mut direct] = ["gateway", "crates.io"]
            .map(|server| Outcome::of("cold, crates.io", Does::Fetch, 1, server));
        let itself = Registry {
            label: "crates.io",
            index: None,
            has_view: false,
            ca: PathBuf::new(),
            pids: Vec::new(),
        };
        for _ in 0..options.cold_rounds {
            let mut gateway = Gateway::mirroring(UpstreamConfig::preset("crates.io"));
            through.run(&self.of_gateway(&gateway), true)?;
            gateway.stop();
            self.spent.borrow_mut().push(gateway);
            direct.run(&itself, true)?;
        }
        tell(report, &[through, direct], COLD_PER_CENT)
    }
}

/// A gateway before the upstream, with an empty store.
fn empty(origin: &Origin) -> Result<Gateway> {
    let mut gateway = Gateway::builder().upstream(origin.upstream()).prepare();
    origin.trusted_by(&gateway)?;
    gateway.start_again();
    Ok(gateway)
}

impl Outcome {
    fn of(case: &str, does: Does, processes: usize, server: &'static str) -> Self {
        let (seconds, server_cpu_seconds) = (Vec::new(), Vec::new());
        Self { case: case.to_owned(), does, processes, server, seconds, server_cpu_seconds }
    }

    fn run(&mut self, registry: &Registry, counts: bool) -> Result<()> {
        let before = Threads::of_all(&registry.pids)?;
        let took = race(registry, self.does, self.processes)?.as_secs_f64();
        let used = Threads::of_all(&registry.pids)?.since(&before).as_secs_f64();
        eprintln!("cargo: {}, {}: {took:.2} s, {used:.2} CPU s", self.case, registry.label);
        if counts {
            self.seconds.push(took);
            self.server_cpu_seconds.push(used);
        }
        Ok(())
    }

    fn cells(&self, per_cent: &str) -> Vec<String> {
        let cpu = median(self.server_cpu_seconds.iter().copied());
        vec![
            self.case.clone(),
            self.does.label().to_owned(),
            self.processes.to_string(),
            self.server.to_owned(),
            format!("{:.2}", median(self.seconds.iter().copied())),
            per_cent.to_owned(),
            if cpu > 0.0 { format!("{cpu:.2}") } else { "-".to_owned() },
        ]
    }
}

/// The first one's times are bounded by the other's.
fn tell(report: &mut Report, [this, other]: &[Outcome; 2], limit: f64) -> Result<()> {
    let ratios = this.seconds.iter().zip(&other.seconds).map(|(this, other)| this / other);
    let per_cent = 100.0 * median(ratios);
    report.row(this.cells(&format!("{per_cent:.1}")), this)?;
    report.row(other.cells("-"), other)?;
    let what = format!(
        "% of the time from {}: {}, {}, {} processes",
        other.server,
        this.case,
        this.does.label(),
        this.processes
    );
    report.bound(what, per_cent, MustBe::AtMost(limit));
    Ok(())
}
