//! `pulls`: who pulled a version, after an incident.

use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;

use crate::cli::Pulls;
use crate::config::Config;
use crate::flows::open::pulls_in;
use crate::flows::pulls::log::{Answer, ask, page, start};
use crate::flows::store::founded;
use crate::model::pull::{COLUMNS, Pull, Selection, Totals, encode};
use cratehouse_core::console::{Stdout, tell};
use cratehouse_core::error::{Error, Result};
use cratehouse_journal::entry_store::journal_in;

use jiff::Timestamp;

use super::remote::{Server, path};
use super::{has_left, unwritten};

/// Prints pull by pull, as the batches are read; a reader that has seen enough may leave.
pub(super) async fn show_pulls(
    config: &Config,
    what: &Pulls,
    server: Option<&Server>,
) -> Result<ExitCode> {
    let mut telling =
        Telling { out: BufWriter::new(Stdout), totals: Totals::default(), json: what.json };
    let told = match server {
        None => ask_store(config, what, &mut telling).await,
        Some(server) => ask_server(server, what, &mut telling).await,
    };
    let outcome = told.and_then(|told| {
        if !what.json {
            telling.sum_up(what, &told)?;
        }
        telling.out.flush().map_err(unwritten).map(|()| told)
    });
    match outcome {
        Err(e) if has_left(&e) => Ok(ExitCode::SUCCESS),
        outcome => Ok(caveats(&outcome?)),
    }
}

/// What is told beside the pulls.
struct Told {
    since: Option<Timestamp>,
    answer: Answer,
    /// Likewise as [`page::Page::flush_seconds`].
    flush_seconds: Option<u64>,
}

async fn ask_store(config: &Config, what: &Pulls, telling: &mut Telling) -> Result<Told> {
    let (objects, _) = founded::existing(config).await?;
    let since = match what.since {
        Some(since) => Some(start(&journal_in(&objects), since).await?),
        None => None,
    };
    let (subject, user, token) = (what.subject.clone(), what.user.clone(), what.token);
    let selection = Selection { subject, since, user, token };
    let mut outcome = Ok(());
    let heard = |pull: Pull| {
        outcome = telling.tell(&pull);
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let answer = ask(&pulls_in(&objects), &selection, heard).await?;
    let flush_seconds = config.pulls.retention_days.map(|_| config.pulls.flush.as_secs());
    outcome.map(|()| Told { since, answer, flush_seconds })
}

async fn ask_server(server: &Server, what: &Pulls, telling: &mut Telling) -> Result<Told> {
    let (mut after, mut unreadable) = (None, 0);
    loop {
        let query = [
            ("crate", Some(what.subject.to_string())),
            ("since", what.since.map(|since| since.to_string())),
            ("user", what.user.clone()),
            ("token", what.token.map(|token| token.to_string())),
            ("after", after),
        ];
        let page: page::Page = server.get(&path(&["pulls"], &query)?).await?;
        page.pulls.iter().try_for_each(|pull| telling.tell(pull))?;
        unreadable += page.unreadable;
        let answer = Answer { first: page.first, unreadable };
        match page.next {
            None => {
                let flush_seconds = page.flush_seconds;
                return Ok(Told { since: page.since, answer, flush_seconds });
            }
            next => after = next,
        }
    }
}

/// Prints pulls, and counts them.
struct Telling {
    out: BufWriter<Stdout>,
    totals: Totals,
    json: bool,
}

impl Telling {
    fn tell(&mut self, pull: &Pull) -> Result<()> {
        let is_first = self.totals.pulls() == 0;
        self.totals.add(pull);
        print(&mut self.out, pull, self.json, is_first)
    }

    fn sum_up(&mut self, what: &Pulls, told: &Told) -> Result<()> {
        let subject = &what.subject;
        let mut text = match self.totals.pulls() {
            0 => format!("no pull of {subject} is recorded"),
            1 => format!("\n1 pull of {subject} is recorded"),
            pulls => format!("\n{pulls} pulls of {subject} are recorded"),
        };
        if let Some(since) = told.since {
            text += &format!(" since {since:.0}");
        }
        text += &match told.answer.first {
            Some(first) => format!("; records begin on {first}\n"),
            None => "; there are no records at all\n".to_owned(),
        };
        self.totals.lines().for_each(|line| text += &format!("{line}\n"));
        self.out.write_all(text.as_bytes()).map_err(unwritten)
    }
}

fn print(out: &mut impl Write, pull: &Pull, json: bool, first: bool) -> Result<()> {
    if json {
        let line = encode([pull]).map_err(Error::internal)?;
        return out.write_all(&line).map_err(unwritten);
    }
    if first {
        writeln!(out, "{COLUMNS}").map_err(unwritten)?;
    }
    writeln!(out, "{}", pull.line()).map_err(unwritten)
}

/// What the answer may lack, told beside it.
fn caveats(told: &Told) -> ExitCode {
    match told.flush_seconds {
        Some(seconds) => {
            tell(&format!(
                "running servers may not have written those of the last {seconds} s yet"
            ));
        }
        None => tell("`pulls.retention_days` is 0: downloads are not recorded"),
    }
    let unreadable = told.answer.unreadable;
    if unreadable == 0 {
        return ExitCode::SUCCESS;
    }
    tell(&format!("{unreadable} records cannot be read: the answer may not be whole"));
    ExitCode::FAILURE
}
