//! Traces: a request's is in the log, is passed on to upstreams, and reaches a collector.

use cratehouse_tests::gateway::{Builder, Gateway};
use cratehouse_tests::krate::Krate;
use cratehouse_tests::otlp::{Collector, Span};
use cratehouse_tests::patience::until;
use cratehouse_tests::upstream::Upstream;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const ASKER: &str = "00f067aa0ba902b7";

fn parent(trace: &str, flags: &str) -> String {
    format!("00-{trace}-{ASKER}-{flags}")
}

fn traced(collector: &Collector, ratio: &str) -> Builder {
    Gateway::builder()
        .set("tracing", &format!("otlp = \"{}\"", collector.url()))
        .set("tracing", &format!("sample_ratio = {ratio}"))
        .set("server", "replica = \"crates-7\"")
}

/// One that stands behind a proxy, which these tests are, and which is believed.
fn behind(collector: &Collector, ratio: &str) -> Builder {
    traced(collector, ratio)
        .plain_http()
        .set("server", "trusted_proxies = [\"127.0.0.1\"]")
        .set("server", "proxy_header = \"x-forwarded-for\"")
}

fn named<'s>(spans: &'s [Span], name: &str) -> &'s Span {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name}: {spans:?}"))
}

#[test]
fn without_a_collector_a_trace_is_in_the_log_and_passes_through_unchanged() {
    let upstream = Upstream::with(&[Krate::new("public", "1.0.0")]);
    let gateway = Gateway::builder().upstream(&upstream).set("log", "filter = \"debug\"").start();
    let sent = parent(TRACE, "01");
    let client = gateway.client();
    for path in ["/index/pu/bl/public", "/api/v1/crates/public/1.0.0/download"] {
        client.get_with(path, &[("traceparent", &sent)]).assert_status(200);
    }
    let asked: Vec<_> =
        upstream.requests().into_iter().filter(|r| !r.path.contains("config")).collect();
    assert!(asked.len() >= 2, "{asked:?}");
    for request in upstream.requests() {
        assert_eq!(request.header("traceparent"), Some(sent.as_str()), "{}", request.path);
    }
    let tells = |line: &str| line.contains("answered") && line.contains(&format!("trace={TRACE}"));
    until("the log tells it", || gateway.log().lines().filter(|line| tells(line)).count() == 2);
    client.get_with("/index/pu/bl/public", &[("traceparent", "nonsense")]).assert_status(200);
    let last = upstream.requests().pop().unwrap();
    assert_eq!(last.header("traceparent"), None, "what is none is not passed on");
}

#[test]
fn a_traced_request_and_what_is_asked_for_it_reach_the_collector() {
    let (collector, krate) = (Collector::start(), Krate::new("public", "1.0.0"));
    let upstream = Upstream::with(std::slice::from_ref(&krate));
    let gateway = behind(&collector, "0").upstream(&upstream).start();
    let reply = gateway
        .client()
        .get_with("/index/pu/bl/public", &[("traceparent", &parent(TRACE, "01"))])
        .assert_status(200);
    until("the spans are there", || collector.spans_of(TRACE).len() >= 3);
    let spans = collector.spans_of(TRACE);
    let request = named(&spans, "GET index_file");
    assert_eq!(request.parent, ASKER);
    let fact = |key: &str| request.facts.get(key).map(String::as_str);
    assert_eq!(fact("http.route"), Some("index_file"));
    assert_eq!(fact("http.response.status_code"), Some("200"));
    assert_eq!(fact("cratehouse.request_id"), reply.header("x-request-id"));
    assert_eq!(fact("resource.service.name"), Some("cratehouse"));
    assert_eq!(fact("resource.service.instance.id"), Some("crates-7"));
    let asked = named(&spans, "upstream index");
    assert_eq!(asked.parent, request.id);
    named(&spans, "store get");
    let requests = upstream.requests();
    let index = requests.iter().find(|request| request.path.ends_with("/public")).unwrap();
    let passed = format!("00-{TRACE}-{}-01", asked.id);
    assert_eq!(index.header("traceparent"), Some(passed.as_str()));
}

#[test]
fn a_hit_is_traced_too_and_a_request_that_nobody_traces_is_not() {
    let (collector, upstream) =
        (Collector::start(), Upstream::with(&[Krate::new("public", "1.0.0")]));
    let fresh = cratehouse_tests::gateway::UpstreamConfig::from(&upstream).fresh_seconds(3600);
    let gateway = behind(&collector, "0").upstream(fresh).start();
    let client = gateway.client();
    client.index("public").assert_status(200);
    let hits = || gateway.metric("cratehouse_index_lookups_total", &[("outcome", "hit")]);
    assert_eq!(hits(), 0.0);
    client
        .get_with("/index/pu/bl/public", &[("traceparent", &parent(TRACE, "00"))])
        .assert_status(200);
    client
        .get_with("/index/pu/bl/public", &[("traceparent", &parent(TRACE, "01"))])
        .assert_status(200);
    assert_eq!(hits(), 2.0);
    until("the span is there", || !collector.spans().is_empty());
    let spans = collector.spans();
    assert_eq!(spans.len(), 1, "{spans:?}");
    assert_eq!((spans[0].name.as_str(), spans[0].trace.as_str()), ("GET index_file", TRACE));
}

#[test]
fn a_client_does_not_say_whether_its_requests_are_traced() {
    let collector = Collector::start();
    let sent = [("traceparent", parent(TRACE, "01"))];
    let ask = |gateway: &Gateway, path: &str| {
        let headers = [(sent[0].0, sent[0].1.as_str())];
        gateway.client().get_with(path, &headers).assert_status(200);
    };
    let none = traced(&collector, "0").start();
    ask(&none, "/index/config.json");
    let all = traced(&collector, "1").start();
    ask(&all, "/");
    until("the span is there", || !collector.spans().is_empty());
    let spans = collector.spans();
    assert_eq!(spans.len(), 1, "{spans:?}");
    assert_eq!((spans[0].name.as_str(), spans[0].trace.as_str()), ("GET home", TRACE));
}

#[test]
fn a_share_of_the_requests_is_traced_and_a_failure_is_told() {
    let (collector, upstream) = (Collector::start(), Upstream::start());
    upstream.set(|switches| switches.down = true);
    let gateway = traced(&collector, "1").upstream(&upstream).start();
    gateway.client().index("public").assert_trouble();
    until("the spans are there", || {
        collector.spans().iter().any(|span| span.name == "GET index_file")
    });
    let spans = collector.spans();
    let request = named(&spans, "GET index_file");
    assert!(request.failed && request.parent.is_empty() && request.trace.len() == 32);
    assert!(named(&spans, "upstream index").failed);
}

#[test]
fn what_waits_at_a_stop_is_still_sent() {
    let collector = Collector::start();
    let mut gateway = traced(&collector, "1").start();
    let client = gateway.client();
    for _ in 0..20 {
        client.get("/index/config.json").assert_status(200);
    }
    assert!(gateway.stop().success());
    let of_route = |span: &Span| span.name == "GET index_config";
    assert_eq!(collector.spans().into_iter().filter(of_route).count(), 20);
}

#[test]
fn a_collector_that_takes_nothing_is_told_of_once_and_holds_nobody_up() {
    let collector = Collector::start();
    collector.refuse(true);
    let gateway = traced(&collector, "1").start();
    let client = gateway.client();
    let spans = |outcome| gateway.metric("cratehouse_trace_spans_total", &[("outcome", outcome)]);
    for round in 1..=2 {
        client.get("/index/config.json").assert_status(200);
        until("it is refused", || collector.requests() >= round);
    }
    until("they are counted", || spans("failed") >= 2.0);
    assert_eq!(gateway.log().matches("the collector does not take spans").count(), 1);
    collector.refuse(false);
    client.get("/index/config.json").assert_status(200);
    until("it takes them again", || spans("exported") >= 1.0);
    until("that is told", || gateway.log_contains("the collector takes spans again"));
}
