//! The gateway as a process: the real binary over a folder of its own, on ports of its own.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tempfile::TempDir;

use crate::client::{Client, Reply};
use crate::patience::{eventually, until};
use crate::s3::S3;
use crate::watchdog::Watchdog;

mod binary;
mod builder;

pub use binary::{binary, credential_provider, free_port};
pub use builder::{Builder, UpstreamConfig};

use binary::{is_staged, walk};

/// A gateway: running, or stopped with its folder still there. Dropping it kills the process
/// and deletes the folder.
#[derive(Debug)]
pub struct Gateway {
    folder: TempDir,
    port: u16,
    admin_port: u16,
    tls: bool,
    authority: bool,
    s3: Option<S3>,
    env: Vec<(String, String)>,
    traced: Vec<String>,
    ulimit: Option<String>,
    binary: fn() -> &'static Path,
    process: Option<Process>,
    log: Arc<Mutex<String>>,
    users: Mutex<BTreeSet<String>>,
}

#[derive(Debug)]
struct Process {
    child: Child,
    readers: Vec<JoinHandle<()>>,
}

const CONFIG: &str = "cratehouse.toml";
const DATA: &str = "cratehouse-data";
/// The files of an [`Authority`](crate::authority::Authority), and the secret key of an [`S3`].
const CA: &str = "ca.pem";
const CERT: &str = "cert.pem";
const KEY: &str = "cert.key";
const SECRET: &str = "s3.secret";

impl Gateway {
    /// What a gateway is started with: nothing but defaults, and no upstream.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// One without an upstream.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// One that mirrors this upstream.
    pub fn mirroring(upstream: impl Into<UpstreamConfig>) -> Self {
        Self::builder().upstream(upstream).start()
    }

    /// Its URL, without a slash at its end.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// The base URL of its index, as cargo's configuration has it.
    pub fn index_url(&self) -> String {
        format!("sparse+{}/index/", self.url())
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Where its admin listener is.
    pub fn admin_addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.admin_port))
    }

    /// Its CA's certificate.
    pub fn ca_path(&self) -> PathBuf {
        match self.authority {
            true => self.folder().join(CA),
            false => self.data().join("tls/ca.pem"),
        }
    }

    /// The folder it was started in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its local state.
    pub fn data(&self) -> PathBuf {
        self.folder().join(DATA)
    }

    /// The configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.folder().join(CONFIG)
    }

    /// A client that trusts its CA. It keeps connections: take one and use it.
    pub fn client(&self) -> Client {
        self.client_with(|http| http)
    }

    /// A client with more said to reqwest, such as `http1_only`.
    pub fn client_with(
        &self,
        more: impl FnOnce(reqwest::blocking::ClientBuilder) -> reqwest::blocking::ClientBuilder,
    ) -> Client {
        let ca = self.tls.then(|| std::fs::read(self.ca_path()).unwrap());
        Client::build(&self.url(), ca.as_deref(), more)
    }

    /// A client of its admin listener.
    pub fn admin(&self) -> Client {
        Client::new(&format!("http://127.0.0.1:{}", self.admin_port), None)
    }

    /// Starts the process where there is none, and returns when it is ready.
    pub fn start_again(&mut self) {
        self.spawn();
        self.await_ready();
    }

    /// Returns when the process, which must not end before, is ready.
    pub fn await_ready(&mut self) {
        let admin = self.admin();
        let ready = |reply: Reply| reply.status == 200;
        until("the gateway is ready", || {
            self.assert_running();
            admin.try_send(reqwest::Method::GET, "/readyz", &[], None).is_ok_and(ready)
        });
    }

    /// Starts the process, and does not wait for anything.
    pub fn spawn(&mut self) {
        assert!(self.process.is_none(), "the gateway runs already");
        self.spawn_telling(Stdio::piped());
    }

    /// The same with another standard error, which the log of the test does not see.
    pub fn spawn_telling(&mut self, stderr: impl Into<Stdio>) {
        assert!(self.process.is_none(), "the gateway runs already");
        let mut command = match self.traced.is_empty() {
            true => self.command_line(&["serve"]),
            false => self.under_strace(),
        };
        command.process_group(Watchdog::shared().group());
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let out = gather(child.stdout.take().unwrap(), &self.log);
        let err = child.stderr.take().map(|stream| gather(stream, &self.log));
        self.process =
            Some(Process { child, readers: [Some(out), err].into_iter().flatten().collect() });
    }

    /// Starts the process as a supervisor does: one that gives up, as it may while its store is
    /// failing, is started again. Returns when it is ready.
    pub fn start_again_and_again(&mut self) {
        let admin = self.admin();
        until("the gateway is ready", || {
            if self.ended() || self.process.is_none() {
                self.process = None;
                self.spawn();
            }
            let reply = admin.try_send(reqwest::Method::GET, "/readyz", &[], None);
            reply.is_ok_and(|reply| reply.status == 200)
        });
    }

    fn ended(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.child.try_wait().unwrap().is_some())
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let process = self.process.as_mut().expect("no process");
        let status = eventually("the gateway ends", || process.child.try_wait().unwrap());
        let process = self.process.take().expect("no process");
        process.readers.into_iter().for_each(|reader| reader.join().unwrap());
        status
    }

    /// Sends SIGTERM, and waits for nothing.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends SIGINT, as Ctrl-C does, and waits for nothing.
    pub fn interrupt(&self) {
        self.signal("INT");
    }

    /// SIGTERM, and its exit status.
    pub fn stop(&mut self) -> ExitStatus {
        self.terminate();
        self.wait()
    }

    /// SIGKILL, and its end.
    pub fn kill(&mut self) {
        self.kill_now();
        self.wait();
    }

    /// Sends SIGKILL, and waits for nothing.
    pub fn kill_now(&self) {
        self.signal("KILL");
    }

    /// Stops and starts, with the same configuration, folder and ports.
    pub fn restart(&mut self) {
        let status = self.stop();
        assert!(status.success(), "the gateway ended with {status}:\n{}", self.log());
        self.start_again();
    }

    /// Stops, deletes everything local but the store, and starts: what a new replica finds.
    /// The local CA is another one afterwards.
    pub fn restart_on_an_empty_disk(&mut self) {
        self.stop();
        self.wipe();
        self.start_again();
    }

    /// Deletes everything local but the store. The gateway must be stopped.
    pub fn wipe(&self) {
        assert!(self.process.is_none(), "stop it first");
        for entry in std::fs::read_dir(self.data()).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true if entry.file_name() == "store" => {}
                true => std::fs::remove_dir_all(entry.path()).unwrap(),
                false => std::fs::remove_file(entry.path()).unwrap(),
            }
        }
    }

    /// Changes the configuration file; the next start reads it.
    pub fn reconfigure(&self, change: impl FnOnce(String) -> String) {
        let text = std::fs::read_to_string(self.config_path()).unwrap();
        std::fs::write(self.config_path(), change(text)).unwrap();
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("no process").child.id()
    }

    /// Runs a subcommand with the same configuration, and returns when it ends.
    pub fn cli(&self, args: &[&str]) -> Output {
        self.command_line(args).output().unwrap()
    }

    /// Runs a subcommand that must succeed; gives its standard output without the final newline.
    #[track_caller]
    pub fn cli_ok(&self, args: &[&str]) -> String {
        let output = self.cli(args);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "{args:?}: {}\n{}{}",
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout).trim_end().to_owned()
    }

    /// A new token of a user, who is created when new.
    pub fn token(&self, user: &str) -> String {
        self.token_with(user, &[])
    }

    /// A new token with more arguments: `.token_with("alice", &["--scope", "yank"])`.
    pub fn token_with(&self, user: &str, more: &[&str]) -> String {
        if self.users.lock().unwrap().insert(user.to_owned()) {
            self.cli_ok(&["user", "add", user]);
        }
        let mut args = vec!["token", "create", "--user", user];
        args.extend_from_slice(more);
        let token = self.cli_ok(&args);
        assert!(!token.contains(char::is_whitespace), "not a token alone: {token:?}");
        token
    }

    /// Everything it has printed since the first start.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Whether it has printed this.
    pub fn log_contains(&self, text: &str) -> bool {
        self.log.lock().unwrap().contains(text)
    }

    /// Stops a server that was started under strace; gives its system calls.
    pub fn stop_and_trace(&mut self) -> String {
        let pid = self.pid();
        assert!(self.stop().success());
        eventually("strace has written all of it", || {
            let trace = std::fs::read_to_string(self.trace_path()).unwrap();
            tells_the_end_of(&trace, pid).then_some(trace)
        })
    }

    /// A counter's value, summed over the series that have at least these labels; 0 when there
    /// are none.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let text = self.admin().get("/metrics").assert_status(200).text();
        sum_series(&text, name, labels)
    }

    /// What the store holds below a folder of it (`""` is all), as sorted paths from the store's
    /// root.
    pub fn stored(&self, below: &str) -> Vec<String> {
        if let Some(s3) = &self.s3 {
            return s3.list(below);
        }
        let store = self.data().join("store");
        let mut found = Vec::new();
        walk(&store.join(below), &store, &mut found);
        found.retain(|path| !is_staged(path));
        found.sort();
        found
    }

    /// The same, once there are so many: copies follow the answer that they are of.
    pub fn stored_soon(&self, below: &str, count: usize) -> Vec<String> {
        let what = format!("{count} objects below {below}");
        eventually(&what, || Some(self.stored(below)).filter(|found| found.len() == count))
    }

    /// Its log up to the end of what a start prints for people.
    pub fn greeting(&self) -> String {
        until("it has printed all of it", || self.log_contains("token create --user alice"));
        self.log()
    }

    /// An object of the store.
    pub fn stored_bytes(&self, path: &str) -> Vec<u8> {
        if let Some(s3) = &self.s3 {
            return s3.get(path);
        }
        std::fs::read(self.data().join("store").join(path)).unwrap()
    }

    /// A command line of the binary, in its folder, with its configuration (a file, or flags
    /// where there is none) and no environment but the one asked for.
    pub fn command_line(&self, args: &[&str]) -> Command {
        let mut command = match &self.ulimit {
            None => Command::new((self.binary)()),
            Some(limits) => {
                let mut shell = Command::new("sh");
                let script = format!("ulimit {limits} && exec \"$0\" \"$@\"");
                shell.args(["-c", &script]).arg((self.binary)());
                shell
            }
        };
        command.args(args);
        match self.config_path() {
            path if path.exists() => _ = command.arg("--config").arg(path),
            _ => _ = command.args(["--data", DATA]),
        }
        if args == ["serve"] && !self.config_path().exists() {
            command.args(["--listen", &self.addr().to_string()]);
        }
        command
            .current_dir(self.folder())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder())
            .env("RUST_BACKTRACE", "1")
            .envs(self.env.iter().map(|(n, v)| (n, v)))
            .stdin(Stdio::null());
        command
    }

    /// The server as a child of strace, because the systems that let a process be traced by
    /// others are few; with `-D` it is strace that stands aside, and signals reach the server.
    fn under_strace(&self) -> Command {
        let server = self.command_line(&["serve"]);
        let mut command = Command::new("strace");
        command
            .args(["-D", "-f", "-y", "-s", "256"])
            .args(&self.traced)
            .arg("-o")
            .arg(self.trace_path())
            .arg(server.get_program())
            .args(server.get_args())
            .current_dir(self.folder())
            .env_clear()
            .envs(server.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .stdin(Stdio::null());
        command
    }

    fn trace_path(&self) -> PathBuf {
        self.folder().join("trace")
    }

    /// Sends a signal by its name, without SIG.
    pub fn signal(&self, name: &str) {
        let script = format!("kill -{name} {}", self.pid());
        assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
    }

    fn assert_running(&mut self) {
        let process = self.process.as_mut().expect("no process");
        if let Some(status) = process.child.try_wait().unwrap() {
            self.wait();
            panic!("the gateway ended with {status}:\n{}", self.log());
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the gateway's log\n{}---", self.log());
        }
    }
}

fn gather(stream: impl Read + Send + 'static, log: &Arc<Mutex<String>>) -> JoinHandle<()> {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        let (mut stream, mut line) = (BufReader::new(stream), Vec::new());
        while stream.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            log.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}

/// Whether a trace says that this process has ended. strace pads short numbers with spaces.
fn tells_the_end_of(trace: &str, pid: u32) -> bool {
    let pid = pid.to_string();
    trace.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some(&pid) && words.next() == Some("+++")
    })
}

/// Sums the samples of a metric in Prometheus' text format that have at least these labels.
fn sum_series(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let mut sum = 0.0;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let (series_name, series_labels) = series.split_once('{').unwrap_or((series, ""));
        let has = |(label, value): &(&str, &str)| {
            let pair = format!("{label}=\"{value}\"");
            series_labels.trim_end_matches('}').split(',').any(|l| l == pair)
        };
        if series_name == name && labels.iter().all(has) {
            sum += value.parse::<f64>().unwrap();
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_trace_is_seen_whatever_the_width_of_its_numbers() {
        assert!(tells_the_end_of("2565  write(1) = 2\n2565  +++ exited with 0 +++\n", 2565));
        assert!(tells_the_end_of("32186 +++ exited with 0 +++\n", 32186));
        assert!(!tells_the_end_of("2565  write(1) = 2\n2566  +++ exited with 0 +++\n", 2565));
    }

    #[test]
    fn series_are_summed_by_name_and_labels() {
        let text = "# HELP a_total b\na_total{x=\"1\",y=\"2\"} 3\na_total{x=\"1\",y=\"3\"} 4\n\
                    a_total_more{x=\"1\"} 50\nplain 7\n";
        assert_eq!(sum_series(text, "a_total", &[]), 7.0);
        assert_eq!(sum_series(text, "a_total", &[("y", "3")]), 4.0);
        assert_eq!(sum_series(text, "a_total", &[("y", "4")]), 0.0);
        assert_eq!(sum_series(text, "plain", &[]), 7.0);
    }
}
