//! A real S3: Ceph's object gateway over one monitor and one disk in memory, as plain child
//! processes on free ports of 127.0.0.1. `tests/run` installs the packages.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use tempfile::TempDir;

use crate::client::Client;
use crate::gateway::free_port;
use crate::patience::until;
use crate::s3::S3;
use crate::watchdog::Watchdog;

/// A running cluster. Its processes and its folder vanish with it, or with the test process.
#[derive(Debug)]
pub struct Rgw {
    folder: PathBuf,
    port: u16,
    watchdog: Watchdog,
    daemons: Mutex<Daemons>,
    buckets: AtomicU32,
}

#[derive(Debug)]
struct Daemons {
    /// The monitor and the disk.
    below: Vec<Child>,
    gateway: Option<Child>,
}

const ACCESS_KEY: &str = "cratehouse";
const SECRET_KEY: &str = "a-secret-of-the-tests";
const GATEWAY_LOG: &str = "radosgw.log";
/// For one step of the setting up; coreutils' `timeout` enforces it.
const STEP_SECONDS: &str = "60";

impl Rgw {
    /// The one that the tests of this process share. It is never stopped before the end: a
    /// test that stops it starts one of its own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Rgw> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// One of the test's own, which it may [`kill`](Self::kill).
    pub fn start() -> Self {
        // The watchdog deletes the folder: it also does when this process is killed.
        let folder = TempDir::with_prefix("cratehouse-rgw-").unwrap().keep();
        let watchdog = Watchdog::of_folder(&folder);
        let (mon_port, port) = (free_port(), free_port());
        let daemons = Mutex::new(Daemons { below: Vec::new(), gateway: None });
        let rgw = Self { folder, port, watchdog, daemons, buckets: AtomicU32::new(0) };
        rgw.set_up(mon_port);
        rgw.restart();
        let keys = ["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY];
        let user = ["user", "create", "--uid=cratehouse", "--display-name=cratehouse"];
        rgw.run("radosgw-admin", &[user, keys].concat());
        rgw
    }

    /// Where it answers.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Another user of the server, who may do nothing in anybody's bucket: the same place with that
    /// user's keys. Each has a name of its own.
    pub fn stranger(&self, name: &str, place: &S3) -> S3 {
        let (uid, shown) = (format!("--uid={name}"), format!("--display-name={name}"));
        let keys = ["--access-key", name, "--secret-key", SECRET_KEY];
        self.run("radosgw-admin", &[&["user", "create", &uid, &shown][..], &keys].concat());
        S3 { access_key: name.to_owned(), ..place.clone() }
    }

    /// A new bucket of its own, with a prefix in it.
    pub fn bucket(&self) -> S3 {
        let nth = self.buckets.fetch_add(1, Ordering::SeqCst);
        let bucket = S3 {
            endpoint: format!("http://{}", self.addr()),
            bucket: format!("bucket-{nth}"),
            prefix: "registry/main".to_owned(),
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
        };
        bucket.create();
        bucket
    }

    /// SIGKILL to the S3 gateway alone: connections break, new ones are refused, and no data
    /// is lost.
    pub fn kill(&self) {
        let gateway = self.daemons.lock().unwrap().gateway.take();
        let mut gateway = gateway.expect("it does not run");
        gateway.kill().unwrap();
        gateway.wait().unwrap();
    }

    /// Starts the S3 gateway on the same port, and returns when it answers.
    pub fn restart(&self) {
        let child = self.spawn("radosgw", &["-f", "-n", "client.rgw"], GATEWAY_LOG);
        let earlier = self.daemons.lock().unwrap().gateway.replace(child);
        assert!(earlier.is_none(), "it runs already");
        let client = Client::new(&format!("http://{}", self.addr()), None);
        until("the S3 gateway answers", || {
            self.assert_running();
            let reply = client.try_send(reqwest::Method::GET, "/", &[], None);
            reply.is_ok_and(|reply| reply.status == 200)
        });
    }

    fn set_up(&self, mon_port: u16) {
        let disk = random_uuid();
        let cluster = random_uuid();
        fs::write(self.path("ceph.conf"), config(&self.folder, &cluster, mon_port, self.port))
            .unwrap();
        for folder in ["mon", "osd", "rgw"] {
            fs::create_dir(self.path(folder)).unwrap();
        }
        let map = self.path("monmap").display().to_string();
        let monitor = format!("[v2:127.0.0.1:{mon_port}]");
        self.run("monmaptool", &["--create", "--fsid", &cluster, "--addv", "a", &monitor, &map]);
        self.run("ceph-mon", &["-i", "a", "--mkfs", "--monmap", &map]);
        self.keep(self.spawn("ceph-mon", &["-f", "-i", "a"], "mon.log"));
        self.run("ceph", &["osd", "new", &disk]);
        self.run("ceph-osd", &["-i", "0", "--mkfs", "--osd-uuid", &disk]);
        let place = ["osd.0", "1.0", "host=localhost", "root=default"];
        self.run("ceph", &[&["osd", "crush", "add"], place.as_slice()].concat());
        self.keep(self.spawn("ceph-osd", &["-f", "-i", "0"], "osd.log"));
        until("the disk is up", || self.run("ceph", &["osd", "stat"]).contains("1 up"));
    }

    fn keep(&self, child: Child) {
        self.daemons.lock().unwrap().below.push(child);
    }

    /// One step: runs to its end, and must succeed. Gives its standard output.
    fn run(&self, program: &str, args: &[&str]) -> String {
        let mut command = Command::new("timeout");
        command.args([STEP_SECONDS, program]);
        let output = self.prepare(&mut command, args).output().unwrap();
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{program} {args:?}: {}\n{out}{err}", output.status);
        out.into_owned()
    }

    /// A daemon, in the group of processes that the watchdog ends.
    fn spawn(&self, program: &str, args: &[&str], log: &str) -> Child {
        let log = fs::File::options().create(true).append(true).open(self.path(log)).unwrap();
        let mut command = Command::new(program);
        self.prepare(&mut command, args)
            .process_group(self.watchdog.group())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("{program} (tests/run installs it): {e}"))
    }

    fn prepare<'a>(&self, command: &'a mut Command, args: &[&str]) -> &'a mut Command {
        command
            .args(args)
            .current_dir(&self.folder)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("CEPH_CONF", self.path("ceph.conf"))
            .stdin(Stdio::null())
    }

    fn assert_running(&self) {
        let mut daemons = self.daemons.lock().unwrap();
        let Daemons { below, gateway } = &mut *daemons;
        for daemon in below.iter_mut().chain(gateway) {
            if let Some(status) = daemon.try_wait().unwrap() {
                let log = fs::read_to_string(self.path(GATEWAY_LOG)).unwrap_or_default();
                panic!("a part of the S3 server ended with {status}:\n{log}");
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Drop for Rgw {
    fn drop(&mut self) {
        self.watchdog.end();
        let daemons = self.daemons.get_mut().unwrap();
        for daemon in daemons.below.iter_mut().chain(&mut daemons.gateway) {
            let _ = daemon.wait();
        }
    }
}

fn random_uuid() -> String {
    fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap().trim().to_owned()
}

/// Everything in one folder, on loopback, without passwords between the parts, and quick:
/// without `paxos …` a start takes 14 s, without `tcp_nodelay` a GET 44 ms. The S3 gateway would
/// insist on encryption towards the monitor, which needs the passwords: hence the `crc` modes.
fn config(folder: &Path, cluster: &str, mon_port: u16, port: u16) -> String {
    let folder = folder.display();
    format!(
        "[global]
fsid = {cluster}
run dir = {folder}
crash dir = {folder}
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
keyring = {folder}/keyring
admin socket =
log file =
mon cluster log file =
log to file = false
mon cluster log to file = false
mon host = [v2:127.0.0.1:{mon_port}]
public addr = 127.0.0.1
ms bind msgr1 = false
ms bind ipv6 = false
auth cluster required = none
auth service required = none
auth client required = none
ms cluster mode = crc
ms service mode = crc
ms client mode = crc
ms mon cluster mode = crc
ms mon service mode = crc
ms mon client mode = crc
osd objectstore = memstore
memstore device bytes = 1073741824
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
paxos propose interval = 0.01
paxos min wait = 0.01
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_keeps_what_it_holds_through_a_kill_and_leaves_nothing_behind() {
        let rgw = Rgw::start();
        let (bucket, other) = (rgw.bucket(), rgw.bucket());
        bucket.create_only("a/b", b"c").unwrap();
        assert!(bucket.create_only("a/b", b"d").is_err());
        rgw.kill();
        rgw.restart();
        assert_eq!(bucket.list(""), ["a/b"]);
        assert_eq!(bucket.get("a/b"), b"c");
        assert!(other.list("").is_empty());

        let folder = rgw.folder.clone();
        let processes: Vec<_> =
            rgw.daemons.lock().unwrap().below.iter().map(|daemon| daemon.id()).collect();
        drop(rgw);
        for process in processes {
            assert!(!Path::new(&format!("/proc/{process}")).exists());
        }
        until("the folder is gone", || !folder.exists());
    }
}
