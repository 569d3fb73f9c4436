//! Index files in memory.

use std::sync::Arc;
use std::time::Instant;

use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::index_path;
use tokio::runtime::Runtime;

use super::{Options, Size, settled_mb, take_turns, tell};
use crate::Result;
use crate::crowd::fetch_all;
use crate::journal::index_line;
use crate::origin::{Found, Origin};
use crate::process::Threads;
use crate::report::Report;
use crate::visitor::Visitor;

/// More than all files of any size need, in MiB.
const ROOM_MIB: u64 = 16_384;
/// As long as every name.
const PLACE: &str = "grown-crate-0000000";
/// Connections of those who ask for every file once, and requests under way on each.
const CONNECTIONS: usize = 2;
const STREAMS: usize = 32;

/// The line of the configuration that says how much memory there is for index files.
pub(super) fn room(mib: u64) -> String {
    format!("index_mib = {mib}")
}

/// Gives the gateway with the most files, and their upstream, to be walked.
pub(super) fn measure(options: &Options, report: &mut Report) -> Result<Option<(Size, Origin)>> {
    let (origin, runtime) = (serve()?, Runtime::new()?);
    let sizes = options.files.iter().map(|count| fill(&origin, &runtime, *count, report));
    let mut sizes = sizes.collect::<Result<Vec<_>>>()?;
    let at = |nth: usize| sizes.get(nth).ok_or("no such size");
    let ask = |nth: usize, round: usize| at(nth)?.ask(options.requests, round);
    let resident = |nth: usize| settled_mb(&at(nth)?.gateway);
    let outcomes = take_turns("index files", &options.files, options.rounds, ask, resident)?;
    tell(report, &outcomes, true)?;
    Ok(sizes.pop().map(|largest| (largest, origin)))
}

/// An upstream that has every crate of ours, with one version.
fn serve() -> Result<Origin> {
    let template = format!("{}\n", index_line(PLACE, "1.0.0", "2026-01-01T00:00:00Z"));
    Origin::start(move |path| {
        let name = path.strip_prefix("/index/")?.rsplit('/').next()?;
        let body = template.replace(PLACE, name).into();
        name.starts_with("grown-").then(|| Found { body, ..Found::default() })
    })
}

fn paths(count: usize) -> Vec<String> {
    (0..count)
        .map(|nth| format!("/index/{}", index_path(&format!("grown-crate-{nth:07}"))))
        .collect()
}

/// A gateway that has asked its upstream for so many files.
fn fill(origin: &Origin, runtime: &Runtime, count: usize, report: &mut Report) -> Result<Size> {
    let builder = Gateway::builder().upstream(origin.upstream()).set("cache", &room(ROOM_MIB));
    let mut gateway = builder.prepare();
    origin.trusted_by(&gateway)?;
    gateway.start_again();
    let (size, begun) = (Size { count, gateway, paths: paths(count) }, Instant::now());
    let before = Threads::of(size.gateway.pid())?;
    walk(&size, runtime)?;
    let (took, used) = (begun.elapsed(), Threads::of(size.gateway.pid())?.since(&before));
    let asked = origin.asked();
    if (asked.most, asked.requests) != (1, count) {
        return Err(
            format!("the upstream was asked {} times for {count} files", asked.requests).into()
        );
    }
    report.note(format!(
        "{count} index files came from the upstream in {:.1} s, with {:.0} CPU µs of the gateway each.",
        took.as_secs_f64(),
        used.as_secs_f64() * 1e6 / count as f64,
    ));
    Ok(size)
}

/// Every file is asked for once.
pub(super) fn walk(size: &Size, runtime: &Runtime) -> Result<()> {
    let visitors = (0..CONNECTIONS).map(|_| Visitor::of(&size.gateway));
    let visitors = visitors.collect::<Result<Vec<_>>>()?;
    let bare = |path: &String| path.trim_start_matches("/index/").to_owned();
    let paths: Vec<_> = size.paths.iter().map(bare).collect();
    runtime.block_on(fetch_all(&visitors, STREAMS, &Arc::new(paths)))
}
