//! A server that speaks S3 and cannot hold a registry: it takes no notice of `If-None-Match`,
//! and overwrites where it should create. Several real ones do so.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use crate::http::{Action, Request, Response, Server};
use crate::krate::sha256;
use crate::s3::S3;

/// A running server with one bucket; it ends when it is dropped.
#[derive(Debug)]
pub struct Overwriting {
    server: Server,
    objects: Arc<Mutex<Objects>>,
}

type Objects = BTreeMap<String, Vec<u8>>;

const BUCKET: &str = "bucket";
const MODIFIED: &str = "Thu, 29 Feb 2024 12:34:56 GMT";

impl Overwriting {
    /// One with nothing in it.
    pub fn start() -> Self {
        let objects = Arc::<Mutex<Objects>>::default();
        let state = Arc::clone(&objects);
        let act = move |request: &Request| answer(request, &mut state.lock().unwrap());
        let server = Server::start(move |request, _| Action::Answer(act(request)));
        Self { server, objects }
    }

    /// Its bucket.
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

/// What object stores' clients use of S3, and no more.
fn answer(request: &Request, objects: &mut Objects) -> Response {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let key = path.trim_start_matches('/').strip_prefix(BUCKET).unwrap_or_default();
    let key = key.trim_start_matches('/');
    match request.method.as_str() {
        "PUT" => {
            objects.insert(key.to_owned(), request.body.clone());
            with_tag(Response::ok(""), &request.body)
        }
        "GET" if key.is_empty() => Response::ok(listing(query, objects)),
        "GET" | "HEAD" => match objects.get(key) {
            Some(bytes) => with_tag(Response::ok(bytes.clone()), bytes),
            None => Response { body: NO_SUCH_KEY.into(), ..Response::status(404) },
        },
        "DELETE" => {
            objects.remove(key);
            Response::status(204)
        }
        "POST" => Response::ok(delete_all(&String::from_utf8_lossy(&request.body), objects)),
        _ => Response::status(405),
    }
}

const NO_SUCH_KEY: &str = "<Error><Code>NoSuchKey</Code></Error>";

fn with_tag(response: Response, bytes: &[u8]) -> Response {
    response.header("etag", &format!("\"{}\"", sha256(bytes))).header("last-modified", MODIFIED)
}

fn listing(query: &str, objects: &Objects) -> String {
    let field = |name: &str| {
        let value = query.split('&').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_default().replace("%2F", "/")
    };
    let (prefix, after) = (field("prefix"), field("start-after"));
    let mut xml = String::from("<ListBucketResult><IsTruncated>false</IsTruncated>");
    for (key, bytes) in objects.iter().filter(|(key, _)| key.starts_with(&prefix) && **key > after)
    {
        let (tag, size) = (sha256(bytes), bytes.len());
        let _ = write!(
            xml,
            "<Contents><Key>{key}</Key><LastModified>2024-02-29T12:34:56.000Z</LastModified>\
             <ETag>{tag}</ETag><Size>{size}</Size></Contents>"
        );
    }
    xml + "</ListBucketResult>"
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
        let server = Overwriting::start();
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
