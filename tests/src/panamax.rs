//! A Panamax mirror, as `panamax serve` answers over a synced folder: `Last-Modified` and 304
//! but neither ETag nor gzip, names of crate files in their exact case, absent things as 404
//! without a body.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::http::{Action, Request, Response, Server};
use crate::krate::{Krate, index_path};

/// A running mirror.
#[derive(Debug)]
pub struct Panamax {
    server: Server,
    folder: Arc<Mutex<Folder>>,
}

/// What a sync has put on the disk.
#[derive(Debug, Default)]
struct Folder {
    config: String,
    /// By path below `/index/`.
    index: BTreeMap<String, String>,
    /// By name and version, in exact case.
    files: BTreeMap<(String, String), Vec<u8>>,
    /// How many syncs there were; each is a second later than the one before.
    syncs: u64,
}

/// When the first sync was, in seconds since 1970.
const SYNCED_SECONDS: u64 = 1_720_000_000;

impl Panamax {
    /// Starts one over a folder with these crates.
    pub fn with(crates: &[Krate]) -> Self {
        let folder = Arc::new(Mutex::new(Folder::default()));
        let seen = Arc::clone(&folder);
        let server =
            Server::start(move |request, _| Action::Answer(seen.lock().unwrap().answer(request)));
        let panamax = Self { server, folder };
        panamax.set_config(&panamax.rewritten_config());
        crates.iter().for_each(|krate| panamax.sync(krate));
        panamax
    }

    /// The base URL of its sparse index.
    pub fn index_url(&self) -> String {
        self.server.origin() + "/index/"
    }

    /// The `dl` of its own `config.json`.
    pub fn dl(&self) -> String {
        let base = self.server.origin() + "/crates";
        base + "/{prefix}/{crate}/{version}/{crate}-{version}.crate"
    }

    /// Takes a version, line and file.
    pub fn sync(&self, krate: &Krate) {
        self.sync_line(krate);
        let key = (krate.name.clone(), krate.version.clone());
        self.folder.lock().unwrap().files.insert(key, krate.crate_bytes());
    }

    /// Takes a version's line alone: what a sync that is filtered by lock files leaves.
    pub fn sync_line(&self, krate: &Krate) {
        let mut folder = self.folder.lock().unwrap();
        let file = folder.index.entry(index_path(&krate.name)).or_default();
        *file += &(krate.index_line() + "\n");
        folder.syncs += 1;
    }

    /// Puts another `config.json` there: during a sync it is briefly that of crates.io.
    pub fn set_config(&self, json: &str) {
        let mut folder = self.folder.lock().unwrap();
        folder.config = json.to_owned();
        folder.syncs += 1;
    }

    /// The `config.json` that Panamax writes.
    pub fn rewritten_config(&self) -> String {
        json!({ "dl": self.dl(), "api": self.server.origin() + "/crates" }).to_string()
    }

    /// A crate's index file, byte for byte.
    pub fn index_file(&self, name: &str) -> Vec<u8> {
        self.folder.lock().unwrap().index[&index_path(name)].clone().into_bytes()
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Request> {
        self.server.requests()
    }

    /// How many requests were for exactly this path.
    pub fn count(&self, path: &str) -> usize {
        self.server.count(path)
    }
}

impl Folder {
    fn answer(&self, request: &Request) -> Response {
        let path = request.path.as_str();
        let found = match path.strip_prefix("/index/") {
            Some("config.json") => Some(self.static_file(&self.config, request)),
            Some(file) => self.index.get(file).map(|text| self.static_file(text, request)),
            None => path.strip_prefix("/crates/").and_then(|rest| self.krate(rest)),
        };
        found.unwrap_or_else(|| Response::status(404))
    }

    fn krate(&self, rest: &str) -> Option<Response> {
        let rest = rest.replace("%2B", "+");
        let parts: Vec<&str> = rest.split('/').collect();
        let key = match parts.as_slice() {
            [name, version, "download"] => (*name, *version),
            [_, name, version, file] | [_, _, name, version, file]
                if *file == format!("{name}-{version}.crate") =>
            {
                (*name, *version)
            }
            _ => return None,
        };
        self.files.get(&(key.0.to_owned(), key.1.to_owned())).map(|bytes| Response::ok(&bytes[..]))
    }

    fn static_file(&self, text: &str, request: &Request) -> Response {
        let synced = SystemTime::UNIX_EPOCH + Duration::from_secs(SYNCED_SECONDS + self.syncs);
        let since = request.header("if-modified-since").map(httpdate::parse_http_date);
        if matches!(since, Some(Ok(since)) if synced <= since) {
            return Response::status(304);
        }
        Response::ok(text)
            .header("last-modified", &httpdate::fmt_http_date(synced))
            .header("accept-ranges", "bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Request {
        Request {
            method: "GET".to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    #[test]
    fn its_urls_are_those_of_panamax_serve() {
        let krate = Krate::new("Qzxv-Demo", "1.0.0");
        let panamax = Panamax::with(std::slice::from_ref(&krate));
        panamax.sync_line(&Krate::new("Qzxv-Demo", "2.0.0"));
        let folder = panamax.folder.lock().unwrap();
        let status = |path: &str| folder.answer(&get(path)).status;
        assert_eq!(status("/index/qz/xv/qzxv-demo"), 200);
        assert_eq!(status("/crates/Qzxv-Demo/1.0.0/download"), 200);
        assert_eq!(status("/crates/Qz/xv/Qzxv-Demo/1.0.0/Qzxv-Demo-1.0.0.crate"), 200);
        assert_eq!(status("/crates/any/Qzxv-Demo/1.0.0/Qzxv-Demo-1.0.0.crate"), 200);
        assert_eq!(status("/crates/qzxv-demo/1.0.0/download"), 404);
        assert_eq!(status("/crates/Qzxv-Demo/2.0.0/download"), 404);
        assert_eq!(status("/api/v1/crates"), 404);
        assert!(folder.answer(&get("/index/no/ne/none")).body.is_empty());
    }

    #[test]
    fn a_file_that_did_not_change_is_304() {
        let panamax = Panamax::with(&[Krate::new("demo", "1.0.0")]);
        let folder = panamax.folder.lock().unwrap();
        let mut request = get("/index/de/mo/demo");
        let answer = folder.answer(&request);
        let (_, modified) = answer.headers.iter().find(|(n, _)| n == "last-modified").unwrap();
        request.headers.push(("if-modified-since".to_owned(), modified.clone()));
        assert_eq!(folder.answer(&request).status, 304);
    }
}
