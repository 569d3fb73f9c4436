//! A large index, walked through a cache that holds a small part of it.

use serde::Serialize;
use tokio::runtime::Runtime;

use super::files::{room, walk};
use super::{Options, Size, settled_mb};
use crate::Result;
use crate::origin::Origin;
use crate::process::{Threads, memory};
use crate::report::{MustBe, Report};

/// How files are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Walk {
    /// Each once, one after the other: nothing of it is in memory.
    Through,
    /// As organisations ask: the nth most popular one n times less often than the first (Zipf).
    Popular,
}

/// What one walk showed.
#[derive(Debug, Serialize)]
struct Outcome {
    walk: Walk,
    asked: usize,
    cpu_us: f64,
    /// Lookups that were answered from memory, in per cent.
    from_memory: f64,
    /// Resident at its end, and the most until then, in MB.
    resident_mb: f64,
    peak_mb: f64,
}

const WALKS: [Walk; 2] = [Walk::Through, Walk::Popular];

/// What may be resident beside the memory for index files, whatever the size of the index: the
/// process itself, and what malloc keeps of what was freed; as a part of that memory, and in MB.
const BESIDE_PART: f64 = 0.5;
const BESIDE_MB: f64 = 64.0;

pub(super) fn measure(
    options: &Options,
    (mut size, _origin): (Size, Origin),
    report: &mut Report,
) -> Result<()> {
    let mib = options.walk_mib;
    size.gateway.stop();
    let room = room(mib);
    size.gateway.reconfigure(|text| {
        let lines = text.lines().map(|line| match line.starts_with("index_mib") {
            true => room.as_str(),
            false => line,
        });
        lines.collect::<Vec<_>>().join("\n") + "\n"
    });
    size.gateway.start_again();
    let (runtime, all) = (Runtime::new()?, size.paths.clone());
    for walk in WALKS {
        size.paths = match walk {
            Walk::Through => all.clone(),
            Walk::Popular => popular(&all),
        };
        let outcome = run(&size, &runtime, walk)?;
        tell(report, &size, mib, &outcome)?;
        let limit = BESIDE_MB + mib as f64 * 1.048_576 * (1.0 + BESIDE_PART);
        let what = format!(
            "MB resident at the most, {} index files in index_mib = {mib} ({})",
            size.count,
            walk.label()
        );
        report.bound(what, outcome.peak_mb, MustBe::AtMost(limit));
    }
    Ok(())
}

fn run(size: &Size, runtime: &Runtime, way: Walk) -> Result<Outcome> {
    let gateway = &size.gateway;
    let count =
        |outcome: &str| gateway.metric("cratehouse_index_lookups_total", &[("outcome", outcome)]);
    let (hits, stored) = (count("hit"), count("store"));
    let before = Threads::of(gateway.pid())?;
    walk(size, runtime)?;
    let used = Threads::of(gateway.pid())?.since(&before);
    let (hits, stored) = (count("hit") - hits, count("store") - stored);
    if hits + stored != size.paths.len() as f64 {
        return Err(format!("{hits} from memory and {stored} from the store are not all").into());
    }
    let resident_mb = settled_mb(gateway)?;
    Ok(Outcome {
        walk: way,
        asked: size.paths.len(),
        cpu_us: used.as_secs_f64() * 1e6 / size.paths.len() as f64,
        from_memory: 100.0 * hits / (hits + stored),
        resident_mb,
        peak_mb: memory(gateway.pid())?.peak as f64 / 1e6,
    })
}

fn tell(report: &mut Report, size: &Size, mib: u64, outcome: &Outcome) -> Result<()> {
    let cells = vec![
        format!("index files through {mib} MiB, {}", outcome.walk.label()),
        size.count.to_string(),
        format!("{:.1}", outcome.cpu_us),
        "-".to_owned(),
        format!("{:.1}", outcome.resident_mb),
        format!("{:.1}", outcome.from_memory),
    ];
    report.row(cells, outcome)
}

/// As many requests as there are paths. A Zipf rank is n to the power of an even number (the
/// inverse of the logarithm by which its frequencies add up), and ranks are spread over all paths.
fn popular(paths: &[String]) -> Vec<String> {
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as f64 / u64::MAX as f64
    };
    let spread = |rank: usize| rank.wrapping_mul(SPREAD) % paths.len();
    let rank = |part: f64| (paths.len() as f64).powf(part) as usize - 1;
    (0..paths.len()).filter_map(|_| paths.get(spread(rank(next())))).cloned().collect()
}

/// A prime, so that neighbours in rank are none in name.
const SPREAD: usize = 7_368_787;

impl Walk {
    fn label(self) -> &'static str {
        match self {
            Self::Through => "each once",
            Self::Popular => "popular ones more often",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_popular_path_is_asked_for_often() {
        let paths: Vec<String> = (0..10_000).map(|nth| nth.to_string()).collect();
        let mut counts = HashMap::<String, usize>::new();
        popular(&paths).into_iter().for_each(|path| *counts.entry(path).or_default() += 1);
        assert_eq!(counts.values().sum::<usize>(), 10_000);
        assert!((600..900).contains(&counts["0"]), "a logarithm of 10,000: {}", counts["0"]);
        assert!((2_000..6_000).contains(&counts.len()), "{}", counts.len());
    }
}
