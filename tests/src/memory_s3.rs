//! An S3 server in this process, for what a real one is not at hand for: at a latency of choice,
//! with very many objects, or false. The false one takes no notice of `If-None-Match`, and
//! overwrites where it should create: several real ones do so, and cannot hold a registry.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::Bound;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::http::{Action, Request, Response, Server};
use crate::krate::sha256;
use crate::s3::S3;

/// A running server with one bucket; it ends when it is dropped.
#[derive(Debug)]
pub struct MemoryS3 {
    server: Server,
    objects: Arc<Mutex<Objects>>,
    signers: Arc<Mutex<Signers>>,
}

/// Access keys and, where they are short-lived, the session tokens that came with them.
type Signers = BTreeSet<(String, Option<String>)>;

type Objects = BTreeMap<String, Object>;

#[derive(Debug)]
struct Object {
    bytes: Vec<u8>,
    tag: String,
}

/// What becomes of a put that asks for nothing to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Creates {
    /// One wins, and every other one is told so.
    Once,
    /// It overwrites.
    Always,
}

const BUCKET: &str = "bucket";
const PREFIX: &str = "registry";
const MODIFIED: &str = "Thu, 29 Feb 2024 12:34:56 GMT";
/// As Amazon's: what is asked for beyond it comes with the next page.
const PAGE_KEYS: usize = 1000;

impl MemoryS3 {
    /// A correct one with nothing in it.
    pub fn start() -> Self {
        Self::serving(Creates::Once)
    }

    /// One that overwrites.
    pub fn overwriting() -> Self {
        Self::serving(Creates::Always)
    }

    fn serving(creates: Creates) -> Self {
        let objects = Arc::<Mutex<Objects>>::default();
        let signers = Arc::<Mutex<Signers>>::default();
        let (state, seen) = (Arc::clone(&objects), Arc::clone(&signers));
        let act = move |request: &Request| {
            seen.lock().unwrap().extend(signer(request));
            answer(request, &mut state.lock().unwrap(), creates)
        };
        let server = Server::forgetful(move |request, _| Action::Answer(act(request)));
        Self { server, objects, signers }
    }

    /// Every request takes that long from now on; it is applied half way.
    pub fn set_latency(&self, latency: Duration) {
        self.server.set_latency(latency);
    }

    /// Its bucket.
    pub fn bucket(&self) -> S3 {
        S3 {
            endpoint: self.server.origin(),
            bucket: BUCKET.to_owned(),
            prefix: PREFIX.to_owned(),
            access_key: "any".to_owned(),
            secret_key: "any".to_owned(),
        }
    }

    /// Who has signed requests: access keys, and session tokens where there were any.
    pub fn signers(&self) -> Vec<(String, Option<String>)> {
        self.signers.lock().unwrap().iter().cloned().collect()
    }

    /// The keys of all that is stored.
    pub fn keys(&self) -> Vec<String> {
        self.objects.lock().unwrap().keys().cloned().collect()
    }

    /// Puts an object below the bucket's prefix without asking the server: for very many.
    pub fn put(&self, path: &str, bytes: Vec<u8>) {
        self.objects.lock().unwrap().insert(format!("{PREFIX}/{path}"), Object::new(bytes));
    }

    /// Shows every object below a folder of the bucket's prefix, in the order of their keys.
    pub fn each(&self, folder: &str, mut see: impl FnMut(&[u8])) {
        let folder = format!("{PREFIX}/{folder}/");
        let objects = self.objects.lock().unwrap();
        let below = objects.range(folder.clone()..).take_while(|(key, _)| key.starts_with(&folder));
        below.for_each(|(_, object)| see(&object.bytes));
    }
}

impl Object {
    fn new(bytes: Vec<u8>) -> Self {
        let tag = format!("\"{}\"", sha256(&bytes));
        Self { bytes, tag }
    }

    fn tagged(&self, response: Response) -> Response {
        response.header("etag", &self.tag).header("last-modified", MODIFIED)
    }
}

/// Of a request that is signed in its headers.
fn signer(request: &Request) -> Option<(String, Option<String>)> {
    let (_, credential) = request.header("authorization")?.split_once("Credential=")?;
    let (key, _) = credential.split_once('/')?;
    Some((key.to_owned(), request.header("x-amz-security-token").map(str::to_owned)))
}

/// What object stores' clients use of S3, and no more. Whoever asks for more hears of it.
fn answer(request: &Request, objects: &mut Objects, creates: Creates) -> Response {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let key = path.trim_start_matches('/').strip_prefix(BUCKET).unwrap_or_default();
    let key = key.trim_start_matches('/');
    let create_only = creates == Creates::Once && request.header("if-none-match").is_some();
    match request.method.as_str() {
        "PUT" if create_only && objects.contains_key(key) => error(412, "PreconditionFailed"),
        "PUT" => {
            let object = Object::new(request.body.clone());
            let response = object.tagged(Response::ok(""));
            objects.insert(key.to_owned(), object);
            response
        }
        "GET" if key.is_empty() => listing(query, objects),
        "GET" | "HEAD" if request.header("range").is_some() => error(501, "NotImplemented"),
        "GET" | "HEAD" => match objects.get(key) {
            Some(object) => object.tagged(Response::ok(object.bytes.clone())),
            None => error(404, "NoSuchKey"),
        },
        "DELETE" => {
            objects.remove(key);
            Response::status(204)
        }
        "POST" => Response::ok(delete_all(&String::from_utf8_lossy(&request.body), objects)),
        _ => Response::status(405),
    }
}

fn error(status: u16, code: &str) -> Response {
    let body = format!("<Error><Code>{code}</Code></Error>").into_bytes();
    Response { body, ..Response::status(status) }
}

/// One page. The token for the next one is the last key of this one.
fn listing(query: &str, objects: &Objects) -> Response {
    let field = |name: &str| {
        let value = query.split('&').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_default().replace("%2F", "/")
    };
    if !field("delimiter").is_empty() {
        return error(501, "NotImplemented");
    }
    let (prefix, after) = (field("prefix"), field("start-after").max(field("continuation-token")));
    let from = match prefix > after {
        true => Bound::Included(&prefix),
        false => Bound::Excluded(&after),
    };
    let below = objects.range::<String, _>((from, Bound::Unbounded));
    let mut found = below.take_while(|(key, _)| key.starts_with(&prefix));
    let mut xml = String::from("<ListBucketResult>");
    let mut last = "";
    for (key, object) in found.by_ref().take(PAGE_KEYS) {
        let (tag, size) = (object.tag.trim_matches('"'), object.bytes.len());
        let _ = write!(
            xml,
            "<Contents><Key>{key}</Key><LastModified>2024-02-29T12:34:56.000Z</LastModified>\
             <ETag>{tag}</ETag><Size>{size}</Size></Contents>"
        );
        last = key;
    }
    let more = found.next().is_some();
    let _ = write!(xml, "<IsTruncated>{more}</IsTruncated>");
    if more {
        let _ = write!(xml, "<NextContinuationToken>{last}</NextContinuationToken>");
    }
    Response::ok(xml + "</ListBucketResult>")
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
    use std::thread;

    use super::*;

    #[test]
    fn it_is_an_s3_server() {
        let server = MemoryS3::start();
        let bucket = server.bucket();
        bucket.put("a/b", b"first");
        bucket.put("a/c", b"");
        assert_eq!(bucket.get("a/b"), b"first");
        bucket.put("a/b", b"second");
        assert_eq!(bucket.get("a/b"), b"second");
        assert_eq!(bucket.list("a"), ["a/b", "a/c"]);
        bucket.delete("a/b");
        assert_eq!(server.keys(), ["registry/a/c"]);
    }

    #[test]
    fn of_many_creates_of_one_key_exactly_one_wins_and_its_bytes_stay() {
        let server = MemoryS3::start();
        server.set_latency(Duration::from_millis(2));
        let create = |bytes: &[u8]| {
            let created = server.bucket().create_only("a", bytes);
            match created {
                Ok(()) => true,
                Err(object_store::Error::AlreadyExists { .. }) => false,
                Err(e) => panic!("{e}"),
            }
        };
        let winners: Vec<u8> = thread::scope(|scope| {
            let tries = (0..16).map(|n| scope.spawn(move || create(&[n]).then_some(n)));
            let tries: Vec<_> = tries.collect();
            tries.into_iter().filter_map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(winners.len(), 1);
        assert_eq!(server.bucket().get("a"), winners);
    }

    #[test]
    fn a_long_listing_comes_in_pages_and_is_whole() {
        let server = MemoryS3::start();
        let paths: Vec<_> = (0..PAGE_KEYS * 2 + 1).map(|n| format!("a/{n:05}")).collect();
        paths.iter().for_each(|path| server.put(path, Vec::new()));
        server.put("b/1", b"other".to_vec());
        assert_eq!(server.bucket().list("a"), paths);
        let mut seen = 0;
        server.each("a", |_| seen += 1);
        assert_eq!(seen, paths.len());
    }

    #[test]
    fn the_false_one_overwrites_what_it_should_create() {
        let server = MemoryS3::overwriting();
        let bucket = server.bucket();
        bucket.put("a", b"first");
        bucket.create_only("a", b"second").unwrap();
        assert_eq!(bucket.get("a"), b"second");
    }
}
