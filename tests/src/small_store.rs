//! A small object store in memory that speaks what clients use of a cloud's protocol, and no more:
//! S3 as several real servers do that cannot hold a registry (they take no notice of
//! `If-None-Match`, and overwrite where they should create), and Google Cloud Storage as it should.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use crate::http::{Action, Request, Response, Server};
use crate::krate::sha256;
use crate::s3::S3;

/// A running server with one bucket; it ends when it is dropped.
#[derive(Debug)]
pub struct SmallStore {
    server: Server,
    objects: Arc<Mutex<Objects>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    OverwritingS3,
    Gcs,
}

type Objects = BTreeMap<String, Vec<u8>>;

const BUCKET: &str = "bucket";
const MODIFIED: &str = "Thu, 29 Feb 2024 12:34:56 GMT";

impl SmallStore {
    /// One that speaks S3, and overwrites.
    pub fn overwriting() -> Self {
        Self::start(Dialect::OverwritingS3)
    }

    /// One that speaks Google Cloud Storage's XML API, and the environment by which it is found:
    /// its bucket is `gs://bucket`.
    pub fn gcs() -> (Self, Vec<(&'static str, String)>) {
        let store = Self::start(Dialect::Gcs);
        // With any account that wants a token, one would be asked for outside this machine.
        let account = serde_json::json!({
            "gcs_base_url": store.server.origin(), "disable_oauth": true,
            "client_email": "", "private_key": "", "private_key_id": "",
        });
        (store, vec![("GOOGLE_SERVICE_ACCOUNT_KEY", account.to_string())])
    }

    fn start(dialect: Dialect) -> Self {
        let objects = Arc::<Mutex<Objects>>::default();
        let state = Arc::clone(&objects);
        let act = move |request: &Request| answer(dialect, request, &mut state.lock().unwrap());
        let server = Server::start(move |request, _| Action::Answer(act(request)));
        Self { server, objects }
    }

    /// Its bucket, where it speaks S3.
    pub fn bucket(&self) -> S3 {
        S3 {
            endpoint: self.server.origin(),
            bucket: BUCKET.to_owned(),
            prefix: "registry".to_owned(),
            access_key: "any".to_owned(),
            secret_key: "any".to_owned(),
        }
    }

    /// The keys of all that is stored.
    pub fn keys(&self) -> Vec<String> {
        self.objects.lock().unwrap().keys().cloned().collect()
    }
}

fn answer(dialect: Dialect, request: &Request, objects: &mut Objects) -> Response {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let key = path.trim_start_matches('/').strip_prefix(BUCKET).unwrap_or_default();
    let key = &decoded(key.trim_start_matches('/'));
    match request.method.as_str() {
        "PUT" if objects.contains_key(key) && dialect.only_creates(request) => {
            Response::status(412)
        }
        "PUT" => {
            objects.insert(key.to_owned(), request.body.clone());
            with_tag(Response::ok(""), &request.body)
        }
        "GET" if key.is_empty() => Response::ok(listing(query, objects)),
        "GET" | "HEAD" => match objects.get(key) {
            Some(bytes) => with_tag(Response::ok(bytes.clone()), bytes),
            None => Response { body: NO_SUCH_KEY.into(), ..Response::status(404) },
        },
        "DELETE" => match (objects.remove(key), dialect) {
            (None, Dialect::Gcs) => Response::status(404),
            _ => Response::status(204),
        },
        "POST" => Response::ok(delete_all(&String::from_utf8_lossy(&request.body), objects)),
        _ => Response::status(405),
    }
}

const NO_SUCH_KEY: &str = "<Error><Code>NoSuchKey</Code></Error>";

fn with_tag(response: Response, bytes: &[u8]) -> Response {
    response.header("etag", &format!("\"{}\"", sha256(bytes))).header("last-modified", MODIFIED)
}

impl Dialect {
    fn only_creates(self, request: &Request) -> bool {
        match self {
            Self::OverwritingS3 => false,
            Self::Gcs => request.header("x-goog-if-generation-match") == Some("0"),
        }
    }
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

fn delete_all(request: &str, objects: &mut Objects) -> String {
    let mut xml = String::from("<DeleteResult>");
    for key in request.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>")) {
        objects.remove(key.0);
        let _ = write!(xml, "<Deleted><Key>{}</Key></Deleted>", key.0);
    }
    xml + "</DeleteResult>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_an_s3_server_but_for_what_matters() {
        let server = SmallStore::overwriting();
        let bucket = server.bucket();
        bucket.put("a/b", b"first");
        bucket.put("a/c", b"");
        bucket.create_only("a/b", b"second").unwrap();
        assert_eq!(bucket.get("a/b"), b"second");
        assert_eq!(bucket.list("a"), ["a/b", "a/c"]);
        bucket.delete("a/b");
        assert_eq!(server.keys(), ["registry/a/c"]);
    }
}
