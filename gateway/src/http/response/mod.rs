//! What a response is, and the memory that it takes.

pub mod answer;
pub mod respond;
pub mod responses;
