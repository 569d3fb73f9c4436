//! What is not counted as it happens is measured when somebody looks.

use crate::gateway::Gateway;
use crate::http::response::responses;
use cratehouse_core::error::Result;
use cratehouse_core::metrics::Metrics;
use cratehouse_core::process::Usage;
use cratehouse_core::{console, threads};
use cratehouse_storage::format_level::Level;

/// Brings the gauges up to date.
///
/// # Errors
/// When the catalog cannot be read.
pub(crate) fn measure(gateway: &Gateway, ready: bool) -> Result<()> {
    gateway.metrics.ready.set(ready.into());
    journal(gateway)?;
    memory(gateway);
    queues(gateway);
    process(&gateway.metrics);
    Ok(())
}

/// The same while nothing is open yet: what can be said of the process alone.
pub(crate) fn measure_start(metrics: &Metrics) {
    metrics.ready.set(0);
    process(metrics);
}

fn journal(gateway: &Gateway) -> Result<()> {
    let (metrics, journal) = (&gateway.metrics, &gateway.journal);
    metrics.journal_read_age.set(journal.read_age().map_or(-1.0, |age| age.as_secs_f64()));
    metrics.journal_lag_seconds.set(journal.lag().map_or(-1.0, |lag| lag.as_secs_f64()));
    let enabled = gateway.catalog.head()?.level;
    for (what, level) in [("enabled", enabled), ("known", Level::KNOWN)] {
        metrics.format_level.with_label_values(&[what]).set(level.number().into());
    }
    Ok(())
}

fn memory(gateway: &Gateway) {
    let (metrics, index, crates) =
        (&gateway.metrics, &gateway.lookup.index, &gateway.mirror.files.cache);
    metrics.index_memory.set(gauge(index.taken()));
    metrics.index_memory_limit.set(gauge(index.limit()));
    let (names, bytes) = index.absent();
    metrics.absent_names.set(gauge(names));
    metrics.absent_memory.set(gauge(bytes));
    metrics.crate_memory.set(gauge(crates.taken()));
    metrics.crate_memory_limit.set(gauge(crates.limit()));
    let (names, bytes) = gateway.mirror.keeper.names.size();
    metrics.search_names.set(gauge(names as u64));
    metrics.search_memory.set(gauge(bytes as u64));
    let (taken, limit) = responses::memory(&gateway.responses);
    metrics.response_memory.set(gauge(taken as u64));
    metrics.response_memory_limit.set(gauge(limit as u64));
}

fn queues(gateway: &Gateway) {
    let (metrics, limits) = (&gateway.metrics, &gateway.config.limits);
    metrics.connections_limit.set(gauge(limits.connections as u64));
    metrics.requests_under_way.set(gauge(gateway.in_flight.taken() as u64));
    metrics.requests_limit.set(gauge(gateway.in_flight.total() as u64));
    metrics.append_waiting.set(gauge(gateway.journal.waiting() as u64));
    metrics.append_queue.set(gauge(limits.append_queue as u64));
    metrics.pulls_waiting.set(gauge(gateway.pulls.left()));
    metrics.pull_records_waiting.set(gauge(gateway.pulls.records() as u64));
    metrics.upstream_limit.set(gauge(limits.upstream_requests as u64));
    for upstream in gateway.mirror.upstreams.iter() {
        for (kind, under_way) in upstream.under_way() {
            let series = metrics.upstream_under_way.with_label_values(&[upstream.name(), kind]);
            series.set(gauge(under_way as u64));
        }
    }
}

fn process(metrics: &Metrics) {
    let usage = Usage::now();
    // What another look has added meanwhile is not added again.
    let more = usage.cpu.as_secs_f64() - metrics.process_cpu.get();
    metrics.process_cpu.inc_by(more.max(0.0));
    let lost = console::stderr().lost();
    metrics.log_lines_lost.inc_by(lost.saturating_sub(metrics.log_lines_lost.get()));
    let refused = threads::refused().saturating_sub(metrics.threads_refused.get());
    metrics.threads_refused.inc_by(refused);
    metrics.process_resident.set(gauge(usage.resident_bytes));
    metrics.process_virtual.set(gauge(usage.virtual_bytes));
    metrics.process_threads.set(gauge(usage.threads));
    metrics.process_open_files.set(gauge(usage.open_files));
    metrics.process_max_files.set(gauge(usage.max_open_files));
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
