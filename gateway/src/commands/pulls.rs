//! `pulls`: who pulled a version, after an incident.

use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;

use crate::cli::Pulls;
use crate::config::Config;
use crate::flows::open::pulls_in;
use crate::flows::pulls::log::{Answer, ask, start};
use crate::flows::store::founded;
use crate::model::pull::{COLUMNS, Pull, Selection, Totals, encode};
use cratehouse_core::console::{Stdout, tell};
use cratehouse_core::error::{Error, Result};
use cratehouse_journal::entry_store::journal_in;

use super::{has_left, unwritten};

/// Prints pull by pull, as the batches are read; a reader that has seen enough may leave.
pub(super) async fn show_pulls(config: &Config, what: &Pulls) -> Result<ExitCode> {
    let (objects, _) = founded::existing(config).await?;
    let since = match what.since {
        Some(since) => Some(start(&journal_in(&objects), since).await?),
        None => None,
    };
    let selection = Selection { subject: what.subject.clone(), since };
    let (mut out, mut totals) = (BufWriter::new(Stdout), Totals::default());
    let mut outcome = Ok(());
    let heard = |pull: Pull| {
        outcome = print(&mut out, &pull, what.json, totals.pulls() == 0);
        totals.add(&pull);
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let answer = ask(&pulls_in(&objects), &selection, heard).await?;
    if outcome.is_ok() && !what.json {
        outcome = sum_up(&mut out, &totals, &selection, answer);
    }
    match outcome.and_then(|()| out.flush().map_err(unwritten)) {
        Err(e) if has_left(&e) => return Ok(ExitCode::SUCCESS),
        outcome => outcome?,
    }
    Ok(caveats(config, answer))
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

fn sum_up(
    out: &mut impl Write,
    totals: &Totals,
    selection: &Selection,
    answer: Answer,
) -> Result<()> {
    let subject = &selection.subject;
    let mut text = match totals.pulls() {
        0 => format!("no pull of {subject} is recorded"),
        pulls => format!("\n{pulls} pulls of {subject} are recorded"),
    };
    if let Some(since) = selection.since {
        text += &format!(" since {since:.0}");
    }
    text += &match answer.first {
        Some(first) => format!("; records begin on {first}\n"),
        None => "; there are no records at all\n".to_owned(),
    };
    totals.lines().for_each(|line| text += &format!("{line}\n"));
    out.write_all(text.as_bytes()).map_err(unwritten)
}

/// What the answer may lack, told beside it.
fn caveats(config: &Config, answer: Answer) -> ExitCode {
    match config.pulls.retention_days {
        Some(_) => tell(&format!(
            "running servers may not have written those of the last {} s yet",
            config.pulls.flush.as_secs()
        )),
        None => tell("`pulls.retention_days` is 0: downloads are not recorded"),
    }
    if answer.unreadable == 0 {
        return ExitCode::SUCCESS;
    }
    tell(&format!("{} records cannot be read: the answer may not be whole", answer.unreadable));
    ExitCode::FAILURE
}
