//! What those who run the gateway ask: is it alive, is it ready, what does it count.

pub mod listener;
pub mod measure;
pub mod own_look;
pub mod probe;
