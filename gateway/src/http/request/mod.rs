//! What a request is: its route, its token, its body, and where it comes from.

pub mod authenticate;
pub mod body;
pub mod forwarded;
pub mod gate;
pub mod host;
pub mod in_flight;
pub mod negotiate;
pub mod origin;
pub mod route;
