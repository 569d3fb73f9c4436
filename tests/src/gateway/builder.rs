//! What a gateway is started with: its configuration file, built key by key.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::binary::{binary, free_port, newest_binary};
use super::{CA, CERT, CONFIG, Gateway, KEY, SECRET};
use crate::authority::Authority;
use crate::panamax::Panamax;
use crate::s3::{REGION, S3};
use crate::upstream::Upstream;

/// What a gateway is started with. The keys are those of the configuration file.
#[derive(Debug, Clone)]
pub struct Builder {
    sections: BTreeMap<String, Vec<String>>,
    upstreams: Vec<UpstreamConfig>,
    env: Vec<(String, String)>,
    tls: bool,
    authority: Option<Authority>,
    s3: Option<S3>,
    public_url: Option<String>,
    config_file: bool,
    traced: Vec<String>,
    ulimit: Option<String>,
    binary: fn() -> &'static Path,
}

/// An `[[upstream]]` of the configuration.
#[derive(Debug, Clone)]
pub struct UpstreamConfig {
    keys: BTreeMap<String, String>,
}

impl UpstreamConfig {
    /// A preset of the gateway, by its name, as it is.
    pub fn preset(name: &str) -> Self {
        Self { keys: BTreeMap::new() }.text("name", name)
    }

    /// An upstream of this name. Its files count as fresh for no time, and a not-found answer
    /// is not remembered, so that a test sees every change at once.
    pub fn new(name: &str, index_url: &str) -> Self {
        Self { keys: BTreeMap::new() }
            .text("name", name)
            .text("index", index_url)
            .text("identity", "crates-io")
            .number("fresh_seconds", 0)
            .number("negative_seconds", 0)
    }

    /// With a key whose value is a text.
    #[must_use]
    pub fn text(mut self, key: &str, value: &str) -> Self {
        self.keys.insert(key.to_owned(), serde_json::json!(value).to_string());
        self
    }

    /// With a key whose value is a number.
    #[must_use]
    pub fn number(mut self, key: &str, value: u32) -> Self {
        self.keys.insert(key.to_owned(), value.to_string());
        self
    }

    /// With a key whose value is yes or no.
    #[must_use]
    pub fn flag(mut self, key: &str, value: bool) -> Self {
        self.keys.insert(key.to_owned(), value.to_string());
        self
    }

    /// With files that stay fresh for that many seconds.
    #[must_use]
    pub fn fresh_seconds(self, seconds: u32) -> Self {
        self.number("fresh_seconds", seconds)
    }
}

impl From<&Upstream> for UpstreamConfig {
    fn from(upstream: &Upstream) -> Self {
        Self::new("main", &upstream.index_url())
    }
}

impl From<&Panamax> for UpstreamConfig {
    fn from(panamax: &Panamax) -> Self {
        Self::new("panamax", &panamax.index_url())
    }
}

impl Builder {
    pub(super) fn new() -> Self {
        // Most tests ask for whatever crate they have at the one index.
        let unified = ("index".to_owned(), vec!["unified = true".to_owned()]);
        Self {
            sections: BTreeMap::from([unified]),
            upstreams: Vec::new(),
            env: Vec::new(),
            tls: true,
            authority: None,
            s3: None,
            public_url: None,
            config_file: true,
            traced: Vec::new(),
            ulimit: None,
            binary,
        }
    }

    /// With one more upstream at the end of the chain: an [`Upstream`], a [`Panamax`] or an
    /// [`UpstreamConfig`].
    #[must_use]
    pub fn upstream(mut self, upstream: impl Into<UpstreamConfig>) -> Self {
        self.upstreams.push(upstream.into());
        self
    }

    /// With a line of a section: `.set("limits", "publish_crate_mib = 1")`.
    #[must_use]
    pub fn set(mut self, section: &str, line: &str) -> Self {
        self.sections.entry(section.to_owned()).or_default().push(line.to_owned());
        self
    }

    /// With names that are ours alone, such as `acme-*`.
    #[must_use]
    pub fn reserved(self, patterns: &[&str]) -> Self {
        self.set("names", &format!("reserved = {patterns:?}"))
    }

    /// Every read needs a token.
    #[must_use]
    pub fn auth_required(self) -> Self {
        self.set("auth", "required = true")
    }

    /// Without a word on whether the index is unified: as the store says.
    #[must_use]
    pub fn views(mut self) -> Self {
        self.sections.remove("index");
        self
    }

    /// Plain http, as behind another proxy.
    #[must_use]
    pub fn plain_http(mut self) -> Self {
        self.tls = false;
        self.set("tls", "mode = \"off\"")
    }

    /// With a certificate that the operator provides, as every replica over S3 needs.
    #[must_use]
    pub fn certificate(mut self, authority: &Authority) -> Self {
        self.authority = Some(authority.clone());
        self.set("tls", &format!("cert = \"{CERT}\"")).set("tls", &format!("key = \"{KEY}\""))
    }

    /// With a certificate whose files stand in a folder outside, as `tls.crt` and `tls.key`, where
    /// several replicas read them.
    #[must_use]
    pub fn certificate_in(mut self, authority: &Authority, folder: &Path) -> Self {
        self.authority = Some(authority.clone());
        let file = |key: &str, name: &str| format!("{key} = {:?}", folder.join(name));
        self.set("tls", &file("cert", "tls.crt")).set("tls", &file("key", "tls.key"))
    }

    /// With its store in an S3 bucket.
    #[must_use]
    pub fn s3(mut self, s3: &S3) -> Self {
        self.s3 = Some(s3.clone());
        let text = |key: &str, value: &str| format!("{key} = {value:?}");
        self.set("store", &text("url", &s3.url()))
            .set("store", &text("endpoint", &s3.endpoint))
            .set("store", &text("region", REGION))
            .set("store", &text("access_key_id", &s3.access_key))
            .set("store", &text("secret_access_key_file", SECRET))
            .set("store", "allow_http = true")
    }

    /// Known to clients by this URL, such as a balancer's; its own otherwise.
    #[must_use]
    pub fn public_url(mut self, url: &str) -> Self {
        self.public_url = Some(url.to_owned());
        self
    }

    /// With an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without a configuration file: `--data` and `--listen` say where it is, and all else comes
    /// from the environment; with no upstream there, it has the preset.
    #[must_use]
    pub fn by_flags_and_environment(mut self) -> Self {
        self.config_file = false;
        self
    }

    /// Under strace, which writes down these system calls: see [`Gateway::stop_and_trace`].
    #[must_use]
    pub fn traced(mut self, calls: &str) -> Self {
        self.traced = ["-e".to_owned(), format!("trace={calls}")].to_vec();
        self
    }

    /// Under strace, which lets some system calls fail: `-e inject=linkat:error=EPERM`, and perhaps
    /// `-P` with the one path that this is about.
    #[must_use]
    pub fn under_strace(mut self, arguments: &[&str]) -> Self {
        self.traced = arguments.iter().map(|one| (*one).to_owned()).collect();
        self
    }

    /// Below limits of the system, in the words of the shell's `ulimit`: `-Sn 200`.
    #[must_use]
    pub fn ulimit(mut self, limits: &str) -> Self {
        self.ulimit = Some(limits.to_owned());
        self
    }

    /// The release binary where there is one that is newer than its sources, else the debug one.
    #[must_use]
    pub fn newest_build(mut self) -> Self {
        self.binary = newest_binary;
        self
    }

    /// Writes the configuration and starts the process; returns when it is ready.
    pub fn start(self) -> Gateway {
        let mut gateway = self.prepare();
        gateway.start_again();
        gateway
    }

    /// Writes the configuration, and starts nothing.
    pub fn prepare(mut self) -> Gateway {
        let folder = tempfile::tempdir().unwrap();
        let (port, admin_port) = (free_port(), free_port());
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
        };
        if self.config_file {
            write(CONFIG, &self.config(port, admin_port));
        } else {
            self = self.env("CRATEHOUSE_SERVER__ADMIN_LISTEN", &format!("127.0.0.1:{admin_port}"));
        }
        if let Some(Authority { ca, cert, key, .. }) = &self.authority {
            write(CA, ca);
            write(CERT, cert);
            write(KEY, key);
        }
        if let Some(s3) = &self.s3 {
            write(SECRET, &s3.secret_key);
        }
        Gateway {
            folder,
            port,
            admin_port,
            tls: self.tls,
            authority: self.authority.is_some(),
            s3: self.s3,
            env: self.env,
            traced: self.traced,
            ulimit: self.ulimit,
            binary: self.binary,
            process: None,
            log: Arc::default(),
            users: Mutex::default(),
        }
    }

    /// The text of the configuration file.
    fn config(&self, port: u16, admin_port: u16) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let own = || format!("{scheme}://127.0.0.1:{port}");
        let url = self.public_url.clone().unwrap_or_else(own);
        let mut sections = self.sections.clone();
        sections.entry("server".to_owned()).or_default().extend([
            format!("listen = \"127.0.0.1:{port}\""),
            format!("admin_listen = \"127.0.0.1:{admin_port}\""),
            format!("url = \"{url}\""),
        ]);
        let mut text = String::new();
        if self.upstreams.is_empty() {
            text += "upstream = []\n";
        }
        for (section, lines) in &sections {
            text += &format!("[{section}]\n{}\n", lines.join("\n"));
        }
        for upstream in &self.upstreams {
            text += "[[upstream]]\n";
            upstream.keys.iter().for_each(|(k, v)| text += &format!("{k} = {v}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_without_an_upstream_says_so() {
        let text = Gateway::builder().reserved(&["acme-*"]).config(1, 2);
        assert!(text.starts_with("upstream = []\n"));
        assert!(text.contains("[names]\nreserved = [\"acme-*\"]\n"));
        let upstream = UpstreamConfig::new("a", "http://x/").flag("private_dl", true);
        let text = Gateway::builder().upstream(upstream).config(1, 2);
        assert!(text.contains("[[upstream]]\n") && text.contains("private_dl = true\n"));
    }
}
