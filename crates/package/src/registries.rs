//! Which registry a dependency comes from. A packaged manifest says it with the index URL that
//! its publisher had configured; an index line says it once for everybody.

use std::fmt;

use url::{Host, Url};

use crate::index::CRATES_IO_IDENTITY;
use crate::view::View;
use cratehouse_core::excerpt::excerpt;

/// Where a packaged manifest says that a dependency comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DepSource {
    /// No `registry-index`: crates.io.
    CratesIo,
    /// `registry-index`, as it stands there.
    Index(String),
}

/// Where a dependency really comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// This registry, by one of its names.
    Ours,
    /// crates.io, by one of its names.
    CratesIo,
    /// Another registry that the configuration allows, as the configuration spells it.
    Allowed(String),
}

/// A registry that nobody allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Another registry, as far as can be told.
    #[error(
        "the registry `{0}` is not one that this registry's crates may depend on: an administrator can add \
         it to `[publish] allowed_registries` or, if it is another name of this registry, to `[server] \
         aliases`"
    )]
    Stranger(String),
    /// This registry, by a name that its configuration does not know.
    #[error(
        "the registry `{index}` looks like another name of this registry, which its configuration does not \
         know: use `{ours}`, or have an administrator add `{alias}` to `[server] aliases`"
    )]
    Alias {
        /// As it stands in the manifest.
        index: String,
        /// Ours.
        ours: String,
        /// What to add.
        alias: String,
    },
}

/// The index URLs that mean this registry.
#[derive(Debug, Clone, Default)]
pub struct OurUrls {
    indexes: Vec<IndexUrl>,
    /// How many of them, the first, are names of this gateway.
    named: usize,
}

/// The index URLs of our views that have crates.io's crates.
#[derive(Debug, Clone)]
pub struct PublicUrls(Vec<IndexUrl>);

/// All the registries that a dependency may come from.
#[derive(Debug, Clone)]
pub struct Registries {
    ours: OurUrls,
    crates_io: Vec<IndexUrl>,
    allowed: Vec<(IndexUrl, String)>,
}

impl OurUrls {
    /// The index of our own crates at each of our URLs.
    pub fn new(url: &str, aliases: &[Url]) -> Self {
        let indexes = IndexUrl::of_view(View::Own, url, aliases);
        Self { named: indexes.len(), indexes }
    }

    /// Adds indexes of registries whose crates are served here as if they were ours.
    #[must_use]
    pub fn and(mut self, indexes: &[Url]) -> Self {
        self.indexes.extend(indexes.iter().filter_map(|index| IndexUrl::parse(index.as_str())));
        self
    }

    /// The URL of an unknown alias, if the index URL has a host of ours, or this machine's own, and looks
    /// like our index.
    fn unknown_alias(&self, index_url: &str) -> Option<String> {
        let url = Url::parse(index_url.strip_prefix("sparse+").unwrap_or(index_url)).ok()?;
        if !url.username().is_empty() || url.password().is_some() {
            return None;
        }
        let base = url.as_str().trim_end_matches('/').strip_suffix("/index")?;
        let base = base.strip_suffix("/crates-io").unwrap_or(base); // of the view the alias is the same
        let is_here = match url.host()? {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(ip) => ip.is_loopback(),
            Host::Ipv6(ip) => ip.is_loopback(),
        };
        let has_host = |ours: &IndexUrl| {
            Url::parse(&ours.url).is_ok_and(|ours| ours.host_str() == url.host_str())
        };
        let mut ours = self.indexes.iter().take(self.named);
        (is_here || ours.any(has_host)).then(|| base.to_owned())
    }

    /// Our index, as cargo's configuration has it.
    fn index(&self) -> String {
        self.indexes.first().map_or_else(String::new, |ours| format!("sparse+{}/", ours.url))
    }

    /// Whether an index URL means this registry, with or without `sparse+`, a trailing slash or
    /// the default port.
    pub fn is_ours(&self, index_url: &str) -> bool {
        IndexUrl::parse(index_url)
            .is_some_and(|url| self.indexes.iter().any(|our| our.url == url.url))
    }
}

impl PublicUrls {
    /// The view of crates.io's crates at each of our URLs.
    pub fn new(url: &str, aliases: &[Url]) -> Self {
        Self(IndexUrl::of_view(View::CratesIo, url, aliases))
    }

    /// Whether an index URL means such a view.
    pub fn has(&self, index_url: &str) -> bool {
        IndexUrl::parse(index_url).is_some_and(|url| self.0.iter().any(|our| our.url == url.url))
    }
}

impl Registries {
    /// `crates_io` are the sparse indexes that have crates.io's crates beside our views of them, `allowed`
    /// the index URLs of other registries.
    pub fn new(ours: OurUrls, views: &PublicUrls, crates_io: &[Url], allowed: &[String]) -> Self {
        let public = crates_io.iter().map(Url::as_str).chain([CRATES_IO_IDENTITY]);
        let known = |url: &String| Some((IndexUrl::parse(url)?, url.clone()));
        Self {
            ours,
            crates_io: public.filter_map(IndexUrl::parse).chain(views.0.iter().cloned()).collect(),
            allowed: allowed.iter().filter_map(known).collect(),
        }
    }

    /// Says where a dependency comes from.
    ///
    /// # Errors
    /// [`Refused`] when it is not known here.
    pub fn resolve(&self, source: &DepSource) -> Result<Resolved, Refused> {
        let DepSource::Index(text) = source else { return Ok(Resolved::CratesIo) };
        if self.ours.is_ours(text) {
            return Ok(Resolved::Ours);
        }
        let refuse = || self.refusal(text);
        let url = IndexUrl::parse(text).ok_or_else(refuse)?;
        if self.crates_io.iter().any(|public| public.url == url.url) {
            return Ok(Resolved::CratesIo);
        }
        let mut allowed = self.allowed.iter().filter(|(known, _)| *known == url);
        allowed.next().map(|(_, spelled)| Resolved::Allowed(spelled.clone())).ok_or_else(refuse)
    }

    fn refusal(&self, index: &str) -> Refused {
        let alias = self.ours.unknown_alias(index);
        let index = index.chars().filter(|c| !c.is_control()).take(200).collect();
        match alias {
            Some(alias) => {
                Refused::Alias { index, ours: self.ours.index(), alias: excerpt(&alias) }
            }
            None => Refused::Stranger(index),
        }
    }
}

/// The `registry` of a dependency in a hosted index line. `in_our_name` says that a crate of
/// this name is hosted here, is reserved, or comes from an upstream whose crates become ours.
///
/// The line, and not the manifest, decides where cargo takes a dependency from: so one crate
/// has one source for all its dependants, whatever alias their publishers used. Another registry
/// that is named on purpose is left as it is, for its crates may have the same names as ours.
pub fn registry_of(in_our_name: bool, source: &Resolved) -> Option<String> {
    match source {
        Resolved::Allowed(index) => Some(index.clone()),
        Resolved::Ours | Resolved::CratesIo if in_our_name => None,
        Resolved::Ours | Resolved::CratesIo => Some(CRATES_IO_IDENTITY.to_owned()),
    }
}

/// An index URL in a form that can be compared. Only what makes no difference to any server is
/// evened out: host case, default port, slashes at the end. `X` and `X.git` are two registries
/// (CVE-2026-5222: who takes them for one sends a token to the wrong one).
#[derive(Clone, PartialEq, Eq)]
struct IndexUrl {
    /// Whether it is written with `sparse+`. Without, cargo takes it for a git repository.
    sparse: bool,
    /// The rest, without slashes at the end.
    url: String,
}

/// The longest index URL, in bytes.
const MAX_URL_BYTES: usize = 2048;

impl IndexUrl {
    fn of_view(view: View, url: &str, aliases: &[Url]) -> Vec<Self> {
        let bases = [url].into_iter().chain(aliases.iter().map(Url::as_str));
        let index = |base: &str| view.index_url(base.trim_end_matches('/'));
        bases.filter_map(|base| Self::parse(&index(base))).collect()
    }

    fn parse(text: &str) -> Option<Self> {
        // A URL parser drops tabs and newlines; two texts that differ in them are not the same.
        let odd = |c: char| c.is_control() || c.is_whitespace();
        if text.len() > MAX_URL_BYTES || text.contains(odd) {
            return None;
        }
        let (sparse, rest) = match text.strip_prefix("sparse+") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let url = Url::parse(rest).ok().filter(Url::has_host)?;
        Some(Self { sparse, url: url.as_str().trim_end_matches('/').to_owned() })
    }
}

impl fmt::Debug for IndexUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.sparse { "sparse+" } else { "" }, self.url)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn urls(texts: &[&str]) -> Vec<Url> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn ours() -> OurUrls {
        OurUrls::new("https://gw.example", &urls(&["https://old.example:8443/crates/"]))
    }

    fn registries() -> Registries {
        let allowed = ["sparse+https://other.example/index/", "ssh://git@other.example/index.git"];
        let views = PublicUrls::new("https://gw.example", &[]);
        Registries::new(
            ours(),
            &views,
            &urls(&["https://public.example/"]),
            &allowed.map(str::to_owned),
        )
    }

    fn resolve(url: &str) -> Result<Resolved, Refused> {
        registries().resolve(&DepSource::Index(url.to_owned()))
    }

    #[test]
    fn our_urls_are_recognised_in_every_spelling() {
        for url in [
            "sparse+https://gw.example/index/",
            "https://gw.example/index/",
            "sparse+https://gw.example/index",
            "sparse+https://gw.example/index//",
            "sparse+https://GW.Example:443/index/",
            "sparse+HTTPS://gw.example/index/",
            "sparse+https://old.example:8443/crates/index/",
        ] {
            assert!(ours().is_ours(url), "{url}");
            assert_eq!(resolve(url), Ok(Resolved::Ours), "{url}");
        }
    }

    #[test]
    fn urls_that_only_look_like_ours_are_not() {
        for url in [
            "",
            "sparse+",
            "gw.example/index/",
            "sparse+http://gw.example/index/",
            "sparse+https://gw.example:8443/index/",
            "sparse+https://gw.example/",
            "sparse+https://gw.example/Index/",
            "sparse+https://gw.example/index.git",
            "sparse+https://gw.example/index/?x",
            "sparse+https://gw.example/index/#x",
            "sparse+https://user@gw.example/index/",
            "sparse+https://gw.example.evil.example/index/",
            "sparse+sparse+https://gw.example/index/",
            "registry+https://gw.example/index/",
            "sparse+https://gw.exa\nmple/index/",
            " sparse+https://gw.example/index/",
        ] {
            assert!(!ours().is_ours(url), "{url}");
            assert!(resolve(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_name_of_ours_that_is_not_configured_is_pointed_out() {
        let ours = ours().and(&urls(&["https://chained.example/index/"]));
        let views = PublicUrls::new("https://gw.example", &[]);
        let registries = Registries::new(ours, &views, &[], &[]);
        let told = |url: &str| {
            registries.resolve(&DepSource::Index(url.to_owned())).unwrap_err().to_string()
        };
        for (index, alias) in [
            ("sparse+https://gw.example:8443/index/", "https://gw.example:8443"),
            ("sparse+http://gw.example/index", "http://gw.example"),
            ("https://old.example/index/", "https://old.example"),
            ("sparse+https://localhost:8443/index/", "https://localhost:8443"),
            ("sparse+https://127.0.0.1/crates/index/", "https://127.0.0.1/crates"),
            ("sparse+https://[::1]:8443/index/", "https://[::1]:8443"),
        ] {
            let wanted = format!("add `{alias}` to `[server] aliases`");
            let told = told(index);
            assert!(told.contains(&wanted), "{told}");
            assert!(told.contains("use `sparse+https://gw.example/index/`"), "{told}");
        }
        for stranger in [
            "sparse+https://other.example/index/",
            "sparse+https://chained.example:1/index/",
            "sparse+https://gw.example/other/",
            "sparse+https://me:secret@gw.example:1/index/",
            "nonsense",
        ] {
            assert!(told(stranger).contains("`[publish] allowed_registries` or"), "{stranger}");
        }
    }

    #[test]
    fn an_own_url_with_a_path_or_a_trailing_slash_works() {
        for url in ["https://gw.example/crates", "https://gw.example/crates/"] {
            assert!(OurUrls::new(url, &[]).is_ours("sparse+https://gw.example/crates/index/"));
        }
    }

    #[test]
    fn indexes_of_chained_registries_can_count_as_ours() {
        let ours = ours().and(&urls(&["https://chained.example/index/"]));
        assert!(ours.is_ours("sparse+https://chained.example/index/"));
    }

    #[test]
    fn crates_io_is_recognised_by_its_identity_and_its_sparse_index() {
        assert_eq!(registries().resolve(&DepSource::CratesIo), Ok(Resolved::CratesIo));
        let slashed = format!("{CRATES_IO_IDENTITY}/");
        let view = "sparse+https://GW.example/crates-io/index/";
        for url in [CRATES_IO_IDENTITY, &slashed, "sparse+https://public.example/", view] {
            assert_eq!(resolve(url), Ok(Resolved::CratesIo), "{url}");
        }
        assert!(resolve(&format!("{CRATES_IO_IDENTITY}.git")).is_err());
    }

    #[test]
    fn other_registries_are_allowed_exactly_and_spelled_as_configured() {
        let allowed = "sparse+https://other.example/index/".to_owned();
        for url in [allowed.as_str(), "sparse+https://OTHER.example:443/index"] {
            assert_eq!(resolve(url), Ok(Resolved::Allowed(allowed.clone())), "{url}");
        }
        let git = "ssh://git@other.example/index.git";
        assert_eq!(resolve(git), Ok(Resolved::Allowed(git.to_owned())));
    }

    #[test]
    fn neighbours_of_an_allowed_registry_are_refused() {
        for url in [
            "https://other.example/index/",
            "sparse+https://other.example/index.git",
            "ssh://git@other.example/index",
            "sparse+https://other.example/index/more/",
            "sparse+https://stranger.example/index/",
        ] {
            assert!(resolve(url).unwrap_err().to_string().contains("allowed_registries"), "{url}");
        }
    }

    #[test]
    fn the_line_decides_one_source_for_each_name() {
        let public = Some(CRATES_IO_IDENTITY.to_owned());
        for source in [Resolved::Ours, Resolved::CratesIo] {
            assert_eq!(registry_of(true, &source), None);
            assert_eq!(registry_of(false, &source), public);
        }
        let other = Resolved::Allowed("sparse+https://other.example/".to_owned());
        for in_our_name in [true, false] {
            let registry = registry_of(in_our_name, &other);
            assert_eq!(registry.as_deref(), Some("sparse+https://other.example/"));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_known_registry_or_refused(text in ".{0,100}") {
            prop_assert!(!matches!(resolve(&text), Ok(Resolved::Ours)));
        }
    }
}
