//! Signals that are no wish to stop.

use std::process::{Command, Stdio};

use cratehouse_tests::authority::Authority;
use cratehouse_tests::client::Client;
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::http::{Action, Server};
use cratehouse_tests::krate::{CRATES_IO, Krate};
use cratehouse_tests::patience::{eventually, until};
use cratehouse_tests::upstream::{Answer, Upstream};
use reqwest::Method;

/// Those that the system would end a process for.
const HARMLESS: [&str; 4] = ["HUP", "USR1", "USR2", "PIPE"];

#[test]
fn signals_that_mean_nothing_here_end_neither_the_process_nor_a_request() {
    let upstream = Upstream::with(&[Krate::new("foo", "1.0.0")]);
    upstream.set(|s| s.krate = Answer::Hold);
    let mut gateway = Gateway::mirroring(&upstream);
    let client = gateway.client();
    let asker = std::thread::spawn(move || client.download("foo", "1.0.0").status);
    until("the upstream is asked", || upstream.download_count() == 1);
    for signal in HARMLESS {
        gateway.signal(signal);
    }
    until("the one that means something is heard", || gateway.log_contains("SIGHUP"));
    gateway.client().get("/index/config.json").assert_status(200);
    upstream.set(|s| s.krate = Answer::Normal);
    assert_eq!(asker.join().unwrap(), 200);
    assert_eq!(gateway.stop().code(), Some(0));
}

#[test]
fn a_hangup_has_certificate_and_policy_read_again_at_once() {
    let (old, new) = (Authority::new(), Authority::new());
    let policies = tempfile::tempdir().unwrap();
    let rule = policies.path().join("rule.toml");
    std::fs::write(&rule, "").unwrap();
    let upstream = Upstream::with(&[Krate::new("foo", "1.0.0")]);
    let gateway = Gateway::builder()
        .certificate(&old)
        .set("tls", "reload_seconds = 3600")
        .set("policy", "reload_seconds = 3600")
        .set("policy", &format!("dir = {:?}", policies.path()))
        .upstream(&upstream)
        .start();
    let trusting =
        |authority: &Authority| Client::new(&gateway.url(), Some(authority.ca.as_bytes()));
    let is_served = |authority: &Authority| {
        let reply = trusting(authority).try_send(Method::GET, "/index/config.json", &[], None);
        reply.is_ok_and(|reply| reply.status == 200)
    };
    trusting(&old).download("foo", "1.0.0").assert_status(200);
    std::fs::write(gateway.folder().join("cert.pem"), &new.cert).unwrap();
    std::fs::write(gateway.folder().join("cert.key"), &new.key).unwrap();
    std::fs::write(&rule, "[[ban]]\nname = \"foo\"\nreason = \"it is tried\"\n").unwrap();
    assert!(is_served(&old) && !is_served(&new));
    gateway.signal("HUP");
    until("the new certificate is shown", || is_served(&new));
    until("the new policy is in force", || trusting(&new).download("foo", "1.0.0").status == 403);
    assert_eq!(gateway.metric("cratehouse_tls_reloads_total", &[]), 1.0);
}

/// What changes a store goes on without its terminal; half of it would have to be looked after by hand.
#[test]
fn a_command_that_changes_something_outlives_its_terminal() {
    let foo = Krate::new("foo", "1.0.0");
    let upstream = Upstream::with(std::slice::from_ref(&foo));
    let gateway = Gateway::mirroring(&upstream);
    let lock = format!(
        "version = 4\n\n[[package]]\nname = \"foo\"\nversion = \"1.0.0\"\n\
         source = \"registry+{CRATES_IO}\"\nchecksum = \"{}\"\n",
        foo.cksum()
    );
    std::fs::write(gateway.folder().join("Cargo.lock"), lock).unwrap();
    upstream.set(|s| s.krate = Answer::Hold);
    let mut command = gateway.command_line(&["prefetch", "--lock", "Cargo.lock"]);
    let mut running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the upstream is asked", || upstream.download_count() == 1);
    for signal in HARMLESS {
        let script = format!("kill -{signal} {}", running.id());
        assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
    }
    upstream.set(|s| s.krate = Answer::Normal);
    let status = eventually("it ends", || running.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    assert_eq!(gateway.stored("blobs/mirror").len(), 1);
}

#[test]
fn signals_during_the_start_do_not_end_it() {
    let store = Server::start(|_, _| Action::Wait);
    let mut gateway = Gateway::builder()
        .plain_http()
        .set("store", "url = \"s3://bucket/prefix\"")
        .set("store", &format!("endpoint = \"{}\"", store.origin()))
        .set("store", "region = \"here\"")
        .set("store", "access_key_id = \"key\"")
        .set("store", "allow_http = true")
        .env("CRATEHOUSE_STORE__SECRET_ACCESS_KEY", "secret")
        .prepare();
    gateway.spawn();
    until("the store is asked", || !store.requests().is_empty());
    HARMLESS.iter().for_each(|signal| gateway.signal(signal));
    until("it is heard", || gateway.log_contains("SIGHUP"));
    gateway.admin().get("/livez").assert_status(200);
    assert_eq!(gateway.stop().code(), Some(0));
}
