//! The gateway as a process: the real binary over a folder of its own, on ports of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::SystemTime;

use tempfile::TempDir;

use crate::client::{Client, Reply};
use crate::panamax::Panamax;
use crate::patience::{eventually, until};
use crate::upstream::Upstream;

/// What a gateway is started with. The keys are those of the configuration file.
#[derive(Debug, Clone)]
pub struct Builder {
    sections: BTreeMap<String, Vec<String>>,
    upstreams: Vec<UpstreamConfig>,
    env: Vec<(String, String)>,
    tls: bool,
    traced: bool,
}

/// An `[[upstream]]` of the configuration.
#[derive(Debug, Clone)]
pub struct UpstreamConfig {
    keys: BTreeMap<String, String>,
}

/// A gateway: running, or stopped with its folder still there. Dropping it kills the process
/// and deletes the folder.
#[derive(Debug)]
pub struct Gateway {
    folder: TempDir,
    port: u16,
    admin_port: u16,
    tls: bool,
    traced: bool,
    env: Vec<(String, String)>,
    process: Option<Process>,
    log: Arc<Mutex<String>>,
    users: Mutex<BTreeSet<String>>,
}

#[derive(Debug)]
struct Process {
    child: Child,
    readers: Vec<JoinHandle<()>>,
}

impl UpstreamConfig {
    /// An upstream of this name. Its files count as fresh for no time, and a not-found answer
    /// is not remembered, so that a test sees every change at once.
    pub fn new(name: &str, index_url: &str) -> Self {
        Self { keys: BTreeMap::new() }
            .text("name", name)
            .text("index", index_url)
            .text("identity", "crates-io")
            .number("fresh_seconds", 0)
            .number("negative_seconds", 0)
    }

    /// With a key whose value is a text.
    #[must_use]
    pub fn text(mut self, key: &str, value: &str) -> Self {
        self.keys.insert(key.to_owned(), serde_json::json!(value).to_string());
        self
    }

    /// With a key whose value is a number.
    #[must_use]
    pub fn number(mut self, key: &str, value: u32) -> Self {
        self.keys.insert(key.to_owned(), value.to_string());
        self
    }

    /// With a key whose value is yes or no.
    #[must_use]
    pub fn flag(mut self, key: &str, value: bool) -> Self {
        self.keys.insert(key.to_owned(), value.to_string());
        self
    }

    /// With files that stay fresh for that many seconds.
    #[must_use]
    pub fn fresh_seconds(self, seconds: u32) -> Self {
        self.number("fresh_seconds", seconds)
    }
}

impl From<&Upstream> for UpstreamConfig {
    fn from(upstream: &Upstream) -> Self {
        Self::new("main", &upstream.index_url())
    }
}

impl From<&Panamax> for UpstreamConfig {
    fn from(panamax: &Panamax) -> Self {
        Self::new("panamax", &panamax.index_url())
    }
}

impl Builder {
    /// With one more upstream at the end of the chain: an [`Upstream`], a [`Panamax`] or an
    /// [`UpstreamConfig`].
    #[must_use]
    pub fn upstream(mut self, upstream: impl Into<UpstreamConfig>) -> Self {
        self.upstreams.push(upstream.into());
        self
    }

    /// With a line of a section: `.set("limits", "publish_crate_mib = 1")`.
    #[must_use]
    pub fn set(mut self, section: &str, line: &str) -> Self {
        self.sections.entry(section.to_owned()).or_default().push(line.to_owned());
        self
    }

    /// With names that are ours alone, such as `acme-*`.
    #[must_use]
    pub fn reserved(self, patterns: &[&str]) -> Self {
        self.set("names", &format!("reserved = {patterns:?}"))
    }

    /// Every read needs a token.
    #[must_use]
    pub fn auth_required(self) -> Self {
        self.set("auth", "required = true")
    }

    /// Plain http, as behind another proxy.
    #[must_use]
    pub fn plain_http(mut self) -> Self {
        self.tls = false;
        self.set("tls", "mode = \"off\"")
    }

    /// With an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With its file and socket calls written down: see [`Gateway::system_calls`].
    #[must_use]
    pub fn traced(mut self) -> Self {
        self.traced = true;
        self
    }

    /// Writes the configuration and starts the process; returns when it is ready.
    pub fn start(self) -> Gateway {
        let mut gateway = self.prepare();
        gateway.start_again();
        gateway
    }

    /// Writes the configuration, and starts nothing.
    pub fn prepare(self) -> Gateway {
        let folder = tempfile::tempdir().unwrap();
        let (port, admin_port) = (free_port(), free_port());
        let config = self.config(port, admin_port);
        std::fs::write(folder.path().join(CONFIG), config).unwrap();
        Gateway {
            folder,
            port,
            admin_port,
            tls: self.tls,
            traced: self.traced,
            env: self.env,
            process: None,
            log: Arc::default(),
            users: Mutex::default(),
        }
    }

    /// The text of the configuration file.
    fn config(&self, port: u16, admin_port: u16) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let mut sections = self.sections.clone();
        sections.entry("server".to_owned()).or_default().extend([
            format!("listen = \"127.0.0.1:{port}\""),
            format!("admin_listen = \"127.0.0.1:{admin_port}\""),
            format!("url = \"{scheme}://127.0.0.1:{port}\""),
        ]);
        let mut text = String::new();
        if self.upstreams.is_empty() {
            text += "upstream = []\n";
        }
        for (section, lines) in &sections {
            text += &format!("[{section}]\n{}\n", lines.join("\n"));
        }
        for upstream in &self.upstreams {
            text += "[[upstream]]\n";
            upstream.keys.iter().for_each(|(k, v)| text += &format!("{k} = {v}\n"));
        }
        text
    }
}

const CONFIG: &str = "cratehouse.toml";
const DATA: &str = "cratehouse-data";
const TRACE: &str = "strace.txt";

impl Gateway {
    /// What a gateway is started with: nothing but defaults, and no upstream.
    pub fn builder() -> Builder {
        Builder {
            sections: BTreeMap::new(),
            upstreams: Vec::new(),
            env: Vec::new(),
            tls: true,
            traced: false,
        }
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

    /// Its CA's certificate.
    pub fn ca_path(&self) -> PathBuf {
        self.data().join("tls/ca.pem")
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
        let mut command = match self.traced {
            true => self.traced_command(&["serve"]),
            false => self.command(&["serve"]),
        };
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = gather(child.stdout.take().unwrap(), &self.log);
        let err = gather(child.stderr.take().unwrap(), &self.log);
        self.process = Some(Process { child, readers: vec![out, err] });
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("no process");
        let status = eventually("the gateway ends", || process.child.try_wait().unwrap());
        process.readers.into_iter().for_each(|reader| reader.join().unwrap());
        status
    }

    /// Sends SIGTERM, and waits for nothing.
    pub fn terminate(&self) {
        self.signal("TERM");
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
        self.command(args).output().unwrap()
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

    /// The system calls so far of a gateway that is [`Builder::traced`], one a line, in the
    /// order in which they ended, with the paths of open files.
    pub fn system_calls(&self) -> Vec<String> {
        in_order_of_ends(&std::fs::read_to_string(self.folder().join(TRACE)).unwrap())
    }

    /// Everything it has printed since the first start.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Whether it has printed this.
    pub fn log_contains(&self, text: &str) -> bool {
        self.log.lock().unwrap().contains(text)
    }

    /// A counter's value, summed over the series that have at least these labels; 0 when there
    /// are none.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let text = self.admin().get("/metrics").assert_status(200).text();
        sum_series(&text, name, labels)
    }

    /// The store's files below a folder of it (`""` is all), as sorted paths from the store's
    /// root.
    pub fn stored(&self, below: &str) -> Vec<String> {
        let store = self.data().join("store");
        let mut found = Vec::new();
        walk(&store.join(below), &store, &mut found);
        found.sort();
        found
    }

    /// A file of the store.
    pub fn stored_bytes(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.data().join("store").join(path)).unwrap()
    }

    /// A command line of the binary, in its folder, with its configuration and no environment
    /// but the one asked for.
    fn command(&self, args: &[&str]) -> Command {
        self.set_up(Command::new(binary()), args)
    }

    /// The same under strace, which detaches itself (`-D`), so that the process's number and
    /// signals are those of the gateway.
    fn traced_command(&self, args: &[&str]) -> Command {
        let mut strace = Command::new("strace");
        strace
            .args(["-D", "-f", "-q", "-y", "-s", "40", "-o"])
            .arg(self.folder().join(TRACE))
            .args(["-e", "trace=fsync,fdatasync,write,writev,sendto,sendmsg"])
            .arg(binary());
        self.set_up(strace, args)
    }

    fn set_up(&self, mut command: Command, args: &[&str]) -> Command {
        command
            .args(args)
            .arg("--config")
            .arg(self.config_path())
            .current_dir(self.folder())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder())
            .env("RUST_BACKTRACE", "1")
            .envs(self.env.iter().map(|(n, v)| (n, v)))
            .stdin(Stdio::null());
        command
    }

    fn signal(&self, name: &str) {
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

/// The binary under test: beside the test binary's own folder. Built, once, where it is missing
/// or older than its sources: `cargo test` of this package alone does not do it.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let own = std::env::current_exe().unwrap();
        let profile = own.parent().and_then(Path::parent).unwrap();
        let binary = profile.join(format!("cratehouse{}", std::env::consts::EXE_SUFFIX));
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gateway");
        if modified(&binary).is_none_or(|built| built < newest(&sources)) {
            build(profile);
        }
        binary
    })
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|m| m.modified()).ok()
}

fn newest(folder: &Path) -> SystemTime {
    let mut files = Vec::new();
    walk(folder, folder, &mut files);
    let times = files.iter().filter_map(|file| modified(&folder.join(file)));
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

fn build(profile: &Path) {
    let name = match profile.file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        other => other,
    };
    let built = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["build", "--package", "cratehouse", "--profile", name])
        .arg("--target-dir")
        .arg(profile.parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .unwrap();
    assert!(built.success(), "the binary under test does not build");
}

/// A port that nobody uses. It lies below the range from which the system takes ports for
/// outgoing connections, so that it is still free after a restart; a test process begins at a
/// place of its own.
fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id().wrapping_mul(97) % u32::from(COUNT)).unwrap();
    eventually("a free port", || {
        let nth = TAKEN.fetch_add(1, Ordering::SeqCst);
        let port = FIRST + start.wrapping_add(nth) % COUNT;
        TcpListener::bind(("127.0.0.1", port)).ok().map(|_| port)
    })
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

fn walk(folder: &Path, root: &Path, found: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, root, found);
        } else {
            found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
}

/// strace's lines, where a call that others overtook stands where it ended.
fn in_order_of_ends(trace: &str) -> Vec<String> {
    let mut begun = BTreeMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let (process, call) = line.split_once(' ').unwrap_or(("", line));
        let call = call.trim_start();
        if let Some(start) = call.strip_suffix(" <unfinished ...>") {
            begun.insert(process, start);
        } else if call.starts_with("<... ") {
            let start = begun.remove(process).unwrap_or_default();
            calls.push(format!("{start} {call}"));
        } else {
            calls.push(call.to_owned());
        }
    }
    calls
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
    fn series_are_summed_by_name_and_labels() {
        let text = "# HELP a_total b\na_total{x=\"1\",y=\"2\"} 3\na_total{x=\"1\",y=\"3\"} 4\n\
                    a_total_more{x=\"1\"} 50\nplain 7\n";
        assert_eq!(sum_series(text, "a_total", &[]), 7.0);
        assert_eq!(sum_series(text, "a_total", &[("y", "3")]), 4.0);
        assert_eq!(sum_series(text, "a_total", &[("y", "4")]), 0.0);
        assert_eq!(sum_series(text, "plain", &[]), 7.0);
    }

    #[test]
    fn a_call_that_was_overtaken_stands_where_it_ended() {
        let trace = "7 fsync(3</a> <unfinished ...>\n8 write(4, \"x\") = 1\n\
                     7 <... fsync resumed>)     = 0\n";
        let calls = in_order_of_ends(trace);
        assert_eq!(calls, ["write(4, \"x\") = 1", "fsync(3</a> <... fsync resumed>)     = 0"]);
    }

    #[test]
    fn ports_differ() {
        let ports: BTreeSet<u16> = (0..20).map(|_| free_port()).collect();
        assert_eq!(ports.len(), 20);
    }

    #[test]
    fn a_configuration_without_an_upstream_says_so() {
        let text = Gateway::builder().reserved(&["acme-*"]).config(1, 2);
        assert!(text.starts_with("upstream = []\n"));
        assert!(text.contains("[names]\nreserved = [\"acme-*\"]\n"));
        let upstream = UpstreamConfig::new("a", "http://x/").flag("private_dl", true);
        let text = Gateway::builder().upstream(upstream).config(1, 2);
        assert!(text.contains("[[upstream]]\n") && text.contains("private_dl = true\n"));
    }
}
