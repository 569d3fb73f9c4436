//! The upstream of what is cold: the files that nginx serves, as public registries serve them.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use serde_json::json;

use crate::Result;
use crate::origin::{Found, Origin};

/// Serves a registry's folder from memory; index files compressed, where they are so.
pub(super) fn serve(site: &Path) -> Result<Origin> {
    let mut files = HashMap::new();
    gather(site, "", &mut files)?;
    let config = Arc::new(OnceLock::<Found>::new());
    let own = Arc::clone(&config);
    let origin = Origin::start(move |path| match path {
        "/index/config.json" => own.get().cloned(),
        _ => files.get(path).cloned(),
    })?;
    let dl = json!({ "dl": format!("{}/api/v1/crates", origin.url()), "api": null });
    let _ = config.set(Found { body: dl.to_string().into(), ..Found::default() });
    Ok(origin)
}

fn gather(folder: &Path, path: &str, files: &mut HashMap<String, Found>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let (place, name) = entry.map(|e| (e.path(), e.file_name()))?;
        let path = format!("{path}/{}", name.to_string_lossy());
        if place.is_dir() {
            gather(&place, &path, files)?;
            continue;
        }
        let packed = place.with_added_extension("gz");
        if path.ends_with(".gz") {
            continue;
        }
        let gzip = packed.exists();
        let body = fs::read(if gzip { packed } else { place })?.into();
        let etag = format!("\"{:x}\"", files.len());
        files.insert(path, Found { body, gzip, etag, ..Found::default() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_served_compressed_where_it_is_so() {
        let site = tempfile::tempdir().unwrap();
        for (name, text) in [("a", "long"), ("a.gz", "short"), ("b", "plain")] {
            fs::create_dir_all(site.path().join("index/x")).unwrap();
            fs::write(site.path().join("index/x").join(name), text).unwrap();
        }
        let mut files = HashMap::new();
        gather(site.path(), "", &mut files).unwrap();
        assert_eq!(files.len(), 2);
        let found = |path: &str| (files[path].body.as_ref().to_owned(), files[path].gzip);
        assert_eq!(found("/index/x/a"), (b"short".to_vec(), true));
        assert_eq!(found("/index/x/b"), (b"plain".to_vec(), false));
    }
}
