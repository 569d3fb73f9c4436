//! The real corpus: fetched once, through the gateway itself, which asks crates.io.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use cratehouse_tests::client::Client;
use cratehouse_tests::gateway::{Gateway, UpstreamConfig};
use cratehouse_tests::krate::{index_path, sha256};
use reqwest::Method;

use super::lock::Package;
use super::{Corpus, Shelf};
use crate::Result;

/// Requests under way at one time: about as many as one cargo process has.
const ASKERS: usize = 8;
/// How often a file is asked for while it is not answered with 200.
const TRIES: usize = 3;

/// Fetches the index files and crate files of these packages into a folder. What the gateway
/// gives for a version must be what the lock file says.
pub(super) fn fetch(packages: &[Package], folder: &Path) -> Result<Corpus> {
    let gateway = Gateway::builder().upstream(UpstreamConfig::preset("crates.io")).start();
    let (client, shelf) = (gateway.client(), Shelf(folder));
    let names: BTreeSet<&str> = packages.iter().map(|one| one.name.as_str()).collect();
    let index_url = |name: &str| format!("/index/{}", index_path(name));
    // One by itself, so that who is offline learns it soon.
    get(&client, &index_url(names.first().ok_or("the lock file is empty")?))?;
    eprintln!("corpus: fetching {} packages through the gateway, once", packages.len());
    let index = each(names, |name| shelf.put_index(name, &get(&client, &index_url(name))?))?;
    let crates = each(packages, |Package { name, version, checksum, .. }| {
        let content = get(&client, &format!("/api/v1/crates/{name}/{version}/download"))?;
        match sha256(&content) == *checksum {
            true => shelf.put_crate(name, version, &content),
            false => Err(format!("{name} {version} is not what the lock file says").into()),
        }
    })?;
    let origin = format!("{} packages of bench/corpus/Cargo.lock", packages.len());
    Ok(Corpus { folder: folder.to_owned(), origin, index, crates })
}

fn get(client: &Client, path: &str) -> Result<Vec<u8>> {
    let mut why = String::new();
    for _ in 0..TRIES {
        match client.try_send(Method::GET, path, &[], None) {
            Ok(reply) if reply.status == 200 => return Ok(reply.body),
            Ok(reply) => why = format!("{path}: {}: {}", reply.status, reply.text().trim()),
            Err(error) => why = format!("{path}: {error}"),
        }
    }
    Err(why.into())
}

/// Does that for all, some at one time; what comes of it stands in the order of the items.
fn each<T: Send, U: Send>(
    items: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> Result<U> + Sync,
) -> Result<Vec<U>> {
    let todo: Vec<T> = items.into_iter().collect();
    let todo = Mutex::new(todo.into_iter().enumerate());
    let done = Mutex::new(Vec::new());
    let worker = || -> Result<()> {
        loop {
            let next = todo.lock().map_err(|e| e.to_string())?.next();
            let Some((nth, item)) = next else { return Ok(()) };
            let result = work(item)?;
            done.lock().map_err(|e| e.to_string())?.push((nth, result));
        }
    };
    thread::scope(|scope| {
        let askers: Vec<_> = (0..ASKERS).map(|_| scope.spawn(worker)).collect();
        askers.into_iter().try_for_each(|asker| asker.join().map_err(|_| "an asker panicked")?)
    })?;
    let mut done = done.into_inner().map_err(|e| e.to_string())?;
    done.sort_unstable_by_key(|(nth, _)| *nth);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_done_in_order_or_the_failure_is_told() {
        assert_eq!(each(0..100, |n| Ok(n * 2)).unwrap(), (0..200).step_by(2).collect::<Vec<_>>());
        let fails = |n| if n == 7 { Err("seven".into()) } else { Ok(n) };
        assert_eq!(each(0..100, fails).unwrap_err().to_string(), "seven");
    }
}
