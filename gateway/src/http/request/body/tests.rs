use super::*;
use futures_util::stream;
use http_body_util::{Full, StreamBody};
use hyper::body::Frame;
use std::convert::Infallible;
use tokio::time::sleep;

use cratehouse_core::client_key::ClientKey;

const SOON: Arrival = Arrival { within: Duration::from_secs(60), rate: 1024 };
const MOST: Largest = Largest { bytes: 3, key: Some("limits.publish_crate_kib") };
const NOBODY: Owner = Owner { client: ClientKey::Exempt, token: None };

fn budgets() -> Budgets {
    Budgets::new(&Limits::default(), &Metrics::new().unwrap())
}

fn permit() -> BodyPermit {
    budgets().json.reserve(NOBODY)
}

fn sized(bytes: &'static [u8]) -> Upload<Full<Bytes>> {
    Upload::new(Full::new(Bytes::from_static(bytes)), &HeaderMap::new())
}

fn chunked(
    chunks: &'static [&'static [u8]],
) -> Upload<impl Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static> {
    let frames = chunks.iter().map(|c| Ok(Frame::data(Bytes::from_static(c))));
    Upload::new(StreamBody::new(stream::iter(frames)), &HeaderMap::new())
}

/// A body that sends so many bytes each second, for ever.
fn slow(
    bytes: &'static [u8],
) -> Upload<impl Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static> {
    let frames = stream::unfold((), move |()| async move {
        sleep(Duration::from_secs(1)).await;
        Some((Ok(Frame::data(Bytes::from_static(bytes))), ()))
    });
    Upload::new(StreamBody::new(Box::pin(frames)), &HeaderMap::new())
}

#[tokio::test]
async fn a_body_up_to_the_limit_is_read() {
    assert_eq!(sized(b"abc").read(permit(), MOST, SOON).await.unwrap(), "abc");
    assert_eq!(chunked(&[b"ab", b"", b"c"]).read(permit(), MOST, SOON).await.unwrap(), "abc");
    assert_eq!(sized(b"").read(permit(), Largest::fixed(0), SOON).await.unwrap(), "");
}

#[tokio::test]
async fn a_larger_body_is_refused_by_its_claim_or_by_count() {
    let refused = sized(b"abcd").read(permit(), MOST, SOON).await.unwrap_err();
    assert_eq!(refused.kind, Kind::TooLarge);
    assert!(refused.message.contains("`limits.publish_crate_kib`"), "{refused}");
    let refused = chunked(&[b"ab", b"cd"]).read(permit(), MOST, SOON).await.unwrap_err();
    assert_eq!(refused.kind, Kind::TooLarge);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_or_comes_a_byte_at_a_time_is_given_up() {
    let frames = stream::pending::<Result<Frame<Bytes>, Infallible>>();
    let mut silent = Upload::new(StreamBody::new(frames), &HeaderMap::new());
    let begun = tokio::time::Instant::now();
    let refused = silent.read(permit(), MOST, SOON).await.unwrap_err();
    assert!(refused.kind == Kind::TooSlow && refused.message.contains("too slowly"));
    let refused = slow(b"x").read(permit(), Largest::fixed(1000), SOON).await.unwrap_err();
    assert!(refused.message.contains("1024 bytes a second"), "{}", refused.message);
    assert!(refused.message.contains("`limits.body_rate_kib`"), "{}", refused.message);
    assert!(begun.elapsed() < SOON.within, "before its whole time is over");
    let refused = slow(&[0; 1024])
        .read(permit(), Largest::fixed(MAX_JSON_BYTES * 2), SOON)
        .await
        .unwrap_err();
    assert!(refused.message.contains("within 60 s (`limits.body_seconds`)"), "{}", refused.message);
}

#[tokio::test(start_paused = true)]
async fn a_slow_line_that_keeps_the_pace_is_read() {
    let frames = stream::unfold(0, |sent| async move {
        sleep(Duration::from_secs(9)).await; // a stall, and then much
        (sent < 5)
            .then(|| (Ok::<_, Infallible>(Frame::data(Bytes::from(vec![0; 20_000]))), sent + 1))
    });
    let mut upload = Upload::new(StreamBody::new(Box::pin(frames)), &HeaderMap::new());
    assert_eq!(upload.read(permit(), Largest::fixed(100_000), SOON).await.unwrap().len(), 100_000);
}

#[tokio::test]
async fn what_is_promised_takes_nothing_and_what_has_arrived_is_held_until_it_is_gone() {
    let metrics = Metrics::new().unwrap();
    let budgets = Budgets::new(&Limits::default(), &metrics);
    let held = || metrics.body_memory.with_label_values(&["json"]).get();
    let mut upload = sized(b"0123456789");
    let mut arriving =
        upload.arriving(budgets.json.reserve(NOBODY), Largest::fixed(10), SOON).unwrap();
    assert_eq!(held(), 0);
    assert_eq!(arriving.at_least(4).await.unwrap().len(), 10);
    assert_eq!(held(), 10, "no more than it says it sends");
    let bytes = arriving.whole().await.unwrap();
    let part = bytes.slice(2..3);
    drop(bytes);
    assert_eq!(held(), 10);
    drop(part);
    assert_eq!(held(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_time_that_a_body_waits_for_memory_is_not_the_clients() {
    let metrics = Metrics::new().unwrap();
    let sizes = Sizes { whole: 8, largest: 4, share_percent: None };
    let budget = BodyBudget::new("json", sizes, &metrics);
    let mut others: Vec<_> = (0..2).map(|_| budget.reserve(NOBODY)).collect();
    for other in &mut others {
        other.grow(4).await.unwrap();
    }
    let arrival = Arrival { within: Duration::from_secs(2), rate: 1024 };
    let mut upload = chunked(&[b"ab", b"cd"]);
    let reading = upload.read(budget.reserve(NOBODY), Largest::fixed(4), arrival);
    let (read, ()) = tokio::join!(reading, async {
        sleep(Duration::from_secs(5)).await;
        others.clear();
    });
    assert_eq!(read.unwrap(), "abcd");
}

#[tokio::test]
async fn json_that_is_not_wanted_is_explained() {
    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        #[allow(dead_code)]
        reason: String,
    }
    let budgets = budgets();
    assert!(sized(br#"{"reason":"x"}"#).read_json::<Wanted>(&budgets, NOBODY).await.is_ok());
    let refused =
        sized(br#"{"raeson":"x"}"#).read_json::<Wanted>(&budgets, NOBODY).await.unwrap_err();
    assert!(refused.message.contains("raeson"), "{}", refused.message);
}
