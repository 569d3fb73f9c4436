//! What a client asks for and does not read, and what it asks for too often: nobody else waits for it,
//! and memory stays within its bounds.

use std::thread;

use cratehouse_tests::gateway::{Builder, Gateway, UpstreamConfig};
use cratehouse_tests::krate::Krate;
use cratehouse_tests::patience::until;
use cratehouse_tests::upstream::{Answer, Upstream};
use reqwest::Certificate;
use reqwest::blocking::{Client, Response};

const MIB: f64 = 1024.0 * 1024.0;
const VERSIONS: usize = 10_000;
const STREAMS: usize = 256;
const EXPLAIN: &str = "/api/v1/policy/explain/big";

/// An upstream with `small`, and with `big`, which has many versions.
fn public() -> Upstream {
    let upstream = Upstream::with(&[Krate::new("small", "1.0.0")]);
    let line = Krate::new("big", "1.0.0").index_line();
    let lines = (0..VERSIONS).map(|n| line.trim().replace("1.0.0", &format!("1.0.{n}")) + "\n");
    let bytes = lines.collect::<String>().into_bytes();
    upstream.set(|s| drop(s.paths.insert("/index/3/b/big".to_owned(), Answer::Bytes(bytes))));
    upstream
}

fn server(upstream: &Upstream) -> Builder {
    Gateway::builder().upstream(UpstreamConfig::from(upstream).fresh_seconds(3600))
}

/// A client that takes heads and no byte of a body.
fn mute(gateway: &Gateway) -> Client {
    let ca = std::fs::read(gateway.ca_path()).unwrap();
    Client::builder()
        .no_proxy()
        .tls_certs_only([Certificate::from_pem(&ca).unwrap()])
        .http2_initial_stream_window_size(0)
        .http2_initial_connection_window_size(0)
        .timeout(std::time::Duration::from_secs(300))
        .build()
        .unwrap()
}

#[test]
fn explanations_that_nobody_reads_hold_a_share_of_a_budget_and_not_a_gigabyte() {
    let upstream = public();
    let gateway = server(&upstream).start();
    let client = gateway.client();
    client.get(EXPLAIN).assert_status(200);
    client.index("small").assert_status(200);
    let metric = |name: &str| gateway.metric(name, &[]);
    let before = metric("process_resident_memory_bytes");

    let mute = mute(&gateway);
    let url = format!("{}{EXPLAIN}", gateway.url());
    let unread: Vec<Response> =
        (0..STREAMS).map(|_| mute.get(url.as_str()).send().unwrap()).collect();
    let count = |status: u16| unread.iter().filter(|r| r.status() == status).count();
    assert_eq!(count(200) + count(503), STREAMS);
    assert!(count(200) > 0 && count(503) > 0, "{} of them were made", count(200));
    let refused = unread.iter().find(|r| r.status() == 503).unwrap();
    assert!(refused.headers().contains_key("retry-after"));

    let (held, limit) = (
        metric("cratehouse_response_memory_bytes"),
        metric("cratehouse_response_memory_limit_bytes"),
    );
    assert!(held > 0.0 && held <= limit / 4.0, "{held} of {limit}: a quarter for one address");
    let grown = metric("process_resident_memory_bytes") - before;
    assert!(grown < 150.0 * MIB, "{grown} more bytes are resident");
    assert!(metric("cratehouse_response_memory_refusals_total") >= count(503) as f64);
    // Others are answered.
    client.index("small").assert_status(200);
    client.download("small", "1.0.0").assert_status(200);
    client.get("/index/config.json").assert_status(200);

    drop((unread, mute));
    until("what nobody waits for is given back", || {
        metric("cratehouse_response_memory_bytes") == 0.0
            && metric("cratehouse_http_requests_under_way") == 0.0
    });
    client.get(EXPLAIN).assert_status(200);
}

#[test]
fn an_explanation_comes_in_pages_that_have_every_version_once() {
    let upstream = public();
    let gateway = server(&upstream).start();
    let client = gateway.client();
    let (mut seen, mut before) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("{EXPLAIN}?per_page=999{before}")).assert_status(200).json();
        let versions = page["versions"].as_array().unwrap();
        assert!(versions.len() <= 999);
        seen.extend(versions.iter().map(|v| v["version"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        before = format!("&before={next}");
    }
    let wanted: Vec<_> = (0..VERSIONS).rev().map(|n| format!("1.0.{n}")).collect();
    assert!(seen == wanted, "{} versions", seen.len());
    let first = client.get(EXPLAIN).json();
    assert_eq!(first["versions"].as_array().unwrap().len(), 1000);
    assert_eq!(first["newest_allowed"], format!("1.0.{}", VERSIONS - 1));
    client.get(&format!("{EXPLAIN}?before=soon")).assert_refused(400, "before");
    client.get(&format!("{EXPLAIN}?per_page=all")).assert_refused(400, "per_page");
}

#[test]
fn requests_that_wait_for_an_upstream_are_bounded_and_hits_are_not() {
    let upstream = public();
    let builder = server(&upstream).set("limits", "requests = 4\nper_address_percent = 100");
    let gateway = builder.start();
    let client = gateway.client();
    client.index("small").assert_status(200);
    upstream.set(|s| s.index = Answer::Hold);
    let metric = |name: &str| gateway.metric(name, &[]);
    thread::scope(|scope| {
        // Four under way, four times as many that wait, and some too many.
        let cold: Vec<_> = (0..25)
            .map(|n| {
                let client = &client;
                scope.spawn(move || client.index(&format!("cold-{n}")))
            })
            .collect();
        until("some are refused", || metric("cratehouse_http_requests_refused_total") >= 5.0);
        assert_eq!(metric("cratehouse_http_requests_under_way"), 4.0);
        assert_eq!(metric("cratehouse_http_requests_limit"), 4.0);
        client.index("small").assert_status(200);
        client.get("/index/config.json").assert_status(200);
        upstream.set(|s| s.index = Answer::Normal);
        let replies: Vec<_> = cold.into_iter().map(|it| it.join().unwrap()).collect();
        let refused: Vec<_> = replies.iter().filter(|reply| reply.status == 503).collect();
        assert!(refused.len() >= 5 && refused.iter().all(|r| r.header("retry-after").is_some()));
        assert!(replies.iter().any(|reply| reply.status == 404));
    });
    until("all are answered", || metric("cratehouse_http_requests_under_way") == 0.0);
}

#[test]
fn a_search_reads_no_file_and_many_at_once_take_few_threads() {
    let upstream = public();
    let mut gateway = server(&upstream).start();
    let token = gateway.token("alice");
    for name in ["big", "small"] {
        gateway.client().index(name).assert_status(200);
    }
    let own = Krate::new("small-own", "1.0.0").package("description", "Ours, and \"large\"");
    gateway.client().publish(&own, &token).assert_status(200);
    gateway.stop();
    let listed = gateway.stored("mirror").into_iter().filter(|path| path.ends_with("names.txt"));
    assert_eq!(listed.count(), 1, "what a search knows is one object");
    let mirrored = gateway.data().join("store/mirror");
    for upstream in std::fs::read_dir(mirrored).unwrap().map(Result::unwrap) {
        std::fs::remove_dir_all(upstream.path().join("index")).unwrap();
    }
    gateway.start_again();
    let client = gateway.client();
    let found = client.get("/api/v1/crates?q=&per_page=100").assert_status(200).json();
    let versions: Vec<_> = found["crates"].as_array().unwrap().iter().collect();
    assert_eq!(found["meta"]["total"], 3, "{found}");
    assert_eq!(versions[0]["name"], "small-own");
    assert_eq!(versions[1]["max_version"], format!("1.0.{}", VERSIONS - 1), "{found}");
    assert_eq!(versions[2]["max_version"], "1.0.0", "{found}");

    // Reads that find something: of the journal, which is followed meanwhile, there is nothing new.
    let reads = || {
        gateway.metric(
            "cratehouse_store_request_seconds_count",
            &[("operation", "get"), ("outcome", "ok")],
        )
    };
    let before = reads();
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| client.get("/api/v1/crates?q=small").assert_status(200));
        }
    });
    assert_eq!(reads(), before, "no file was read");
    let cores = thread::available_parallelism().unwrap().get();
    let threads = gateway.metric("process_threads", &[]);
    assert!(threads <= (15 + 256 + 4 * cores) as f64, "{threads} threads");
    assert!(gateway.metric("cratehouse_search_names", &[]) == 2.0);
}
