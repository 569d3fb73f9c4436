//! Standard error and standard output: the one place that writes to them. Neither may fail the
//! process: whoever read them may have left, their disk may be full, or a pipe may be full because its
//! reader has stopped.
//!
//! Lines for standard error wait in a bounded queue for a thread of their own; what does not fit, or
//! cannot be written, is lost and counted. The thread writes without std's lock on standard error, so
//! that nothing else waits behind a write that blocks.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Lines that wait to be written to standard error, in bytes; beyond it lines are lost.
const MAX_WAITING_BYTES: usize = 1024 * 1024;
/// How long a standard error that asks to be tried again (a terminal or pipe that another process made
/// non-blocking) is waited for with one line.
const FULL_WAIT: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// How long the end of the process waits for the last lines.
pub const LAST_LINES: Duration = Duration::from_secs(2);

/// Lines on their way to one reader.
#[derive(Debug, Clone, Default)]
pub struct Lines(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Something has come, or something is done.
    changed: Condvar,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    /// Of these lines, and of those that are being written.
    bytes: usize,
    is_writing: bool,
}

/// Tells people a line on standard error. Never waits.
pub fn tell(line: &str) {
    stderr().push(format!("{line}\n").into_bytes());
}

/// What erases the line that was drawn.
const WIPED: &[u8] = b"\r\x1b[K";

/// Draws a line at a terminal, over the one that was drawn before. Whatever is told next takes its place.
pub fn draw(line: &str) {
    stderr().push(format!("\r{line}\x1b[K").into_bytes());
}

/// Erases the line that was drawn, if it is still there.
pub fn wipe() {
    stderr().push(WIPED.to_vec());
}

/// The lines of standard error; where they are written from the first use on.
pub fn stderr() -> &'static Lines {
    static STDERR: OnceLock<Lines> = OnceLock::new();
    STDERR.get_or_init(|| {
        let (mut torn, mut drawn) = (false, false);
        Lines::written_by(move |line| {
            let Some(wipe) = over(line, &mut drawn) else { return Ok(()) };
            write_line(rustix::stdio::stderr(), wipe, &mut torn)?;
            write_line(rustix::stdio::stderr(), line, &mut torn)
        })
    })
}

/// Writes to standard output, after what was said before on standard error.
///
/// # Errors
/// When the reader has left ([`io::ErrorKind::BrokenPipe`]) or the disk is full: then nobody may have
/// seen the text.
pub fn print(text: &str) -> io::Result<()> {
    static IS_STUCK: AtomicBool = AtomicBool::new(false);
    if !IS_STUCK.load(Ordering::Relaxed) {
        IS_STUCK.store(!stderr().flush(LAST_LINES), Ordering::Relaxed); // it is waited for once
    }
    Stdout.write_all(text.as_bytes())
}

/// Standard output, without a buffer: an error comes with the write that it is of.
#[derive(Debug, Clone, Copy)]
pub struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(rustix::stdio::stdout(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// Lines that a thread of their own writes, one after another, by this function.
    fn written_by(write: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static) -> Self {
        let lines = Self::default();
        let shared = Arc::clone(&lines.0);
        let thread = thread::Builder::new().name("lines".to_owned());
        // Without the thread all lines are lost, and counted; the process has other failures then.
        let _ = thread.spawn(move || shared.write_all(write));
        lines
    }

    /// Adds a line, its newline included, or loses it. Never waits.
    pub fn push(&self, line: Vec<u8>) {
        let mut waiting = self.0.waiting();
        if waiting.bytes + line.len() > MAX_WAITING_BYTES {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.bytes += line.len();
        waiting.lines.push_back(line);
        self.0.changed.notify_all();
    }

    /// Waits until all that was added is written or lost, but not for longer than the limit; says whether
    /// it is.
    pub fn flush(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut waiting = self.0.waiting();
        while waiting.is_writing || !waiting.lines.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let changed = self.0.changed.wait_timeout(waiting, left);
            waiting = changed.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// How many lines are lost so far.
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }
}

/// What the log writes to: each write is a whole line, and none fails.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes for ever, and says how many lines were lost once one is written again.
    fn write_all(&self, mut write: impl FnMut(&[u8]) -> io::Result<()>) {
        let mut told = 0;
        loop {
            let mut written = false;
            for line in self.next() {
                written = write(&line).is_ok();
                self.lost.fetch_add(u64::from(!written), Ordering::Relaxed);
                self.waiting().bytes -= line.len();
            }
            let lost = self.lost.load(Ordering::Relaxed);
            if written && lost > told {
                tracing::warn!(lines = lost - told, "log lines could not be written, and are lost");
                told = lost;
            }
            self.waiting().is_writing = false;
            self.changed.notify_all();
        }
    }

    /// What waits, as soon as something does.
    fn next(&self) -> VecDeque<Vec<u8>> {
        let is_idle = |waiting: &mut Waiting| waiting.lines.is_empty();
        let waiting = self.changed.wait_while(self.waiting(), is_idle);
        let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        waiting.is_writing = true;
        std::mem::take(&mut waiting.lines)
    }
}

/// What is to be written before a line, by whether one was drawn last; `None`: nothing at all.
fn over(line: &[u8], drawn: &mut bool) -> Option<&'static [u8]> {
    let was = std::mem::replace(drawn, line.starts_with(b"\r") && line != WIPED);
    match was {
        false if line == WIPED => None,
        true if !line.starts_with(b"\r") => Some(WIPED),
        _ => Some(b""),
    }
}

/// Writes a whole line. `torn` tells that half of the one before was written: then it is ended first,
/// so that a line for machines stays one.
fn write_line(to: impl AsFd, line: &[u8], torn: &mut bool) -> io::Result<()> {
    let mut rest = line;
    if *torn {
        write_some(&to, b"\n")?;
        *torn = false;
    }
    while !rest.is_empty() {
        match write_some(&to, rest) {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(e) => {
                *torn = rest.len() < line.len();
                return Err(e);
            }
        }
    }
    Ok(())
}

/// Blocks until a part is written, however long that takes; where the file does not block, for
/// [`FULL_WAIT`].
fn write_some(to: &impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    let mut has_waited = false;
    loop {
        match rustix::io::write(to, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => return Ok(count),
            Err(Errno::INTR) => (),
            Err(Errno::AGAIN) if !has_waited => {
                has_waited = true;
                poll(&mut [PollFd::new(to, PollFlags::OUT)], Some(&FULL_WAIT))?;
            }
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn lines_are_written_in_order_and_a_flush_waits_for_them() {
        let (send, written) = mpsc::channel();
        let lines = Lines::written_by(move |line| {
            send.send(line.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe.into())
        });
        (0..100_u32).for_each(|n| lines.push(n.to_string().into_bytes()));
        lines.flush(LONG);
        let written: Vec<_> = written.try_iter().map(|l| String::from_utf8(l).unwrap()).collect();
        assert_eq!(written, (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!(lines.lost(), 0);
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_nothing_else_happens() {
        let lines = Lines::written_by(|_| Err(io::ErrorKind::StorageFull.into()));
        (0..3).for_each(|_| assert_eq!((&lines).write(b"line\n").unwrap(), 5));
        lines.flush(LONG);
        assert_eq!(lines.lost(), 3);
    }

    #[test]
    fn behind_a_write_that_blocks_lines_wait_up_to_a_bound_and_a_flush_does_too() {
        let (go, wait) = mpsc::channel::<()>();
        let lines = Lines::written_by(move |_| {
            let _ = wait.recv(); // a pipe that nobody reads
            Ok(())
        });
        let line = vec![b'x'; MAX_WAITING_BYTES / 4];
        (0..10).for_each(|_| lines.push(line.clone()));
        assert_eq!(lines.lost(), 6, "four fit");
        assert!(!lines.flush(Duration::from_millis(1)));
        drop(go);
        assert!(lines.flush(LONG));
        lines.push(line);
        assert!(lines.flush(LONG));
        assert_eq!(lines.lost(), 6, "there is room again");
    }

    #[test]
    fn what_is_told_takes_the_place_of_what_was_drawn() {
        let mut drawn = false;
        let mut before = |line: &[u8]| over(line, &mut drawn);
        assert_eq!(before(b"told\n"), Some(&b""[..]));
        assert_eq!(before(WIPED), None, "nothing is there");
        assert_eq!(before(b"\rdrawn\x1b[K"), Some(&b""[..]));
        assert_eq!(before(b"\rdrawn again\x1b[K"), Some(&b""[..]));
        assert_eq!(before(b"told\n"), Some(WIPED));
        assert_eq!(before(b"told\n"), Some(&b""[..]));
        assert_eq!(before(b"\rdrawn\x1b[K"), Some(&b""[..]));
        assert_eq!(before(WIPED), Some(&b""[..]));
        assert_eq!(before(WIPED), None);
    }

    #[test]
    fn a_line_behind_a_torn_one_begins_on_a_line_of_its_own() {
        let (mut read, write) = io::pipe().unwrap();
        let mut torn = true;
        write_line(&write, b"whole\n", &mut torn).unwrap();
        drop(write);
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), torn), ("\nwhole\n", false));
    }

    #[test]
    fn a_reader_that_has_left_is_an_error_and_no_more() {
        let (read, write) = io::pipe().unwrap();
        drop(read);
        let error = write_line(&write, b"line\n", &mut false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
