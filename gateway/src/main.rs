//! The binary. All of it is in the library, where it is compiled once and can be tested.

use std::process::ExitCode;

fn main() -> ExitCode {
    cratehouse::program::main()
}
