//! Who may do what.

mod auth;
mod credentials;
mod matrix;
mod organisation;
mod own_tokens;
mod restricted;
mod roles;
mod throttling;
