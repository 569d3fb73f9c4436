//! Who may do what.

mod auth;
mod credentials;
