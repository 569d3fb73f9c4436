//! The mirror: what it asks of upstreams, what it passes on, and what it makes of trouble.

use cratehouse_tests::authority::Authority;
use cratehouse_tests::cargo::{Cargo, Project};
use cratehouse_tests::covers;
use cratehouse_tests::gateway::{Gateway, UpstreamConfig};
use cratehouse_tests::krate::{Dep, Krate};
use cratehouse_tests::memory_s3::MemoryS3;
use cratehouse_tests::patience::until;
use cratehouse_tests::upstream::{Answer, Switches, Upstream, Validators, closed_port_url};

fn serde() -> Krate {
    Krate::new("serde", "1.0.0").dep("serde_derive", "=1.0.0")
}

fn main(upstream: &Upstream) -> UpstreamConfig {
    upstream.into()
}

const STALE: &[(&str, &str)] = &[("outcome", "stale")];
const LOOKUPS: &str = "cratehouse_index_lookups_total";

#[test]
fn lines_pass_through_byte_for_byte() {
    covers!(14);
    let features = Krate::new("serde", "1.1.0")
        .with(Dep::new("x", "1").optional())
        .feature("nice", &["dep:x"])
        .package("links", "z")
        .package("rust-version", "1.60");
    let upstream = Upstream::with(&[serde(), features, serde().lib("").yanked()]);
    let gateway = Gateway::mirroring(&upstream);
    let reply = gateway.client().index("serde").assert_status(200);
    assert_eq!(reply.body, upstream.index_file("serde"));
}

#[test]
fn a_missing_final_newline_is_added_and_gzip_is_undone() {
    covers!(13);
    let upstream = Upstream::with(&[serde()]);
    let whole = upstream.index_file("serde");
    let turns: [fn(&mut Switches); 2] = [|s| s.final_newline = false, |s| s.gzip = true];
    for turn in turns {
        upstream.set(turn);
        let gateway = Gateway::mirroring(&upstream);
        assert_eq!(gateway.client().index("serde").assert_status(200).body, whole);
    }
}

#[test]
fn a_fresh_file_is_not_asked_for_again_not_even_by_a_new_replica() {
    let upstream = Upstream::with(&[serde()]);
    let mut gateway = Gateway::mirroring(main(&upstream).fresh_seconds(3600));
    let client = gateway.client();
    let first = client.index("serde").assert_status(200);
    assert_eq!(client.index("serde").body, first.body);
    gateway.restart_on_an_empty_disk();
    assert_eq!(gateway.client().index("serde").assert_status(200).body, first.body);
    assert_eq!(upstream.index_count("serde"), 1);
}

#[test]
fn a_file_is_revalidated_with_whatever_the_upstream_offers() {
    for (validators, header) in [
        (Validators::Etag, Some("if-none-match")),
        (Validators::WeakEtag, Some("if-none-match")),
        (Validators::LastModified, Some("if-modified-since")),
        (Validators::None, None),
    ] {
        let upstream = Upstream::with(&[serde()]);
        upstream.set(|s| s.validators = validators);
        let gateway = Gateway::mirroring(&upstream);
        let client = gateway.client();
        let first = client.index("serde").assert_status(200);
        // The copy, which has the validators, follows the answer.
        gateway.stored_soon("mirror/main/index", 1);
        let again = client.index("serde").assert_status(200);
        assert_eq!((again.header("etag"), &again.body), (first.header("etag"), &first.body));
        let asked = upstream.mentions("serde");
        assert_eq!(asked.len(), 2, "{validators:?}");
        if let Some(header) = header {
            assert!(asked[1].header(header).is_some(), "{validators:?}: {:?}", asked[1]);
            assert_eq!(gateway.metric(LOOKUPS, &[("outcome", "revalidated")]), 1.0);
        }
        upstream.publish(&Krate::new("serde", "1.0.1"));
        let third = client.index("serde").assert_status(200);
        assert_eq!(third.body, upstream.index_file("serde"), "{validators:?}");
        assert_ne!(third.header("etag"), first.header("etag"));
    }
}

#[test]
fn validators_outlive_the_local_disk() {
    let upstream = Upstream::with(&[serde()]);
    let mut gateway = Gateway::mirroring(&upstream);
    gateway.client().index("serde").assert_status(200);
    gateway.restart_on_an_empty_disk();
    gateway.client().index("serde").assert_status(200);
    assert!(upstream.mentions("serde")[1].header("if-none-match").is_some());
}

#[test]
fn not_found_is_remembered_briefly_and_forgotten_by_a_publish() {
    covers!(12);
    let upstream = Upstream::start();
    let gateway = Gateway::mirroring(main(&upstream).number("negative_seconds", 3600));
    let (client, token) = (gateway.client(), gateway.token("alice"));
    client.index("brand-new").assert_status(404);
    client.index("brand-new").assert_status(404);
    assert_eq!(upstream.index_count("brand-new"), 1);
    assert_eq!(gateway.metric(LOOKUPS, &[("outcome", "negative")]), 2.0);
    client.publish(&Krate::new("brand-new", "1.0.0"), &token).assert_status(200);
    client.index("brand-new").assert_status(200).line("1.0.0");
}

#[test]
fn a_publish_upstream_is_seen_at_once_when_not_found_is_not_remembered() {
    let upstream = Upstream::start();
    let gateway = Gateway::mirroring(&upstream);
    let client = gateway.client();
    client.index("serde").assert_status(404);
    upstream.publish(&serde());
    client.index("serde").assert_status(200);
}

#[test]
fn a_known_file_is_served_stale_from_memory_while_the_upstream_is_down() {
    covers!(20);
    // A gateway for each: trouble is remembered for a moment, and the upstream left alone.
    for failure in
        [Answer::Status(500), Answer::Status(503), Answer::Empty, Answer::CutShort, Answer::HangUp]
    {
        let upstream = Upstream::with(&[serde()]);
        upstream.set(|s| s.validators = Validators::None); // a 304 could not be cut short
        let gateway = Gateway::mirroring(&upstream);
        let client = gateway.client();
        let first = client.index("serde").assert_status(200);
        upstream.set(|s| s.index = failure.clone());
        for _ in 0..2 {
            let stale = client.index("serde").assert_status(200);
            assert_eq!(stale.body, first.body, "{failure:?}");
        }
        assert!(upstream.index_count("serde") >= 2, "{failure:?}: it was asked");
        assert_eq!(gateway.metric(LOOKUPS, STALE), 2.0, "{failure:?}");
    }
}

#[test]
fn an_upstream_that_is_back_is_asked_again() {
    covers!(20);
    let upstream = Upstream::with(&[serde()]);
    let gateway = Gateway::mirroring(&upstream);
    let client = gateway.client();
    client.index("serde").assert_status(200);
    upstream.set(|s| s.down = true);
    client.index("serde").assert_status(200);
    client.index("unseen").assert_trouble();
    upstream.publish(&Krate::new("serde", "1.0.1"));
    upstream.publish(&Krate::new("unseen", "1.0.0"));
    upstream.set(|s| s.down = false);
    until("the new version is seen", || client.index("serde").lines().len() == 2);
    until("the new crate is seen", || client.index("unseen").status == 200);
}

#[test]
fn a_known_file_is_served_stale_from_the_store_by_a_new_replica() {
    covers!(20);
    let upstream = Upstream::with(&[serde()]);
    let mut gateway = Gateway::mirroring(&upstream);
    let client = gateway.client();
    let first = client.index("serde").assert_status(200);
    let bytes = client.download("serde", "1.0.0").assert_status(200).body;
    upstream.set(|s| s.down = true);
    gateway.restart_on_an_empty_disk();
    let client = gateway.client();
    assert_eq!(client.index("serde").assert_status(200).body, first.body);
    assert_eq!(client.download("serde", "1.0.0").assert_status(200).body, bytes);
    assert!(gateway.metric(LOOKUPS, STALE) >= 1.0);
    client.index("never-asked").assert_trouble();
}

#[test]
fn an_upstream_name_at_a_closed_port_still_serves_what_is_known() {
    covers!(20);
    let upstream = Upstream::with(&[serde()]);
    let mut gateway = Gateway::mirroring(&upstream);
    let first = gateway.client().index("serde").assert_status(200);
    gateway.stop();
    gateway.reconfigure(|text| text.replace(&upstream.index_url(), &closed_port_url()));
    gateway.wipe();
    gateway.start_again();
    assert_eq!(gateway.client().index("serde").assert_status(200).body, first.body);
}

#[test]
fn only_a_definite_not_found_is_a_404() {
    covers!(21);
    let upstream = Upstream::start();
    let gateway = Gateway::mirroring(main(&upstream).number("timeout_seconds", 1));
    let client = gateway.client();
    for status in [404, 410, 451] {
        upstream.set(|s| s.index = Answer::Status(status));
        let reply = client.index(&format!("gone{status}"));
        assert_eq!(reply.status, 404, "{status}: {reply}");
    }
    let other = Krate::new("other", "1.0.0").index_line() + "\n";
    for (n, failure) in [
        Answer::Status(400),
        Answer::Status(401),
        Answer::Status(403),
        Answer::Status(500),
        Answer::Status(503),
        Answer::Status(206),
        Answer::Status(204),
        Answer::Status(304),
        Answer::Empty,
        Answer::Bytes(b"\n".to_vec()),
        Answer::Bytes(b"<html>Sign in</html>\n".to_vec()),
        Answer::Bytes(other.into_bytes()),
        Answer::HangUp,
        Answer::Hold,
        Answer::RedirectForEver,
    ]
    .into_iter()
    .enumerate()
    {
        upstream.set(|s| s.index = failure.clone());
        let reply = client.index(&format!("trouble{n}"));
        assert!([502, 503, 504].contains(&reply.status), "{failure:?}: {reply}");
        assert!(reply.header("retry-after").is_some(), "{failure:?}: {reply}");
    }
}

#[test]
fn a_file_cut_short_is_trouble() {
    covers!(21);
    let line = serde().index_line() + "\n";
    let half = Answer::Bytes(line.as_bytes()[..line.len() / 2].to_vec());
    for failure in [Answer::CutShort, half] {
        let upstream = Upstream::with(&[serde(), Krate::new("serde", "1.0.1")]);
        upstream.set(|s| s.index = failure.clone());
        let gateway = Gateway::mirroring(&upstream);
        gateway.client().index("serde").assert_trouble();
        assert!(gateway.stored("mirror").iter().all(|p| !p.contains("/index/")), "{failure:?}");
    }
}

#[test]
fn an_upstream_that_says_too_many_requests_is_believed() {
    covers!(22);
    let upstream = Upstream::with(&[serde()]);
    upstream.set(|s| s.index = Answer::RetryAfter(429, "1".to_owned()));
    let gateway = Gateway::mirroring(&upstream);
    let reply = gateway.client().index("serde");
    assert!([429, 503].contains(&reply.status), "{reply}");
    assert!(reply.header("retry-after").is_some(), "{reply}");

    let project = Project::new("app").dep("serde", "1").write();
    let status = reply.status.to_string();
    let answered =
        || gateway.metric("cratehouse_http_request_seconds_count", &[("status", status.as_str())]);
    let before = answered();
    let cargo = Cargo::new(&gateway).env("CARGO_NET_RETRY", "1");
    assert!(!cargo.run(&project, &["fetch"]).ok);
    let tries = answered() - before;
    assert!((1.0..=2.0).contains(&tries), "{tries} tries, where cargo was told 2");
}

#[test]
fn a_cold_miss_answers_before_cargo_gives_up() {
    covers!(23);
    let upstream = Upstream::with(&[serde()]);
    // The upstream's own time ends a fill that is held, however slow this machine is just now:
    // then somebody begins it again.
    let config = UpstreamConfig::from(&upstream).number("timeout_seconds", 300);
    let gateway =
        Gateway::builder().upstream(config).set("limits", "fill_wait_seconds = 1").start();
    let client = gateway.client();
    upstream.set(|s| s.index = Answer::Hold);
    client.index("serde").assert_trouble();
    upstream.set(|s| {
        s.index = Answer::Normal;
        s.krate = Answer::Hold;
    });
    client.download("serde", "1.0.0").assert_trouble();
    upstream.set(|s| s.krate = Answer::Normal);
    until("the fill that outlived its asker is done", || {
        client.download("serde", "1.0.0").status == 200
    });
    let asked = || format!("{:?}\n{}", upstream.requests(), gateway.log());
    assert_eq!(upstream.download_count(), 1, "nobody began it again: {}", asked());
}

#[test]
fn a_private_name_never_reaches_an_upstream() {
    covers!(66);
    let upstream = Upstream::with(&[serde(), Krate::new("acme-tools", "9.0.0")]);
    let gateway = Gateway::builder().upstream(&upstream).reserved(&["acme-*"]).start();
    let (client, token) = (gateway.client(), gateway.token("alice"));
    client.publish(&Krate::new("acme-core", "1.0.0").dep("serde", "1"), &token).assert_status(200);
    for name in ["acme-core", "acme_core", "acme-none", "acme_none", "acme-tools"] {
        client.index(name);
        client.download(name, "1.0.0");
        client.download(name, "9.0.0");
    }
    client.index("acme-tools").assert_status(404);
    client.download("acme-tools", "9.0.0").assert_status(404);
    client.publish(&Krate::new("acme-tools", "1.0.0"), &token).assert_status(200);
    assert_eq!(upstream.mentions("acme"), []);
}

#[test]
fn a_hosted_name_that_is_not_reserved_is_not_asked_for_after_its_publish() {
    covers!(66);
    let upstream = Upstream::start();
    let gateway = Gateway::mirroring(&upstream);
    let (client, token) = (gateway.client(), gateway.token("alice"));
    client.publish(&Krate::new("in-house", "1.0.0"), &token).assert_status(200);
    upstream.forget_requests();
    client.index("in-house").assert_status(200);
    client.index("in_house");
    client.download("in-house", "1.0.0").assert_status(200);
    client.download("in-house", "2.0.0").assert_status(404);
    client.publish(&Krate::new("in-house", "1.1.0"), &token).assert_status(200);
    assert_eq!(upstream.requests(), []);
}

/// Whatever is asked of a replica that has not followed yet.
#[test]
fn a_name_that_another_replica_has_just_hosted_is_not_asked_for() {
    covers!(66);
    let (server, authority, upstream) = (MemoryS3::start(), Authority::new(), Upstream::start());
    let replica = || {
        let builder = Gateway::builder().certificate(&authority).s3(&server.bucket());
        builder.upstream(&upstream).set("limits", "follow_ms = 60000").start()
    };
    let (one, other) = (replica(), replica());
    let token = one.token("alice");
    let (first, second) = (one.client(), other.client());
    // From now on the second knows the token, and need not read the journal for it.
    second.publish(&Krate::new("its-own", "1.0.0"), &token).assert_status(200);
    first.publish(&Krate::new("looked-up", "1.0.0"), &token).assert_status(200);
    upstream.forget_requests();
    second.index("looked-up").assert_status(200);
    first.publish(&Krate::new("downloaded-next", "1.0.0"), &token).assert_status(200);
    second.download("downloaded-next", "1.0.0").assert_status(200);
    first.publish(&Krate::new("published-next", "1.0.0"), &token).assert_status(200);
    second.publish(&Krate::new("published-next", "1.1.0"), &token).assert_status(200);
    for (name, by_first) in [("looked-up", 0), ("downloaded-next", 1), ("published-next", 1)] {
        // The first asked before its first publish, as it must: each of two spellings once.
        assert_eq!(upstream.mentions(name).len(), by_first, "{name}");
    }
}

#[test]
fn not_found_passes_a_name_on_and_trouble_does_not() {
    let (first, second) = (Upstream::with(&[serde()]), Upstream::with(&[serde().lib("other")]));
    second.publish(&Krate::new("only-second", "1.0.0"));
    let gateway = Gateway::builder()
        .upstream(UpstreamConfig::new("first", &first.index_url()))
        .upstream(UpstreamConfig::new("second", &second.index_url()))
        .start();
    let client = gateway.client();
    assert_eq!(client.index("serde").body, first.index_file("serde"), "the first has a say first");
    assert_eq!(client.download("serde", "1.0.0").body, serde().crate_bytes());
    assert_eq!(second.mentions("serde"), []);
    client.index("only-second").assert_status(200);
    client.download("only-second", "1.0.0").assert_status(200);
    client.index("nobody").assert_status(404);
    assert_eq!((first.index_count("nobody"), second.index_count("nobody")), (1, 1));

    let troubles = [Answer::Status(500), Answer::Empty, Answer::HangUp, Answer::Status(403)];
    for (n, failure) in troubles.into_iter().enumerate() {
        let name = format!("another{n}");
        second.publish(&Krate::new(&name, "1.0.0"));
        first.set(|s| s.index = failure.clone());
        let reply = client.index(&name);
        assert!([502, 503, 504].contains(&reply.status), "{failure:?}: {reply}");
        assert!(first.index_count(&name) > 0, "{failure:?}: the first was asked");
    }
    assert_eq!(second.mentions("another"), [], "the second was not asked");
}

#[test]
fn lines_of_a_private_registry_that_is_chained_in_become_ours() {
    let upstream = Upstream::start();
    let theirs = format!("sparse+{}", upstream.index_url());
    let krate = Krate::new("wrapper", "1.0.0").dep("inner", "1").dep("serde", "1");
    let dep = |name: &str, registry: &str| {
        format!(
            r#"{{"name":"{name}","req":"^1","features":[],"optional":false,"default_features":true,"target":null,"kind":"normal"{registry}}}"#
        )
    };
    let deps = [
        dep("named", &format!(r#","registry":"{theirs}""#)),
        dep("null", r#","registry":null"#),
        dep("serde", r#","registry":"https://github.com/rust-lang/crates.io-index""#),
    ];
    let line = format!(
        r#"{{"name":"wrapper","vers":"1.0.0","deps":[{}],"cksum":"{}","features":{{}},"yanked":false}}"#,
        deps.join(","),
        krate.cksum()
    );
    upstream.publish_line(&krate, &line);
    let gateway = Gateway::mirroring(main(&upstream).text("identity", "ours"));
    let line = gateway.client().index("wrapper").line("1.0.0");
    let registry = |n: usize| line["deps"][n].get("registry").and_then(|r| r.as_str());
    assert_eq!((registry(0), registry(1)), (None, None));
    assert_eq!(registry(2), Some("https://github.com/rust-lang/crates.io-index"));
}

#[test]
fn a_chained_in_registry_and_public_crates_build_together_without_a_crate_twice() {
    let (private, public) = (Upstream::start(), Upstream::with(&[Krate::new("serde", "1.0.0")]));
    let theirs = format!("sparse+{}", private.index_url());
    let wrapper = Krate::new("wrapper", "1.0.0")
        .with(Dep::new("inner", "1").registry_index(&theirs))
        .dep("serde", "1")
        .lib("pub use inner::Inner; pub fn thing() -> serde::Thing { serde::Thing }");
    let at = |name: &str, url: &str| {
        let name = format!(r#""name":"{name}""#);
        (name.clone(), format!(r#"{name},"registry":"{url}""#))
    };
    let (inner, inner_there) = at("inner", &theirs);
    let (serde, serde_there) = at("serde", "https://github.com/rust-lang/crates.io-index");
    let line = wrapper.index_line();
    assert!(line.contains(&inner) && line.contains(&serde), "{line}");
    let line = line.replace(&inner, &inner_there).replace(&serde, &serde_there);
    private.publish_line(&wrapper, &line);
    private.publish(&Krate::new("inner", "1.0.0").lib("pub struct Inner;"));
    public.publish(&Krate::new("serde", "1.0.0").lib("pub struct Thing;"));
    let gateway = Gateway::builder()
        .upstream(UpstreamConfig::new("private", &private.index_url()).text("identity", "ours"))
        .upstream(UpstreamConfig::new("public", &public.index_url()))
        .start();

    let cargo = Cargo::new(&gateway);
    let app = Project::new("app")
        .ours("wrapper", "1")
        .ours("inner", "1")
        .dep("serde", "1")
        .main("fn main() { let _: serde::Thing = wrapper::thing(); let _: inner::Inner = wrapper::Inner; }")
        .write();
    cargo.run(&app, &["build"]).assert_ok();
    let tree = cargo.run(&app, &["tree", "--duplicates"]).assert_ok();
    assert_eq!(tree.stdout.trim(), "", "{tree}");
    assert!(!app.lock().contains(&private.origin()), "{}", app.lock());
}

#[test]
fn a_new_replica_asks_nothing_about_fresh_files() {
    let crates: Vec<_> = (0..50).map(|n| Krate::new(&format!("krate-{n}"), "1.0.0")).collect();
    let upstream = Upstream::with(&crates);
    let mut gateway = Gateway::mirroring(main(&upstream).fresh_seconds(3600));
    let ask_all = |gateway: &Gateway| {
        let client = gateway.client();
        for krate in &crates {
            client.index(&krate.name).assert_status(200);
            let reply = client.download(&krate.name, "1.0.0").assert_status(200);
            assert_eq!(reply.body, krate.crate_bytes());
        }
    };
    ask_all(&gateway);
    assert_eq!(upstream.requests().len(), 2 * crates.len() + 1, "config.json, and each file once");
    upstream.forget_requests();
    ask_all(&gateway);
    gateway.restart_on_an_empty_disk();
    ask_all(&gateway);
    assert_eq!(upstream.requests(), []);
    let count = |metric: &str, outcome: &str| gateway.metric(metric, &[("outcome", outcome)]);
    assert_eq!((count(LOOKUPS, "store"), gateway.metric(LOOKUPS, &[])), (50.0, 50.0));
    let crates_total = "cratehouse_crate_lookups_total";
    assert_eq!((count(crates_total, "store"), gateway.metric(crates_total, &[])), (50.0, 50.0));
}

#[test]
fn what_an_upstream_is_slow_with_is_there_when_cargo_tries_again() {
    covers!(23);
    let upstream = Upstream::with(&[Krate::new("slow", "1.0.0").ballast(10_000)]);
    upstream.set(|s| (s.index, s.krate) = (Answer::Hold, Answer::Hold));
    let gateway = Gateway::builder()
        .upstream(main(&upstream).fresh_seconds(3600))
        .set("limits", "fill_wait_seconds = 1")
        .start();
    let project = Project::new("app").dep("slow", "1").write();
    let cargo = Cargo::new(&gateway).env("CARGO_NET_RETRY", "10");
    let told_to_wait =
        || gateway.metric("cratehouse_http_request_seconds_count", &[("status", "503")]);
    std::thread::scope(|scope| {
        let fetch = scope.spawn(|| cargo.run(&project, &["fetch"]));
        until("cargo was told to come again for the index file", || told_to_wait() >= 1.0);
        let before = told_to_wait();
        upstream.set(|s| s.index = Answer::Normal);
        until("cargo was told to come again for the crate file", || told_to_wait() > before);
        upstream.set(|s| s.krate = Answer::Normal);
        fetch.join().unwrap().assert_ok();
    });
    assert_eq!((upstream.index_count("slow"), upstream.download_count()), (1, 1));
}
