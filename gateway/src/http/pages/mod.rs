//! What people see in a browser.

pub mod browser;
pub mod home;
