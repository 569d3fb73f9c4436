//! The two views of the index. One URL in both roles, as a registry and in place of crates.io, would let
//! cargo lock a private crate under crates.io's identity.

/// Which crates a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// The registry's own index.
    Own,
    /// Crates of crates.io's identity alone, for clients that replace crates.io with it. It takes no
    /// changes.
    CratesIo,
}

impl View {
    /// Where it is, below a URL of ours without a trailing slash.
    pub fn index_url(self, url: &str) -> String {
        match self {
            Self::Own => format!("{url}/index/"),
            Self::CratesIo => format!("{url}/crates-io/index/"),
        }
    }
}
