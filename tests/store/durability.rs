//! An answered publish is on disk, and stays.

use std::thread;
use std::time::Duration;

use cratehouse_tests::covers;
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::Krate;
use cratehouse_tests::patience::until;

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

/// Every command line is a replica of its own for as long as it lives.
#[test]
fn command_lines_and_a_busy_server_append_to_one_journal() {
    const WRITERS: usize = 3;
    const USERS: usize = 6;
    let gateway = Gateway::start();
    let token = gateway.token("alice");
    let done = std::sync::atomic::AtomicBool::new(false);
    let published: usize = thread::scope(|scope| {
        let (gateway, token, done) = (&gateway, &token, &done);
        let publishers: Vec<_> = (0..2)
            .map(|n| {
                scope.spawn(move || {
                    let client = gateway.client();
                    let mut count = 0;
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        let krate = Krate::new(&format!("busy-{n}"), &format!("1.0.{count}"));
                        client.publish(&krate, token).assert_status(200);
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        let writers: Vec<_> = (0..WRITERS)
            .map(|n| {
                scope.spawn(move || {
                    for user in 0..USERS {
                        gateway.cli_ok(&["user", "add", &format!("user-{n}-{user}")]);
                    }
                })
            })
            .collect();
        let outcomes: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        let published = publishers.into_iter().map(|one| one.join().unwrap()).sum();
        outcomes.into_iter().for_each(|outcome| outcome.unwrap());
        published
    });
    let users = gateway.cli_ok(&["user", "list"]);
    let heading = 1;
    assert_eq!(users.lines().count(), heading + 1 + WRITERS * USERS, "{users}");
    let client = gateway.client();
    let listed: usize = (0..2).map(|n| client.index(&format!("busy-{n}")).lines().len()).sum();
    assert_eq!(listed, published);
    gateway.cli_ok(&["journal", "verify"]);
}

/// A catalog is a view: whatever is in its place, the journal has the truth.
#[test]
fn a_catalog_that_was_damaged_is_built_anew() {
    let mut gateway = Gateway::start();
    let token = gateway.token("alice");
    gateway.client().publish(&Krate::new("foo", "1.0.0"), &token).assert_status(200);
    let catalog = gateway.data().join("catalog.redb");
    let line = gateway.client().index("foo").body;
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 4] = [
        ("cut", |bytes| bytes.truncate(bytes.len() / 2)),
        ("garbage", |bytes| bytes.fill(0x5a)),
        ("a byte in every page", |bytes| bytes.iter_mut().step_by(4096).for_each(|b| *b ^= 0xff)),
        ("text", |bytes| *bytes = b"this is no catalog".to_vec()),
    ];
    for (what, damage) in damages {
        assert!(gateway.stop().success());
        let mut bytes = std::fs::read(&catalog).unwrap();
        damage(&mut bytes);
        std::fs::write(&catalog, bytes).unwrap();
        gateway.start_again();
        until(&format!("built anew after {what}"), || gateway.log_contains("built anew"));
        assert_eq!(gateway.client().index("foo").body, line, "{what}");
    }
    gateway.client().publish(&Krate::new("foo", "1.1.0"), &token).assert_status(200);
}
