//! `cratehouse serve`: open, listen, serve, drain.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use cratehouse::config::{Config, Tls};
use cratehouse::error::{Error, Kind, Result};
use cratehouse::flows::open::{Keep, Running};
use cratehouse::http::admin::{Stage, serve_admin};
use cratehouse::http::lanes::Lanes;
use cratehouse::http::serve::serve as http;
use cratehouse::http::tls::{self, rotation::Rotation};
use cratehouse::model::client::cargo_configuration;
use cratehouse::startup::say;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Failure;

/// Serves until a signal, then drains within the configured bound. The admin listener answers
/// from the first moment to the last.
pub(crate) async fn serve(config: Arc<Config>) -> Result<ExitCode, Failure> {
    let voice = config.log.format;
    let mut signals = Signals::new()?;
    if let Some(line) = open_files(config.limits.connections) {
        say(voice, &line);
    }
    let listener = bind("server.listen", config.server.listen).await?;
    let admin_listener = bind("server.admin_listen", config.server.admin_listen).await?;
    let url = config.url_for(address(&listener)?);
    let prepared = tls::server_config(&config.tls, &config.data, &host_of(&url))
        .map_err(|e| Failure::tls(&config.tls, &e))?;
    if let Some(prepared) = &prepared {
        say(voice, &certificate_line(prepared));
    }
    say(voice, &format!("admin on http://{}/", address(&admin_listener)?));
    let (stage, stages) = watch::channel(Stage::Starting);
    let admin_stop = CancellationToken::new();
    let admin = tokio::spawn(serve_admin(admin_listener, stages, admin_stop.clone()));

    let running = tokio::select! {
        running = Running::open(Arc::clone(&config), url.clone(), Keep::File) => {
            running.map_err(Failure::opening)?
        }
        _ = signals.next() => {
            say(voice, "stopped by a signal, before the start was over");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let gateway = Arc::clone(&running.gateway);
    let ca = prepared.as_ref().and_then(|p| p.ca.as_deref());
    let tls = prepared.as_ref().map(|p| Arc::clone(&p.config));
    let scheme = if tls.is_some() { "https" } else { "http" };
    say(voice, &format!("listening on {scheme}://{}/ as {url}/", address(&listener)?));
    greet(&config, &url, ca);
    let stop = CancellationToken::new();
    if let Some(prepared) = &prepared {
        let rotation = Rotation::of(prepared, &config.tls, gateway.metrics.clone());
        tokio::spawn(rotation.watch(stop.clone()));
    }
    let lanes = Lanes::start().map_err(Error::internal)?;
    let serving = tokio::spawn(http(listener, tls, Arc::clone(&gateway), stop.clone(), lanes));
    stage.send_replace(Stage::Serving(Arc::clone(&gateway)));

    let wish = signals.next().await;
    stage.send_replace(Stage::Stopping(gateway)); // probes hear of it first
    let (drain, unready) = (config.server.drain, unready_for(wish, &config));
    say(voice, &stopping_line(drain, unready));
    let drained = async {
        tokio::time::sleep(unready).await;
        stop.cancel();
        let _ = serving.await; // its connections have answered, or failed on their own
        running.close().await;
        admin_stop.cancel();
        let _ = admin.await;
    };
    tokio::select! {
        outcome = tokio::time::timeout(drain, drained) => match outcome {
            Ok(()) => say(voice, "stopped"),
            Err(_) => say(voice, "stopped: the time is over, and some requests were cut off"),
        },
        _ = signals.next() => say(voice, "stopped at once, by a second signal"),
    }
    Ok(ExitCode::SUCCESS)
}

/// For how long a stop goes on accepting connections, until the balancers have noticed. Whoever
/// sits at a terminal has none.
fn unready_for(wish: Wish, config: &Config) -> Duration {
    match wish {
        Wish::Terminate => config.server.unready,
        Wish::Interrupt => Duration::ZERO,
    }
}

fn stopping_line(drain: Duration, unready: Duration) -> String {
    let line = format!("stopping: {} s for what is under way", drain.as_secs());
    match unready.as_secs() {
        0 => line,
        seconds => format!("{line}, the first {seconds} of them also for new connections"),
    }
}

/// Files that are open beside the connections: the store's, the catalog's, upstreams'.
const OTHER_FILES: u64 = 512;

/// Lets the process open as many files as the system allows it, because the usual soft limit
/// (1024) is for programs that use `select`. What to say when it does not suffice: out of files,
/// the store cannot be read either.
fn open_files(connections: usize) -> Option<String> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let allowed = match raised {
        Ok(()) => maximum,
        Err(_) => getrlimit(Resource::Nofile).current,
    };
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OTHER_FILES);
    let short = allowed.filter(|allowed| *allowed < wanted)?;
    Some(format!(
        "the system allows {short} open files, and `limits.connections` wants {wanted}: raise the \
         one (ulimit -n) or lower the other"
    ))
}

async fn bind(key: &str, at: std::net::SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(at).await.map_err(|e| {
        Error::new(Kind::Internal, format!("`{key}`: cannot listen on {at}")).because(e)
    })
}

fn address(listener: &TcpListener) -> Result<std::net::SocketAddr> {
    listener.local_addr().map_err(Error::internal)
}

fn host_of(url: &str) -> Vec<String> {
    let host = url::Url::parse(url).ok().and_then(|u| u.host_str().map(str::to_owned));
    host.map(|h| h.trim_matches(['[', ']']).to_owned()).into_iter().collect()
}

fn certificate_line(prepared: &tls::Prepared) -> String {
    let made = match prepared.made {
        tls::Made::Provided => "read from your files",
        tls::Made::Created => "made, with a local CA",
        tls::Made::Reused => "found from an earlier start",
        tls::Made::Renewed => "made anew by the local CA",
    };
    let over =
        if prepared.ends < jiff::Timestamp::now() { " - IT HAS ENDED, replace it" } else { "" };
    format!("certificate {made}, good until {}{over}", prepared.ends)
}

/// What a stranger needs next. Only for people: a log collector has no use for it.
fn greet(config: &Config, url: &str, ca: Option<&Path>) {
    if config.log.format == cratehouse::config::LogFormat::Json {
        return;
    }
    if let (Tls::LocalCa, Some(ca)) = (&config.tls, ca) {
        eprintln!("clients must trust the local CA {}", ca.display());
    }
    eprintln!("\nPoint cargo here:\n");
    for line in cargo_configuration(url, ca, config.auth_required).lines() {
        eprintln!("    {line}");
    }
    eprintln!("\nTo publish, make a user and a token:\n");
    eprintln!("    cratehouse user add alice");
    eprintln!("    cratehouse token create --user alice\n");
}

/// Which signal came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// SIGTERM: a supervisor replaces us, or takes us away.
    Terminate,
    /// SIGINT: Ctrl-C.
    Interrupt,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(Error::internal)?,
            interrupt: signal(SignalKind::interrupt()).map_err(Error::internal)?,
        })
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::Terminate,
            _ = self.interrupt.recv() => Wish::Interrupt,
        }
    }
}
