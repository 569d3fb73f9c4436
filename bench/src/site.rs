//! What nginx serves: the very bodies that a gateway sends, as files in a folder.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use cratehouse_tests::client::{Client, Reply};
use cratehouse_tests::gateway::Gateway;
use tempfile::TempDir;

use crate::Result;
use crate::corpus::Corpus;

/// The folder; deleted when dropped.
#[derive(Debug)]
pub(crate) struct Site {
    folder: TempDir,
    /// The size of each index file as cargo gets it, compressed where the gateway does that, in
    /// the order of the corpus.
    pub(crate) packed_bytes: Vec<u64>,
}

impl Site {
    /// Asks the gateway for every index file, in both encodings; crate files are links.
    pub(crate) fn of(gateway: &Gateway, corpus: &Corpus) -> Result<Self> {
        let (folder, client) = (tempfile::tempdir()?, gateway.client());
        let mut packed_bytes = Vec::new();
        for file in &corpus.index {
            let place = place(folder.path(), &file.url_path())?;
            fs::write(&place, &get(&client, &file.url_path(), "identity")?.body)?;
            let packed = get(&client, &file.url_path(), "gzip")?;
            if packed.header("content-encoding") == Some("gzip") {
                fs::write(place.with_added_extension("gz"), &packed.body)?;
            }
            packed_bytes.push(packed.body.len() as u64);
        }
        for file in &corpus.crates {
            symlink(corpus.crate_path(file), place(folder.path(), &file.url_path())?)?;
        }
        Ok(Self { folder, packed_bytes })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn get(client: &Client, path: &str, encoding: &str) -> Result<Reply> {
    let reply = client.get_with(path, &[("accept-encoding", encoding)]);
    match reply.status {
        200 => Ok(reply),
        status => Err(format!("{path} is answered with {status}").into()),
    }
}

/// The file for a path of a URL, in a folder that exists.
fn place(site: &Path, url_path: &str) -> Result<PathBuf> {
    let place = site.join(url_path.trim_start_matches('/'));
    fs::create_dir_all(place.parent().ok_or("no folder")?)?;
    Ok(place)
}
