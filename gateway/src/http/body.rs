//! Request bodies: bounded in size, in time, and in the memory that all of them take together.

use std::error::Error as StdError;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::HeaderMap;
use hyper::body::Body;
use hyper::header::EXPECT;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::error::{Error, Kind, Result};
use crate::model::excerpt::excerpt;

/// A JSON body of the owners calls and of the admin API, in bytes.
pub const MAX_JSON_BYTES: usize = 64 * 1024;
/// Memory for all the large bodies under way, in KiB. A publish waits until its body fits.
pub const MEMORY_KIB: u32 = 256 * 1024;
/// How long a publish waits for that.
pub const MEMORY_WAIT: Duration = Duration::from_secs(10);
/// How much of a body that nobody wants is read, in bytes…
pub const DRAIN_BYTES: usize = 64 * 1024 * 1024;
/// … and for how long.
pub const DRAIN: Duration = Duration::from_secs(10);

const FIRST_ALLOCATION: u64 = 1024 * 1024;

/// The body of one request.
#[derive(Debug)]
pub struct Upload<B> {
    body: B,
    /// The client waits for a word of ours before it sends anything.
    is_held_back: bool,
}

impl<B> Upload<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: StdError + Send + Sync,
{
    /// The body that came with these headers.
    pub fn new(body: B, headers: &HeaderMap) -> Self {
        let expects = headers.get(EXPECT).map(|value| value.as_bytes());
        let is_held_back = expects.is_some_and(|e| e.eq_ignore_ascii_case(b"100-continue"));
        Self { body, is_held_back }
    }

    /// The whole body, at most `limit` bytes of it, arriving within a time.
    ///
    /// # Errors
    /// [`Kind::TooLarge`], before anything is read if the client says how much it sends;
    /// [`Kind::Invalid`] when it ends early or comes too slowly.
    pub async fn read(&mut self, limit: usize, within: Duration) -> Result<Bytes> {
        if self.claimed() > to_u64(limit) {
            return Err(too_large(limit));
        }
        self.is_held_back = false;
        timeout(within, self.collect(limit)).await.unwrap_or_else(|_| {
            let seconds = within.as_secs();
            Err(Error::invalid(format!("the request body did not arrive within {seconds} s")))
        })
    }

    /// A body of JSON, at most [`MAX_JSON_BYTES`].
    ///
    /// # Errors
    /// As [`Upload::read`]; [`Kind::Invalid`] when it is not what the call expects.
    pub async fn read_json<T: DeserializeOwned>(&mut self, within: Duration) -> Result<T> {
        let bytes = self.read(MAX_JSON_BYTES, within).await?;
        serde_json::from_slice(&bytes).map_err(|e| {
            let why = excerpt(&e.to_string());
            Error::invalid(format!("the body is not the JSON that is wanted: {why}"))
        })
    }

    /// A share of the memory for large bodies, to be held until this one is dealt with.
    ///
    /// # Errors
    /// [`Kind::TooLarge`] as [`Upload::read`]; [`Kind::Unavailable`] when others hold it.
    pub async fn room<'m>(
        &self,
        memory: &'m Semaphore,
        limit: usize,
        within: Duration,
    ) -> Result<SemaphorePermit<'m>> {
        if self.claimed() > to_u64(limit) {
            return Err(too_large(limit));
        }
        let bytes = self.body.size_hint().exact().unwrap_or(to_u64(limit));
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(MEMORY_KIB).min(MEMORY_KIB);
        match timeout(within, memory.acquire_many(kib)).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Error::unavailable("too many publishes are under way: try again shortly")),
        }
    }

    /// Reads on, for a while, what a refused client still sends: one that reads its answer only
    /// when it has sent all would otherwise see a broken connection instead of the answer.
    pub fn let_go(mut self) {
        if self.is_held_back || self.body.is_end_stream() {
            return;
        }
        tokio::spawn(async move {
            let _ = timeout(DRAIN, async {
                let mut seen = 0;
                while let Some(Ok(frame)) = self.body.frame().await {
                    seen += frame.data_ref().map_or(0, Bytes::len);
                    if seen > DRAIN_BYTES {
                        break;
                    }
                }
            })
            .await;
        });
    }

    async fn collect(&mut self, limit: usize) -> Result<Bytes> {
        let first = usize::try_from(self.claimed().min(FIRST_ALLOCATION)).unwrap_or_default();
        let mut whole = BytesMut::with_capacity(first);
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|e| ended_early().because(Broken(e.to_string())))?;
            let Ok(data) = frame.into_data() else { continue };
            if data.len() > limit - whole.len() {
                return Err(too_large(limit));
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.freeze())
    }

    /// What the client says it sends (`Content-Length`), 0 when it does not say.
    fn claimed(&self) -> u64 {
        self.body.size_hint().lower()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Broken(String);

fn ended_early() -> Error {
    Error::invalid("the request body ended early: send it again")
}

fn too_large(limit: usize) -> Error {
    Error::new(Kind::TooLarge, format!("the request body is too large: {limit} bytes at most"))
}

fn to_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;
    use std::convert::Infallible;

    const SOON: Duration = Duration::from_secs(5);
    const BRIEF: Duration = Duration::from_millis(20);

    fn sized(bytes: &'static [u8]) -> Upload<Full<Bytes>> {
        Upload::new(Full::new(Bytes::from_static(bytes)), &HeaderMap::new())
    }

    fn chunked(
        chunks: &'static [&'static [u8]],
    ) -> Upload<impl Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static> {
        let frames = chunks.iter().map(|c| Ok(Frame::data(Bytes::from_static(c))));
        Upload::new(StreamBody::new(stream::iter(frames)), &HeaderMap::new())
    }

    #[tokio::test]
    async fn a_body_up_to_the_limit_is_read() {
        assert_eq!(sized(b"abc").read(3, SOON).await.unwrap(), "abc");
        assert_eq!(chunked(&[b"ab", b"", b"c"]).read(3, SOON).await.unwrap(), "abc");
        assert_eq!(sized(b"").read(0, SOON).await.unwrap(), "");
    }

    #[tokio::test]
    async fn a_larger_body_is_refused_by_its_claim_or_by_count() {
        assert_eq!(sized(b"abcd").read(3, SOON).await.unwrap_err().kind, Kind::TooLarge);
        assert_eq!(chunked(&[b"ab", b"cd"]).read(3, SOON).await.unwrap_err().kind, Kind::TooLarge);
        let memory = Semaphore::new(10);
        assert_eq!(sized(b"abcd").room(&memory, 3, SOON).await.unwrap_err().kind, Kind::TooLarge);
    }

    #[tokio::test]
    async fn a_body_that_never_ends_is_given_up() {
        let frames = stream::pending::<Result<Frame<Bytes>, Infallible>>();
        let mut upload = Upload::new(StreamBody::new(frames), &HeaderMap::new());
        assert_eq!(upload.read(3, BRIEF).await.unwrap_err().kind, Kind::Invalid);
    }

    #[tokio::test]
    async fn a_publish_waits_for_memory_and_gives_up() {
        let memory = Semaphore::new(1);
        let held = sized(b"abc").room(&memory, 10, BRIEF).await.unwrap();
        assert_eq!(
            sized(b"abc").room(&memory, 10, BRIEF).await.unwrap_err().kind,
            Kind::Unavailable
        );
        drop(held);
        assert!(sized(b"abc").room(&memory, 10, BRIEF).await.is_ok());
    }

    #[tokio::test]
    async fn json_that_is_not_wanted_is_explained() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Wanted {
            #[allow(dead_code)]
            reason: String,
        }
        assert!(sized(br#"{"reason":"x"}"#).read_json::<Wanted>(SOON).await.is_ok());
        let refused = sized(br#"{"raeson":"x"}"#).read_json::<Wanted>(SOON).await.unwrap_err();
        assert!(refused.message.contains("raeson"), "{}", refused.message);
    }
}
