use bytes::Bytes;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::upstream::test_util::{Server, config, reply, upstream};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::secret::Secret;

fn foo() -> CrateName {
    "foo".parse().unwrap()
}

fn listed() -> Listed {
    Listed {
        name: "Foo".parse().unwrap(),
        version: "1.0.0+b".parse().unwrap(),
        cksum: Checksum::of(b"bytes"),
        yanked: false,
        pubtime: None,
    }
}

fn found(answer: Result<Answer, UpstreamError>) -> (Bytes, Validators) {
    match answer {
        Ok(Answer::Found { body, validators }) => (body.unpack().unwrap(), validators),
        other => panic!("{other:?}"),
    }
}

fn kind(answer: Result<Answer, UpstreamError>) -> UpstreamErrorKind {
    answer.map(|answer| panic!("{answer:?}")).unwrap_err().kind
}

#[tokio::test]
async fn index_files_are_asked_for_conditionally_by_what_the_upstream_offers() {
    let server = Server::start(|_, headers| {
        match headers.contains_key("if-none-match") || headers.contains_key("if-modified-since") {
            true => reply(304, &[], ""),
            false => reply(200, &[("etag", "W/\"1\""), ("last-modified", "yesterday")], "x"),
        }
    })
    .await;
    let up = upstream(&config(&server.url));
    let (bytes, validators) = found(up.index_file(Turn::OWN, &foo(), None, &mut |_| true).await);
    assert_eq!(bytes, "x");
    let again = up.index_file(Turn::OWN, &foo(), Some(&validators), &mut |_| true).await;
    assert!(matches!(again, Ok(Answer::NotModified)));
    let dated = Validators { etag: None, ..validators };
    let again = up.index_file(Turn::OWN, &foo(), Some(&dated), &mut |_| true).await;
    assert!(matches!(again, Ok(Answer::NotModified)));
    found(up.index_file(Turn::OWN, &foo(), Some(&Validators::default()), &mut |_| true).await);

    let requests = server.requests();
    let header = |at: usize, name: &str| requests[at].1.get(name).map(|v| v.to_str().unwrap());
    assert_eq!(requests[0].0, "/index/3/f/foo");
    assert!(header(0, "user-agent").unwrap().starts_with("cratehouse/"));
    assert_eq!(header(0, "accept-encoding"), Some("gzip"));
    assert_eq!(
        (header(1, "if-none-match"), header(1, "if-modified-since")),
        (Some("W/\"1\""), None)
    );
    assert_eq!(header(2, "if-modified-since"), Some("yesterday"));
}

#[tokio::test]
async fn not_found_is_an_answer_and_everything_else_is_trouble() {
    let server = Server::start(|path, _| match path {
        "/index/1/a" => reply(404, &[], ""),
        "/index/1/b" => reply(410, &[], ""),
        "/index/1/c" => reply(503, &[("retry-after", "7")], ""),
        "/index/1/d" => reply(403, &[], ""),
        "/index/1/e" => reply(304, &[], ""),
        _ => reply(200, &[("content-encoding", "br")], "x"),
    })
    .await;
    let up = upstream(&config(&server.url));
    let ask = async |name: &str| {
        up.index_file(Turn::OWN, &name.parse().unwrap(), None, &mut |_| true).await
    };
    assert!(matches!(ask("a").await, Ok(Answer::NotFound)));
    assert!(matches!(ask("b").await, Ok(Answer::NotFound)));
    assert!(up.resting().is_none());
    let busy = ask("c").await.unwrap_err();
    assert_eq!(
        (busy.kind, busy.retry_after),
        (UpstreamErrorKind::Busy, Some(Duration::from_secs(7)))
    );
    assert!(up.resting().is_some());
    for name in ["d", "e", "f"] {
        assert_eq!(kind(ask(name).await), UpstreamErrorKind::Nonsense, "{name}");
    }
    assert!(up.resting().is_none());
}

#[tokio::test]
async fn bodies_are_inflated_within_the_bound() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&[b'x'; 1000]).unwrap();
    let small = encoder.finish().unwrap();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&[b'x'; 1001]).unwrap();
    let bomb = encoder.finish().unwrap();
    let server = Server::start(move |path, _| {
        let gzip = [("content-encoding", "gzip")];
        match path {
            "/index/1/a" => reply(200, &gzip, small.clone()),
            "/index/1/b" => reply(200, &gzip, bomb.clone()),
            "/index/1/c" => reply(200, &gzip, small[..small.len() - 4].to_vec()),
            _ => reply(200, &[], vec![b'x'; 1001]),
        }
    })
    .await;
    let up = upstream(&config(&server.url));
    assert_eq!(
        found(up.index_file(Turn::OWN, &"a".parse().unwrap(), None, &mut |_| true).await).0.len(),
        1000
    );
    let unpacked = async |name: &str| {
        let answer = up.index_file(Turn::OWN, &name.parse().unwrap(), None, &mut |_| true).await;
        let Ok(Answer::Found { body, .. }) = answer else { panic!("{answer:?}") };
        up.misfit(&body.unpack().unwrap_err()).kind
    };
    assert!(matches!(unpacked("b").await, UpstreamErrorKind::TooLarge { .. }));
    assert_eq!(unpacked("c").await, UpstreamErrorKind::Nonsense);
    let ask = async |name: &str| {
        kind(up.index_file(Turn::OWN, &name.parse().unwrap(), None, &mut |_| true).await)
    };
    assert_eq!(ask("d").await, UpstreamErrorKind::TooLarge { announced: Some(1001) });
}

/// A server that says one thing to every connection and closes it.
async fn raw(answer: &'static [u8], hold: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer).await;
                tokio::time::sleep(hold).await;
            });
        }
    });
    url
}

#[tokio::test]
async fn a_body_shorter_than_announced_is_trouble() {
    let url = raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345", Duration::ZERO).await;
    let up = upstream(&config(&url));
    assert_eq!(
        kind(up.index_file(Turn::OWN, &foo(), None, &mut |_| true).await),
        UpstreamErrorKind::Unreachable
    );
}

#[tokio::test]
async fn a_body_is_read_as_long_as_there_is_memory_for_it() {
    let server = Server::start(|_, _| reply(200, &[], "x".repeat(1000))).await;
    let up = upstream(&config(&server.url));
    let (mut arrived, mut refused) = (0, 0);
    let mut count = |bytes| {
        arrived += bytes;
        true
    };
    found(up.index_file(Turn::OWN, &foo(), None, &mut count).await);
    assert_eq!(arrived, 1000);
    let mut refuse = |bytes| {
        refused += bytes;
        false
    };
    assert_eq!(
        kind(up.index_file(Turn::OWN, &foo(), None, &mut refuse).await),
        UpstreamErrorKind::NoMemory
    );
    assert!(refused > 0 && up.resting().is_none(), "the upstream did nothing wrong");
    let counted = up.metrics.upstream_refused.with_label_values(&["up", "no_memory"]).get();
    assert_eq!((counted, requests_counted(&up, "error"), requests_counted(&up, "200")), (1, 0, 1));
}

/// How many index and crate files the upstream's metric counts by an outcome.
fn requests_counted(up: &Upstream, outcome: &str) -> u64 {
    let of = |kind| up.metrics.upstream_requests.with_label_values(&["up", kind, outcome]);
    ["index", "crate"].map(|kind| of(kind).get_sample_count()).iter().sum()
}

#[tokio::test]
async fn that_too_many_of_ours_wait_is_no_trouble_of_the_upstream() {
    let server = Server::start(|_, _| reply(200, &[], "x")).await;
    let timeout = Duration::from_millis(50);
    let up = upstream(&settings::Upstream { timeout, ..config(&server.url) });
    let taken = futures_util::future::join_all((0..4).map(|_| up.index_requests.turn(Turn::OWN)));
    let taken = taken.await;
    let refused = up.index_file(Turn::OWN, &foo(), None, &mut |_| true).await.unwrap_err();
    assert_eq!((refused.kind, up.resting().is_none()), (UpstreamErrorKind::Crowded, true));
    let counted = up.metrics.upstream_refused.with_label_values(&["up", "crowded"]).get();
    assert_eq!((counted, requests_counted(&up, "error"), server.paths().len()), (1, 0, 0));
    drop(taken);
    found(up.index_file(Turn::OWN, &foo(), None, &mut |_| true).await);
}

#[tokio::test]
async fn a_client_that_had_no_place_for_what_is_held_need_not_wait_again_at_once() {
    let server = Server::start(|_, _| reply(200, &[], "x")).await;
    let timeout = Duration::from_millis(50);
    let up = upstream(&settings::Upstream { timeout, ..config(&server.url) });
    let client = |n: u8| ClientKey::of([192, 0, 2, n].into());
    let turn = |held| Turn { client: client(1), held };
    let taken = futures_util::future::join_all((0..4).map(|_| up.index_requests.turn(Turn::OWN)));
    let taken = taken.await;
    let crowded = async |held| kind(up.index_file(turn(held), &foo(), None, &mut |_| true).await);
    assert_eq!(
        (crowded(false).await, up.is_crowded_for(client(1))),
        (UpstreamErrorKind::Crowded, false)
    );
    assert_eq!(
        (crowded(true).await, up.is_crowded_for(client(1))),
        (UpstreamErrorKind::Crowded, true)
    );
    assert!(!up.is_crowded_for(client(2)) && up.resting().is_none());
    drop(taken);
}

#[tokio::test]
async fn a_refusal_of_ours_does_not_end_the_rest_of_an_upstream_in_trouble() {
    let server = Server::start(|_, _| reply(503, &[], "")).await;
    let timeout = Duration::from_millis(50);
    let up = upstream(&settings::Upstream { timeout, ..config(&server.url) });
    assert_eq!(
        kind(up.index_file(Turn::OWN, &foo(), None, &mut |_| true).await),
        UpstreamErrorKind::Busy
    );
    let _taken =
        futures_util::future::join_all((0..4).map(|_| up.index_requests.turn(Turn::OWN))).await;
    assert_eq!(
        kind(up.index_file(Turn::OWN, &foo(), None, &mut |_| true).await),
        UpstreamErrorKind::Crowded
    );
    assert!(up.resting().is_some());
}

#[tokio::test]
async fn a_body_that_does_not_end_in_time_is_a_timeout() {
    let hold = Duration::from_secs(60);
    let url = raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345", hold).await;
    let up = upstream(&settings::Upstream { timeout: Duration::from_millis(200), ..config(&url) });
    assert_eq!(
        kind(up.index_file(Turn::OWN, &foo(), None, &mut |_| true).await),
        UpstreamErrorKind::Timeout
    );
}

#[tokio::test]
async fn a_closed_port_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let up = upstream(&config(&url));
    assert_eq!(
        kind(up.index_file(Turn::OWN, &foo(), None, &mut |_| true).await),
        UpstreamErrorKind::Unreachable
    );
    assert!(up.resting().is_some());
}

fn with_token(config: settings::Upstream) -> settings::Upstream {
    settings::Upstream { token: Some(Secret::new("s3cret")), ..config }
}

#[tokio::test]
async fn the_token_goes_to_the_configured_origin_alone() {
    let other = Server::start(|_, _| reply(200, &[], "elsewhere")).await;
    let to = other.url.clone();
    let server = Server::start(move |path, _| match path {
        "/index/1/a" => reply(302, &[("location", "b")], ""),
        "/index/1/b" => reply(200, &[], "here"),
        _ => reply(307, &[("location", &format!("{to}/x?sig=1"))], ""),
    })
    .await;
    let base = with_token(config(&server.url));
    let up = upstream(&settings::Upstream { private_dl: true, ..base.clone() });
    assert_eq!(
        found(up.index_file(Turn::OWN, &"a".parse().unwrap(), None, &mut |_| true).await).0,
        "here"
    );
    assert_eq!(
        found(up.index_file(Turn::OWN, &"c".parse().unwrap(), None, &mut |_| true).await).0,
        "elsewhere"
    );
    assert!(server.requests().iter().all(|(_, headers)| headers["authorization"] == "s3cret"));
    assert!(other.requests().iter().all(|(_, headers)| !headers.contains_key("authorization")));

    let careful = upstream(&base);
    let refused = careful
        .index_file(Turn::OWN, &"c".parse().unwrap(), None, &mut |_| true)
        .await
        .unwrap_err();
    assert_eq!(refused.kind, UpstreamErrorKind::Nonsense);
    assert!(refused.detail.contains("private"), "{refused}");
    assert!(!refused.detail.contains("sig"), "{refused}");
    assert_eq!(other.paths(), [""; 0]);
}

#[tokio::test]
async fn redirects_are_bounded() {
    let server = Server::start(|_, _| reply(302, &[("location", "/again")], "")).await;
    let up = upstream(&config(&server.url));
    assert_eq!(
        kind(up.index_file(Turn::OWN, &foo(), None, &mut |_| true).await),
        UpstreamErrorKind::Nonsense
    );
    assert_eq!(server.paths().len(), 4);
}

#[test]
fn an_upstream_leads_to_plain_http_only_where_configured() {
    let mut config = config("http://x");
    config.index = "https://up.example/index/".parse().unwrap();
    config.dl = Some("http://files.example/{crate}".to_owned());
    let up = upstream(&with_token(config));
    let door = |url: &str| up.door(&url.parse().unwrap()).map(|(_, token)| token.is_some());
    assert_eq!(door("https://up.example:443/x").ok(), Some(true));
    assert_eq!(door("http://files.example/x").ok(), Some(true));
    assert_eq!(door("https://cdn.example/x").ok(), Some(false));
    for refused in
        ["http://up.example/x", "http://cdn.example/", "ftp://cdn.example/", "https://[::1]/"]
    {
        assert!(door(refused).is_err(), "{refused}");
    }
}

#[tokio::test]
async fn crate_files_come_from_where_config_json_says_and_are_never_decoded() {
    let server = Server::start(|path, headers| {
        let base = format!("http://{}", headers["host"].to_str().unwrap());
        match path {
            "/index/config.json" => {
                reply(200, &[], format!("{{\"dl\" : \"{base}/{{prefix}}/{{crate}}/{{version}}\"}}"))
            }
            "/3/F/Foo/1.0.0+b" => reply(200, &[("content-encoding", "gzip")], "bytes"),
            _ => reply(404, &[], ""),
        }
    })
    .await;
    let up = upstream(&config(&server.url));
    let place = up.crate_place(Turn::OWN).await.unwrap();
    for _ in 0..2 {
        let answer = up.crate_file(&place, &listed(), &mut |_| 5).await.unwrap();
        assert!(matches!(answer, CrateAnswer::Found(bytes) if bytes == "bytes"));
    }
    let large = up.crate_file(&place, &listed(), &mut |_| 4).await.unwrap_err();
    assert_eq!(large.kind, UpstreamErrorKind::NoRoom { announced: Some(5) });
    assert!(large.is_ours(), "there was no room for it just then");
    let counted = up.metrics.upstream_refused.with_label_values(&["up", "no_memory"]).get();
    assert_eq!((counted, requests_counted(&up, "too_large")), (1, 0));
    let requests = server.requests();
    assert_eq!(requests.iter().filter(|(path, _)| path.ends_with("config.json")).count(), 1);
    assert_eq!(requests[1].1["accept-encoding"], "identity");

    let pinned = format!("{}/elsewhere", server.url);
    let up = upstream(&settings::Upstream { dl: Some(pinned), ..config(&server.url) });
    assert!(matches!(
        up.crate_file(&place, &listed(), &mut |_| 5).await,
        Ok(CrateAnswer::NotFound)
    ));
    assert_eq!(server.paths(), ["/elsewhere/Foo/1.0.0+b/download"]);
}

#[tokio::test]
async fn requests_beyond_the_bound_wait_and_then_give_up() {
    let url = raw(b"HTTP/1.1 200 OK\r\n", Duration::from_secs(60)).await;
    let config = settings::Upstream { timeout: Duration::from_millis(300), ..config(&url) };
    let up = upstream(&config);
    let names = ["a", "b", "c", "d", "e"].map(|name| name.parse::<CrateName>().unwrap());
    let kinds = futures_util::future::join_all(
        names.iter().map(async |name| up.index_file(Turn::OWN, name, None, &mut |_| true).await),
    )
    .await
    .into_iter()
    .map(kind)
    .collect::<Vec<_>>();
    assert!(kinds[..4].iter().all(|kind| *kind == UpstreamErrorKind::Timeout), "{kinds:?}");
}
