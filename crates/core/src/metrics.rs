//! Prometheus metrics: one struct, passed on. `docs/metrics.md` is made of this list.

mod describe;

use describe::metrics;
pub use describe::{Described, Label};

metrics! {
    // Requests.

    /// Requests by route and status (499: the client left first), with the time to the end of the
    /// response head.
    requests: HistogramVec = "cratehouse_http_request_seconds" [route, status];

    /// Bytes of response bodies by route.
    bytes_sent: IntCounterVec = "cratehouse_http_sent_bytes_total" [route];

    /// Requests that were refused, by kind of error.
    refusals: IntCounterVec = "cratehouse_refusals_total" [kind = "invalid" | "too_large"
        | "too_slow" | "unauthenticated" | "forbidden" | "absent" | "method_not_allowed" | "throttled"
        | "unavailable" | "bad_upstream" | "upstream_timeout" | "internal"];

    /// Memory that request bodies take, in bytes, by what they are for.
    body_memory: IntGaugeVec = "cratehouse_request_body_memory_bytes" [body = "publish"
        | "policy_check" | "json"];

    /// Memory that request bodies may take at the most, in bytes, by what they are for.
    body_memory_limit: IntGaugeVec = "cratehouse_request_body_memory_limit_bytes" [
        body = "publish" | "policy_check" | "json"];

    /// Request bodies that were given up while they arrived: the memory for all of them, the share of
    /// their address or of their token was taken, or they came too slowly.
    body_refusals: IntCounterVec = "cratehouse_request_bodies_refused_total" [
        body = "publish" | "policy_check" | "json",
        reason = "memory" | "address" | "token" | "slow"];

    /// Requests that were refused because a page of another site made a browser send them.
    foreign_requests: IntCounter = "cratehouse_foreign_requests_total";

    /// Connections that were closed to make room: idle ones when all connections were taken (full), or
    /// all of one address's share (share); new ones of an address whose share was busy (refused); those
    /// whose client did not read an answer for half a minute (unread).
    connections_closed: IntCounterVec = "cratehouse_http_connections_closed_total" [
        reason = "full" | "share" | "refused" | "unread"];

    /// Connections that are open.
    connections: IntGauge = "cratehouse_http_connections";

    /// How many connections there may be at one time (limits.connections).
    connections_limit: IntGauge = "cratehouse_http_connections_limit";

    /// Requests under way that memory did not answer at once, and those whose responses are not sent yet.
    requests_under_way: IntGauge = "cratehouse_http_requests_under_way";

    /// How many of them there may be at one time (limits.requests).
    requests_limit: IntGauge = "cratehouse_http_requests_limit";

    /// Requests that were refused, because too many were under way, in all or from one address, or
    /// because their address does not read the files that it was sent before.
    requests_refused: IntCounter = "cratehouse_http_requests_refused_total";

    /// Memory that responses above 16 KiB take, in bytes, but for index files and crate files: they were
    /// made for one request and are not sent yet.
    response_memory: IntGauge = "cratehouse_response_memory_bytes";

    /// Memory that they may take at the most, in bytes (limits.response_memory_mib).
    response_memory_limit: IntGauge = "cratehouse_response_memory_limit_bytes";

    /// Responses that were refused, because there was no memory for them.
    response_memory_refusals: IntCounter = "cratehouse_response_memory_refusals_total";

    /// Connections that ended in a failed TLS handshake.
    handshake_failures: IntCounter = "cratehouse_tls_handshake_failures_total";

    /// Connections from trusted proxies that were closed because their PROXY header was missing,
    /// malformed or late.
    proxy_headers_refused: IntCounter = "cratehouse_proxy_headers_refused_total";

    /// When the certificate in use ends, in seconds since 1970; 0 without TLS.
    certificate_ends: IntGauge = "cratehouse_tls_certificate_not_after_timestamp_seconds";

    /// 1 when the certificate files that are there now cannot be used, or have ended, and the pair
    /// that was read before stays in use.
    certificate_broken: IntGauge = "cratehouse_tls_certificate_broken";

    /// Times that another certificate was taken up while running.
    certificate_reloads: IntCounter = "cratehouse_tls_reloads_total";

    /// Always 1: the release that runs, the commit that it was built from, and the hash of the
    /// configuration, which all replicas of one release should share.
    build: IntGaugeVec = "cratehouse_build_info" [version, commit, config];

    /// Log lines that were left out because too many of their kind came within a time, by kind.
    log_lines_suppressed: IntCounterVec = "cratehouse_log_lines_suppressed_total" [kind];

    /// 1 when this replica may get requests, as /readyz says; else 0.
    ready: IntGauge = "cratehouse_ready";

    // Lookups and memory.

    /// Index lookups by outcome: hit (memory), store (a fresh copy in the store), miss, stale,
    /// revalidated, negative, error.
    index_lookups: IntCounterVec = "cratehouse_index_lookups_total" [outcome = "hit" | "store"
        | "miss" | "stale" | "revalidated" | "negative" | "error"];

    /// Index files of public crates that were asked of the registry's own index, which lists them only while
    /// it is unified: 0 for a while says that nobody relies on that any more.
    unified_lookups: IntCounter = "cratehouse_index_unified_lookups_total";

    /// Crate-file lookups by outcome: hit (memory), store, miss (filled from an upstream),
    /// negative, error.
    crate_lookups: IntCounterVec = "cratehouse_crate_lookups_total" [outcome = "hit" | "store"
        | "miss" | "negative" | "error"];

    /// Memory that the bodies of index files take, kept or on their way to a client, in bytes.
    index_memory: IntGauge = "cratehouse_index_memory_bytes";

    /// Memory that the bodies of index files may take before no more are made, in bytes.
    index_memory_limit: IntGauge = "cratehouse_index_memory_limit_bytes";

    /// Names that no upstream has, as far as they are remembered.
    absent_names: IntGauge = "cratehouse_absent_names";

    /// Memory that they take, in bytes (at the most cache.absent_mib).
    absent_memory: IntGauge = "cratehouse_absent_names_memory_bytes";

    /// Memory that crate files take, kept or on their way to a client, in bytes.
    crate_memory: IntGauge = "cratehouse_crate_memory_bytes";

    /// Memory that crate files may take at the most, in bytes.
    crate_memory_limit: IntGauge = "cratehouse_crate_memory_limit_bytes";

    /// Times that there was no room in memory for a crate file in time.
    crate_memory_refusals: IntCounter = "cratehouse_crate_memory_refusals_total";

    /// Crate files that broke off while they were sent from the store: store (it failed), damaged.
    streams_broken: IntCounterVec = "cratehouse_streams_broken_total" [reason = "store"
        | "damaged"];

    /// Mirrored crates that a search finds.
    search_names: IntGauge = "cratehouse_search_names";

    /// Memory that their names take, in bytes: 64 MiB at the most, beyond which no more are found.
    search_memory: IntGauge = "cratehouse_search_memory_bytes";

    // Upstreams and the mirror.

    /// Requests to upstreams by upstream, kind (config, index, crate) and outcome (status, timeout,
    /// too_large or error).
    upstream_requests: HistogramVec = "cratehouse_upstream_request_seconds" [upstream, kind,
        outcome];

    /// Requests to upstreams that ended for a reason of our own, by upstream: crowded (too many
    /// waited for a place), no_memory (there was none for the answer; where it helps, it is asked for
    /// again with more). They say nothing about the upstream.
    upstream_refused: IntCounterVec = "cratehouse_upstream_refused_total" [upstream,
        reason = "crowded" | "no_memory"];

    /// Names that waited in their client's own queue, because it had asked upstreams for too many
    /// that none has (limits.absent_burst, limits.absent_per_second).
    absent_queued: IntCounter = "cratehouse_absent_names_queued_total";

    /// Credentials that do not count: unknown, ended, revoked, of a disabled user.
    credentials_refused: IntCounter = "cratehouse_credentials_refused_total";

    /// Requests that were refused with 429, by what there was too much of: credential (that do not count, of one
    /// address or account), publish (of one principal, limits.publishes_per_hour).
    throttled: IntCounterVec = "cratehouse_throttled_total" [what = "credential" | "publish"];

    /// Tokens that were revoked because a scanner reported them.
    tokens_reported: IntCounter = "cratehouse_tokens_reported_total";

    /// Names that were refused with 429, because that queue was too long.
    absent_throttled: IntCounter = "cratehouse_absent_names_throttled_total";

    /// Requests under way to upstreams, by upstream and kind (index, crate).
    upstream_under_way: IntGaugeVec = "cratehouse_upstream_requests_under_way" [upstream, kind];

    /// How many requests of a kind there may be to one upstream at one time
    /// (limits.upstream_requests); others wait.
    upstream_limit: IntGauge = "cratehouse_upstream_requests_limit";

    /// Bytes received from upstreams.
    upstream_bytes: IntCounterVec = "cratehouse_upstream_received_bytes_total" [upstream];

    /// Lines of upstreams' index files that cannot be read, each time that such a file was fetched. They
    /// are left out, as cargo leaves them out.
    index_lines_skipped: IntCounterVec = "cratehouse_upstream_index_lines_skipped_total" [upstream];

    /// The size of all mirrored crate files in the store, in bytes, when it was last measured.
    mirror_bytes: IntGauge = "cratehouse_mirror_bytes";

    /// How many mirrored crate files the store held when it was last measured.
    mirror_blobs: IntGauge = "cratehouse_mirror_blobs";

    /// Mirrored crate files that were given up, because the mirror was too large or they too old.
    mirror_evictions: IntCounter = "cratehouse_mirror_evictions_total";

    // The object store.

    /// Requests to the object store by operation (create is a put that must not overwrite) and
    /// outcome (absent and exists are answers, error is none), with the time to the answer, the
    /// client's own retries included: to the head of what is read, and to the first item of a list.
    store_requests: HistogramVec = "cratehouse_store_request_seconds" [
        operation = "get" | "head" | "put" | "create" | "list" | "delete" | "copy",
        outcome = "ok" | "absent" | "exists" | "error"];

    /// 1 while the object store, a folder, takes nothing that is written to it, by reason: its disk is
    /// full (full), mounted read-only (read_only), or belongs to another user (forbidden).
    store_refuses: IntGaugeVec = "cratehouse_store_refuses_writes" [
        reason = "full" | "read_only" | "forbidden"];

    /// The size of the disk that the object store's folder is on, in bytes; 0 where it is a bucket.
    store_disk: IntGauge = "cratehouse_store_disk_bytes";

    /// How much of that disk is free, in bytes.
    store_disk_free: IntGauge = "cratehouse_store_disk_free_bytes";

    // What must not happen.

    /// Alarms: a checksum that changed upstream; bytes from an upstream that do not match their index
    /// line (wrong_bytes); a mirrored (damaged_blob) or hosted crate file in the store that is damaged
    /// or gone; a broken journal; a format level that this release does not know; a catalog or a store
    /// that cannot be written; checkpoints that differ; an event of the journal by an actor that no entry made, or
    /// that one ended (unknown_actor).
    alarms: IntCounterVec = "cratehouse_alarms_total" [alarm = "checksum_changed" | "wrong_bytes"
        | "damaged_blob" | "hosted_blob_missing" | "journal_broken" | "release_too_old"
        | "catalog_unwritable" | "store_unwritable" | "checkpoint_conflict" | "unknown_actor"];

    // Publishing, and who pulled what.

    /// Foreign texts and archives that are being parsed: what publishes send, lock files, crate files
    /// that are read for their licence. No more of a kind at one time than there are cores.
    parsing: IntGaugeVec = "cratehouse_parsing_under_way" [of = "publish" | "lock" | "license"];

    /// Requests that were refused since too many texts of their kind were being parsed.
    parsing_refusals: IntCounterVec = "cratehouse_parsing_refusals_total" [of = "publish" | "lock"
        | "license"];

    /// Publish requests by outcome: published, refused, error.
    publishes: IntCounterVec = "cratehouse_publishes_total" [outcome = "published" | "refused"
        | "error"];

    /// Downloads whose record waits to be written to the store.
    pulls_waiting: IntGauge = "cratehouse_pulls_waiting";

    /// Records that wait to be written to the store. One stands for all downloads of a version by one
    /// token from one address since the last write.
    pull_records_waiting: IntGauge = "cratehouse_pull_records_waiting";

    /// Downloads whose record was written to the store.
    pulls_recorded: IntCounter = "cratehouse_pulls_recorded_total";

    /// Records of downloads that were written to the store.
    pull_records: IntCounter = "cratehouse_pull_records_total";

    /// Downloads whose record was lost: too many waited for the store, or it did not take them
    /// before a stop.
    pulls_dropped: IntCounter = "cratehouse_pulls_dropped_total";

    /// Batches of records of downloads that the store did not take; they are tried again.
    pull_batches_failed: IntCounter = "cratehouse_pull_batches_failed_total";

    // The policy.

    /// Verdicts on versions, counted when they are made (once for each index file and policy):
    /// allow, hold, deny.
    verdicts: IntCounterVec = "cratehouse_policy_verdicts_total" [verdict = "allow" | "hold"
        | "deny"];

    /// What rules said of versions, by rule, action and mode, counted with the verdicts.
    policy_findings: IntCounterVec = "cratehouse_policy_findings_total" [
        rule = "ban" | "allow_list" | "age" | "advisory" | "yanked" | "license" | "integrity",
        action = "hold" | "deny", mode = "enforce" | "observe"];

    /// Crate files whose licence was read, by what they state: stated, file_only, missing (or not
    /// to be read).
    licenses_read: IntCounterVec = "cratehouse_licenses_read_total" [outcome = "stated"
        | "file_only" | "missing"];

    /// What the policy had against publishes, by section (publish, names, verdict) and mode;
    /// enforced ones were refused.
    policy_objections: IntCounterVec = "cratehouse_policy_objections_total" [
        section = "publish" | "names" | "verdict", mode = "enforce" | "observe"];

    /// Downloads that the policy denied.
    policy_denials: IntCounter = "cratehouse_policy_denied_downloads_total";

    /// Always 1: the version of the policy in force, which all replicas should share.
    policy_info: IntGaugeVec = "cratehouse_policy_info" [version];

    /// When the policy in force was read, in seconds since 1970.
    policy_loaded: IntGauge = "cratehouse_policy_loaded_timestamp_seconds";

    /// 1 when what is there now cannot be used, and what was read before stays in force: policy,
    /// advisories.
    policy_broken: IntGaugeVec = "cratehouse_policy_broken" [what = "policy" | "advisories"];

    /// Advisories in force; 0: there is no database, or no rule asks for it.
    advisories: IntGauge = "cratehouse_policy_advisories";

    /// When the advisory database in force was last modified, or, where the store keeps it, was last found to
    /// be the newest there is, in seconds since 1970; 0 without one.
    advisories_newest: IntGauge = "cratehouse_policy_advisories_timestamp_seconds";

    /// Times that the advisory database was asked for at its URL (policy.advisories_hours), by what came of
    /// it: new, same (as before), failed (it was not to be had, or was refused).
    advisories_fetches: IntCounterVec = "cratehouse_policy_advisories_fetches_total" [outcome = "new"
        | "same" | "failed"];

    /// Waivers that are in force, and those of them that end within seven days.
    waivers: IntGaugeVec = "cratehouse_policy_waivers" [state = "in_force" | "ending"];

    // The journal.

    /// The number of the newest journal entry that this replica has applied.
    journal_head: IntGauge = "cratehouse_journal_head";

    /// Journal entries that are known to exist and are not applied yet.
    journal_lag: IntGauge = "cratehouse_journal_lag_entries";

    /// Seconds since the journal was last read to its end; -1 before the first time.
    journal_read_age: Gauge = "cratehouse_journal_read_age_seconds";

    /// Seconds by which what this replica shows may be behind the journal: since its last read that
    /// reached the end, when the last one did not (or is overdue), else 0; -1 before the first. By
    /// its own clock alone.
    journal_lag_seconds: Gauge = "cratehouse_journal_lag_seconds";

    /// Format levels of the journal: the one that is "enabled", and the highest that this release has
    /// "known". All replicas should know one before it is enabled.
    format_level: IntGaugeVec = "cratehouse_journal_format_level" [level = "enabled" | "known"];

    /// Journal entries appended by this replica.
    appends: IntCounter = "cratehouse_journal_appends_total";

    /// Seconds from the first put of an entry until it is known what stands at its number.
    append_seconds: Histogram = "cratehouse_journal_append_seconds";

    /// Changes that wait for their turn.
    append_waiting: IntGauge = "cratehouse_journal_waiting";

    /// How many changes may wait for the journal (limits.append_queue); more are answered with 503.
    append_queue: IntGauge = "cratehouse_journal_waiting_limit";

    /// Requests that wait for a read of the journal, before something unknown is called so: from
    /// clients whose token counts, and from others (limits.journal_waits).
    journal_waits: IntGaugeVec = "cratehouse_journal_read_waiting" [who = "authenticated"
        | "unauthenticated"];

    /// Requests that were refused because too many without a token that counts wait for a read of the
    /// journal (limits.journal_waits).
    journal_waits_refused: IntCounter = "cratehouse_journal_read_waits_refused_total";

    /// Puts of a journal entry that ended in anything but "created".
    append_retries: IntCounter = "cratehouse_journal_append_retries_total";

    /// Checkpoints by event: written, loaded, passed_over (not to be trusted), failed (not written).
    checkpoints: IntCounterVec = "cratehouse_checkpoints_total" [event = "written" | "loaded"
        | "passed_over" | "failed"];

    /// The number of the last journal entry in the newest checkpoint that this replica has written,
    /// loaded or seen.
    checkpoint_seq: IntGauge = "cratehouse_checkpoint_seq";

    // Traces.

    /// Spans by what became of them: exported (a collector has them), failed (it did not take them),
    /// dropped (too many waited for it).
    spans: IntCounterVec = "cratehouse_trace_spans_total" [outcome = "exported" | "failed"
        | "dropped"];

    // The log.

    /// Lines for standard error that are lost, because nobody reads it, or too slowly, or its disk is
    /// full.
    log_lines_lost: IntCounter = "cratehouse_log_lines_lost_total";

    // The process, by the names that Prometheus' own clients use. All 0 where there is no /proc.

    /// CPU time of the program, and of the system on its behalf, in seconds.
    process_cpu: Counter = "process_cpu_seconds_total";

    /// Memory that is in RAM, in bytes.
    process_resident: IntGauge = "process_resident_memory_bytes";

    /// Address space, in bytes.
    process_virtual: IntGauge = "process_virtual_memory_bytes";

    /// Threads.
    process_threads: IntGauge = "process_threads";

    /// Pieces of work for which no thread was free in time, or the system gave none.
    threads_refused: IntCounter = "cratehouse_threads_refused_total";

    /// Files and sockets that are open.
    process_open_files: IntGauge = "process_open_fds";

    /// How many files and sockets may be open; 0: as many as it likes.
    process_max_files: IntGauge = "process_max_fds";

    /// When the process started, in seconds since 1970.
    process_start: IntGauge = "process_start_time_seconds";
}

/// The routes that builds need, and how their requests end badly: series that alerts watch before they
/// have happened. All routes times all statuses would be hundreds of histograms.
const WATCHED_ROUTES: &[&str] = &[
    "index_config",
    "index_file",
    "crates_io_index_config",
    "crates_io_index_file",
    "download",
    "search",
    "publish",
];
const WATCHED_STATUSES: &[&str] = &["200", "500", "502", "503", "504"];

impl Metrics {
    /// Those of this process, which say from the start what it is: its release, the commit that it was
    /// built from, and the fingerprint of its configuration.
    ///
    /// # Errors
    /// As [`Metrics::new`].
    pub fn of_process(build: [&str; 3]) -> prometheus::Result<Self> {
        let metrics = Self::new()?;
        metrics.build.with_label_values(&build).set(1);
        metrics.process_start.set(jiff::Timestamp::now().as_second());
        Ok(metrics)
    }

    /// Makes the series of one upstream exist that alerts watch.
    pub fn expect_upstream(&self, upstream: &str) {
        let _ = self.upstream_bytes.with_label_values(&[upstream]);
        let _ = self.index_lines_skipped.with_label_values(&[upstream]);
        for reason in ["crowded", "no_memory"] {
            let _ = self.upstream_refused.with_label_values(&[upstream, reason]);
        }
        for kind in ["config", "index", "crate"] {
            for outcome in ["200", "error", "timeout"] {
                let _ = self.upstream_requests.with_label_values(&[upstream, kind, outcome]);
            }
        }
    }

    fn expect_what_alerts_watch(&self) {
        for route in WATCHED_ROUTES {
            let _ = self.bytes_sent.with_label_values(&[*route]);
            for status in WATCHED_STATUSES {
                let _ = self.requests.with_label_values(&[*route, *status]);
            }
        }
    }
}

#[cfg(test)]
mod tests;
