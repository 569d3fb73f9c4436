//! Listeners, TLS, connections and the threads that serve them.

pub mod coalescing;
pub mod eager;
pub mod kept_head;
pub mod listen;
pub mod outgoing;
pub mod proxy_header;
pub mod tls;
pub mod watchdog;
pub mod workers;
