//! Standard output and standard error that nobody reads, or that take nothing: the server serves on and
//! stops in time, commands end quietly, and what nobody has seen does not count.

use std::fs::File;
use std::io::{self, Read};
use std::process::{Output, Stdio};
use std::time::Instant;

use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::Krate;
use cratehouse_tests::patience::{PATIENCE, until};

/// What fails every write with "no space left on device".
fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

/// A pipe that nobody reads any more.
fn left() -> io::PipeWriter {
    io::pipe().unwrap().1
}

/// Serves with this standard error, which takes nothing; then stops.
fn serves_and_stops(builder: cratehouse_tests::gateway::Builder, stderr: impl Into<Stdio>) {
    let builder = builder.set("limits", "failed_credentials = 1000000");
    let mut gateway = builder.set("server", "drain_seconds = 10").prepare();
    gateway.spawn_telling(stderr);
    gateway.await_ready();
    let token = gateway.token("alice");
    let client = gateway.client();
    client.publish(&Krate::new("foo", "1.0.0"), &token).assert_status(200);
    until("lines are lost, and counted", || {
        client.publish_raw(Vec::new(), "wrong").assert_refused(401, "");
        client.index("foo").assert_status(200);
        gateway.metric("cratehouse_log_lines_lost_total", &[]) > 0.0
    });
    let lost = gateway.metric("cratehouse_log_lines_lost_total", &[]);
    until("more are, and it goes on", || {
        client.publish_raw(Vec::new(), "wrong").assert_refused(401, "");
        gateway.metric("cratehouse_log_lines_lost_total", &[]) > lost
    });
    gateway.admin().get("/livez").assert_status(200);
    drop(client);
    let began = Instant::now();
    assert_eq!(gateway.stop().code(), Some(0));
    assert!(began.elapsed() < PATIENCE / 2);
}

#[test]
fn a_log_whose_reader_has_left_stops_nothing() {
    serves_and_stops(Gateway::builder(), left());
}

#[test]
fn a_log_on_a_full_disk_stops_nothing() {
    serves_and_stops(Gateway::builder(), full());
}

#[test]
fn a_log_whose_reader_does_not_read_stops_nothing() {
    let (mut read, write) = io::pipe().unwrap();
    // A line for each word on a connection: the pipe and the queue are full soon.
    serves_and_stops(Gateway::builder().set("log", "filter = \"trace\""), write);
    let mut text = String::new();
    read.read_to_string(&mut text).unwrap();
    assert!(text.contains("listening on"), "what was written is whole");
}

/// Runs a command with these for standard output and standard error.
fn run(gateway: &Gateway, args: &[&str], out: impl Into<Stdio>, err: impl Into<Stdio>) -> Output {
    let mut command = gateway.command_line(args);
    command.stdout(out).stderr(err).spawn().unwrap().wait_with_output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const READING: &[&[&str]] = &[
    &["--help"],
    &["--version"],
    &["config", "check"],
    &["user", "list"],
    &["token", "list"],
    &["format", "show"],
    &["journal", "show"],
    &["journal", "verify"],
    &["pulls", "foo"],
    &["names", "audit"],
    &["policy", "waivers"],
    &["gc", "--dry-run"],
];

#[test]
fn a_command_whose_reader_has_left_ends_quietly() {
    let gateway = Gateway::start();
    gateway.token("alice");
    for args in READING {
        let output = run(&gateway, args, left(), Stdio::piped());
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", told(&output));
        assert!(!told(&output).contains("error"), "{args:?}: {}", told(&output));
        let output = run(&gateway, args, Stdio::piped(), left());
        assert_eq!(output.status.code(), Some(0), "{args:?}");
    }
    let output = run(&gateway, &["user", "add", "bob"], left(), Stdio::piped());
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(gateway.cli_ok(&["user", "list"]).contains("bob"));
    // What goes wrong has its status with nobody to tell.
    assert_eq!(run(&gateway, &["user", "add", "bob"], left(), left()).status.code(), Some(1));
    assert_eq!(run(&gateway, &["nonsense"], left(), left()).status.code(), Some(64));
}

#[test]
fn a_command_whose_output_takes_nothing_says_so_and_fails() {
    let gateway = Gateway::start();
    gateway.token("alice");
    for args in READING.iter().filter(|args| !args[0].starts_with("--")) {
        let output = run(&gateway, args, full(), Stdio::piped());
        let (status, told) = (output.status.code().unwrap(), told(&output));
        assert!(status == 1 || (status == 2 && args[0] == "policy"), "{args:?}: {status} {told}");
        assert!(told.contains("standard output") && told.contains("No space"), "{args:?}: {told}");
        assert!(!told.contains("panic"), "{args:?}: {told}");
    }
    let output = run(&gateway, &["user", "add", "bob"], full(), full());
    assert_eq!(output.status.code(), Some(1));
    assert!(gateway.cli_ok(&["user", "list"]).contains("bob"), "it was done");
}

#[test]
fn a_token_that_could_not_be_printed_is_revoked() {
    let gateway = Gateway::start();
    gateway.cli_ok(&["user", "add", "alice"]);
    let create = ["token", "create", "--user", "alice"];
    let outputs =
        [run(&gateway, &create, full(), Stdio::piped()), run(&gateway, &create, left(), full())];
    for output in &outputs {
        assert_eq!(output.status.code(), Some(1), "{}", told(output));
    }
    assert!(told(&outputs[0]).contains("it was revoked"), "{}", told(&outputs[0]));
    let list = gateway.cli_ok(&["token", "list"]);
    assert_eq!(list.lines().count(), 3, "{list}");
    assert!(list.lines().skip(1).all(|line| line.ends_with("revoked")), "{list}");
    let seen = run(&gateway, &create, Stdio::piped(), full());
    assert_eq!(seen.status.code(), Some(0), "a full disk under the log is no reason");
    assert!(gateway.cli_ok(&["token", "list"]).lines().any(|line| line.ends_with("active")));
}
