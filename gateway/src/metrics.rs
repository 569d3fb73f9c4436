//! Prometheus metrics: one struct, passed on. A field's help text is what its doc comment says.

use prometheus::{
    Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

/// Seconds: from a memory hit (50 µs) to cargo's own time-out (30 s).
const LATENCY_BUCKETS: &[f64] = &[0.000_05, 0.000_2, 0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 30.0];

/// Every metric of one gateway.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Where they are gathered.
    pub registry: Registry,
    /// Requests by route and status (499: the client left first), with the time to the end of the response head.
    pub requests: HistogramVec,
    /// Bytes of response bodies by route.
    pub bytes_sent: IntCounterVec,
    /// Always 1: the release that runs, and the hash of the configuration, which all replicas of one release should share.
    pub build: IntGaugeVec,
    /// Connections that are open.
    pub connections: IntGauge,
    /// Connections that ended in a failed TLS handshake.
    pub handshake_failures: IntCounter,
    /// Index lookups by outcome: hit (memory), store (a fresh copy in the store), miss, stale, revalidated, negative, error.
    pub index_lookups: IntCounterVec,
    /// Crate-file lookups by outcome: hit (memory), store, miss (filled from an upstream), negative, error.
    pub crate_lookups: IntCounterVec,
    /// Memory that the bodies of index files take, kept or on their way to a client, in bytes.
    pub index_memory: IntGauge,
    /// Memory that crate files take, kept or on their way to a client, in bytes.
    pub crate_memory: IntGauge,
    /// Times that there was no room in memory for a crate file in time.
    pub crate_memory_refusals: IntCounter,
    /// Crate files that broke off while they were sent from the store: store (it failed), damaged.
    pub streams_broken: IntCounterVec,
    /// Requests to upstreams by upstream, kind (config, index, crate) and outcome (status or error).
    pub upstream_requests: HistogramVec,
    /// Bytes received from upstreams.
    pub upstream_bytes: IntCounterVec,
    /// The size of all mirrored crate files in the store, in bytes, when it was last measured.
    pub mirror_bytes: IntGauge,
    /// How many mirrored crate files the store held when it was last measured.
    pub mirror_blobs: IntGauge,
    /// Mirrored crate files that were given up, because the mirror was too large or they too old.
    pub mirror_evictions: IntCounter,
    /// Downloads whose record was written to the store.
    pub pulls_recorded: IntCounter,
    /// Downloads whose record was lost: too many waited for the store, or it did not take them before a stop.
    pub pulls_dropped: IntCounter,
    /// Batches of such records that the store did not take; they are tried again.
    pub pull_batches_failed: IntCounter,
    /// Alarms: a checksum that changed, bytes that do not match, a broken journal, a format level that this release does not know, checkpoints that differ.
    pub alarms: IntCounterVec,
    /// Publish requests by outcome: published, refused, error.
    pub publishes: IntCounterVec,
    /// Requests that were refused, by kind of error.
    pub refusals: IntCounterVec,
    /// Verdicts on versions, counted when they are made (once for each index file and policy): allow, hold, deny.
    pub verdicts: IntCounterVec,
    /// What rules said of versions, by rule, action and mode, counted with the verdicts.
    pub policy_findings: IntCounterVec,
    /// Crate files whose licence was read, by what they state: stated, file_only, missing (or not to be read).
    pub licenses_read: IntCounterVec,
    /// What the policy had against publishes, by section (publish, names) and mode; enforced ones were refused.
    pub policy_objections: IntCounterVec,
    /// Downloads that the policy denied.
    pub policy_denials: IntCounter,
    /// Always 1: the version of the policy in force, which all replicas should share.
    pub policy_info: IntGaugeVec,
    /// When the policy in force was read, in seconds since 1970.
    pub policy_loaded: IntGauge,
    /// 1 when what is there now cannot be used, and what was read before stays in force: policy, advisories.
    pub policy_broken: IntGaugeVec,
    /// Advisories in force; 0: there is no database, or no rule asks for it.
    pub advisories: IntGauge,
    /// When the advisory database in force was last modified, in seconds since 1970; 0 without one.
    pub advisories_newest: IntGauge,
    /// Waivers that are in force, and those of them that end within seven days.
    pub waivers: IntGaugeVec,
    /// The number of the newest journal entry that this replica has applied.
    pub journal_head: IntGauge,
    /// Journal entries that are known to exist and are not applied yet.
    pub journal_lag: IntGauge,
    /// Seconds since the journal was last read to its end; -1 before the first time.
    pub journal_read_age: Gauge,
    /// Seconds by which what this replica shows may be behind the journal: since its last read that reached the end, when the last one did not (or is overdue), else 0; -1 before the first. By its own clock alone.
    pub journal_lag_seconds: Gauge,
    /// Format levels of the journal: the one that is "enabled", and the highest that this release has "known". All replicas should know one before it is enabled.
    pub format_level: IntGaugeVec,
    /// Journal entries appended by this replica.
    pub appends: IntCounter,
    /// Puts of a journal entry that ended in anything but "created".
    pub append_retries: IntCounter,
    /// Checkpoints by event: written, loaded, passed_over (not to be trusted), failed (not written).
    pub checkpoints: IntCounterVec,
    /// The number of the last journal entry in the newest checkpoint that this replica has written, loaded or seen.
    pub checkpoint_seq: IntGauge,
}

impl Metrics {
    /// Registers all of them in a registry of their own.
    ///
    /// # Errors
    /// When two metrics have the same name, which is a mistake in this file.
    pub fn new() -> prometheus::Result<Self> {
        let r = Registry::new();
        Ok(Self {
            requests: histogram(
                &r,
                "http_request_seconds",
                "Requests by route and status (499: the client left first), with the time to the end of the response head.",
                &["route", "status"],
            )?,
            bytes_sent: counters(
                &r,
                "http_sent_bytes_total",
                "Bytes of response bodies by route.",
                &["route"],
            )?,
            build: gauges(
                &r,
                "build_info",
                "Always 1: the release that runs, and the hash of the configuration, which all replicas of one release should share.",
                &["version", "commit", "config"],
            )?,
            connections: gauge(&r, "http_connections", "Connections that are open.")?,
            handshake_failures: counter(
                &r,
                "tls_handshake_failures_total",
                "Connections that ended in a failed TLS handshake.",
            )?,
            index_lookups: counters(
                &r,
                "index_lookups_total",
                "Index lookups by outcome: hit (memory), store (a fresh copy in the store), miss, stale, revalidated, negative, error.",
                &["outcome"],
            )?,
            crate_lookups: counters(
                &r,
                "crate_lookups_total",
                "Crate-file lookups by outcome: hit (memory), store, miss (filled from an upstream), negative, error.",
                &["outcome"],
            )?,
            index_memory: gauge(
                &r,
                "index_memory_bytes",
                "Memory that the bodies of index files take, kept or on their way to a client, in bytes.",
            )?,
            crate_memory: gauge(
                &r,
                "crate_memory_bytes",
                "Memory that crate files take, kept or on their way to a client, in bytes.",
            )?,
            crate_memory_refusals: counter(
                &r,
                "crate_memory_refusals_total",
                "Times that there was no room in memory for a crate file in time.",
            )?,
            streams_broken: counters(
                &r,
                "streams_broken_total",
                "Crate files that broke off while they were sent from the store: store (it failed), damaged.",
                &["reason"],
            )?,
            upstream_requests: histogram(
                &r,
                "upstream_request_seconds",
                "Requests to upstreams by upstream, kind (config, index, crate) and outcome (status or error).",
                &["upstream", "kind", "outcome"],
            )?,
            upstream_bytes: counters(
                &r,
                "upstream_received_bytes_total",
                "Bytes received from upstreams.",
                &["upstream"],
            )?,
            mirror_bytes: gauge(
                &r,
                "mirror_bytes",
                "The size of all mirrored crate files in the store, in bytes, when it was last measured.",
            )?,
            mirror_blobs: gauge(
                &r,
                "mirror_blobs",
                "How many mirrored crate files the store held when it was last measured.",
            )?,
            mirror_evictions: counter(
                &r,
                "mirror_evictions_total",
                "Mirrored crate files that were given up, because the mirror was too large or they too old.",
            )?,
            pulls_recorded: counter(
                &r,
                "pulls_recorded_total",
                "Downloads whose record was written to the store.",
            )?,
            pulls_dropped: counter(
                &r,
                "pulls_dropped_total",
                "Downloads whose record was lost: too many waited for the store, or it did not take them before a stop.",
            )?,
            pull_batches_failed: counter(
                &r,
                "pull_batches_failed_total",
                "Batches of such records that the store did not take; they are tried again.",
            )?,
            alarms: counters(
                &r,
                "alarms_total",
                "Alarms: a checksum that changed, bytes that do not match, a broken journal, a format level that this release does not know, checkpoints that differ.",
                &["alarm"],
            )?,
            publishes: counters(
                &r,
                "publishes_total",
                "Publish requests by outcome: published, refused, error.",
                &["outcome"],
            )?,
            refusals: counters(
                &r,
                "refusals_total",
                "Requests that were refused, by kind of error.",
                &["kind"],
            )?,
            verdicts: counters(
                &r,
                "policy_verdicts_total",
                "Verdicts on versions, counted when they are made (once for each index file and policy): allow, hold, deny.",
                &["verdict"],
            )?,
            policy_findings: counters(
                &r,
                "policy_findings_total",
                "What rules said of versions, by rule, action and mode, counted with the verdicts.",
                &["rule", "action", "mode"],
            )?,
            licenses_read: counters(
                &r,
                "licenses_read_total",
                "Crate files whose licence was read, by what they state: stated, file_only, missing (or not to be read).",
                &["outcome"],
            )?,
            policy_objections: counters(
                &r,
                "policy_objections_total",
                "What the policy had against publishes, by section (publish, names) and mode; enforced ones were refused.",
                &["section", "mode"],
            )?,
            policy_denials: counter(
                &r,
                "policy_denied_downloads_total",
                "Downloads that the policy denied.",
            )?,
            policy_info: gauges(
                &r,
                "policy_info",
                "Always 1: the version of the policy in force, which all replicas should share.",
                &["version"],
            )?,
            policy_loaded: gauge(
                &r,
                "policy_loaded_timestamp_seconds",
                "When the policy in force was read, in seconds since 1970.",
            )?,
            policy_broken: gauges(
                &r,
                "policy_broken",
                "1 when what is there now cannot be used, and what was read before stays in force: policy, advisories.",
                &["what"],
            )?,
            advisories: gauge(
                &r,
                "policy_advisories",
                "Advisories in force; 0: there is no database, or no rule asks for it.",
            )?,
            advisories_newest: gauge(
                &r,
                "policy_advisories_timestamp_seconds",
                "When the advisory database in force was last modified, in seconds since 1970; 0 without one.",
            )?,
            waivers: gauges(
                &r,
                "policy_waivers",
                "Waivers that are in force, and those of them that end within seven days.",
                &["state"],
            )?,
            journal_head: gauge(
                &r,
                "journal_head",
                "The number of the newest journal entry that this replica has applied.",
            )?,
            journal_lag: gauge(
                &r,
                "journal_lag_entries",
                "Journal entries that are known to exist and are not applied yet.",
            )?,
            journal_read_age: seconds(
                &r,
                "journal_read_age_seconds",
                "Seconds since the journal was last read to its end; -1 before the first time.",
            )?,
            journal_lag_seconds: seconds(
                &r,
                "journal_lag_seconds",
                "Seconds by which what this replica shows may be behind the journal: since its last read that reached the end, when the last one did not (or is overdue), else 0; -1 before the first. By its own clock alone.",
            )?,
            format_level: gauges(
                &r,
                "journal_format_level",
                "Format levels of the journal: the one that is \"enabled\", and the highest that this release has \"known\". All replicas should know one before it is enabled.",
                &["level"],
            )?,
            appends: counter(
                &r,
                "journal_appends_total",
                "Journal entries appended by this replica.",
            )?,
            append_retries: counter(
                &r,
                "journal_append_retries_total",
                "Puts of a journal entry that ended in anything but \"created\".",
            )?,
            checkpoints: counters(
                &r,
                "checkpoints_total",
                "Checkpoints by event: written, loaded, passed_over (not to be trusted), failed (not written).",
                &["event"],
            )?,
            checkpoint_seq: gauge(
                &r,
                "checkpoint_seq",
                "The number of the last journal entry in the newest checkpoint that this replica has written, loaded or seen.",
            )?,
            registry: r,
        })
    }
}

fn name(short: &str) -> String {
    format!("cratehouse_{short}")
}

fn histogram(
    r: &Registry,
    n: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<HistogramVec> {
    let opts = HistogramOpts::new(name(n), help).buckets(LATENCY_BUCKETS.to_vec());
    let metric = HistogramVec::new(opts, labels)?;
    r.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counters(
    r: &Registry,
    n: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntCounterVec> {
    let metric = IntCounterVec::new(Opts::new(name(n), help), labels)?;
    r.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counter(r: &Registry, n: &str, help: &str) -> prometheus::Result<IntCounter> {
    let metric = IntCounter::new(name(n), help)?;
    r.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn gauge(r: &Registry, n: &str, help: &str) -> prometheus::Result<IntGauge> {
    let metric = IntGauge::new(name(n), help)?;
    r.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn gauges(r: &Registry, n: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
    let metric = IntGaugeVec::new(Opts::new(name(n), help), labels)?;
    r.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn seconds(r: &Registry, n: &str, help: &str) -> prometheus::Result<Gauge> {
    let metric = Gauge::new(name(n), help)?;
    r.register(Box::new(metric.clone()))?;
    Ok(metric)
}
