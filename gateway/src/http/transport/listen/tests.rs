//! Conversations with a listener over real sockets.

use super::*;
use crate::config::Limits;
use crate::http::request::body::budget::Owner;
use crate::http::request::body::{Arrival, Budgets, Largest, Upload};
use crate::http::response::respond::{self, RequestId};
use cratehouse_core::client_key::ClientKey;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinHandle;

const TOO_LONG: Duration = Duration::from_secs(20);

struct Running {
    at: SocketAddr,
    shutdown: CancellationToken,
    ended: JoinHandle<()>,
}

const BOUNDS: Bounds =
    Bounds { connections: 10, streams: 10, head: TOO_LONG, idle: IDLE, stall: STALL };
/// Of one client.
const SHARE: usize = 10;
/// More than the system's buffers take.
const LARGE: usize = 32 * 1024 * 1024;
/// What the system's buffers take, and not at once.
const MEDIUM: usize = 1024 * 1024;

async fn running(tls: Option<TlsAcceptor>, metrics: Option<Metrics>, head: Duration) -> Running {
    bounded(tls, metrics, Bounds { head, ..BOUNDS }).await
}

/// TLS with a certificate of its own.
fn acceptor() -> TlsAcceptor {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(
        vec![key.cert.der().clone()],
        rustls::pki_types::PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into()),
    )
    .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// A listener whose handler takes bodies of up to 10 bytes and answers "ok" after a moment, or
/// [`LARGE`] bytes at `/large` ([`MEDIUM`] at `/medium`), or late at `/slow`, or never at `/never`.
async fn bounded(tls: Option<TlsAcceptor>, metrics: Option<Metrics>, bounds: Bounds) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let workers = Workers::here();
    let (introduced_by, url) = (None, Some("https://crates.example".to_owned()));
    let shares = Some(ConnectionShares::new((SHARE, SHARE), |peer| ClientKey::of(peer.ip())));
    let stop = shutdown.clone();
    let listening =
        Listening { introduced_by, tls, url, bounds, shares, metrics, shutdown: stop, workers };
    let budgets = Budgets::new(&Limits::default(), &Metrics::new().unwrap());
    let (budget, arrival) = (budgets.json, Arrival { within: TOO_LONG, rate: 1 });
    let ended = tokio::spawn(listening.run(listener, move |request, _| {
        let permit = budget.reserve(Owner { client: ClientKey::Exempt, token: None });
        async move {
            let is_head = request.method() == hyper::Method::HEAD;
            let (head, body) = request.into_parts();
            let mut upload = Upload::new(body, &head.headers);
            let answer =
                match (head.uri.path(), upload.read(permit, Largest::fixed(10), arrival).await) {
                    ("/large", _) => respond::text("x".repeat(LARGE)),
                    ("/medium", _) => respond::text("x".repeat(MEDIUM)),
                    ("/slow", _) => {
                        sleep(Duration::from_secs(1)).await;
                        respond::text("ok")
                    }
                    ("/never", _) => std::future::pending().await,
                    (_, Ok(_)) => respond::text("ok"),
                    (_, Err(error)) => respond::error(
                        &error,
                        crate::http::request::route::Form::Json,
                        "",
                        RequestId::random(),
                    ),
                };
            upload.let_go();
            sleep(Duration::from_millis(100)).await;
            respond::finish(answer, is_head, None, RequestId::random())
        }
    }));
    Running { at, shutdown, ended }
}

/// Sends bytes, and reads until the server closes.
async fn talk(at: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = String::new();
    timeout(TOO_LONG, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn who_speaks_plain_http_to_tls_is_sent_to_our_url_and_tls_is_none_the_worse() {
    let metrics = Metrics::new().unwrap();
    let running = running(Some(acceptor()), Some(metrics.clone()), TOO_LONG).await;
    for request in ["GET /index/config.json HTTP/1.1\r\nhost: x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(running.at).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.write_all(&[b'x'; 10_000]).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{answer}");
        assert!(body.contains("use https://crates.example/ instead"), "{answer}");
    }
    let mut noise = TcpStream::connect(running.at).await.unwrap();
    noise.write_all(b"\x00\x01").await.unwrap();
    let mut said = Vec::new();
    let _ = noise.read_to_end(&mut said).await;
    assert!(!said.starts_with(b"HTTP"), "{said:?}");
    assert_eq!(metrics.handshake_failures.get(), 3);
}

#[tokio::test]
async fn a_wish_to_upgrade_to_h2c_is_ignored() {
    let server = running(None, None, TOO_LONG).await;
    let request = "GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings, close\r\n\
                   upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n";
    let answer = talk(server.at, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
}

#[tokio::test]
async fn a_refused_upload_that_is_still_being_sent_gets_its_answer() {
    let server = running(None, None, TOO_LONG).await;
    let mut request =
        b"PUT / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 5000000\r\n\r\n"
            .to_vec();
    request.extend_from_slice(&[b'x'; 5_000_000]);
    let answer = talk(server.at, &request).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("too large"), "{answer}");
}

#[tokio::test]
async fn a_client_that_waits_for_a_word_is_refused_without_one() {
    let server = running(None, None, TOO_LONG).await;
    let head = "PUT / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: ";
    let refused = talk(server.at, format!("{head}5000000\r\n\r\n").as_bytes()).await;
    assert!(refused.starts_with("HTTP/1.1 413"), "{refused}");
    let closing = format!("{head}2\r\nconnection: close\r\n\r\nab");
    let taken = talk(server.at, closing.as_bytes()).await;
    assert!(taken.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200"), "{taken}");
}

#[tokio::test]
async fn a_client_that_says_nothing_or_half_a_head_is_let_go() {
    let server = running(None, None, Duration::from_millis(200)).await;
    assert_eq!(talk(server.at, b"").await, "");
    assert_eq!(talk(server.at, b"GET / HT").await, "");
    assert_eq!(talk(server.at, b"PRI * HTTP/2.0\r\n").await, "");
}

#[tokio::test]
async fn a_stop_finishes_what_is_under_way_and_ends_what_is_idle() {
    let server = running(None, None, TOO_LONG).await;
    let mut idle = TcpStream::connect(server.at).await.unwrap();
    let asked = tokio::spawn(talk(server.at, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"));
    sleep(Duration::from_millis(50)).await;
    server.shutdown.cancel();
    timeout(Duration::from_secs(5), server.ended).await.unwrap().unwrap();
    assert!(asked.await.unwrap().ends_with("ok"));
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);
    assert!(TcpStream::connect(server.at).await.is_err());
}

#[tokio::test]
async fn http_2_is_spoken_too_and_its_heads_have_a_length_without_a_body() {
    let server = running(None, None, TOO_LONG).await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let url = format!("http://{}/", server.at);
    let got = client.get(&url).send().await.unwrap();
    assert_eq!(got.version(), reqwest::Version::HTTP_2);
    assert_eq!(got.text().await.unwrap(), "ok");
    let head = client.head(&url).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], "2");
    assert_eq!(head.text().await.unwrap(), "");
    let refused = client.put(&url).body(vec![b'x'; 3_000_000]).send().await.unwrap();
    assert_eq!(refused.status(), 413);
    server.shutdown.cancel();
    timeout(Duration::from_secs(5), server.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn connections_and_failed_handshakes_are_counted() {
    let metrics = Metrics::new().unwrap();
    let server = running(Some(acceptor()), Some(metrics.clone()), TOO_LONG).await;
    let mut stream = TcpStream::connect(server.at).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = timeout(TOO_LONG, stream.read_to_end(&mut rest)).await.unwrap();
    server.shutdown.cancel();
    timeout(Duration::from_secs(5), server.ended).await.unwrap().unwrap();
    assert_eq!(metrics.handshake_failures.get(), 1);
    assert_eq!(metrics.connections.get(), 0);
}

/// Looks until `look` says yes.
async fn until(mut look: impl FnMut() -> bool) {
    let looking = async {
        while !look() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(TOO_LONG, looking).await.unwrap();
}

/// An HTTP/2 frame (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// What an HTTP/2 client says first.
fn preface() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(4, 0, 0, &[])].concat()
}

/// `GET` of a path on a stream, in HPACK's literals.
fn get(stream: u32, path: &str) -> Vec<u8> {
    let mut fields = vec![0x82, 0x86, 0x41, 1, b'x', 0x04, u8::try_from(path.len()).unwrap()];
    fields.extend(path.as_bytes());
    frame(1, 0x5, stream, &fields)
}

#[tokio::test]
async fn requests_in_a_row_are_answered_in_order() {
    let server = running(None, None, TOO_LONG).await;
    let requests = "GET /a HTTP/1.1\r\nhost: x\r\n\r\n\
                    PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 11\r\n\r\n01234567890\
                    HEAD / HTTP/1.1\r\nhost: x\r\n\r\n\
                    GET /b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answers = talk(server.at, requests.as_bytes()).await;
    let statuses: Vec<_> =
        answers.match_indices("HTTP/1.1 ").map(|(at, _)| &answers[at + 9..at + 12]).collect();
    assert_eq!(statuses, ["200", "413", "200", "200"], "{answers}");
    assert_eq!(answers.matches("\r\n\r\nok").count(), 2, "{answers}");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_and_the_connection_with_it() {
    let server = running(None, None, TOO_LONG).await;
    let large = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(40_000));
    assert!(talk(server.at, large.as_bytes()).await.starts_with("HTTP/1.1 431"));
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(200));
    assert!(talk(server.at, many.as_bytes()).await.starts_with("HTTP/1.1 431"));
    let nonsense = talk(server.at, b"\0\0\0\r\n\r\n").await;
    assert!(nonsense.starts_with("HTTP/1.1 400"), "{nonsense}");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_an_http_2_client_that_hears_nothing() {
    let server = running(None, None, TOO_LONG).await;
    let mut client = TcpStream::connect(server.at).await.unwrap();
    client.write_all(&preface()).await.unwrap();
    client.write_all(&get(1, "/")).await.unwrap();
    let mut seen = [0; 9 * 3];
    client.read_exact(&mut seen).await.unwrap();
    server.shutdown.cancel();
    timeout(TOO_LONG, server.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_never_reads_its_answer_is_let_go() {
    let metrics = Metrics::new().unwrap();
    let brief = Duration::from_millis(100);
    let bounds = Bounds { head: brief, idle: brief, stall: brief, ..BOUNDS };
    let server = bounded(None, Some(metrics.clone()), bounds).await;
    let mut client = TcpStream::connect(server.at).await.unwrap();
    client.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    until(|| metrics.connections.get() == 1).await;
    until(|| metrics.connections.get() == 0).await;
    let mut rest = Vec::new();
    let _ = timeout(TOO_LONG, client.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.len() < LARGE, "only what the system's buffers held");
}

#[tokio::test]
async fn an_answer_that_is_long_in_the_making_is_not_a_stalled_client() {
    let brief = Duration::from_millis(50);
    let bounds = Bounds { head: brief * 6, idle: brief, stall: brief, ..BOUNDS };
    let server = bounded(None, None, bounds).await;
    let slow = talk(server.at, b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(slow.ends_with("ok"), "{slow}");
}

#[tokio::test]
async fn a_flood_of_resets_ends_its_own_connection_alone() {
    let metrics = Metrics::new().unwrap();
    let server = running(None, Some(metrics.clone()), TOO_LONG).await;
    let mut client = TcpStream::connect(server.at).await.unwrap();
    let mut flood = preface();
    for stream in (1..20_001).step_by(2) {
        flood.extend(get(stream, "/never"));
        flood.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
    }
    let _ = client.write_all(&flood).await; // it may be hung up on
    until(|| metrics.connections.get() == 0).await;
    let other = talk(server.at, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(other.ends_with("ok"), "{other}");
}

#[tokio::test]
async fn a_client_beyond_the_limit_waits_for_a_place() {
    let metrics = Metrics::new().unwrap();
    let server = running(None, Some(metrics.clone()), TOO_LONG).await;
    let mut held = Vec::new();
    for _ in 0..BOUNDS.connections {
        held.push(TcpStream::connect(server.at).await.unwrap());
    }
    until(|| metrics.connections.get() == 10).await;
    let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let at = server.at;
    let late = tokio::spawn(async move { talk(at, request).await });
    sleep(Duration::from_millis(200)).await;
    assert!(!late.is_finished() && metrics.connections.get() == 10);
    held.pop();
    assert!(late.await.unwrap().ends_with("ok"));
}

#[tokio::test]
async fn when_all_are_taken_the_idlest_is_told_and_closed_for_who_comes() {
    let metrics = Metrics::new().unwrap();
    let bounds = Bounds { connections: 3, ..BOUNDS };
    let server = bounded(None, Some(metrics.clone()), bounds).await;
    let mut idlest = TcpStream::connect(server.at).await.unwrap();
    idlest.write_all(&[preface(), get(1, "/")].concat()).await.unwrap();
    while next_frame(&mut idlest).await.unwrap().0 != DATA {}
    let mut others = Vec::new();
    for _ in 0..2 {
        let mut other = TcpStream::connect(server.at).await.unwrap();
        other.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut read = Vec::new();
        while !read.ends_with(b"ok") {
            let mut part = [0; 1000];
            let length = timeout(TOO_LONG, other.read(&mut part)).await.unwrap().unwrap();
            read.extend_from_slice(&part[..length]);
        }
        others.push(other);
    }
    let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert!(talk(server.at, request).await.ends_with("ok"), "it did not wait for an hour");
    let mut said = Vec::new();
    while let Some((kind, ..)) = next_frame(&mut idlest).await {
        said.push(kind);
    }
    assert!(said.contains(&GOAWAY), "{said:?}");
    for other in &mut others {
        let quiet = timeout(Duration::from_millis(50), other.read(&mut [0; 1])).await;
        assert!(quiet.is_err(), "it is still there");
    }
    assert_eq!(metrics.connections_closed.with_label_values(&["full"]).get(), 1);
}

#[tokio::test]
async fn a_client_that_pauses_in_its_answer_has_the_whole_of_it_when_others_want_its_place() {
    for request in [preface_with_room(), b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n".to_vec()] {
        let metrics = Metrics::new().unwrap();
        let bounds = Bounds { connections: 1, ..BOUNDS };
        let server = bounded(None, Some(metrics.clone()), bounds).await;
        let mut slow = TcpStream::connect(server.at).await.unwrap();
        slow.write_all(&request).await.unwrap();
        let mut read = vec![0; 1 << 16];
        let mut length = slow.read(&mut read).await.unwrap();
        let other = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let other = tokio::spawn(talk(server.at, other));
        sleep(Duration::from_secs(3)).await; // it would be idle by now
        while length < LARGE {
            match timeout(TOO_LONG, slow.read(&mut read)).await.unwrap().unwrap() {
                0 => break,
                more => length += more,
            }
        }
        assert!(length >= LARGE, "cut short after {length} bytes");
        drop(slow);
        assert!(other.await.unwrap().ends_with("ok"));
    }
}

/// What an HTTP/2 client says that asks for `/large` and takes all of it at once.
fn preface_with_room() -> Vec<u8> {
    let settings = frame(4, 0, 0, &[0, 4, 0x40, 0, 0, 0]);
    let room = frame(8, 0, 0, &0x3fff_0000_u32.to_be_bytes());
    let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice();
    [hello, &settings, &room, &get(1, "/large")].concat()
}

/// The next HTTP/2 frame: its kind, its flags, its stream, its payload. `None` at the end.
async fn next_frame(client: &mut TcpStream) -> Option<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    timeout(TOO_LONG, client.read_exact(&mut head)).await.unwrap().ok()?;
    let [a, b, c, kind, flags, stream @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    timeout(TOO_LONG, client.read_exact(&mut payload)).await.unwrap().ok()?;
    Some((kind, flags, u32::from_be_bytes(stream), payload))
}

/// The kinds of frames that matter here (RFC 9113 §6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PING_FRAME: u8 = 6;
const GOAWAY: u8 = 7;

/// The last stream that a GOAWAY lets in.
fn last_stream(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload[..4].try_into().unwrap())
}

#[tokio::test]
async fn an_http_2_request_that_crosses_the_word_to_stop_is_answered() {
    let server = running(None, None, TOO_LONG).await;
    let mut client = TcpStream::connect(server.at).await.unwrap();
    client.write_all(&preface()).await.unwrap();
    client.write_all(&get(1, "/")).await.unwrap();
    while next_frame(&mut client).await.unwrap().0 != HEADERS {}
    server.shutdown.cancel();
    let mut ping = None;
    let mut said = Vec::new();
    while ping.is_none() {
        let (kind, flags, _, payload) = next_frame(&mut client).await.unwrap();
        match kind {
            GOAWAY => said.push(last_stream(&payload)),
            PING_FRAME if flags == 0 => ping = Some(payload),
            _ => {}
        }
    }
    assert_eq!(said, [u32::MAX >> 1], "everything that is under way is still taken");
    // Sent before the client has read any of that.
    client.write_all(&get(3, "/")).await.unwrap();
    client.write_all(&frame(PING_FRAME, 1, 0, &ping.unwrap())).await.unwrap();
    let mut answered = Vec::new();
    while let Some((kind, _, stream, payload)) = next_frame(&mut client).await {
        match kind {
            GOAWAY => said.push(last_stream(&payload)),
            DATA if !payload.is_empty() => answered.push(stream),
            _ => {}
        }
    }
    assert!(answered.contains(&3), "{answered:?}");
    assert_eq!(said.last(), Some(&3), "the client knows what it may ask elsewhere");
    timeout(TOO_LONG, server.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn who_waits_in_the_queue_at_a_stop_is_served() {
    let metrics = Metrics::new().unwrap();
    let bounds = Bounds { connections: 1, ..BOUNDS };
    let server = bounded(None, Some(metrics.clone()), bounds).await;
    let at = server.at;
    let first = tokio::spawn(talk(at, b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n"));
    until(|| metrics.connections.get() == 1).await;
    let mut queued = Vec::new();
    for _ in 0..5 {
        queued.push(TcpStream::connect(at).await.unwrap());
    }
    server.shutdown.cancel();
    assert!(first.await.unwrap().ends_with("ok"));
    for mut stream in queued {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        timeout(TOO_LONG, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.contains("connection: close"), "{answer}");
        assert!(answer.ends_with("ok"), "{answer}");
    }
    timeout(TOO_LONG, server.ended).await.unwrap().unwrap();
    assert!(TcpStream::connect(at).await.is_err());
}

#[tokio::test]
async fn what_a_client_still_says_does_not_cost_it_the_answer() {
    let server = running(None, None, TOO_LONG).await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    let mut client = socket.connect(server.at).await.unwrap();
    // All of the answer may be sent at once: 1 GiB for a stream, and for the connection.
    let settings = frame(4, 0, 0, &[0, 4, 0x40, 0, 0, 0]);
    let room = frame(8, 0, 0, &0x3fff_0000_u32.to_be_bytes());
    let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &settings, &room].concat();
    client.write_all(&hello).await.unwrap();
    client.write_all(&get(1, "/")).await.unwrap();
    while next_frame(&mut client).await.unwrap().0 != HEADERS {}
    server.shutdown.cancel();
    let (mut ended, mut length) = (false, 0);
    while let Some((kind, flags, stream, payload)) = next_frame(&mut client).await {
        match kind {
            PING_FRAME if flags == 0 => {
                // The last request that is taken, and with this word the server has heard all.
                client.write_all(&get(3, "/medium")).await.unwrap();
                client.write_all(&frame(PING_FRAME, 1, 0, &payload)).await.unwrap();
            }
            DATA if stream == 3 => {
                length += payload.len();
                ended |= flags & 1 == 1;
                let read = u32::try_from(payload.len().max(1)).unwrap().to_be_bytes();
                let _ = client.write_all(&frame(8, 0, 0, &read)).await;
            }
            _ => {}
        }
    }
    assert_eq!((ended, length), (true, MEDIUM));
    timeout(TOO_LONG, server.ended).await.unwrap().unwrap();
}

/// A request in HTTP/2 without a body: of a method that HPACK's table has not, too.
fn request(stream: u32, method: &str, path: &str) -> Vec<u8> {
    let mut block = vec![0x86]; // :scheme http
    for (name, value) in [(0x02, method), (0x04, path), (0x01, "x")] {
        block.extend([name, u8::try_from(value.len()).unwrap()]);
        block.extend(value.as_bytes());
    }
    frame(1, 5, stream, &block)
}

#[tokio::test]
async fn answers_that_nobody_reads_are_let_go_whatever_else_is_asked() {
    let metrics = Metrics::new().unwrap();
    let bounds = Bounds { stall: Duration::from_millis(600), ..BOUNDS };
    let server = bounded(None, Some(metrics.clone()), bounds).await;
    let mut stream = TcpStream::connect(server.at).await.unwrap();
    let no_window = frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), no_window].concat();
    stream.write_all(&hello).await.unwrap();
    stream.write_all(&request(1, "GET", "/large")).await.unwrap();
    let (mut reads, mut asks) = stream.into_split();
    let asking = tokio::spawn(async move {
        for nth in 1..1000 {
            sleep(Duration::from_millis(100)).await;
            if asks.write_all(&request(2 * nth + 1, "HEAD", "/")).await.is_err() {
                return;
            }
        }
    });
    let mut told = Vec::new();
    let _ = timeout(Duration::from_secs(5), reads.read_to_end(&mut told)).await.unwrap();
    asking.abort();
    assert!(told.len() > 300, "it was answered: {}", told.len());
    assert_eq!(metrics.connections_closed.with_label_values(&["unread"]).get(), 1);
}

#[tokio::test]
async fn a_client_that_reads_slowly_and_steadily_has_all_of_its_answer() {
    let bounds = Bounds { stall: Duration::from_millis(500), ..BOUNDS };
    let server = bounded(None, None, bounds).await;
    let mut stream = TcpStream::connect(server.at).await.unwrap();
    let request = b"GET /large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let (mut all, mut piece) = (0, vec![0; LARGE / 16]);
    loop {
        let read = timeout(TOO_LONG, stream.read(&mut piece)).await.unwrap().unwrap();
        if read == 0 {
            break;
        }
        all += read;
        if all < LARGE / 2 {
            sleep(Duration::from_millis(50)).await;
        }
    }
    assert!(all > LARGE, "{all}");
}
