//! What the registry does, in folders by capability. A flow is a struct of the parts that it uses; what is held
//! (caches, logs, what is known) stands apart from what is done with it.

pub mod access;
#[cfg(test)]
mod fixture;
pub mod open;
pub mod policy;
pub mod pulls;
pub mod registry;
pub mod reread;
pub mod store;
#[cfg(test)]
mod tests;
pub mod turns;
pub mod works;
