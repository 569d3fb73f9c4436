//! Who pulled it: the answer after an incident.

use cratehouse_tests::authority::Authority;
use cratehouse_tests::cargo::{Cargo, Project};
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::Krate;
use cratehouse_tests::patience::until;
use cratehouse_tests::rgw::Rgw;
use cratehouse_tests::upstream::Upstream;
use reqwest::Method;
use serde_json::Value;

/// Written at the stop alone, as far as a test is concerned.
const RARELY: &str = "flush_seconds = 3600";

fn public() -> Krate {
    Krate::new("public-crate", "1.2.3")
}

fn private() -> Krate {
    Krate::new("private-crate", "0.3.0")
}

fn lines(gateway: &Gateway, args: &[&str]) -> Vec<Value> {
    let text = gateway.cli_ok(&[&["pulls", "--json"], args].concat());
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn logins(pulls: &[Value]) -> Vec<&str> {
    pulls.iter().map(|pull| pull["by"]["login"].as_str().unwrap()).collect()
}

#[test]
fn after_a_stop_users_and_tokens_that_fetched_a_version_are_named() {
    let upstream = Upstream::with(&[public()]);
    let builder = Gateway::builder().upstream(&upstream).auth_required().set("pulls", RARELY);
    let mut gateway = builder.set("server", "replica = \"crates-7\"").start();
    let (alice, bob) = (gateway.token("alice"), gateway.token("bob"));
    gateway.client().publish(&private(), &alice).assert_status(200);
    let app = Project::new("app").ours("private-crate", "0.3").dep("public-crate", "1");
    for token in [&alice, &bob] {
        let cargo = Cargo::new(&gateway).token(token);
        let folder = app.write();
        cargo.run(&folder, &["fetch"]).assert_ok();
        cargo.run(&folder, &["fetch"]).assert_ok(); // from cargo's own home
    }
    assert!(gateway.stored("pulls").is_empty());
    assert!(gateway.stop().success());

    assert_eq!(gateway.stored("pulls").len(), 1);
    for krate in [public(), private()] {
        let pulls = lines(&gateway, &[&krate.name]);
        assert_eq!(logins(&pulls), ["alice", "bob"]);
        for (pull, (user, token)) in pulls.iter().zip([(1, 1), (2, 2)]) {
            assert_eq!((&pull["by"]["user"], &pull["by"]["token"]), (&user.into(), &token.into()));
            assert_eq!(pull["crate"], *krate.name);
            assert_eq!(pull["version"], *krate.version);
            assert_eq!(pull["checksum"], krate.cksum());
            assert_eq!(
                (&pull["address"], &pull["replica"]),
                (&"127.0.0.1".into(), &"crates-7".into())
            );
        }
    }
    let shown = gateway.cli_ok(&["pulls", "Public_Crate@1.2.3", "--since", "2020-01-01"]);
    assert!(
        shown.starts_with("time\tcrate\tversion\tuser\ttoken\taddress\treplica\tcount\tlast\n"),
        "{shown}"
    );
    assert!(shown.contains("\tpublic-crate\t1.2.3\tbob\t2\t127.0.0.1\tcrates-7\t1\t"), "{shown}");
    assert!(shown.contains("2 pulls of Public_Crate@1.2.3 are recorded since 2020"), "{shown}");
    assert!(shown.contains("\nalice (user 1) with token 1: 1, the last at "), "{shown}");
    let stored = gateway.stored_bytes(&gateway.stored("pulls")[0]);
    let stored = String::from_utf8(stored).unwrap();
    assert!(!stored.contains(&alice) && !stored.contains(&bob));
}

#[test]
fn only_a_get_that_was_answered_with_the_bytes_is_a_pull() {
    let upstream = Upstream::with(&[public()]);
    let mut gateway = Gateway::builder().upstream(&upstream).set("pulls", RARELY).start();
    let client = gateway.client();
    client.download("public-crate", "9.9.9").assert_status(404);
    let path = "/api/v1/crates/public-crate/1.2.3/download";
    client.send(Method::HEAD, path, &[], None).assert_status(200);
    client.index("public-crate").assert_status(200);
    client.download("public-crate", "1.2.3").assert_status(200);
    assert!(gateway.stop().success());
    let pulls = lines(&gateway, &["public-crate"]);
    assert_eq!(pulls.len(), 1);
    assert_eq!(pulls[0]["by"], Value::Null, "reads need no token here");
    let shown = gateway.cli_ok(&["pulls", "public-crate@>=1"]);
    assert!(shown.contains("\t-\t-\t127.0.0.1\t"), "{shown}");
    for nothing in [&["pulls", "public-crate@2"][..], &["pulls", "other", "--since", "2020-01-01"]]
    {
        let shown = gateway.cli_ok(nothing);
        assert!(shown.starts_with("no pull of ") && shown.contains("records begin on"), "{shown}");
    }
    assert!(lines(&gateway, &["public-crate", "--since", "2999-01-01"]).is_empty());
}

#[test]
fn many_downloads_of_one_version_are_one_record_beside_those_of_release_0_1() {
    let upstream = Upstream::with(&[public()]);
    let builder = Gateway::builder().upstream(&upstream).auth_required().set("pulls", RARELY);
    let mut gateway = builder.start();
    let (alice, bob) = (gateway.token("alice"), gateway.token("bob"));
    let path = "/api/v1/crates/public-crate/1.2.3/download";
    for token in std::iter::repeat_n(&alice, 300).chain([&bob]) {
        gateway.client().get_as(path, token).assert_status(200);
    }
    assert!(gateway.stop().success(), "nothing is lost at an orderly stop");
    let [batch] = &gateway.stored("pulls")[..] else { panic!("one batch") };
    let stored = String::from_utf8(gateway.stored_bytes(batch)).unwrap();
    assert_eq!(stored.lines().count(), 2, "{stored}");

    let old = format!(
        "{{\"time\":\"2020-01-02T12:00:00Z\",\"crate\":\"public-crate\",\"version\":\"1.2.3\",\
         \"checksum\":\"{}\",\"by\":{{\"login\":\"alice\",\"user\":1,\"token\":1}},\
         \"address\":\"10.0.0.1\",\"replica\":\"old\"}}\n",
        public().cksum()
    );
    let day = gateway.data().join("store/pulls/2020-01-02");
    std::fs::create_dir_all(&day).unwrap();
    std::fs::write(day.join("120000.000000-old-00000000.jsonl"), old).unwrap();
    let counts: Vec<_> =
        lines(&gateway, &["public-crate"]).iter().map(|pull| pull["count"].as_u64()).collect();
    assert_eq!(counts, [None, Some(300), None]);
    let shown = gateway.cli_ok(&["pulls", "public-crate"]);
    assert!(shown.contains("\n302 pulls of public-crate are recorded"), "{shown}");
    assert!(shown.contains("\nalice (user 1) with token 1: 301, the last at "), "{shown}");
}

#[test]
fn batches_are_written_while_it_runs_and_an_answer_may_begin_with_a_journal_entry() {
    let gateway = Gateway::builder().set("pulls", "flush_seconds = 1").start();
    let token = gateway.token("alice"); // entries 1 and 2
    gateway.client().publish(&private(), &token).assert_status(200);
    gateway.client().download("private-crate", "0.3.0").assert_status(200);
    until("it is recorded", || gateway.metric("cratehouse_pulls_recorded_total", &[]) == 1.0);
    assert_eq!(lines(&gateway, &["private-crate", "--since", "3"]).len(), 1);
    let refused = gateway.cli(&["pulls", "private-crate", "--since", "99"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no entry 99"));
    assert_eq!(gateway.cli(&["pulls", "private-crate@soon"]).status.code(), Some(64));
}

#[test]
fn old_days_are_deleted_and_with_no_days_nothing_is_recorded() {
    let mut gateway = Gateway::builder().set("pulls", "retention_days = 30").start();
    let old = gateway.data().join("store/pulls/2020-01-01");
    std::fs::create_dir_all(&old).unwrap();
    std::fs::write(old.join("120000.000000-gone-00000000.jsonl"), "").unwrap();
    let token = gateway.token("alice");
    gateway.client().publish(&private(), &token).assert_status(200);
    gateway.client().download("private-crate", "0.3.0").assert_status(200);
    gateway.restart();
    until("the old day is gone", || gateway.stored("pulls/2020-01-01").is_empty());
    assert_eq!(lines(&gateway, &["private-crate"]).len(), 1);

    gateway.stop();
    gateway.reconfigure(|text| text.replace("retention_days = 30", "retention_days = 0"));
    gateway.start_again();
    gateway.client().download("private-crate", "0.3.0").assert_status(200);
    gateway.stop();
    assert_eq!(lines(&gateway, &["private-crate"]).len(), 1, "what is there stays");
    let said = gateway.cli(&["pulls", "private-crate"]).stderr;
    assert!(String::from_utf8_lossy(&said).contains("not recorded"));
}

#[test]
fn replicas_over_s3_are_asked_as_one_and_any_of_them_deletes_old_days() {
    let bucket = Rgw::shared().bucket();
    for n in 0..3 {
        bucket.put(&format!("pulls/2020-01-01/12000{n}.000000-gone-00000000.jsonl"), b"");
    }
    let authority = Authority::new();
    let replicas = ["crates-0", "crates-1"].map(|name| {
        let builder = Gateway::builder().certificate(&authority).s3(&bucket);
        let builder = builder.set("server", &format!("replica = {name:?}"));
        builder.set("pulls", "flush_seconds = 1").start()
    });
    let token = replicas[0].token("alice");
    replicas[0].client().publish(&private(), &token).assert_status(200);
    for replica in &replicas {
        replica.client().download("private-crate", "0.3.0").assert_status(200);
        let recorded = || replica.metric("cratehouse_pulls_recorded_total", &[]) == 1.0;
        until("it is recorded", recorded);
    }
    let pulls = lines(&replicas[1], &["private-crate"]);
    let by: Vec<_> = pulls.iter().map(|pull| pull["replica"].as_str().unwrap()).collect();
    assert_eq!(by, ["crates-0", "crates-1"]);
    until("the old day is gone", || bucket.list("pulls/2020-01-01").is_empty());
}
