//! The fourth floor: HTTP. Bytes become a [`route::Route`], `dispatch` is the one match from it
//! to a flow, and `respond` alone knows status codes.

pub mod admin;
pub mod answer;
pub mod app;
pub mod auth;
pub mod body;
pub mod browser;
mod coalescing;
pub mod dispatch;
mod eager;
pub mod forwarded;
mod host;
mod in_flight;
mod kept_head;
pub mod listen;
pub mod manage;
mod measure;
pub mod negotiate;
pub mod outgoing;
pub mod pages;
pub mod policy;
mod proxy_header;
pub mod respond;
pub mod responses;
pub mod route;
pub mod serve;
pub mod tls;
pub mod watchdog;
pub mod workers;
