//! An upstream: a real HTTP server that is a sparse registry, with switches that can be
//! turned while it runs, and a list of every request.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::http::{Action, Request, Response, Server};
use crate::krate::{Krate, index_path, prefix, sha256};

/// A running upstream. Its index is below `/index/`; downloads are wherever `dl` says.
#[derive(Debug)]
pub struct Upstream {
    server: Server,
    state: Arc<Mutex<State>>,
}

/// How it behaves. Everything can be changed while it runs: `upstream.set(|s| s.gzip = true)`.
#[derive(Debug, Clone)]
pub struct Switches {
    /// What index files carry for conditional requests.
    pub validators: Validators,
    /// Whether index files are sent compressed to those who accept it.
    pub gzip: bool,
    /// The `dl` of `config.json`. `{origin}` stands for this server; the markers are cargo's.
    pub dl: String,
    /// The token that every request must carry, bare or after `Bearer `; else 401.
    pub token: Option<String>,
    /// Whether index files end in a newline.
    pub final_newline: bool,
    /// Whether it hangs up on everybody.
    pub down: bool,
    /// How long every answer takes.
    pub delay: Duration,
    /// How it answers for `config.json`.
    pub config: Answer,
    /// How it answers for index files.
    pub index: Answer,
    /// How it answers for crate files.
    pub krate: Answer,
    /// How it answers for single paths such as `/index/se/rd/serde`: stronger than the three above.
    pub paths: BTreeMap<String, Answer>,
}

/// What an index file carries for conditional requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validators {
    /// A strong `ETag`.
    Etag,
    /// A weak `ETag`.
    WeakEtag,
    /// `Last-Modified`.
    LastModified,
    /// Nothing.
    None,
}

/// How a request is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// As a registry should.
    Normal,
    /// With a status and a short text.
    Status(u16),
    /// With a status and a `Retry-After`.
    RetryAfter(u16, String),
    /// 200 and nothing more.
    Empty,
    /// With the first half of what `Content-Length` promises.
    CutShort,
    /// 200 with these bytes.
    Bytes(Vec<u8>),
    /// 302 to this prefix before the path: `/moved` for the same origin, `http://…/moved` for
    /// another upstream. Every upstream serves below `/moved` what it serves without.
    Redirect(String),
    /// 302 to itself, for ever.
    RedirectForEver,
    /// Not at all, until the switch is turned.
    Hold,
    /// By hanging up.
    HangUp,
}

#[derive(Debug)]
struct State {
    origin: String,
    switches: Switches,
    crates: BTreeMap<String, Vec<Version>>,
    /// Seconds since 1970 at which each index file last changed; made up, always rising.
    modified: BTreeMap<String, u64>,
    clock: u64,
}

#[derive(Debug)]
struct Version {
    name: String,
    version: String,
    cksum: String,
    line: String,
    bytes: Option<Vec<u8>>,
}

const MOVED: &str = "/moved";
const INDEX: &str = "/index/";
const EPOCH_SECONDS: u64 = 1_700_000_000;

impl Upstream {
    /// Starts one without any crates: strong ETags, no gzip, `dl` without a marker.
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State::new()));
        let handler = Arc::clone(&state);
        let server =
            Server::start(move |request, waited| handler.lock().unwrap().act(request, waited));
        state.lock().unwrap().origin = server.origin();
        Self { server, state }
    }

    /// Starts one with these crates.
    pub fn with(crates: &[Krate]) -> Self {
        let upstream = Self::start();
        crates.iter().for_each(|krate| upstream.publish(krate));
        upstream
    }

    /// The base URL of its sparse index, as a gateway's configuration has it.
    pub fn index_url(&self) -> String {
        self.origin() + INDEX
    }

    /// `http://127.0.0.1:PORT`.
    pub fn origin(&self) -> String {
        self.server.origin()
    }

    /// Turns switches.
    pub fn set(&self, turn: impl FnOnce(&mut Switches)) {
        let mut state = self.state.lock().unwrap();
        turn(&mut state.switches);
        self.server.set_down(state.switches.down);
    }

    /// Has a version; one of the same number is replaced in its place, whatever its bytes.
    pub fn publish(&self, krate: &Krate) {
        self.publish_line(krate, &krate.index_line());
    }

    /// Has a version with an index line of the caller's own.
    pub fn publish_line(&self, krate: &Krate, line: &str) {
        let version = Version {
            name: krate.name.clone(),
            version: krate.version.clone(),
            cksum: krate.cksum(),
            line: line.to_owned(),
            bytes: Some(krate.crate_bytes()),
        };
        self.change(&krate.name, |versions| {
            match versions.iter_mut().find(|v| v.version == version.version) {
                Some(old) => *old = version,
                None => versions.push(version),
            }
        });
    }

    /// Yanks or unyanks a version.
    pub fn yank(&self, name: &str, version: &str, yanked: bool) {
        let (from, to) = (format!(r#""yanked":{}"#, !yanked), format!(r#""yanked":{yanked}"#));
        self.change(name, |versions| {
            let found = versions.iter_mut().find(|v| v.version == version).unwrap();
            found.line = found.line.replace(&from, &to);
        });
    }

    /// Deletes a version, line and bytes.
    pub fn remove_version(&self, name: &str, version: &str) {
        self.change(name, |versions| versions.retain(|v| v.version != version));
    }

    /// Deletes a crate: its index file is then 404.
    pub fn remove_crate(&self, name: &str) {
        self.state.lock().unwrap().crates.remove(&name.to_lowercase());
    }

    /// Loses a crate file, but not its index line.
    pub fn lose_file(&self, name: &str, version: &str) {
        self.change(name, |versions| {
            versions.iter_mut().filter(|v| v.version == version).for_each(|v| v.bytes = None);
        });
    }

    /// A crate's index file, byte for byte.
    pub fn index_file(&self, name: &str) -> Vec<u8> {
        self.state.lock().unwrap().index_file(&name.to_lowercase()).unwrap()
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Request> {
        self.server.requests()
    }

    /// How many requests were for exactly this path.
    pub fn count(&self, path: &str) -> usize {
        self.server.count(path)
    }

    /// How many requests were for a crate's index file.
    pub fn index_count(&self, name: &str) -> usize {
        self.count(&format!("{INDEX}{}", index_path(name)))
    }

    /// How many requests were for crate files and the like: for anything but the index.
    pub fn download_count(&self) -> usize {
        self.requests().iter().filter(|r| !r.path.starts_with(INDEX)).count()
    }

    /// The requests whose path contains a name, in lower case or as it is.
    pub fn mentions(&self, name: &str) -> Vec<Request> {
        let name = name.to_lowercase();
        self.requests().into_iter().filter(|r| r.path.to_lowercase().contains(&name)).collect()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        self.server.forget_requests();
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Vec<Version>)) {
        let mut state = self.state.lock().unwrap();
        state.clock += 1;
        let (now, key) = (state.clock, name.to_lowercase());
        state.modified.insert(key.clone(), now);
        change(state.crates.entry(key).or_default());
    }
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            validators: Validators::Etag,
            gzip: false,
            dl: "{origin}/crates".to_owned(),
            token: None,
            final_newline: true,
            down: false,
            delay: Duration::ZERO,
            config: Answer::Normal,
            index: Answer::Normal,
            krate: Answer::Normal,
            paths: BTreeMap::new(),
        }
    }
}

impl State {
    fn new() -> Self {
        Self {
            origin: String::new(),
            switches: Switches::default(),
            crates: BTreeMap::new(),
            modified: BTreeMap::new(),
            clock: EPOCH_SECONDS,
        }
    }

    fn act(&self, request: &Request, waited: Duration) -> Action {
        if waited < self.switches.delay {
            return Action::Wait;
        }
        if !self.may(request) {
            let login = r#"Cargo login_url="https://login.example/""#;
            return Action::Answer(Response::status(401).header("www-authenticate", login));
        }
        let (path, moved) = match request.path.strip_prefix(MOVED) {
            Some(path) => (path, true),
            None => (request.path.as_str(), false),
        };
        let normal = || self.normal(path, request);
        let redirect = |to: String| Response::status(302).header("location", &to);
        Action::Answer(match self.answer_for(path) {
            Answer::Normal => normal(),
            Answer::Redirect(_) if moved => normal(),
            Answer::Redirect(prefix) => redirect(format!("{prefix}{path}")),
            Answer::RedirectForEver => redirect(path.to_owned()),
            Answer::Status(status) => Response { status, ..Response::ok("switched off\n") },
            Answer::RetryAfter(status, after) => {
                Response::status(status).header("retry-after", &after)
            }
            Answer::Empty => Response::ok(""),
            Answer::Bytes(bytes) => Response::ok(bytes),
            Answer::CutShort => Response { cut_short: true, ..normal() },
            Answer::Hold => return Action::Wait,
            Answer::HangUp => return Action::HangUp,
        })
    }

    fn may(&self, request: &Request) -> bool {
        let Some(token) = &self.switches.token else { return true };
        let given = request.header("authorization").unwrap_or_default();
        given.strip_prefix("Bearer ").unwrap_or(given) == token
    }

    fn answer_for(&self, path: &str) -> Answer {
        let class = || match path.strip_prefix(INDEX) {
            Some("config.json") => &self.switches.config,
            Some(_) => &self.switches.index,
            None => &self.switches.krate,
        };
        self.switches.paths.get(path).unwrap_or_else(class).clone()
    }

    fn normal(&self, path: &str, request: &Request) -> Response {
        match path.strip_prefix(INDEX) {
            Some("config.json") => self.config_json(),
            Some(file) => self.index_answer(file, request),
            None => self.crate_answer(path),
        }
    }

    fn config_json(&self) -> Response {
        let dl = self.switches.dl.replace("{origin}", &self.origin);
        let required = self.switches.token.is_some();
        let config = json!({ "dl": dl, "api": self.origin, "auth-required": required });
        Response::ok(config.to_string()).header("content-type", "application/json")
    }

    fn index_answer(&self, path: &str, request: &Request) -> Response {
        let name = path.rsplit('/').next().unwrap_or_default();
        match self.index_file(name) {
            Some(body) if index_path(name) == path => self.conditional(name, body, request),
            _ => Response { status: 404, ..Response::ok("not found\n") },
        }
    }

    fn index_file(&self, name: &str) -> Option<Vec<u8>> {
        let lines: Vec<_> = self.crates.get(name)?.iter().map(|v| v.line.as_str()).collect();
        let mut text = lines.join("\n");
        if self.switches.final_newline && !text.is_empty() {
            text.push('\n');
        }
        Some(text.into_bytes())
    }

    fn conditional(&self, name: &str, body: Vec<u8>, request: &Request) -> Response {
        let strong = format!("\"{}\"", &sha256(&body)[..16]);
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(self.modified[name]);
        let since = request.header("if-modified-since").map(httpdate::parse_http_date);
        let etag = |tag: String| (request.header("if-none-match") == Some(&tag), ("etag", tag));
        let (same, (header, value)) = match self.switches.validators {
            Validators::None => return self.packed(Response::ok(body), request),
            Validators::Etag => etag(strong),
            Validators::WeakEtag => etag(format!("W/{strong}")),
            Validators::LastModified => (
                matches!(since, Some(Ok(since)) if changed <= since),
                ("last-modified", httpdate::fmt_http_date(changed)),
            ),
        };
        if same {
            return Response::status(304).header(header, &value);
        }
        self.packed(Response::ok(body).header(header, &value), request)
    }

    fn packed(&self, mut response: Response, request: &Request) -> Response {
        let accepted = request.header("accept-encoding").unwrap_or_default();
        if !self.switches.gzip || !accepted.contains("gzip") {
            return response;
        }
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&response.body).unwrap();
        response.body = encoder.finish().unwrap();
        response.header("content-encoding", "gzip").header("vary", "accept-encoding")
    }

    fn crate_answer(&self, path: &str) -> Response {
        let asked = path.replace("%2B", "+").replace("%2b", "+");
        let found = self.crates.values().flatten().find(|v| self.download_path(v) == asked);
        match found.and_then(|v| v.bytes.clone()) {
            Some(bytes) => Response::ok(bytes).header("content-type", "application/gzip"),
            None => Response { status: 404, ..Response::ok("no such file\n") },
        }
    }

    /// Where `dl` puts a version on its server: cargo's rule (`sources/registry/download.rs`).
    fn download_path(&self, version: &Version) -> String {
        let dl = dl_url(&self.switches.dl, &version.name, &version.version, &version.cksum);
        let path = dl.replace("{origin}", "");
        match path.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or(String::new(), |at| rest[at..].to_owned()),
            None => path,
        }
    }
}

/// A download URL by cargo's rule: markers replaced, or `/{crate}/{version}/download` appended.
pub fn dl_url(template: &str, name: &str, version: &str, cksum: &str) -> String {
    let markers = [
        ("{crate}", name.to_owned()),
        ("{version}", version.to_owned()),
        ("{prefix}", prefix(name)),
        ("{lowerprefix}", prefix(&name.to_lowercase())),
        ("{sha256-checksum}", cksum.to_owned()),
    ];
    if !markers.iter().any(|(marker, _)| template.contains(marker)) {
        return format!("{template}/{name}/{version}/download");
    }
    markers.iter().fold(template.to_owned(), |url, (marker, value)| url.replace(marker, value))
}

/// The URL of a port at which nobody listens.
pub fn closed_port_url() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/index/", listener.local_addr().unwrap())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream() -> Upstream {
        Upstream::with(&[Krate::new("Foo_Bar", "1.0.0+b")])
    }

    fn get(url: &str, headers: &[(&str, &str)]) -> (u16, Vec<u8>, Option<String>) {
        let client = reqwest::blocking::Client::builder()
            .no_proxy()
            .no_gzip()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        let request = headers.iter().fold(client.get(url), |r, (n, v)| r.header(*n, *v));
        let answer = request.send().unwrap();
        let tag = ["etag", "last-modified", "location"]
            .iter()
            .find_map(|h| answer.headers().get(*h))
            .map(|v| v.to_str().unwrap().to_owned());
        (answer.status().as_u16(), answer.bytes().unwrap().to_vec(), tag)
    }

    #[test]
    fn it_serves_files_by_every_form_of_dl() {
        let upstream = upstream();
        let krate = Krate::new("Foo_Bar", "1.0.0+b");
        for dl in [
            "{origin}/x",
            "{origin}/{prefix}/{lowerprefix}/{crate}-{version}",
            "{origin}/{sha256-checksum}",
        ] {
            upstream.set(|s| s.dl = dl.to_owned());
            let template = dl.replace("{origin}", &upstream.origin());
            let url = dl_url(&template, "Foo_Bar", "1.0.0+b", &krate.cksum());
            assert_eq!(get(&url, &[]).1, krate.crate_bytes(), "{dl}");
            assert_eq!(get(&url.replace('+', "%2B"), &[]).0, 200);
        }
        assert_eq!(dl_url("x/{prefix}", "FooB", "1.0.0", ""), "x/Fo/oB");
    }

    #[test]
    fn each_validator_is_honoured_until_the_file_changes() {
        for (validators, header) in [
            (Validators::Etag, "if-none-match"),
            (Validators::WeakEtag, "if-none-match"),
            (Validators::LastModified, "if-modified-since"),
        ] {
            let upstream = upstream();
            upstream.set(|s| s.validators = validators);
            let url = upstream.index_url() + "fo/o_/foo_bar";
            let (status, body, tag) = get(&url, &[]);
            assert_eq!((status, body), (200, upstream.index_file("foo_bar")));
            let tag = tag.unwrap();
            assert_eq!(get(&url, &[(header, &tag)]).0, 304);
            upstream.publish(&Krate::new("Foo_Bar", "1.1.0"));
            assert_eq!(get(&url, &[(header, &tag)]).0, 200);
        }
    }

    #[test]
    fn paths_tokens_and_redirects_can_be_switched() {
        let upstream = upstream();
        let url = upstream.index_url() + "fo/o_/foo_bar";
        upstream.set(|s| s.index = Answer::Redirect("/moved".to_owned()));
        assert_eq!(get(&url, &[]).2.as_deref(), Some("/moved/index/fo/o_/foo_bar"));
        assert_eq!(get(&url.replace("/index", "/moved/index"), &[]).0, 200);
        upstream.set(|s| {
            s.paths.insert("/index/fo/o_/foo_bar".to_owned(), Answer::Status(410));
        });
        assert_eq!(get(&url, &[]).0, 410);
        upstream.set(|s| s.token = Some("secret".to_owned()));
        assert_eq!(get(&url, &[]).0, 401);
        assert_eq!(get(&url, &[("authorization", "secret")]).0, 410);
    }

    #[test]
    fn versions_come_are_yanked_and_go() {
        let upstream = upstream();
        upstream.yank("Foo_Bar", "1.0.0+b", true);
        let text = String::from_utf8(upstream.index_file("foo_bar")).unwrap();
        assert!(text.contains(r#""yanked":true"#) && text.ends_with("}\n"));
        upstream.remove_crate("Foo_Bar");
        assert_eq!(get(&(upstream.index_url() + "fo/o_/foo_bar"), &[]).0, 404);
        assert_eq!(upstream.index_count("Foo_Bar"), 1);
    }
}
