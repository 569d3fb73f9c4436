//! Cargo's credential provider for Cratehouse: cargo runs it, asks it for tokens (`cargo login`,
//! `cargo logout`, and whatever needs one) in the protocol of the Cargo book, "Credential Provider
//! Protocol", and it answers for the registries that it knows alone.
//!
//! ```text
//! main → provider → tokens (file, key_store) · server → words
//! ```

mod file;
mod key_store;
mod provider;
mod server;
mod tokens;
mod words;

use std::io::Write as _;
use std::process::ExitCode;

use crate::provider::Provider;

const NAME: &str = env!("CARGO_PKG_NAME");
/// Of a command line that is wrong, as the gateway's.
const EXIT_USAGE: u8 = 64;

const HELP: &str = "\
Cargo's credential provider for Cratehouse registries. Cargo runs it; there is nothing to run by hand.

In ~/.cargo/config.toml:

  [registry]
  global-credential-providers = [\"cargo:token\", \"cargo-credential-cratehouse\"]

and no `credential-provider` below [registries.…], which would take its place there. The last one of the
list is asked first. Then log in once, for the registry's own index and for its view of crates.io:

  cargo login --registry cratehouse

It answers for the registries at which you logged in, and in CI by the variable that cargo has for one
(CARGO_REGISTRIES_CRATEHOUSE_TOKEN). A registry that is reached over plain http, or that you never logged in
to and have no variable for, has to stand behind the program's name in that list, by its URL:
\"cargo-credential-cratehouse https://crates.acme.example\".

Tokens are in the system's key store where one answers, else in the file credentials.json (mode 0600)
in the folder `cratehouse` of $XDG_CONFIG_HOME, which is ~/.config unless it is set.

  -h, --help       this text
  -V, --version    which release it is
";

fn main() -> ExitCode {
    let asked = std::env::args_os().nth(1).map(|argument| argument.to_string_lossy().into_owned());
    match asked.as_deref() {
        Some("--cargo-plugin") => {
            cargo_credential::main(Provider);
            ExitCode::SUCCESS
        }
        Some("-h" | "--help") => say(HELP),
        Some("-V" | "--version") => say(&format!("{NAME} {}\n", env!("CARGO_PKG_VERSION"))),
        None => refuse("cargo runs this program"),
        Some(other) => refuse(&format!("there is no argument `{}`", words::plain(other))),
    }
}

fn say(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE, // nobody reads
    }
}

fn refuse(why: &str) -> ExitCode {
    words::tell(&format!("{why}: see {NAME} --help"));
    ExitCode::from(EXIT_USAGE)
}
