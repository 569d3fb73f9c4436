//! `journal …`: the audit log, and whether the chain holds.

use std::collections::VecDeque;
use std::io::{BufWriter, Write as _};
use std::ops::ControlFlow;
use std::process::ExitCode;

use crate::cli::Show;
use crate::config::Config;
use crate::flows::store::founded;
use crate::flows::store::show::{COLUMNS, Selection, Shown, show as show_selected};
use cratehouse_core::console::Stdout;
use cratehouse_core::error::Result;
use cratehouse_core::progress::Progress;
use cratehouse_journal::checkpoint_store::checkpoints_in;
use cratehouse_journal::entry_store::journal_in;
use cratehouse_journal::verify::{Rebuild, check_bytes, walk_and_rebuild};
use cratehouse_storage::blobs::blobs_in;

use super::{has_left, print, unwritten};
use crate::failure::Failure;

/// Lines of an answer, or the last of them.
struct Lines {
    out: BufWriter<Stdout>,
    /// How many; all, where it is not said.
    tail: Option<u32>,
    kept: VecDeque<String>,
}

impl Lines {
    fn print(&mut self, line: &str) -> Result<()> {
        writeln!(self.out, "{line}").map_err(unwritten)
    }

    fn take(&mut self, line: String) -> Result<()> {
        let Some(tail) = self.tail else { return self.print(&line) };
        if self.kept.len() >= tail as usize {
            self.kept.pop_front();
        }
        self.kept.push_back(line);
        Ok(())
    }

    fn end(mut self) -> Result<()> {
        for line in std::mem::take(&mut self.kept) {
            self.print(&line)?;
        }
        self.out.flush().map_err(unwritten)
    }
}

pub(super) async fn verify(config: &Config) -> Result<ExitCode, Failure> {
    let (objects, registry) = founded::existing(config).await.map_err(Failure::opening)?;
    let registry = registry.to_string();
    let (journal, blobs) = (journal_in(&objects), blobs_in(&objects));
    let walking = Progress::begin("walking the journal", config.log.format);
    let tick = |done, total| walking.tick(done, Some(total));
    let mut rebuild = Rebuild::new(&registry)?;
    rebuild.expect_checkpoints(&checkpoints_in(&objects), &registry).await?;
    let compared = rebuild.expect_catalog(&config.catalog.path, &registry).await?;
    let mut walk = walk_and_rebuild(&journal, &registry, rebuild, tick).await?;
    let checking = Progress::begin("checking the bytes", config.log.format);
    let tick = |done, total| checking.tick(done, Some(total));
    check_bytes(&blobs, &mut walk, tick).await;
    print(&format!("the chain holds up to entry {} ({})", walk.head, walk.hash))?;
    if !compared {
        print(&format!(
            "the catalog {} was not compared: a server has it in use, or there is none",
            config.catalog.path.display()
        ))?;
    }
    for wrong in &walk.wrong {
        print(wrong)?;
    }
    Ok(if walk.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints line by line, as the journal is read; a reader that has seen enough may leave.
pub(super) async fn show(config: &Config, what: &Show) -> Result<ExitCode> {
    let (objects, registry) = founded::existing(config).await?;
    let registry = registry.to_string();
    let krate = what.krate.as_ref().map(|name| name.key());
    let (user, token, kinds) = (what.user.clone(), what.token, what.kinds.clone());
    let selection = Selection { krate, since: what.since, user, token, kinds };
    let mut out = Lines { out: BufWriter::new(Stdout), tail: what.tail, kept: VecDeque::new() };
    let mut outcome = Ok(());
    if !what.json {
        outcome = out.print(COLUMNS);
    }
    let print = |shown: Shown<'_>| {
        let line = if what.json { shown.json() } else { Ok(shown.line()) };
        outcome = line.and_then(|line| out.take(line));
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    show_selected(&journal_in(&objects), &registry, &selection, print).await?;
    match outcome.and_then(|()| out.end()) {
        Err(e) if !has_left(&e) => Err(e),
        _ => Ok(ExitCode::SUCCESS),
    }
}
