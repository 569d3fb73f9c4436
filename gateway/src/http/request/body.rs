//! Request bodies: bounded in size, in time and pace, and in the memory that all of one kind take
//! together.

pub mod budget;
mod pace;

use std::error::Error as StdError;
use std::mem;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::HeaderMap;
use hyper::body::Body;
use hyper::header::EXPECT;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout, timeout_at};

use self::budget::{BodyBudget, BodyPermit, Owner, Sizes};
pub use self::pace::Arrival;
use self::pace::{Late, Pace};
use crate::config::Limits;
use crate::flows::registry::publish;
use cratehouse_core::deadline;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_core::excerpt::excerpt;
use cratehouse_core::memory_budget::bytes_holding;
use cratehouse_core::metrics::Metrics;
use cratehouse_package::lock_file::MAX_LOCK_BYTES;

/// A JSON body of the owners calls and of the admin API, in bytes.
pub const MAX_JSON_BYTES: usize = 64 * 1024;
/// Memory for all of those that are under way, in bytes.
pub const JSON_MEMORY_BYTES: usize = 16 * 1024 * 1024;
/// How much of a body that nobody wants is read, in bytes…
pub const DRAIN_BYTES: usize = 64 * 1024 * 1024;
/// … and for how long.
pub const DRAIN: Duration = Duration::from_secs(10);

const FIRST_ALLOCATION: usize = 4 * 1024;

/// What request bodies may take: a budget for each kind, and how fast they have to come.
#[derive(Debug)]
pub struct Budgets {
    /// Publish requests.
    pub publish: BodyBudget,
    /// Lock files that are to be judged.
    pub policy_check: BodyBudget,
    /// Small JSON: of the owners calls and of the admin API.
    pub json: BodyBudget,
    /// How fast all of them.
    pub arrival: Arrival,
}

impl Budgets {
    /// Those of the configuration.
    pub fn new(limits: &Limits, metrics: &Metrics) -> Self {
        let share_percent = limits.per_address.share_of(100).map(|percent| percent.clamp(1, 100));
        let budget = |kind, whole, largest| {
            BodyBudget::new(kind, Sizes { whole, largest, share_percent }, metrics)
        };
        let largest = publish::frame_bytes(limits);
        Self {
            publish: budget("publish", limits.publish_memory_bytes, largest),
            policy_check: budget("policy_check", limits.check_memory_bytes, MAX_LOCK_BYTES),
            json: budget("json", JSON_MEMORY_BYTES, MAX_JSON_BYTES),
            arrival: Arrival { within: limits.body, rate: limits.body_rate_bytes },
        }
    }
}

/// How large a body may be.
#[derive(Debug, Clone, Copy)]
pub struct Largest {
    /// In bytes.
    pub bytes: usize,
    /// The key that says so, where there is one.
    key: Option<&'static str>,
}

impl Largest {
    /// As a key of the configuration says.
    pub fn configured(bytes: usize, key: &'static str) -> Self {
        Self { bytes, key: Some(key) }
    }

    /// As nobody can configure.
    pub fn fixed(bytes: usize) -> Self {
        Self { bytes, key: None }
    }

    fn exceeded(self) -> Error {
        let Self { bytes, key } = self;
        let text = match key {
            None => format!("the request body is too large: {bytes} bytes at most"),
            Some(key) => format!(
                "the request body is too large: {bytes} bytes at most; send less, or have an \
                 administrator raise `{key}`"
            ),
        };
        Error::new(Kind::TooLarge, text)
    }
}

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

    /// Begins to read the body, at most `limit` of it.
    ///
    /// # Errors
    /// [`Kind::TooLarge`], if the client says that it sends more.
    pub fn arriving(
        &mut self,
        permit: BodyPermit,
        limit: Largest,
        arrival: Arrival,
    ) -> Result<Arriving<'_, B>> {
        if self.body.size_hint().lower() > to_u64(limit.bytes) {
            return Err(limit.exceeded());
        }
        self.is_held_back = false;
        let promised = self.body.size_hint().exact();
        let most = promised.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(limit.bytes);
        let (here, ended, pace) = (Vec::new(), false, Pace::begin(arrival));
        Ok(Arriving { body: &mut self.body, permit, here, most, limit, pace, ended })
    }

    /// The whole body, at most `limit` of it. It holds its room for as long as anybody has a
    /// part of it.
    ///
    /// # Errors
    /// [`Kind::TooLarge`], before anything is read if the client says how much it sends;
    /// [`Kind::Invalid`] when it ends early; [`Kind::TooSlow`]; [`Kind::Unavailable`] when others hold
    /// the memory.
    pub async fn read(
        &mut self,
        permit: BodyPermit,
        limit: Largest,
        arrival: Arrival,
    ) -> Result<Bytes> {
        self.arriving(permit, limit, arrival)?.whole().await
    }

    /// A body of JSON, at most [`MAX_JSON_BYTES`].
    ///
    /// # Errors
    /// As [`Upload::read`]; [`Kind::Invalid`] when it is not what the call expects.
    pub async fn read_json<T: DeserializeOwned>(
        &mut self,
        budgets: &Budgets,
        owner: Owner,
    ) -> Result<T> {
        let bytes = self
            .read(budgets.json.reserve(owner), Largest::fixed(MAX_JSON_BYTES), budgets.arrival)
            .await?;
        serde_json::from_slice(&bytes).map_err(|e| {
            let why = excerpt(&e.to_string());
            Error::invalid(format!("the body is not the JSON that is wanted: {why}"))
        })
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
}

/// A body of which a part is here.
#[derive(Debug)]
pub struct Arriving<'u, B> {
    body: &'u mut B,
    /// For the capacity of what is here.
    permit: BodyPermit,
    here: Vec<u8>,
    /// What the client says it sends, or else the limit: more is never allocated at once.
    most: usize,
    limit: Largest,
    pace: Pace,
    ended: bool,
}

impl<B> Arriving<'_, B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: StdError + Send + Sync,
{
    /// What is here once it is `bytes` at the least, or the body has ended before.
    ///
    /// # Errors
    /// As [`Upload::read`].
    pub async fn at_least(&mut self, bytes: usize) -> Result<&[u8]> {
        while self.here.len() < bytes && !self.ended {
            self.step().await?;
        }
        Ok(&self.here)
    }

    /// Lends what is here to work that owns it, and takes it back.
    ///
    /// # Errors
    /// Those of the work.
    pub async fn lend<T, F>(&mut self, work: impl FnOnce(Vec<u8>) -> F) -> Result<T>
    where
        F: Future<Output = (Vec<u8>, Result<T>)>,
    {
        let (here, outcome) = work(mem::take(&mut self.here)).await;
        self.here = here;
        outcome
    }

    /// Adds a time in which nothing was read.
    pub fn excuse(&mut self, time: Duration) {
        self.pace.excuse(time);
    }

    /// All of it.
    ///
    /// # Errors
    /// As [`Upload::read`].
    pub async fn whole(mut self) -> Result<Bytes> {
        while !self.ended {
            self.step().await?;
        }
        Ok(bytes_holding(Bytes::from(self.here), self.permit))
    }

    async fn step(&mut self) -> Result<()> {
        let begun = Instant::now();
        let next = timeout_at(self.pace.look_at(), self.body.frame()).await;
        deadline::excuse(begun.elapsed());
        let Ok(next) = next else { return self.note(0) };
        let Some(frame) = next else {
            self.ended = true;
            return Ok(());
        };
        let frame = frame.map_err(|e| ended_early().because(Broken(e.to_string())))?;
        let Ok(data) = frame.into_data() else { return Ok(()) };
        self.note(data.len())?;
        if data.len() > self.limit.bytes - self.here.len() {
            return Err(self.limit.exceeded());
        }
        self.make_space(self.here.len() + data.len()).await?;
        self.here.extend_from_slice(&data);
        Ok(())
    }

    /// Makes what is here large enough: by doubling, but for no more than is expected.
    async fn make_space(&mut self, needed: usize) -> Result<()> {
        let has = self.here.capacity();
        if needed <= has {
            return Ok(());
        }
        let wanted = has.saturating_mul(2).max(FIRST_ALLOCATION).min(self.most).max(needed);
        let waited = self.permit.grow(wanted - has).await?;
        self.pace.excuse(waited);
        self.here.reserve_exact(wanted - self.here.len());
        Ok(())
    }

    fn note(&mut self, bytes: usize) -> Result<()> {
        self.pace.note(bytes).map_err(|late| {
            self.permit.note_slow();
            let Arrival { within, rate } = self.pace.arrival();
            Error::new(Kind::TooSlow, match late {
                Late::Whole => format!(
                    "the request body did not arrive within {} s (`limits.body_seconds`): send it over \
                     a faster line, or have an administrator raise the limit",
                    within.as_secs()
                ),
                Late::Slow => format!(
                    "the request body comes too slowly: this registry wants {rate} bytes a second at \
                     the least (`limits.body_rate_kib`); send it over a faster line, or have an \
                     administrator lower the limit"
                ),
            })
        })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Broken(String);

fn ended_early() -> Error {
    Error::invalid("the request body ended early: send it again")
}

fn to_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
