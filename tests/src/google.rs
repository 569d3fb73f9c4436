//! A server that speaks what object stores' clients use of Google Cloud Storage's XML API, and no
//! more; its objects are in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use crate::http::{Action, Request, Response, Server};
use crate::krate::sha256;

/// A running server with one bucket; it ends when it is dropped.
#[derive(Debug)]
pub struct Google {
    _server: Server,
    objects: Arc<Mutex<Objects>>,
}

type Objects = BTreeMap<String, Vec<u8>>;

const BUCKET: &str = "bucket";
const MODIFIED: &str = "Thu, 29 Feb 2024 12:34:56 GMT";

impl Google {
    /// One with nothing in it, and the environment by which it is found: its bucket is
    /// `gs://bucket`.
    pub fn start() -> (Self, Vec<(&'static str, String)>) {
        let objects = Arc::<Mutex<Objects>>::default();
        let state = Arc::clone(&objects);
        let act = move |request: &Request| answer(request, &mut state.lock().unwrap());
        let server = Server::start(move |request, _| Action::Answer(act(request)));
        // With any account that wants a token, one would be asked for outside this machine.
        let account = serde_json::json!({
            "gcs_base_url": server.origin(), "disable_oauth": true,
            "client_email": "", "private_key": "", "private_key_id": "",
        });
        (
            Self { _server: server, objects },
            vec![("GOOGLE_SERVICE_ACCOUNT_KEY", account.to_string())],
        )
    }

    /// The keys of all that is stored.
    pub fn keys(&self) -> Vec<String> {
        self.objects.lock().unwrap().keys().cloned().collect()
    }
}

fn answer(request: &Request, objects: &mut Objects) -> Response {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let key = path.trim_start_matches('/').strip_prefix(BUCKET).unwrap_or_default();
    let key = &decoded(key.trim_start_matches('/'));
    match request.method.as_str() {
        "PUT" if objects.contains_key(key) && only_creates(request) => Response::status(412),
        "PUT" => {
            objects.insert(key.to_owned(), request.body.clone());
            with_tag(Response::ok(""), &request.body)
        }
        "GET" if key.is_empty() => Response::ok(listing(query, objects)),
        "GET" | "HEAD" => match objects.get(key) {
            Some(bytes) => with_tag(Response::ok(bytes.clone()), bytes),
            None => Response { body: NO_SUCH_KEY.into(), ..Response::status(404) },
        },
        "DELETE" => match objects.remove(key) {
            Some(_) => Response::status(204),
            None => Response::status(404),
        },
        _ => Response::status(405),
    }
}

const NO_SUCH_KEY: &str = "<Error><Code>NoSuchKey</Code></Error>";

fn with_tag(response: Response, bytes: &[u8]) -> Response {
    response.header("etag", &format!("\"{}\"", sha256(bytes))).header("last-modified", MODIFIED)
}

fn only_creates(request: &Request) -> bool {
    request.header("x-goog-if-generation-match") == Some("0")
}

fn listing(query: &str, objects: &Objects) -> String {
    let (prefix, delimiter) = (field(query, "prefix"), field(query, "delimiter"));
    let after = field(query, "start-after");
    let mut xml = String::from("<ListBucketResult><IsTruncated>false</IsTruncated>");
    let mut folders = BTreeSet::new();
    for (key, bytes) in objects.iter().filter(|(key, _)| **key > after) {
        let Some(rest) = key.strip_prefix(&prefix) else { continue };
        if let Some((folder, _)) = rest.split_once('/').filter(|_| !delimiter.is_empty()) {
            folders.insert(folder);
            continue;
        }
        let (tag, size) = (sha256(bytes), bytes.len());
        let _ = write!(
            xml,
            "<Contents><Key>{key}</Key><LastModified>2024-02-29T12:34:56.000Z</LastModified>\
             <ETag>{tag}</ETag><Size>{size}</Size></Contents>"
        );
    }
    for folder in folders {
        let _ = write!(xml, "<CommonPrefixes><Prefix>{prefix}{folder}/</Prefix></CommonPrefixes>");
    }
    xml + "</ListBucketResult>"
}

fn field(query: &str, name: &str) -> String {
    let value = query.split('&').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    decoded(value.unwrap_or_default())
}

/// Keys of these tests are ASCII.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at(2);
        plain.push(char::from(u8::from_str_radix(code, 16).unwrap()));
        plain += rest;
    }
    plain
}
