//! The URL map: method, path and query become one value of a closed enum, or the reason why not.

mod access;
mod admin;
pub mod needs;
mod policy;
mod upkeep;

use std::borrow::Cow;

use hyper::Method;
use percent_encoding::percent_decode_str;

pub use self::access::{Access, Own};
pub use self::admin::Administer;
pub use self::policy::Ask;
pub use self::upkeep::{AskedPulls, Upkeep};
use crate::flows::registry::search::Page;
use cratehouse_journal::principal::TokenId;
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;
use cratehouse_package::view::View;

/// The longest path that is looked at, in bytes: the longest crate name and version, all
/// percent-encoded, fit well.
pub const MAX_PATH_BYTES: usize = 1024;
/// The longest query that is looked at, in bytes.
pub const MAX_QUERY_BYTES: usize = 1024;
/// Search results when `per_page` is absent (Cargo book, "Web API", search).
pub const DEFAULT_HITS: usize = 10;
/// Search results at most: `cargo search --limit` stops here too.
pub const MAX_HITS: usize = 100;

/// Search results that can be reached by pages: those before a page are found again for it.
pub const MAX_DEPTH: usize = 10_000;

const MAX_SEGMENTS: usize = 8;

/// Every request that means something here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `GET /`: what this is, for people.
    Home,
    /// `GET /me`: how to get a token, for people. `cargo login` points here.
    Me,
    /// `GET /api/v1/openapi.json`: what this API is.
    OpenApi,
    /// `GET /api/v1/me`: whose the token is that is shown.
    Whose,
    /// `GET {index}/config.json`
    IndexConfig(View),
    /// `GET {index}/{prefix}/{name}`; the name is in lower case.
    IndexFile(View, CrateName),
    /// `GET /api/v1/crates/{name}/{version}/download`
    Download(CrateName, CrateVersion),
    /// `PUT /api/v1/crates/new`
    Publish,
    /// `DELETE /api/v1/crates/{name}/{version}/yank`
    Yank(CrateName, CrateVersion),
    /// `PUT /api/v1/crates/{name}/{version}/unyank`
    Unyank(CrateName, CrateVersion),
    /// `GET /api/v1/crates/{name}/owners`
    Owners(CrateName),
    /// `PUT /api/v1/crates/{name}/owners`
    AddOwners(CrateName),
    /// `DELETE /api/v1/crates/{name}/owners`
    RemoveOwners(CrateName),
    /// `GET /api/v1/crates?q=…&page=…&per_page=…`
    Search {
        /// What is searched for.
        query: String,
        /// Which of the hits.
        page: Page,
    },
    /// `…/api/v1/me/tokens…` and `…/api/v1/tokens/current`
    Own(Own),
    /// `…/api/v1/policy/…`
    Policy(Ask),
    /// `…/api/v1/admin/…`
    Admin(Administer),
}

/// Why a request means nothing here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// There is no such URL.
    Unknown,
    /// There is no such URL, and who asks it looks for the index: cargo, when it is for `config.json`.
    BesideTheIndex {
        /// Whether it is.
        is_cargo: bool,
        /// The view that it seems to look for.
        view: View,
    },
    /// The URL is about something that cannot exist, such as a crate named `1abc`.
    Absent(String),
    /// The URL is broken.
    Malformed(String),
    /// The URL wants another method; the value of `Allow`.
    Method(String),
}

/// How a client of a URL reads a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `{"errors":[{"detail":"…"}]}`
    Json,
    /// One sentence of plain text: for downloads, the index and pages.
    Text,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Get,
    Put,
    Post,
    Delete,
}

/// Reads a request line. `HEAD` is read as `GET`.
///
/// # Errors
/// Says why the request means nothing here.
pub fn route(method: &Method, path: &str, query: Option<&str>) -> Result<Route, Refused> {
    if path.len() > MAX_PATH_BYTES || query.is_some_and(|q| q.len() > MAX_QUERY_BYTES) {
        return Err(malformed(format_args!("the URL is too long: {MAX_PATH_BYTES} bytes at most")));
    }
    let mut segments_of = [""; MAX_SEGMENTS];
    let segments = split(path, &mut segments_of).ok_or(Refused::Unknown)?;
    let found = match Verb::of(method) {
        Some(verb) => find(verb, segments, query),
        None => Err(Refused::Unknown),
    };
    match found {
        Err(Refused::Unknown) => Err(match other_methods(segments, query) {
            Refused::Unknown => beside_the_index(segments),
            refused => refused,
        }),
        found => found,
    }
}

/// The map itself.
fn find(verb: Verb, segments: &[&str], query: Option<&str>) -> Result<Route, Refused> {
    use Verb::{Delete, Get, Put};
    Ok(match (verb, segments) {
        (Get, [""]) => Route::Home,
        (Get, ["me"]) => Route::Me,
        (Get, ["api", "v1", "openapi.json"]) => Route::OpenApi,
        (Get, ["api", "v1", "me"]) => Route::Whose,
        (Get, ["index", rest @ ..]) => index(View::Own, rest)?,
        (Get, ["crates-io", "index", rest @ ..]) => index(View::CratesIo, rest)?,
        (_, ["api", "v1", "admin", rest @ ..]) => {
            Route::Admin(admin::administer(verb, rest, query)?)
        }
        (_, ["api", "v1", "policy", rest @ ..]) => Route::Policy(policy::ask(verb, rest, query)?),
        (_, ["api", "v1", rest @ ..]) if matches!(rest, ["me" | "tokens", _, ..]) => {
            Route::Own(access::own(verb, rest)?)
        }
        (Get, ["api", "v1", "crates"]) => search(query)?,
        (Put, ["api", "v1", "crates", "new"]) => Route::Publish,
        (Get, ["api", "v1", "crates", n, "owners"]) => Route::Owners(name(n)?),
        (Put, ["api", "v1", "crates", n, "owners"]) => Route::AddOwners(name(n)?),
        (Delete, ["api", "v1", "crates", n, "owners"]) => Route::RemoveOwners(name(n)?),
        (Get, ["api", "v1", "crates", n, v, "download"]) => Route::Download(name(n)?, version(v)?),
        (Delete, ["api", "v1", "crates", n, v, "yank"]) => Route::Yank(name(n)?, version(v)?),
        (Put, ["api", "v1", "crates", n, v, "unyank"]) => Route::Unyank(name(n)?, version(v)?),
        _ => return Err(Refused::Unknown),
    })
}

/// Nothing was found: perhaps because of the method alone.
fn other_methods(segments: &[&str], query: Option<&str>) -> Refused {
    let known = |verb: &Verb| !matches!(find(*verb, segments, query), Err(Refused::Unknown));
    let allow: Vec<_> = Verb::ALL.into_iter().filter(known).map(Verb::allows).collect();
    if allow.is_empty() { Refused::Unknown } else { Refused::Method(allow.join(", ")) }
}

/// Somebody may look for the index at a wrong place: cargo with another URL than ours, git (for an `index`
/// without `sparse+`), or a person.
fn beside_the_index(segments: &[&str]) -> Refused {
    let view = match segments.first() {
        Some(&"crates-io") => View::CratesIo,
        _ => View::Own,
    };
    match segments.strip_suffix(&[""]).unwrap_or(segments) {
        [.., "config.json"] => Refused::BesideTheIndex { is_cargo: true, view },
        ["index" | "crates-io"] | ["crates-io", "index"] | [.., "info", "refs"] => {
            Refused::BesideTheIndex { is_cargo: false, view }
        }
        _ => Refused::Unknown,
    }
}

fn split<'p, 'r>(
    path: &'p str,
    segments_of: &'r mut [&'p str; MAX_SEGMENTS],
) -> Option<&'r [&'p str]> {
    let mut count = 0;
    for segment in path.strip_prefix('/')?.split('/') {
        *segments_of.get_mut(count)? = segment;
        count += 1;
    }
    segments_of.get(..count)
}

/// One segment without its percent-encoding; `+` stays `+`, as in a crate version.
fn decode(segment: &str) -> Result<Cow<'_, str>, Refused> {
    if !segment.contains('%') {
        return Ok(Cow::Borrowed(segment));
    }
    let mut escapes = segment.split('%').skip(1);
    if !escapes.all(|e| e.len() >= 2 && e.bytes().take(2).all(|b| b.is_ascii_hexdigit())) {
        return Err(malformed("the URL has a `%` without two hexadecimal digits after it"));
    }
    percent_decode_str(segment)
        .decode_utf8()
        .map_err(|_| malformed("the URL is not UTF-8 once it is percent-decoded"))
}

fn name(segment: &str) -> Result<CrateName, Refused> {
    CrateName::parse(&decode(segment)?).map_err(|e| Refused::Absent(e.to_string()))
}

fn version(segment: &str) -> Result<CrateVersion, Refused> {
    decode(segment)?.parse().map_err(|e| Refused::Absent(format!("no such version: {e}")))
}

fn token_id(segment: &str) -> Result<TokenId, Refused> {
    let number = segment.parse().map_err(|_| Refused::Absent("no such token".to_owned()))?;
    Ok(TokenId(number))
}

/// A file of the index, by what follows its URL.
fn index(view: View, segments: &[&str]) -> Result<Route, Refused> {
    match segments {
        ["config.json"] => Ok(Route::IndexConfig(view)),
        [folders @ .., file] => Ok(Route::IndexFile(view, index_name(folders, file)?)),
        [] => Err(Refused::Unknown),
    }
}

/// The name of an index file, if it is in lower case and in its own folders. Whatever else
/// stands there does not exist, and cargo wants to hear just that.
fn index_name(folders: &[&str], file: &str) -> Result<CrateName, Refused> {
    let name = CrateName::parse(&decode(file)?).map_err(|_| Refused::Unknown)?;
    let text = name.as_str();
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    let at_home = match (folders, text.len()) {
        (["1"], 1) | (["2"], 2) => true,
        (["3", a], 3) => *a == part(0, 1),
        ([a, b], 4..) => *a == part(0, 2) && *b == part(2, 4),
        _ => false,
    };
    if at_home && !text.bytes().any(|b| b.is_ascii_uppercase()) {
        Ok(name)
    } else {
        Err(Refused::Unknown)
    }
}

fn search(query: Option<&str>) -> Result<Route, Refused> {
    let number = |key: &str, default: usize| match parameter(query, key) {
        None => Ok(default),
        Some(text) => text
            .parse::<usize>()
            .map_err(|_| malformed(format_args!("`{key}` must be a number, 1 or more"))),
    };
    let size = number("per_page", DEFAULT_HITS)?.clamp(1, MAX_HITS);
    let skip = match number("page", 1)? {
        0 => return Err(malformed("`page` must be a number, 1 or more")),
        page => (page - 1).saturating_mul(size),
    };
    if skip.saturating_add(size) > MAX_DEPTH {
        return Err(malformed(format_args!(
            "no more than {MAX_DEPTH} results can be reached by `page`: search for more words"
        )));
    }
    let query = parameter(query, "q").unwrap_or_default().into_owned();
    Ok(Route::Search { query, page: Page { skip, size } })
}

fn parameter<'q>(query: Option<&'q str>, key: &str) -> Option<Cow<'q, str>> {
    let mut pairs = url::form_urlencoded::parse(query?.as_bytes());
    pairs.find(|(k, _)| k == key).map(|(_, value)| value)
}

/// All values of a key that may be repeated.
fn parameters<'q>(query: Option<&'q str>, key: &str) -> impl Iterator<Item = Cow<'q, str>> {
    let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.filter(move |(k, _)| k == key).map(|(_, value)| value)
}

fn malformed(why: impl std::fmt::Display) -> Refused {
    Refused::Malformed(why.to_string())
}

impl Route {
    /// The word for it in metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Route::Home => "home",
            Route::Me => "me",
            Route::OpenApi => "openapi",
            Route::Whose => "whose",
            Route::IndexConfig(View::Own) => "index_config",
            Route::IndexFile(View::Own, _) => "index_file",
            Route::IndexConfig(View::CratesIo) => "crates_io_index_config",
            Route::IndexFile(View::CratesIo, _) => "crates_io_index_file",
            Route::Download(..) => "download",
            Route::Publish => "publish",
            Route::Yank(..) => "yank",
            Route::Unyank(..) => "unyank",
            Route::Owners(_) => "owners",
            Route::AddOwners(_) => "owners_add",
            Route::RemoveOwners(_) => "owners_remove",
            Route::Search { .. } => "search",
            Route::Own(own) => own.label(),
            Route::Policy(ask) => ask.label(),
            Route::Admin(what) => what.label(),
        }
    }
}

impl Form {
    /// What a client that asks for this path expects.
    pub fn of(path: &str) -> Self {
        let is_for_people = path.ends_with("/download") || path.ends_with("/config.json");
        match path.starts_with("/api/") && !is_for_people {
            true => Form::Json,
            false => Form::Text,
        }
    }
}

impl Verb {
    const ALL: [Verb; 4] = [Verb::Get, Verb::Put, Verb::Post, Verb::Delete];

    fn of(method: &Method) -> Option<Self> {
        match *method {
            Method::GET | Method::HEAD => Some(Verb::Get),
            Method::PUT => Some(Verb::Put),
            Method::POST => Some(Verb::Post),
            Method::DELETE => Some(Verb::Delete),
            _ => None,
        }
    }

    fn allows(self) -> &'static str {
        match self {
            Verb::Get => "GET, HEAD",
            Verb::Put => "PUT",
            Verb::Post => "POST",
            Verb::Delete => "DELETE",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cratehouse_journal::tokens::Selection;
    use proptest::prelude::*;

    fn get(path: &str) -> Result<Route, Refused> {
        let (path, query) = path.split_once('?').map_or((path, None), |(p, q)| (p, Some(q)));
        route(&Method::GET, path, query)
    }

    fn krate(text: &str) -> CrateName {
        CrateName::parse(text).unwrap()
    }

    #[test]
    fn index_files_are_found_in_their_own_folders_and_in_lower_case_only() {
        for name in ["a", "ab", "abc", "abcd", "serde_json", "a-b"] {
            let path = format!("/index/{}", krate(name).index_path());
            assert_eq!(get(&path), Ok(Route::IndexFile(View::Own, krate(name))), "{path}");
        }
        assert_eq!(
            get("/index/se/rd/serde%5Fx"),
            Ok(Route::IndexFile(View::Own, krate("serde_x")))
        );
        for path in [
            "/index/serde",
            "/index/se/rd/Serde",
            "/index/Se/rd/serde",
            "/index/se/rd/other",
            "/index/3/abc",
            "/index/3/a/abcd",
            "/index/se/rd/serde/",
            "/index/se/rd/sérde",
            "/api/v1/index",
        ] {
            assert_eq!(get(path), Err(Refused::Unknown), "{path}");
        }
    }

    #[test]
    fn who_looks_for_the_index_at_a_wrong_place_is_told_where_it_is() {
        let beside = |is_cargo| Err(Refused::BesideTheIndex { is_cargo, view: View::Own });
        for path in ["/index", "/index/", "/index/info/refs?service=git-upload-pack"] {
            assert_eq!(get(path), beside(false), "{path}");
        }
        for path in [
            "/config.json",
            "/api/v1/config.json",
            "/api/v1/crates/config.json",
            "/index/config.json/",
            "/index/index/config.json",
            "/index/../config.json",
            "//index/config.json",
        ] {
            assert_eq!(get(path), beside(true), "{path}");
        }
    }

    #[test]
    fn a_plus_in_a_download_url_may_be_encoded() {
        let wanted = Route::Download(krate("Foo"), "1.2.3+b.1".parse().unwrap());
        assert_eq!(get("/api/v1/crates/Foo/1.2.3+b.1/download"), Ok(wanted.clone()));
        assert_eq!(get("/api/v1/crates/Foo/1.2.3%2Bb.1/download"), Ok(wanted.clone()));
        assert_eq!(get("/api/v1/crates/Foo/1.2.3%2bb.1/download"), Ok(wanted));
    }

    #[test]
    fn what_cannot_exist_is_absent_and_broken_escapes_are_malformed() {
        for path in ["/api/v1/crates/1a/1.0.0/download", "/api/v1/crates/a/1.0/download"] {
            assert!(matches!(get(path), Err(Refused::Absent(_))), "{path}");
        }
        for segment in ["%", "%4", "%zz", "a%ff", "é%"] {
            let path = format!("/api/v1/crates/{segment}/1.0.0/download");
            assert!(matches!(get(&path), Err(Refused::Malformed(_))), "{path}");
        }
        let long = format!("/index/{}", "a".repeat(MAX_PATH_BYTES));
        assert!(matches!(get(&long), Err(Refused::Malformed(_))));
        assert_eq!(get("/a/b/c/d/e/f/g/h/i"), Err(Refused::Unknown));
    }

    #[test]
    fn a_wrong_method_is_told_the_right_ones() {
        let refused = |method, path| route(&method, path, None).unwrap_err();
        let allow = |text: &str| Refused::Method(text.to_owned());
        assert_eq!(refused(Method::GET, "/api/v1/crates/new"), allow("PUT"));
        assert_eq!(refused(Method::POST, "/"), allow("GET, HEAD"));
        assert_eq!(
            refused(Method::PATCH, "/api/v1/crates/x/owners"),
            allow("GET, HEAD, PUT, DELETE")
        );
        assert_eq!(refused(Method::PUT, "/api/v1/admin/users"), allow("GET, HEAD, POST"));
        assert_eq!(refused(Method::POST, "/nothing"), Refused::Unknown);
        assert_eq!(refused(Method::OPTIONS, "*"), Refused::Unknown);
    }

    #[test]
    fn head_is_read_as_get() {
        assert_eq!(
            route(&Method::HEAD, "/index/config.json", None),
            Ok(Route::IndexConfig(View::Own))
        );
    }

    #[test]
    fn searches_are_decoded_and_capped() {
        let search = |query: &str, skip, size| {
            Ok(Route::Search { query: query.to_owned(), page: Page { skip, size } })
        };
        assert_eq!(get("/api/v1/crates"), search("", 0, 10));
        assert_eq!(get("/api/v1/crates?q=a+b%20c&per_page=5"), search("a b c", 0, 5));
        assert_eq!(get("/api/v1/crates?q=x&page=1"), search("x", 0, 10));
        assert_eq!(get("/api/v1/crates?per_page=7&page=3"), search("", 14, 7));
        assert_eq!(get("/api/v1/crates?per_page=1000&q=x"), search("x", 0, 100));
        assert_eq!(get("/api/v1/crates?per_page=100&page=100"), search("", 9900, 100));
        assert_eq!(get("/api/v1/crates?per_page=0"), search("", 0, 1));
        for odd in ["per_page=x", "page=x", "page=0", "page=-1", "per_page=100&page=101"] {
            let odd = format!("/api/v1/crates?{odd}");
            assert!(matches!(get(&odd), Err(Refused::Malformed(_))), "{odd}");
        }
        let far = format!("/api/v1/crates?per_page=9&page={}", usize::MAX);
        assert!(matches!(get(&far), Err(Refused::Malformed(_))));
    }

    #[test]
    fn the_admin_api_is_mapped() {
        let call = |method, path: &str| {
            let (path, query) = path.split_once('?').map_or((path, None), |(p, q)| (p, Some(q)));
            route(&method, &format!("/api/v1/admin/{path}"), query)
        };
        let ok = |manage| Ok(Route::Admin(manage));
        assert_eq!(call(Method::GET, "users"), ok(Administer::Users));
        assert_eq!(call(Method::POST, "users"), ok(Administer::CreateUser));
        assert_eq!(
            call(Method::DELETE, "users/al%20"),
            ok(Administer::DisableUser("al ".to_owned()))
        );
        assert_eq!(call(Method::GET, "tokens"), ok(Administer::Tokens(Box::default())));
        assert_eq!(
            call(Method::GET, "tokens?user=al"),
            ok(Administer::Tokens(Box::new(Selection::of("al"))))
        );
        assert_eq!(call(Method::DELETE, "tokens/7"), ok(Administer::RevokeToken(TokenId(7))));
        assert!(matches!(call(Method::DELETE, "tokens/-1"), Err(Refused::Absent(_))));
        let v: CrateVersion = "1.0.0".parse().unwrap();
        assert_eq!(
            call(Method::DELETE, "crates/a/1.0.0"),
            ok(Administer::Remove(krate("a"), v.clone()))
        );
        assert_eq!(call(Method::POST, "mirror/a/refresh"), ok(Administer::Refresh(krate("a"))));
        assert_eq!(call(Method::POST, "mirror/a/purge"), ok(Administer::Purge(krate("a"), None)));
        assert_eq!(
            call(Method::POST, "mirror/a/purge?version=1.0.0"),
            ok(Administer::Purge(krate("a"), Some(v)))
        );
        for plus in ["+", "%2B", "%20"] {
            let path = format!("mirror/a/purge?version=1.0.0{plus}b");
            let exactly = Some("1.0.0+b".parse().unwrap());
            assert_eq!(
                call(Method::POST, &path),
                ok(Administer::Purge(krate("a"), exactly)),
                "{path}"
            );
        }
        let broken = call(Method::POST, "mirror/a/purge?version=1.0");
        assert!(matches!(broken, Err(Refused::Malformed(_))), "{broken:?}");
        assert_eq!(call(Method::GET, "names/audit"), ok(Administer::Audit));
        assert_eq!(call(Method::GET, "journal/head"), ok(Administer::Head));
    }

    #[test]
    fn refusals_are_json_below_api_except_for_downloads() {
        assert_eq!(Form::of("/api/v1/crates/new"), Form::Json);
        assert_eq!(Form::of("/api/v2/x"), Form::Json);
        assert_eq!(Form::of("/api/v1/crates/a/1.0.0/download"), Form::Text);
        assert_eq!(Form::of("/api/v1/config.json"), Form::Text);
        assert_eq!(Form::of("/index/1/a"), Form::Text);
    }

    fn segment() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("api".to_owned()),
            Just("v1".to_owned()),
            Just("crates".to_owned()),
            Just("index".to_owned()),
            Just("admin".to_owned()),
            Just("mirror".to_owned()),
            Just("download".to_owned()),
            Just("owners".to_owned()),
            "[a-zA-Z0-9%+._-]{0,12}",
            ".{0,12}",
        ]
    }

    proptest! {
        #[test]
        fn any_request_line_is_a_route_or_a_refusal(
            method in "[A-Z]{1,8}|GET|PUT|POST|DELETE|HEAD",
            segments in prop::collection::vec(segment(), 0..10),
            query in prop::option::of(".{0,60}"),
        ) {
            let method: Method = method.parse().unwrap();
            let path = format!("/{}", segments.join("/"));
            let _ = route(&method, &path, query.as_deref());
            let _ = route(&method, &segments.concat(), query.as_deref());
        }
    }
}
