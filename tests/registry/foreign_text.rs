//! Texts of strangers: what is built of them, what of them comes back, and what they may not take away.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::{Krate, frame};
use cratehouse_tests::upstream::Upstream;
use reqwest::Method;

const CHECK: &str = "/api/v1/policy/check";
/// The largest answer, and the longest log line, that a refused text may cause, in bytes: its excerpts
/// have 200 characters.
const SHORT: usize = 2000;
const MIB: usize = 1024 * 1024;

/// No line of the log is longer than it should be, and none has what acts on a terminal.
fn assert_log_is_short(gateway: &Gateway) {
    let log = gateway.log();
    let longest = log.lines().max_by_key(|line| line.len()).unwrap_or_default();
    assert!(longest.len() < SHORT, "{} bytes: {longest:.300}", longest.len());
    for acts in ['\u{1b}', '\u{202e}', '\u{200b}', '\u{7f}'] {
        assert!(!log.contains(acts), "{acts:?}");
    }
}

#[test]
fn a_lock_file_that_is_none_comes_back_as_an_excerpt() {
    let gateway = Gateway::start();
    let client = gateway.client();
    let long = "a".repeat(4 * MIB - 100);
    let package = |rest: &str| format!("[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n{rest}\n");
    for text in [
        format!("x = {long}"),
        format!("{long}\u{202e}\u{1b}[31m"),
        package(&format!("source = \"\\u001b\\u202e{}\"", &long[..MIB])),
        package(&format!("checksum = \"{}\"", &long[..MIB])),
    ] {
        let reply = client.call(Method::POST, CHECK, Some(text.into_bytes()), "");
        assert!(reply.status == 400 && reply.body.len() < SHORT, "{}", reply.body.len());
        assert!(!reply.text().contains('\u{202e}'));
    }
    // A package with a long name fails alone, and shortly.
    let named = format!(
        "[[package]]\nname = \"{}\"\nversion = \"{}\"\nsource = \"registry+https://x.example\"\n",
        &long[..MIB],
        &long[..MIB]
    );
    let reply = client.call(Method::POST, CHECK, Some(named.into_bytes()), "").assert_status(200);
    assert!(reply.body.len() < 2 * SHORT, "{}", reply.body.len());
    assert_log_is_short(&gateway);
}

#[test]
fn lock_files_that_would_be_large_trees_are_refused_or_read_without_one() {
    let gateway = Gateway::start();
    let client = gateway.client();
    let open = format!("x = [{}]", "{a.a.a.a=1},".repeat(4 * MIB / 12 - 10));
    let deep = "[".repeat(MIB);
    let keys: String = (0..200_000).map(|n| format!("k{n}=0\n")).collect();
    for (text, why) in [(open, "tokens"), (deep.clone(), ""), (format!("x={deep}"), "")] {
        let reply = client.call(Method::POST, CHECK, Some(text.into_bytes()), "");
        assert!(reply.assert_status(400).text().contains(why));
    }
    client.call(Method::POST, CHECK, Some(keys.into_bytes()), "").assert_refused(400, "keys");
    let resident = gateway.metric("process_resident_memory_bytes", &[]);
    assert!(resident < 400e6, "{resident}");
}

#[test]
fn a_manifest_comes_back_as_an_excerpt_and_is_bounded() {
    let gateway = Gateway::start();
    let token = gateway.token("alice");
    let client = gateway.client();
    let publish = |manifest: String| {
        client.publish(&Krate::new("foo", "1.0.0").manifest_text(&manifest), &token)
    };
    let package = "[package]\nname = \"foo\"\nversion = \"1.0.0\"\n";
    let long = "x".repeat(MIB / 2);
    for (rest, why) in [
        (format!("x = {long}"), "line 4"),
        (format!("x = [{}]", "{a.a.a.a=1},".repeat(20_000)), "more than"),
        (format!("x = {}", "[".repeat(1000)), "levels deep"),
        (format!("[dependencies]\n\"{long}\" = 1"), "must be a version requirement"),
        (format!("[dependencies]\na = \"\\u202e\\u001b{long}\""), "version requirement"),
        (format!("[target.\"cfg({long}\".dependencies]\na = \"1\""), "target"),
    ] {
        let refused = publish(format!("{package}{rest}"));
        assert!(refused.body.len() < SHORT, "{}", refused.body.len());
        let told = refused.assert_refused(400, why);
        assert!(!told.contains(['\u{202e}', '\u{1b}']), "{told}");
    }
    let json = format!("{{\"name\":\"{long}\",\"vers\":\"1.0.0\"}}");
    let refused = client.publish_raw(frame(json.as_bytes(), b""), &token);
    assert!((400..500).contains(&refused.status) && refused.body.len() < SHORT);
    assert_log_is_short(&gateway);
}

#[test]
fn methods_paths_and_names_stand_in_the_log_as_excerpts() {
    let mut gateway = Gateway::builder().plain_http().set("log", "filter = \"debug\"").start();
    let long = "m".repeat(20_000);
    for request in [
        format!("{long} / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        format!("GET /{long} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        "GET /\u{202e}\u{200b}\u{7f} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(),
    ] {
        let mut stream = TcpStream::connect(gateway.addr()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.starts_with(b"HTTP/1.1 4"), "{:?}", String::from_utf8_lossy(&answer));
        assert!(answer.len() < SHORT, "{}", answer.len());
    }
    gateway.stop();
    assert_log_is_short(&gateway);
}

#[test]
fn one_unreadable_line_takes_nothing_else_away() {
    let (old, odd, new) =
        (Krate::new("serde", "1.0.0"), Krate::new("serde", "1.0.1"), Krate::new("serde", "1.1.0"));
    let upstream = Upstream::with(std::slice::from_ref(&old));
    upstream.publish_line(&odd, "{\"name\":\"serde\",\"vers\":\"1.0.1\",\"cksum\":17}");
    upstream.publish(&new);
    let gateway = Gateway::mirroring(&upstream);
    let client = gateway.client();
    let served = client.index("serde").assert_status(200);
    assert_eq!(served.text(), format!("{}\n{}\n", old.index_line(), new.index_line()));
    client.download("serde", "1.1.0").assert_status(200);
    client.download("serde", "1.0.1").assert_status(404);
    let skipped =
        gateway.metric("cratehouse_upstream_index_lines_skipped_total", &[("upstream", "main")]);
    assert!(skipped > 0.0);
    assert!(gateway.log_contains("cannot be read; they are left out"), "{}", gateway.log());
}
