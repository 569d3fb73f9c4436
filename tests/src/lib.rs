//! Support for the tests that drive the real binary: crates of every make ([`krate`],
//! [`tarball`]), an upstream with switches ([`upstream`]), a Panamax mirror ([`panamax`]), the
//! gateway as a process ([`gateway`]), a client that sees headers ([`client`]), one that is a nuisance over
//! HTTP/2 ([`h2`]), a forward proxy
//! ([`proxy`]), the real cargo ([`cargo`]), a bucket of Google's ([`google`]), a real Prometheus
//! ([`prometheus`]), a collector of traces ([`otlp`]). For several
//! gateways over one store: a real S3 ([`rgw`], [`s3`]) and one in memory that can be slow or
//! false ([`memory_s3`]), a proxy that fails in front of it ([`fault_proxy`]), a balancer in front
//! of them ([`balancer`], [`haproxy`]), a certificate that they share ([`authority`]), and all of it
//! together ([`replicas`], [`fleet`]). For how it is deployed: the manifests as kubectl builds them
//! ([`kustomize`]), a token service ([`sts`], over [`https`]), a name server ([`dns`]), and tools of
//! our own ([`tools`]). What a test starts ends with it ([`watchdog`]).

#![allow(
    clippy::disallowed_macros,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "all of this is test code: a panic is a failed test"
)]

pub mod authority;
pub mod balancer;
pub mod cargo;
pub mod client;
pub mod dns;
pub mod fault_proxy;
pub mod fleet;
pub mod gateway;
pub mod google;
pub mod h2;
pub mod haproxy;
pub mod http;
pub mod https;
pub mod krate;
pub mod kustomize;
pub mod memory_s3;
pub mod otlp;
pub mod panamax;
pub mod patience;
pub mod prometheus;
pub mod proxy;
pub mod replicas;
pub mod rgw;
pub mod s3;
pub mod sts;
pub mod tarball;
pub mod test_gateway;
pub mod tools;
pub mod upstream;
pub mod watchdog;

/// Names the points of the protocol's conformance checklist that a test proves: the first
/// statement of the test. It expands to nothing; `checklist.rs` reads the sources for it.
#[macro_export]
macro_rules! covers {
    ($($point:literal),+ $(,)?) => {};
}
