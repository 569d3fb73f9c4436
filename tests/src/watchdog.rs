//! Child processes that end with the process of the tests, however that ends.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// A shell that waits for the end of its standard input, which this process alone holds open:
/// it comes when this is dropped, and when this process ends, by a signal too. Then the
/// shell has its group of processes killed, itself included, and its folder deleted.
#[derive(Debug)]
pub struct Watchdog(Child);

const WATCH: &str = r#"
cat > /dev/null
exec setsid --fork sh -c 'kill -KILL "-$0"; [ -z "$1" ] || rm -rf -- "$1"' "$$" "$1"
"#;

impl Watchdog {
    /// In a process group of its own, which an interrupt from the terminal does not reach.
    pub(crate) fn of_folder(folder: &Path) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", WATCH, "watchdog"]).arg(folder);
        Self(command.process_group(0).stdin(Stdio::piped()).spawn().unwrap())
    }

    /// The one for children that need nothing but an end.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Watchdog> = OnceLock::new();
        SHARED.get_or_init(|| Self::of_folder(Path::new("")))
    }

    /// The process group that ends: for [`CommandExt::process_group`].
    pub fn group(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    /// Ends them all; what is left to the caller is to wait for its children.
    pub(crate) fn end(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
