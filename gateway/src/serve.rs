//! `cratehouse serve`: open, listen, serve, drain.

mod greeting;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{Config, Flags};
use crate::flows::open::{Keep, Part, Process, Running, process_metrics};
use crate::flows::reread::reread;
use crate::gateway::eviction;
use crate::http::ops::listener::{Stage, Views, serve_admin};
use crate::http::serve::serve as http;
use crate::http::transport::tls::{self, rotation::Rotation};
use crate::http::transport::workers::Workers;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_core::progress::say;
use cratehouse_journal::catalog::Catalog;
use cratehouse_mirror::files::evict;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::signals::{Stops, Wish, pass_on_hangups};
use crate::{ownership, private};

/// Serves until a signal, then drains within the configured bound. The admin listener answers
/// from the first moment to the last.
pub(crate) async fn serve(config: Arc<Config>, flags: &Flags) -> Result<ExitCode, Failure> {
    let voice = config.log.format;
    let mut signals = Stops::new()?;
    let (rereader, reread) = reread();
    tokio::spawn(pass_on_hangups(rereader));
    let metrics = process_metrics(&config)?;
    // Before a certificate is made in the place of one that another server has in use.
    Catalog::refuse_if_held(&config.catalog.path).map_err(Failure::opening)?;
    let warnings = [
        open_files(config.limits.connections),
        ownership::warning(&config),
        private::complaint(&config.data),
    ];
    warnings.iter().flatten().for_each(|line| say(voice, line));
    // Bound, so that a failure of it is told, and closed to everybody until all is open.
    let socket = bind("server.listen", config.server.listen)?;
    let admin_listener =
        listen("server.admin_listen", bind("server.admin_listen", config.server.admin_listen)?)?;
    let bound = socket.local_addr().map_err(Error::internal)?;
    let url = config.url_for(bound);
    let prepared = tls::server_config(&config.tls, &config.data, &tls::host_of(&url))
        .map_err(|e| Failure::tls(&config.tls, &e))?;
    if let Some(prepared) = &prepared {
        say(voice, &certificate_line(prepared));
    }
    let admin_at = admin_listener.local_addr().map_err(Error::internal)?;
    say(voice, &format!("admin on http://{admin_at}/"));
    let (stage, stages) = watch::channel(Stage::Starting { at: Part::Store, failure: None });
    let admin_stop = CancellationToken::new();
    let workers = Workers::start().map_err(Error::internal)?;
    let watchdog = Arc::new(workers.watchdog());
    tokio::spawn(Arc::clone(&watchdog).watch(admin_stop.clone()));
    let views = Views { stage: stages, watchdog, metrics: metrics.clone() };
    let admin = tokio::spawn(serve_admin(admin_listener, views, admin_stop.clone()));

    let process = Process { metrics, reread: reread.clone() };
    let running = tokio::select! {
        running = open(&config, &url, &process, &stage) => running.map_err(Failure::opening)?,
        _ = signals.next() => {
            say(voice, "stopped by a signal, before the start was over");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let gateway = Arc::clone(&running.gateway);
    let ca = prepared.as_ref().and_then(|p| p.ca.as_deref());
    let tls = prepared.as_ref().map(|p| Arc::clone(&p.config));
    let scheme = if tls.is_some() { "https" } else { "http" };
    let listener = listen("server.listen", socket)?;
    if let (Some(tls::Made::Created), Ok(head)) =
        (prepared.as_ref().map(|p| p.made), gateway.catalog.head())
        && head.seq > 0
    {
        tracing::warn!(
            entries = head.seq,
            "a new local CA was made for a registry that was there before: clients that trust a former one refuse \
             this server. To bring that back, put `tls/ca.pem` and `tls/ca.key` of a backup of the data folder into \
             its place, and start again"
        );
    }
    if !config.auth_required && !gateway.catalog.view()?.restrictions()?.is_empty() {
        tracing::warn!(
            "some crates are restricted and `auth.required` is off: nobody shows a token where they read, so they exist for \
             nobody"
        );
    }
    if let Some(line) = evict::bound_line(&eviction(&config)) {
        say(voice, &line);
    }
    say(voice, &format!("listening on {scheme}://{bound}/ as {url}/"));
    greeting::greet(&config, flags, &url, ca);
    let stop = CancellationToken::new();
    if let Some(prepared) = &prepared {
        let rotation = Rotation::of(prepared, &config.tls, gateway.metrics.clone());
        tokio::spawn(rotation.watch(reread, stop.clone()));
    }
    let serving = tokio::spawn(http(listener, tls, Arc::clone(&gateway), stop.clone(), workers));
    stage.send_replace(Stage::Serving(Arc::clone(&gateway)));

    let wish = signals.next().await;
    stage.send_replace(Stage::Stopping(Arc::clone(&gateway))); // probes hear of it first
    let (drain, unready) = (config.server.drain, unready_for(wish, &config));
    say(voice, &stopping_line(drain, unready));
    let drained = async {
        tokio::time::sleep(unready).await;
        gateway.upkeep.works.stop(); // or its requests would be waited for
        stop.cancel();
        let _ = serving.await; // its connections have answered, or failed on their own
        running.close().await;
        admin_stop.cancel();
        let _ = admin.await;
    };
    let end = tokio::select! {
        outcome = tokio::time::timeout(drain, drained) => match outcome {
            Ok(()) => "stopped",
            Err(_) => "stopped: the time is over, and some requests were cut off",
        },
        _ = signals.next() => "stopped at once, by a second signal",
    };
    say(voice, end);
    Ok(ExitCode::SUCCESS)
}

/// How long a start asks again what does not answer: a store may just be starting too. Then the
/// process ends, so that somebody looks.
const START_PATIENCE: Duration = Duration::from_secs(300);
/// The pause before the second attempt; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Opens everything, again and again while the store does not answer.
async fn open(
    config: &Arc<Config>,
    url: &str,
    process: &Process,
    stage: &watch::Sender<Stage>,
) -> Result<Running> {
    let (begun, mut attempts) = (Instant::now(), 0);
    let failure = RefCell::new(None);
    let begins = |at| {
        stage.send_replace(Stage::Starting { at, failure: failure.borrow().clone() });
    };
    loop {
        let (config, url, process) = (Arc::clone(config), url.to_owned(), process.clone());
        let opening = Running::open_in_steps(config, url, Keep::File, process, begins);
        let e = match opening.await {
            Ok(running) => return Ok(running),
            Err(e) => e,
        };
        let Some(pause) = pause_after(e.kind, attempts, begun.elapsed()) else { return Err(e) };
        attempts += 1;
        tracing::warn!(error = e.chain(), "the start is tried again in {} s", pause.as_secs());
        *failure.borrow_mut() = Some(e.message);
        begins(Part::Store);
        tokio::time::sleep(pause).await;
    }
}

/// How long to wait before another attempt; `None` when there is to be none: what waiting does not
/// mend is a store that refuses us or misbehaves, or a journal that is broken or newer.
fn pause_after(failure: Kind, attempts: u32, since_begin: Duration) -> Option<Duration> {
    let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(attempts)).min(LONGEST_PAUSE);
    let is_over = since_begin + pause > START_PATIENCE;
    (failure == Kind::Unavailable && !is_over).then_some(pause)
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

/// Connections that wait in the system's queue for us to accept them.
const BACKLOG: u32 = 1024;

/// Takes an address, at which nobody can connect yet.
fn bind(key: &str, at: SocketAddr) -> Result<TcpSocket> {
    let bound = || {
        let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?; // right after a stop, too
        socket.bind(at)?;
        Ok(socket)
    };
    bound().map_err(|e| cannot_listen(key, at, e))
}

/// Whether this machine has the addresses that a start would listen on. One that is in use may be so by the
/// server that runs already.
pub(crate) fn check_addresses(config: &Config) -> Result<()> {
    let server = &config.server;
    for (key, at) in
        [("server.listen", server.listen), ("server.admin_listen", server.admin_listen)]
    {
        // A right to low ports is the service's, perhaps, and not that of whoever checks.
        let never = |e: &io::Error| e.kind() == io::ErrorKind::AddrNotAvailable;
        if let Some(e) = std::net::TcpListener::bind(at).err().filter(never) {
            return Err(Error::invalid(format!("`{key}`: cannot listen on {at}")).because(e));
        }
    }
    Ok(())
}

fn listen(key: &str, socket: TcpSocket) -> Result<TcpListener> {
    let at = socket.local_addr().map_err(Error::internal)?;
    socket.listen(BACKLOG).map_err(|e| cannot_listen(key, at, e))
}

fn cannot_listen(key: &str, at: SocketAddr, e: io::Error) -> Error {
    Error::new(Kind::Internal, format!("`{key}`: cannot listen on {at}")).because(e)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_tried_again_at_growing_distances_and_not_for_ever() {
        let pause = |attempts, seconds| {
            let since = Duration::from_secs(seconds);
            pause_after(Kind::Unavailable, attempts, since).map(|pause| pause.as_secs())
        };
        let first: Vec<_> = (0..6).filter_map(|attempts| pause(attempts, 0)).collect();
        assert_eq!(first, [1, 2, 4, 8, 15, 15]);
        assert_eq!((pause(40, 285), pause(40, 286)), (Some(15), None));
        assert_eq!(pause_after(Kind::Internal, 0, Duration::ZERO), None);
        assert_eq!(pause_after(Kind::Invalid, 0, Duration::ZERO), None);
    }
}
