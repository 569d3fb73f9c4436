//! An answered publish is on disk, and stays.

use std::thread;
use std::time::Duration;

use cratehouse_tests::covers;
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::Krate;

const KILLS: u32 = 200;

/// The system calls that tell when a file is where, and when an answer leaves.
const CALLS: &str =
    "openat,fsync,fdatasync,link,linkat,rename,renameat,renameat2,write,writev,sendto,sendmsg";

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

#[test]
fn a_publish_is_answered_after_its_files_and_their_folders_are_synced() {
    let mut gateway = Gateway::builder().plain_http().traced(CALLS).start();
    let token = gateway.token("alice");
    gateway.client().publish(&Krate::new("foo", "1.0.0"), &token).assert_status(200);
    let trace = gateway.stop_and_trace();
    let position = |what: &str, fits: &dyn Fn(&str) -> bool| {
        let found = trace.lines().position(fits);
        found.unwrap_or_else(|| panic!("{what} is not in the trace:\n{trace}"))
    };
    // The head and its body are one: no other answer has these.
    let answer = position("the answer", &|l| l.contains("HTTP/1.1 200") && l.contains("json"));
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
