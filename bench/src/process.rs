//! What the kernel (proc(5)) and a gateway tell about a process.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use cratehouse_tests::gateway::Gateway;

use crate::Result;

/// The CPU time that a process has used so far, in user and system mode, with that of the threads
/// that have ended. Counted in ticks: 10 ms on Linux.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = cpu_ticks(&stat).ok_or_else(|| format!("not to be read: {stat}"))?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// The fields 14 and 15 of `stat`. The second one, a name in parentheses, may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, behind_the_name) = stat.rsplit_once(')')?;
    let mut fields = behind_the_name.split_whitespace().skip(11);
    let mut field = || fields.next()?.parse::<u64>().ok();
    Some(field()? + field()?)
}

/// The CPU time of each living thread of some processes, in nanoseconds: for what is shorter than a
/// tick.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Threads(BTreeMap<String, u64>);

impl Threads {
    /// As they are now.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let mut all = BTreeMap::new();
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let thread = thread?;
            // One that ended meanwhile is none.
            let Ok(stat) = fs::read_to_string(thread.path().join("schedstat")) else { continue };
            let nanos = stat.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
            let nanos = nanos.ok_or_else(|| format!("not to be read: {stat}"))?;
            all.insert(thread.file_name().to_string_lossy().into_owned(), nanos);
        }
        Ok(Self(all))
    }

    /// Those of several processes, as they are now.
    pub(crate) fn of_all(pids: &[u32]) -> Result<Self> {
        let mut all = Self::default();
        for pid in pids {
            // A thread's number is unlike that of any other thread of the machine.
            all.0.extend(Self::of(*pid)?.0);
        }
        Ok(all)
    }

    /// What they have used since. A thread that ended in between is not counted: of the gateway's
    /// only those end that had nothing to do for ten seconds.
    pub(crate) fn since(&self, before: &Self) -> Duration {
        let used = |(thread, nanos): (&String, &u64)| {
            nanos.saturating_sub(before.0.get(thread).copied().unwrap_or_default())
        };
        Duration::from_nanos(self.0.iter().map(used).sum())
    }
}

/// A process's memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// What of it is resident now.
    pub(crate) resident: u64,
    /// The most that ever was.
    pub(crate) peak: u64,
}

/// A process's memory.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| kibibytes(&status, name).ok_or_else(|| format!("no {name}: {status}"));
    Ok(Memory { resident: field("VmRSS:")? * 1024, peak: field("VmHWM:")? * 1024 })
}

/// What of a server is resident, in bytes. Of several processes, what they share counts once (that
/// is their PSS, of which other programs that share it take their part too: it flatters a little).
pub(crate) fn resident(pids: &[u32]) -> Result<u64> {
    if let [only] = pids {
        return Ok(memory(*only)?.resident);
    }
    let part = |pid: &u32| -> Result<u64> {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let kib = kibibytes(&rollup, "Pss:").ok_or_else(|| format!("no Pss: {rollup}"))?;
        Ok(kib * 1024)
    };
    pids.iter().map(part).sum()
}

/// The number of the last journal entry that a gateway has applied, as its admin listener shows
/// it. (The metric says nothing before the first entry that it applies by itself.)
pub(crate) fn journal_head(gateway: &Gateway) -> Result<u64> {
    let summary = gateway.admin().get("/").assert_status(200).text();
    head_in(&summary).ok_or_else(|| format!("no journal head: {summary}").into())
}

/// A line such as `journal head  42 <hash>`.
fn head_in(summary: &str) -> Option<u64> {
    let line = summary.lines().find_map(|line| line.strip_prefix("journal head"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A line such as `VmRSS:   18964 kB`.
fn kibibytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_ticks_are_found_behind_any_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 1250 34 5 6 20 0 3 0 99 0";
        assert_eq!(cpu_ticks(stat), Some(1284));
        assert_eq!(cpu_ticks("42 (cratehouse) S 1"), None);
    }

    #[test]
    fn memory_is_read_in_kibibytes() {
        let status = "Name:\tcratehouse\nVmHWM:\t   20000 kB\nVmRSS:\t   18964 kB\n";
        assert_eq!(kibibytes(status, "VmRSS:"), Some(18964));
        assert_eq!(kibibytes(status, "VmSwap:"), None);
    }

    #[test]
    fn a_journal_head_is_the_number_without_the_hash() {
        let summary = "cratehouse 0.1.0\njournal head  42 00ff\n/metrics  for Prometheus\n";
        assert_eq!(head_in(summary), Some(42));
        assert_eq!(head_in("starting"), None);
    }

    #[test]
    fn new_threads_count_from_their_beginning_and_ended_ones_do_not() {
        let threads = |all: &[(&str, u64)]| {
            Threads(all.iter().map(|(id, nanos)| ((*id).to_owned(), *nanos)).collect())
        };
        let before = threads(&[("1", 100), ("2", 50)]);
        let used = threads(&[("1", 130), ("3", 7)]).since(&before);
        assert_eq!(used, Duration::from_nanos(37));
    }

    #[test]
    fn this_process_has_memory_and_uses_time() {
        let own = memory(std::process::id()).unwrap();
        assert!(own.resident > 0 && own.peak >= own.resident);
        cpu_time(std::process::id()).unwrap();
        assert!(!Threads::of_all(&[std::process::id()]).unwrap().0.is_empty());
        let twice = resident(&[std::process::id(); 2]).unwrap();
        assert!(resident(&[std::process::id()]).unwrap() > 0 && twice > 0);
    }
}
