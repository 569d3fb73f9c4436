//! The object store, with the time that each of its answers takes.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use async_trait::async_trait;
use futures_util::stream::{BoxStream, Stream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use cratehouse_core::error::Refusal;
use cratehouse_core::metrics::Metrics;
use cratehouse_core::traces::{self, KeyValue, Side, Told};

/// What the names of the objects begin with that are written to find out whether the store takes anything.
pub const PROBES: &str = "selftest/probe-";

/// See the module.
#[derive(Debug)]
pub(super) struct Measured {
    inner: Arc<dyn ObjectStore>,
    metrics: Metrics,
}

impl Measured {
    /// The same store, measured.
    pub(super) fn new(inner: Arc<dyn ObjectStore>, metrics: &Metrics) -> Self {
        Self { inner, metrics: metrics.clone() }
    }

    async fn time<T>(
        &self,
        operation: &'static str,
        answer: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let began = Instant::now();
        let answer = answer.await;
        // What a store cannot do at all, it was not asked for.
        if let Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) = &answer {
            return answer;
        }
        note(&self.metrics, operation, answer.as_ref().err(), began);
        if let Some(trace) = traces::current() {
            let outcome = outcome(answer.as_ref().err());
            trace.part().tell(Told {
                name: format!("store {operation}").into(),
                side: Side::Client,
                took: began.elapsed(),
                facts: vec![KeyValue::new("cratehouse.outcome", outcome)],
                failed: outcome == "error",
            });
        }
        answer
    }

    fn time_each<T: 'static>(
        &self,
        operation: &'static str,
        answers: BoxStream<'static, Result<T>>,
        which: Which,
    ) -> BoxStream<'static, Result<T>> {
        let metrics = self.metrics.clone();
        Timed { answers, metrics, operation, which, began: None, noted: false }.boxed()
    }
}

fn note(metrics: &Metrics, operation: &str, error: Option<&Error>, began: Instant) {
    let took = began.elapsed().as_secs_f64();
    metrics.store_requests.with_label_values(&[operation, outcome(error)]).observe(took);
}

/// Whether the store takes what is written to it: the gauges that alerts and `/readyz` look at. One that
/// does not answer says nothing either way. That one file belongs to somebody else is not over when another
/// could be written: only the probe's write ends it, or each of both would raise an alarm anew.
fn note_refusal(metrics: &Metrics, location: &Path, error: Option<&Error>) {
    let refusal = error.and_then(|error| Refusal::of(error));
    if error.is_some() && refusal.is_none() {
        return;
    }
    let is_probe = location.as_ref().starts_with(PROBES);
    for one in Refusal::ALL {
        let gauge = metrics.store_refuses.with_label_values(&[one.label()]);
        let refuses = refusal == Some(one);
        if refuses && gauge.get() == 0 {
            tracing::error!(alarm = "store_unwritable", "{}", one.words());
            metrics.alarms.with_label_values(&["store_unwritable"]).inc();
        }
        if refuses || one != Refusal::Forbidden || (is_probe && error.is_none()) {
            gauge.set(refuses.into());
        }
    }
}

/// What is absent or there already is an answer like any other: much here rests on asking.
fn outcome(error: Option<&Error>) -> &'static str {
    match error {
        None | Some(Error::NotModified { .. }) => "ok",
        Some(Error::NotFound { .. }) => "absent",
        Some(Error::AlreadyExists { .. } | Error::Precondition { .. }) => "exists",
        Some(_) => "error",
    }
}

/// Which items of a stream are answers of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// Each.
    Each,
    /// The first, or the end where there is none: the others come with it, or when they are asked for.
    First,
}

struct Timed<T> {
    answers: BoxStream<'static, Result<T>>,
    metrics: Metrics,
    operation: &'static str,
    which: Which,
    /// When the answer that is due was asked for.
    began: Option<Instant>,
    noted: bool,
}

impl<T> Stream for Timed<T> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        let began = *self.began.get_or_insert_with(Instant::now);
        let item = ready!(self.answers.poll_next_unpin(context));
        let error = item.as_ref().and_then(|answer| answer.as_ref().err());
        let counts = match self.which {
            Which::Each => item.is_some(),
            Which::First => !self.noted || error.is_some(),
        };
        if counts {
            note(&self.metrics, self.operation, error, began);
        }
        (self.noted, self.began) = (true, None);
        Poll::Ready(item)
    }
}

#[async_trait]
impl ObjectStore for Measured {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let operation = if opts.mode == PutMode::Create { "create" } else { "put" };
        let put = self.time(operation, self.inner.put_opts(location, payload, opts)).await;
        note_refusal(&self.metrics, location, put.as_ref().err());
        put
    }

    /// Not measured: nothing here is written in parts.
    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let operation = if options.head { "head" } else { "get" };
        self.time(operation, self.inner.get_opts(location, options)).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.time_each("delete", self.inner.delete_stream(locations), Which::Each)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.time_each("list", self.inner.list(prefix), Which::First)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.time_each("list", self.inner.list_with_offset(prefix, offset), Which::First)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.time("list", self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.time("copy", self.inner.copy_opts(from, to, options)).await
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn every_answer_is_counted_with_what_it_was() {
        let metrics = Metrics::new().unwrap();
        let store = Measured::new(Arc::new(InMemory::new()), &metrics);
        let (here, elsewhere) = (Path::from("here"), Path::from("elsewhere"));
        let create = async || {
            let options = PutOptions::from(PutMode::Create);
            store.put_opts(&here, "bytes".into(), options).await.map(drop)
        };
        assert!(store.get(&here).await.is_err());
        assert_eq!(store.list(None).try_collect::<Vec<_>>().await.unwrap().len(), 0);
        create().await.unwrap();
        create().await.unwrap_err();
        store.put(&here, "others".into()).await.unwrap();
        store.copy(&here, &elsewhere).await.unwrap();
        store.get(&here).await.unwrap();
        store.head(&here).await.unwrap();
        assert_eq!(store.list(None).try_collect::<Vec<_>>().await.unwrap().len(), 2);
        store.delete(&here).await.unwrap();

        let counted = |operation, outcome| {
            let series = metrics.store_requests.with_label_values(&[operation, outcome]);
            series.get_sample_count()
        };
        for (operation, outcome, times) in [
            ("get", "absent", 1),
            ("get", "ok", 1),
            ("head", "ok", 1),
            ("create", "ok", 1),
            ("create", "exists", 1),
            ("put", "ok", 1),
            ("copy", "ok", 1),
            ("delete", "ok", 1),
            ("list", "ok", 2),
            ("list", "error", 0),
        ] {
            assert_eq!(counted(operation, outcome), times, "{operation} {outcome}");
        }
    }

    #[tokio::test]
    async fn a_store_that_takes_nothing_raises_an_alarm_once_until_it_takes_something_again() {
        let metrics = Metrics::new().unwrap();
        let full = || {
            let source = Box::new(std::io::Error::from(std::io::ErrorKind::StorageFull));
            Error::Generic { store: "folder", source }
        };
        let lost = || Error::Generic { store: "folder", source: "lost".into() };
        let gauge = |reason| metrics.store_refuses.with_label_values(&[reason]).get();
        let alarms = || metrics.alarms.with_label_values(&["store_unwritable"]).get();
        let place = Path::from("here");
        for error in [full(), full(), lost()] {
            note_refusal(&metrics, &place, Some(&error));
            assert_eq!((gauge("full"), gauge("read_only"), alarms()), (1, 0, 1));
        }
        note_refusal(&metrics, &place, None);
        assert_eq!((gauge("full"), alarms()), (0, 1));
    }

    #[test]
    fn one_file_of_another_user_raises_one_alarm_until_the_probe_comes_through() {
        let metrics = Metrics::new().unwrap();
        let source = Box::new(std::io::Error::from(std::io::ErrorKind::PermissionDenied));
        let forbidden = Error::Generic { store: "folder", source };
        let gauge = || metrics.store_refuses.with_label_values(&["forbidden"]).get();
        let alarms = || metrics.alarms.with_label_values(&["store_unwritable"]).get();
        for round in 1..3 {
            for _ in 0..3 {
                note_refusal(&metrics, &Path::from("theirs"), Some(&forbidden));
                note_refusal(&metrics, &Path::from("ours"), None);
                assert_eq!((gauge(), alarms()), (1, round));
            }
            note_refusal(&metrics, &Path::from(format!("{PROBES}a-0")), None);
            assert_eq!(gauge(), 0);
        }
    }
}
