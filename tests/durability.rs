//! An answered publish is on disk, and stays.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use cratehouse_tests::covers;
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::Krate;
use cratehouse_tests::patience::until;

const KILLS: u32 = 200;

/// Publishes `foo` in a version after another until the process is gone; gives the versions
/// whose publish was answered with a 200.
fn publish_until_it_dies(gateway: &Gateway, token: &str, round: u32) -> Vec<String> {
    let client = gateway.client();
    let mut answered = Vec::new();
    for n in 0.. {
        let version = format!("{round}.0.{n}");
        let body = Krate::new("foo", &version).publish_body();
        let authorization = [("authorization", token)];
        let path = "/api/v1/crates/new";
        match client.try_send(reqwest::Method::PUT, path, &authorization, Some(body)) {
            Ok(reply) if reply.status == 200 => answered.push(version),
            Ok(reply) => panic!("a publish was refused: {reply}"),
            Err(_) => break,
        }
    }
    answered
}

#[test]
fn killing_it_at_any_moment_loses_no_answered_publish_and_shows_no_line_without_its_bytes() {
    covers!(73);
    let mut gateway = Gateway::start();
    let token = gateway.token("alice");
    let mut answered = Vec::new();
    for round in 0..KILLS {
        thread::scope(|scope| {
            let publishing = scope.spawn(|| publish_until_it_dies(&gateway, &token, round));
            #[allow(clippy::disallowed_methods, reason = "any moment will do")]
            thread::sleep(Duration::from_millis(u64::from(round * 37 % 120)));
            gateway.kill_now();
            answered.extend(publishing.join().unwrap());
        });
        gateway.wait();
        gateway.start_again();
    }
    let client = gateway.client();
    let file = client.index("foo").assert_status(200);
    let listed: Vec<_> =
        file.lines().iter().map(|l| l["vers"].as_str().unwrap().to_owned()).collect();
    assert!(answered.len() >= 50, "only {} publishes came through", answered.len());
    let lost: Vec<_> = answered.iter().filter(|v| !listed.contains(v)).collect();
    assert!(lost.is_empty(), "answered and lost: {lost:?}");
    for version in &listed {
        let bytes = client.download("foo", version).assert_status(200).body;
        let cksum = file.line(version)["cksum"].as_str().unwrap().to_owned();
        assert_eq!(cratehouse_tests::krate::sha256(&bytes), cksum, "{version}");
    }
    gateway.cli_ok(&["journal", "verify"]);
}

/// Watches the system calls of a process until it is told to stop.
struct Watch(Child);

impl Watch {
    fn begin(pid: u32, into: &Path) -> Self {
        let calls =
            "trace=openat,fsync,fdatasync,link,linkat,rename,renameat,write,writev,sendto,sendmsg";
        let child = Command::new("strace")
            .args(["-f", "-y", "-s", "64", "-e", calls, "-p", &pid.to_string(), "-o"])
            .arg(into)
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace is installed by tests/run");
        let attached = || {
            let tracer = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let line = tracer.lines().find(|l| l.starts_with("TracerPid:")).unwrap().to_owned();
            !line.ends_with("\t0")
        };
        until("strace is attached", attached);
        Self(child)
    }

    fn end(mut self) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        self.0.wait().unwrap();
    }
}

#[test]
fn a_publish_is_answered_after_its_files_and_their_folders_are_synced() {
    let gateway = Gateway::builder().plain_http().start();
    let token = gateway.token("alice");
    let trace = gateway.folder().join("trace");
    let watch = Watch::begin(gateway.pid(), &trace);
    gateway.client().publish(&Krate::new("foo", "1.0.0"), &token).assert_status(200);
    watch.end();

    let trace = std::fs::read_to_string(&trace).unwrap();
    let position = |what: &str, fits: &dyn Fn(&str) -> bool| {
        let found = trace.lines().position(fits);
        found.unwrap_or_else(|| panic!("{what} is not in the trace:\n{trace}"))
    };
    let answer = position("the answer", &|l| l.contains("HTTP/1.1 200"));
    for folder in ["/store/blobs/hosted/", "/store/journal/"] {
        // Created under a name of its own, synced, linked to its place, and the folder synced.
        let is_sync = |l: &str| l.contains("fsync(") || l.contains("fdatasync(");
        let staged = |l: &str| is_sync(l) && l.contains(folder) && l.contains('#');
        let placed = |l: &str| {
            (l.contains("link") || l.contains("rename")) && l.contains(folder) && l.contains('#')
        };
        let of_folder =
            |l: &str| is_sync(l) && l.contains(folder.trim_end_matches('/')) && !l.contains('#');
        let file_synced = position("the sync of a file", &staged);
        let in_place = position("the file's place", &placed);
        let folder_synced = trace.lines().enumerate().skip(in_place).find(|(_, l)| of_folder(l));
        let folder_synced = folder_synced.expect("the folder is synced after the link").0;
        assert!(file_synced < in_place, "{folder}: {trace}");
        assert!(folder_synced < answer, "{folder}: {trace}");
    }
}
