//! Who may do what.

mod attacks;
mod auth;
mod credentials;
mod matrix;
mod organisation;
mod own_tokens;
mod replicas;
mod restricted;
mod roles;
mod throttling;
