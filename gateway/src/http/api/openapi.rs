//! `GET /api/v1/openapi.json`: what the API is, for programs (OpenAPI 3.1). It tells nothing of this registry, so it
//! needs no token.

use std::sync::LazyLock;

use bytes::Bytes;

use crate::http::api::call::Call;
use crate::http::response::respond::{self, Answer};
use cratehouse_core::checksum::Checksum;

/// The document.
pub(super) const DOCUMENT: &str = include_str!("openapi.json");

static CHECKSUM: LazyLock<Checksum> = LazyLock::new(|| Checksum::of(DOCUMENT.as_bytes()));

/// The document; 304 for who has it already.
pub fn get(call: &Call<'_>) -> Answer {
    let body = Bytes::from_static(DOCUMENT.as_bytes());
    respond::document(body, &CHECKSUM, call.headers)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use hyper::Method;
    use serde_json::{Map, Value};

    use super::*;
    use crate::http::request::route::needs::Needs;
    use crate::http::request::route::{Refused, Route, route};

    /// The files that have the table of routes.
    const ROUTES: [&str; 5] = [
        include_str!("../request/route.rs"),
        include_str!("../request/route/access.rs"),
        include_str!("../request/route/admin.rs"),
        include_str!("../request/route/policy.rs"),
        include_str!("../request/route/upkeep.rs"),
    ];

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    fn paths(document: &Value) -> &Map<String, Value> {
        document["paths"].as_object().unwrap()
    }

    fn method(word: &str) -> Method {
        word.to_ascii_uppercase().parse().unwrap()
    }

    /// A path with examples in the place of its parameters, and the query that an operation must have.
    fn example(path: &str, operation: &Value) -> (String, String) {
        let (mut path, mut query) = (path.to_owned(), Vec::new());
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let (name, value) = (parameter["name"].as_str().unwrap(), &parameter["example"]);
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            match parameter["in"].as_str().unwrap() {
                "path" => path = path.replace(&format!("{{{name}}}"), &value),
                "query" => query.push(format!("{name}={}", value.replace(' ', "%20"))),
                other => panic!("{other}"),
            }
        }
        assert!(!path.contains('{'), "{path} has a parameter that is not described");
        (path, query.join("&"))
    }

    fn routed(verb: &str, path: &str, operation: &Value) -> Result<Route, Refused> {
        let (path, query) = example(path, operation);
        route(&method(verb), &path, Some(&query))
    }

    /// The words of all routes, as their tables have them.
    fn labels() -> BTreeSet<&'static str> {
        let mut labels = BTreeSet::new();
        for source in ROUTES {
            let tables = source.split("pub fn label(&self) -> &'static str {").skip(1);
            for table in tables {
                let table = table.split("\n    }\n").next().unwrap();
                let words =
                    table.lines().filter_map(|line| line.split_once("=> \"")?.1.split_once('"'));
                labels.extend(words.map(|(label, _)| label));
            }
        }
        labels
    }

    #[test]
    fn every_route_is_described_and_all_that_is_described_is_a_route() {
        let document = document();
        let mut described = BTreeSet::new();
        for (path, operations) in paths(&document) {
            let operations = operations.as_object().unwrap();
            for (verb, operation) in operations {
                let found = routed(verb, path, operation);
                let found = found.unwrap_or_else(|refused| panic!("{verb} {path}: {refused:?}"));
                let id = operation["operationId"].as_str().unwrap();
                assert!(id.starts_with(found.label()), "{verb} {path} is {}", found.label());
                described.insert(found.label());
            }
            let any = operations.values().next().unwrap();
            let Err(Refused::Method(allowed)) = routed("patch", path, any) else {
                panic!("{path}")
            };
            let allowed = allowed.split(", ").filter(|word| *word != "HEAD").map(str::to_lowercase);
            // A word in the place of a version is none of its names: `DELETE crates/foo/owners`.
            let allowed: BTreeSet<_> =
                allowed.filter(|verb| routed(verb, path, any).is_ok()).collect();
            let verbs: BTreeSet<_> = operations.keys().cloned().collect();
            assert_eq!(verbs, allowed, "{path}");
        }
        assert_eq!(described, labels());
        assert!(described.len() > 60, "the tables are elsewhere: {}", described.len());
    }

    #[test]
    fn who_may_ask_is_described_as_the_gate_has_it() {
        let document = document();
        for (path, operations) in paths(&document) {
            for (verb, operation) in operations.as_object().unwrap() {
                let security = operation["security"].as_array().unwrap();
                let needs_token = security.iter().any(|way| way.get("token").is_some());
                let is_optional = security.iter().any(|way| way.as_object().unwrap().is_empty());
                let text = operation["description"].as_str().unwrap_or_default();
                let (admin, audit) = (text.contains("administrator's"), text.contains("auditor's"));
                let wanted = match routed(verb, path, operation).unwrap().needs() {
                    Needs::Nothing => (false, false, false, false),
                    Needs::Read => (true, true, false, false),
                    Needs::Token | Needs::Scope(_) | Needs::Publish => (true, false, false, false),
                    Needs::Audit => (true, false, true, true),
                    Needs::Administer => (true, false, true, false),
                };
                assert_eq!((needs_token, is_optional, admin, audit), wanted, "{verb} {path}");
            }
        }
    }

    #[test]
    fn what_is_referred_to_is_there_and_what_is_there_is_referred_to() {
        let (document, mut wanted) = (document(), BTreeSet::new());
        let text = DOCUMENT;
        for (at, start) in text.match_indices("\"$ref\": \"#") {
            let pointer = text[at + start.len()..].split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "there is no {pointer}");
            wanted.insert(pointer.to_owned());
        }
        let components = &document["components"];
        for kind in ["schemas", "responses"] {
            for name in components[kind].as_object().unwrap().keys() {
                assert!(wanted.contains(&format!("/components/{kind}/{name}")), "{name} is unused");
            }
        }
        let mut ids = BTreeMap::new();
        for (path, operations) in paths(&document) {
            for operation in operations.as_object().unwrap().values() {
                let id = operation["operationId"].as_str().unwrap();
                assert_eq!(ids.insert(id.to_owned(), path), None, "{id} is there twice");
            }
        }
    }
}
