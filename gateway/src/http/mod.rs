//! The fourth layer: HTTP. `transport` gives bytes, `request` makes a [`request::route::Route`] of them,
//! `dispatch` is the one match from it to a file of `api` or `pages`, and `response` alone knows status codes.
//! `ops` is the listener of those who run the gateway.

pub mod api;
pub mod app;
pub mod dispatch;
pub mod ops;
pub mod pages;
pub mod request;
pub mod response;
pub mod serve;
pub mod transport;
