//! How a metric is declared: once. Its field's doc comment is the help text that Prometheus shows and
//! that `docs/metrics.md` prints; its name, its kind and its labels stand beside it.

use prometheus::core::Collector;
use prometheus::{
    Counter, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, Result,
};

/// Seconds: from a memory hit (50 µs) to cargo's own time-out (30 s).
const LATENCY_BUCKETS: &[f64] = &[0.000_05, 0.000_2, 0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 30.0];

/// What a metric is.
#[derive(Debug)]
pub struct Described {
    /// As Prometheus knows it.
    pub name: &'static str,
    /// Prometheus' word for its kind.
    pub kind: &'static str,
    /// What it tells apart.
    pub labels: &'static [Label],
    /// What it says, in a sentence.
    pub help: &'static str,
}

/// One label of a metric.
#[derive(Debug)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// All its values, where they are known beforehand; else none.
    pub values: &'static [&'static str],
}

/// A kind of metric, as the registry takes it.
pub(super) trait Kind: Collector + Clone + 'static {
    /// Prometheus' word for it.
    const WORD: &'static str;

    /// One that is not registered yet.
    fn made(described: &Described) -> Result<Self>;

    /// Makes the series with these values of the labels exist.
    fn show(&self, values: &[&str]);
}

/// Makes a metric and registers it. Where all values of its labels are known, all its series are there
/// from the start, at zero: a rate or an alert then sees the first event too.
pub(super) fn register<K: Kind>(registry: &Registry, described: &Described) -> Result<K> {
    let metric = K::made(described)?;
    registry.register(Box::new(metric.clone()))?;
    for values in combinations(described.labels) {
        metric.show(&values);
    }
    Ok(metric)
}

/// All combinations of all values; none where a label is open.
fn combinations(labels: &[Label]) -> Vec<Vec<&'static str>> {
    labels.iter().fold(vec![Vec::new()], |begun, label| {
        let longer = |begun: &Vec<&'static str>| {
            let begun = begun.clone();
            label.values.iter().map(move |value| [begun.as_slice(), &[*value]].concat())
        };
        begun.iter().flat_map(longer).collect()
    })
}

impl Described {
    fn label_names(&self) -> Vec<&'static str> {
        self.labels.iter().map(|label| label.name).collect()
    }
}

macro_rules! plain_kinds {
    ($($kind:ty: $word:literal, $options:ident),+) => {$(
        impl Kind for $kind {
            const WORD: &'static str = $word;

            fn made(described: &Described) -> Result<Self> {
                <$kind>::with_opts($options(described))
            }

            fn show(&self, _: &[&str]) {}
        }
    )+};
}

plain_kinds!(
    Counter: "counter", options,
    IntCounter: "counter", options,
    Gauge: "gauge", options,
    IntGauge: "gauge", options,
    Histogram: "histogram", latencies
);

macro_rules! labelled_kinds {
    ($($kind:ty: $word:literal, $options:ident),+) => {$(
        impl Kind for $kind {
            const WORD: &'static str = $word;

            fn made(described: &Described) -> Result<Self> {
                <$kind>::new($options(described), &described.label_names())
            }

            fn show(&self, values: &[&str]) {
                let _ = self.with_label_values(values);
            }
        }
    )+};
}

labelled_kinds!(
    IntCounterVec: "counter", options,
    IntGaugeVec: "gauge", options,
    HistogramVec: "histogram", latencies
);

fn options(described: &Described) -> Opts {
    Opts::new(described.name, described.help)
}

fn latencies(described: &Described) -> HistogramOpts {
    HistogramOpts::from(options(described)).buckets(LATENCY_BUCKETS.to_vec())
}

/// The struct of all metrics, what makes it, and [`DESCRIBED`](super::DESCRIBED): from one list. A label
/// is open (`[route]`) or closed (`[outcome = "hit" | "miss"]`).
macro_rules! metrics {
    ($(
        $(#[doc = $help:literal])+
        $field:ident: $kind:ident = $name:literal
            $([ $( $label:ident $(= $($value:literal)|+)? ),+ ])?;
    )+) => {
        /// Every metric of one gateway.
        #[derive(Debug, Clone)]
        pub struct Metrics {
            /// Where they are gathered.
            pub registry: prometheus::Registry,
            $( $(#[doc = $help])+ pub $field: prometheus::$kind, )+
        }

        impl Metrics {
            /// Registers all of them in a registry of their own.
            ///
            /// # Errors
            /// When two metrics have the same name, which is a mistake in this file.
            pub fn new() -> prometheus::Result<Self> {
                let registry = prometheus::Registry::new();
                let metrics = Self {
                    $( $field: $crate::metrics::describe::register(&registry, &described::$field)?, )+
                    registry,
                };
                metrics.expect_what_alerts_watch();
                Ok(metrics)
            }
        }

        /// What each of them is, in the order of their declaration.
        pub const DESCRIBED: &[&$crate::metrics::describe::Described] = &[$( &described::$field ),+];

        #[allow(non_upper_case_globals, reason = "each is named as its field")]
        mod described {
            use $crate::metrics::describe::{Described, Kind, Label};

            $(
                pub(super) const $field: Described = Described {
                    name: $name,
                    kind: <prometheus::$kind as Kind>::WORD,
                    labels: &[$($(
                        Label { name: stringify!($label), values: &[$($($value),+)?] }
                    ),+)?],
                    help: concat!($($help),+).trim_ascii(),
                };
            )+
        }
    };
}

pub(super) use metrics;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_set_of_labels_has_every_combination_and_an_open_one_none() {
        let label = |name, values| Label { name, values };
        let closed = [label("a", &["1", "2"]), label("b", &["x"])];
        assert_eq!(combinations(&closed), [["1", "x"], ["2", "x"]]);
        assert!(combinations(&[label("a", &["1"]), label("b", &[])]).is_empty());
    }
}
