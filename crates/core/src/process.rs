//! This process, as the system sees it.

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// What it uses just now. What the system does not tell is 0: only Linux has `/proc`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time, of the program and of the system on its behalf, since the start.
    pub cpu: Duration,
    /// Memory that is in RAM, in bytes.
    pub resident_bytes: u64,
    /// Address space, in bytes.
    pub virtual_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Files and sockets that are open.
    pub open_files: u64,
    /// How many of them there may be; 0: as many as it likes.
    pub max_open_files: u64,
}

impl Usage {
    /// Looks. Three small reads of what the system keeps in memory.
    pub fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let files = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Self {
            cpu: Duration::new(
                u64::try_from(cpu.tv_sec).unwrap_or_default(),
                u32::try_from(cpu.tv_nsec).unwrap_or_default(),
            ),
            open_files: files as u64,
            max_open_files: getrlimit(Resource::Nofile).current.unwrap_or_default(),
            ..Self::told(&status)
        }
    }

    /// What `/proc/self/status` tells (proc_pid_status(5)); its kB are KiB.
    fn told(status: &str) -> Self {
        let number = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            let number = line.and_then(|rest| rest.split_whitespace().next());
            number.and_then(|number| number.parse::<u64>().ok()).unwrap_or_default()
        };
        Self {
            resident_bytes: number("VmRSS") * 1024,
            virtual_bytes: number("VmSize") * 1024,
            threads: number("Threads"),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_tells_is_read() {
        let told = Usage::told("Name:\tx\nVmSize:\t  2048 kB\nVmRSS:\t 10 kB\nThreads:\t3\n");
        let wanted = Usage {
            resident_bytes: 10 << 10,
            virtual_bytes: 2 << 20,
            threads: 3,
            ..Usage::default()
        };
        assert_eq!(told, wanted);
        assert_eq!(Usage::told("nothing of the kind"), Usage::default());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_uses_something() {
        let usage = Usage::now();
        assert!(usage.resident_bytes > 1 << 20 && usage.virtual_bytes >= usage.resident_bytes);
        assert!(usage.threads >= 1 && usage.open_files >= 3 && usage.cpu > Duration::ZERO);
        assert!(usage.max_open_files == 0 || usage.max_open_files >= usage.open_files);
    }
}
