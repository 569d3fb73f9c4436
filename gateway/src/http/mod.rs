//! The top floor: HTTP and TLS. Requests become values, values become responses; what happens
//! between is the business of `flows`.

pub mod tls;
