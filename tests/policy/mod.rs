//! What may enter.

mod advisories;
mod policies;
mod policy_check;
mod policy_facts;
