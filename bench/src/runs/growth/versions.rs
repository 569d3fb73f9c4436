//! Hosted versions.

use cratehouse_tests::authority::Authority;
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::memory_s3::MemoryS3;

use super::{Options, Size, settled_mb, take_turns, tell};
use crate::Result;
use crate::journal::{self, Journal};
use crate::report::Report;

pub(super) fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let sizes = options.versions.iter().map(|count| host(*count));
    let sizes = sizes.collect::<Result<Vec<_>>>()?;
    let at = |nth: usize| sizes.get(nth).map(|(size, _)| size).ok_or("no such size");
    let ask = |nth: usize, round: usize| at(nth)?.ask(options.requests, round);
    let resident = |nth: usize| settled_mb(&at(nth)?.gateway);
    let axis = "hosted versions";
    let outcomes = take_turns(axis, &options.versions, options.rounds, ask, resident)?;
    tell(report, &outcomes, true)
}

/// A gateway that hosts so many versions, each of a crate of its own; it is asked for the first,
/// which is the same in every size.
fn host(count: usize) -> Result<(Size, MemoryS3)> {
    let store = MemoryS3::start();
    Journal::found(&store).publish(count, count);
    let builder = Gateway::builder().certificate(&Authority::new()).s3(&store.bucket());
    let mut gateway = builder.prepare();
    gateway.cli_ok(&["checkpoint"]);
    gateway.start_again();
    let paths = vec![format!("/index/{}", journal::path(0))];
    Ok((Size { count, gateway, paths }, store))
}
