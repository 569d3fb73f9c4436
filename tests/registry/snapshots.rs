//! What clients and operators read, as a whole: index files, answers of the API, outputs of commands. A
//! change of one is seen in `snapshots/`; `INSTA_UPDATE=always tests/run snapshots::` writes them anew.

use cratehouse_tests::client::Reply;
use cratehouse_tests::krate::{Dep, Krate};
use cratehouse_tests::test_gateway::TestGateway;
use insta::{Settings, assert_snapshot};

/// What differs from run to run.
const FILTERS: [(&str, &str); 9] = [
    (r"crh_[A-Za-z0-9_-]+", "[token]"),
    (r"127\.0\.0\.1:\d+", "[address]"),
    (r"operator [^\t]+@\S+", "operator [account]@[host]"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[time]"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?", "[time]"),
    (r"\b[0-9a-f]{64}\b", "[sha256]"),
    (r"\b[0-9a-f]{32}\b", "[id]"),
    (r"(?m)^(request-id|x-request-id|date|content-length): .*$", "$1: […]"),
    (r"/[^ ]*/\.tmp[A-Za-z0-9]+", "[folder]"),
];

fn bound() -> impl Drop {
    let mut settings = Settings::clone_current();
    settings.set_snapshot_path("../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    FILTERS.iter().for_each(|(pattern, shown)| settings.add_filter(pattern, *shown));
    settings.bind_to_scope()
}

/// Status, headers that clients look at, and body.
fn shown(reply: &Reply) -> String {
    let headers = ["content-type", "cache-control", "vary", "retry-after"];
    let header = |name: &&str| Some(format!("{name}: {}", reply.header(name)?));
    let headers: Vec<_> = headers.iter().filter_map(header).collect();
    format!("{}\n{}\n\n{}", reply.status, headers.join("\n"), reply.text())
}

/// A registry with two crates and a yanked version.
fn registry() -> TestGateway {
    let server = TestGateway::new();
    let base = Krate::new("acme-base", "1.0.0")
        .package("description", "What all others stand on")
        .package("license", "MIT");
    server.accept(&base);
    let app = Krate::new("acme-app", "0.1.0")
        .dep("acme-base", "^1")
        .with(Dep::new("acme-base", "1").renamed("base").optional())
        .feature("extra", &["dep:base"])
        .package("rust-version", "1.85");
    server.accept(&app);
    server.accept(&Krate::new("acme-app", "0.2.0-beta.1+build.7"));
    server.client.yank("acme-app", "0.1.0", &server.token).assert_status(200);
    server
}

#[test]
fn index_files_and_answers_of_the_api() {
    let (server, _bound) = (registry(), bound());
    let client = &server.client;
    assert_snapshot!("index_config", shown(&client.get("/index/config.json")));
    assert_snapshot!("index_file", shown(&client.index("acme-app")));
    assert_snapshot!("index_file_absent", shown(&client.index("acme-none")));
    assert_snapshot!("search", shown(&client.get("/api/v1/crates?q=acme&per_page=10")));
    assert_snapshot!("owners", shown(&client.get("/api/v1/crates/acme-app/owners")));
    assert_snapshot!("me", shown(&client.get_as("/api/v1/me", &server.token)));
    let again = server.publish(&Krate::new("acme-base", "1.0.0"));
    assert_snapshot!("publish_again", shown(&again));
    assert_snapshot!("publish_warns", shown(&server.accept(&Krate::new("other", "1.0.0"))));
    let nobody = client.publish(&Krate::new("acme-base", "2.0.0"), "none");
    assert_snapshot!("publish_unknown_token", shown(&nobody));
    assert_snapshot!("download_absent", shown(&client.download("acme-app", "9.9.9")));
}

#[test]
fn outputs_of_commands() {
    let (server, _bound) = (registry(), bound());
    let run = |args: &[&str]| server.gateway.cli_ok(args);
    assert_snapshot!("user_add", run(&["user", "add", "bob"]));
    assert_snapshot!("user_list", run(&["user", "list"]));
    assert_snapshot!("token_list", run(&["token", "list"]));
    assert_snapshot!("journal_show", run(&["journal", "show"]));
    assert_snapshot!("journal_verify", run(&["journal", "verify"]));
    assert_snapshot!("help", run(&["--help"]));
}
