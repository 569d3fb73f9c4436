//! The fourth floor: HTTP. Bytes become a [`route::Route`], `dispatch` is the one match from it
//! to a flow, and `respond` alone knows status codes.

pub mod body;
pub mod listen;
pub mod negotiate;
pub mod respond;
pub mod route;
