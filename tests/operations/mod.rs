//! What operators do and see: commands, starts and stops, logs, traces, mistakes.

mod administration;
mod command_line;
mod guide;
mod health;
mod mistakes;
mod output;
mod remote;
mod restoring;
mod running;
mod signals;
mod soak;
mod start;
mod stopping;
mod telling;
mod tracing;
