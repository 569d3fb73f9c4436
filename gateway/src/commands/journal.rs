//! `journal …`: the audit log, and whether the chain holds.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::io::{BufWriter, Write as _};
use std::ops::ControlFlow;
use std::process::ExitCode;

use crate::cli::Show;
use crate::config::Config;
use crate::flows::store::founded;
use crate::flows::store::show::{COLUMNS, Selection, Shown, show as show_selected};
use crate::flows::store::trail_page::MOST_EVENTS;
use crate::flows::store::verifying::{Step, Verified, verify as verify_chain};
use cratehouse_core::console::Stdout;
use cratehouse_core::error::Result;
use cratehouse_core::progress::Progress;
use cratehouse_journal::entry_store::journal_in;
use reqwest::Method;

use super::remote::lines::{Line, TrailPage};
use super::remote::{Server, path};
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

pub(super) async fn verify(config: &Config, server: Option<&Server>) -> Result<ExitCode, Failure> {
    let verified = match server {
        None => verify_store(config).await?,
        Some(server) => {
            let nothing: Option<&()> = None;
            server.work(Method::POST, &path(&["journal", "verify"], &[])?, nothing).await?
        }
    };
    let Verified { seq, sha256, catalog, catalog_compared, wrong } = verified;
    print(&format!("the chain holds up to entry {seq} ({sha256})"))?;
    if !catalog_compared {
        print(&format!(
            "the catalog {catalog} was not compared: a server has it in use, or there is none"
        ))?;
    }
    for wrong in &wrong {
        print(wrong)?;
    }
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn verify_store(config: &Config) -> Result<Verified, Failure> {
    let (objects, registry) = founded::existing(config).await.map_err(Failure::opening)?;
    let walking = Progress::begin("walking the journal", config.log.format);
    let checking = OnceCell::new();
    let tick = |step, done, total| match step {
        Step::Walking => walking.tick(done, Some(total)),
        Step::Bytes => checking
            .get_or_init(|| Progress::begin("checking the bytes", config.log.format))
            .tick(done, Some(total)),
    };
    let catalog = &config.catalog.path;
    Ok(verify_chain(&objects, &registry.to_string(), catalog, tick).await?)
}

/// Prints line by line, as the journal is read; a reader that has seen enough may leave.
pub(super) async fn show(
    config: &Config,
    what: &Show,
    server: Option<&Server>,
) -> Result<ExitCode> {
    let mut out = Lines { out: BufWriter::new(Stdout), tail: what.tail, kept: VecDeque::new() };
    let begun = match what.json {
        true => Ok(()),
        false => out.print(COLUMNS),
    };
    let outcome = match (begun, server) {
        (Err(e), _) => Err(e),
        (Ok(()), None) => show_store(config, what, &mut out).await,
        (Ok(()), Some(server)) => show_server(server, what, &mut out).await,
    };
    match outcome.and_then(|()| out.end()) {
        Err(e) if !has_left(&e) => Err(e),
        _ => Ok(ExitCode::SUCCESS),
    }
}

async fn show_store(config: &Config, what: &Show, out: &mut Lines) -> Result<()> {
    let (objects, registry) = founded::existing(config).await?;
    let registry = registry.to_string();
    let krate = what.krate.as_ref().map(|name| name.key());
    let (user, token, kinds) = (what.user.clone(), what.token, what.kinds.clone());
    let selection = Selection { krate, since: what.since, user, token, kinds };
    let mut outcome = Ok(());
    let print = |shown: Shown<'_>| {
        let line = if what.json { shown.json() } else { Ok(shown.line()) };
        outcome = line.and_then(|line| out.take(line));
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    show_selected(&journal_in(&objects), &registry, &selection, print).await?;
    outcome
}

/// Page by page: of the last events from the end, and as many as are wanted.
async fn show_server(server: &Server, what: &Show, out: &mut Lines) -> Result<()> {
    let printed = |line: &Line| if what.json { line.json() } else { line.line() };
    let (mut after, mut last) = (None, Vec::new());
    let order = what.tail.map(|_| "desc".to_owned());
    loop {
        let left = what.tail.map(|tail| (tail as usize).saturating_sub(last.len()));
        let query = [
            ("crate", what.krate.as_ref().map(ToString::to_string)),
            ("user", what.user.clone()),
            ("token", what.token.map(|token| token.to_string())),
            ("kind", (!what.kinds.is_empty()).then(|| what.kinds.join(","))),
            ("since", what.since.map(|since| since.to_string())),
            ("order", order.clone()),
            ("limit", left.map(|left| left.min(MOST_EVENTS).to_string())),
            ("after", after.map(|seq: u64| seq.to_string())),
        ];
        let page: TrailPage = server.get(&path(&["journal"], &query)?).await?;
        let lines = page.events.iter().map(printed).collect::<Result<Vec<_>>>()?;
        match what.tail {
            None => lines.into_iter().try_for_each(|line| out.print(&line))?,
            Some(_) => last.extend(lines),
        }
        let is_enough = what.tail.is_some_and(|tail| last.len() >= tail as usize);
        match page.next {
            Some(next) if !is_enough => after = Some(next),
            _ => break,
        }
    }
    last.into_iter()
        .take(what.tail.unwrap_or_default() as usize)
        .rev()
        .try_for_each(|line| out.take(line))
}
