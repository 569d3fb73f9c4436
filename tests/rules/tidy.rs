//! Layers: imports point down only, files stay short, and every dependency
//! says why it is there. Each rule is a pure checker with a test that it can fail.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const LONGEST_FILE_LINES: usize = 600;

/// Generated, or not ours to read.
const SKIPPED_FOLDERS: &[&str] = &[".git", "target", "cratehouse-data"];

/// Files that no rule about text applies to: other people's words.
const SKIPPED_FILES: &[&str] = &["LICENSE-APACHE"];

#[test]
fn imports_point_down_only() {
    let (base, mut complaints) = (gateway_sources(), Vec::new());
    for path in source_files() {
        let Ok(inside) = path.strip_prefix(&base) else { continue };
        let inside = inside.to_string_lossy().replace('\\', "/");
        complaints.extend(complaints_of(&path, imports_up(&inside, &read(&path))));
    }
    assert_none(complaints);
}

#[test]
fn no_file_is_too_long() {
    let others = ["credential", "tests"].map(|package| files_under(&root().join(package)));
    let others = others.into_iter().flatten().filter(|path| is_rust(path));
    let files = source_files().into_iter().chain(others);
    let complaints =
        files.flat_map(|path| complaints_of(&path, too_long(&read(&path)).into_iter().collect()));
    assert_none(complaints.collect());
}

#[test]
fn nothing_is_unsafe() {
    let complaints = source_files()
        .into_iter()
        .flat_map(|path| complaints_of(&path, unsafe_lines(&read(&path))));
    assert_none(complaints.collect());
}

#[test]
fn every_dependency_says_why_it_is_there() {
    let manifests = files_under(&root())
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name == "Cargo.toml"));
    let complaints = manifests.flat_map(|path| complaints_of(&path, unexplained(&read(&path))));
    assert_none(complaints.collect());
}

#[test]
fn no_text_names_the_host_of_a_registry() {
    let hosts = registry_hosts();
    let complaints = tracked_files()
        .into_iter()
        .filter(|path| {
            !path.file_name().is_some_and(|name| SKIPPED_FILES.iter().any(|s| name == *s))
        })
        .filter_map(|path| Some((fs::read_to_string(&path).ok()?, path)))
        .flat_map(|(text, path)| complaints_of(&path, hosts_named(&text, &hosts)));
    assert_none(complaints.collect());
}

/// The host of the crates.io index is put together in one place, and nowhere written down.
#[test]
fn the_host_of_the_preset_is_built_in_one_place() {
    let halves = [format!("\"{}.\"", "index"), format!("//{}.{{", "index")];
    let builders: Vec<_> = source_files()
        .into_iter()
        .flat_map(|path| {
            let lines = numbered(&read(&path))
                .filter(|(_, line)| halves.iter().any(|half| line.contains(half)))
                .count();
            std::iter::repeat_n(path, lines)
        })
        .collect();
    let in_config = |path: &PathBuf| path.to_string_lossy().contains("/src/config");
    assert!(builders.len() <= 1 && builders.iter().all(in_config), "built in {builders:?}");
}

/// Pages for who changes the code: every file that they name is there.
#[test]
fn documents_name_files_that_are_there() {
    let pages = files_under(&root().join("docs/design")).into_iter();
    let pages = pages.chain(["ARCHITECTURE.md", "CONTRIBUTING.md"].map(|page| root().join(page)));
    let complaints = pages.flat_map(|page| {
        let gone = |file: &String| {
            !["", "gateway/src", "tests"].iter().any(|base| root().join(base).join(file).exists())
        };
        let gone = sources_named(&read(&page)).into_iter().filter(gone);
        complaints_of(&page, gone.map(|file| format!("there is no `{file}`")).collect())
    });
    assert_none(complaints.collect());
}

// The checkers.

/// Files of sources in backticks.
fn sources_named(page: &str) -> Vec<String> {
    let quoted = page.split('`').skip(1).step_by(2);
    quoted.filter(|text| text.ends_with(".rs") && !text.contains(' ')).map(str::to_owned).collect()
}

/// What a source file of the gateway, given relative to `gateway/src`, may import from `crate`.
/// `None`: everything (the entry points).
fn may_import(path: &str) -> Option<&'static [&'static str]> {
    const COMMON: &[&str] = &["model", "config", "logging", "otlp"];
    match path.split('/').next().unwrap_or_default().trim_end_matches(".rs") {
        "model" => Some(&["model"]),
        "config" | "logging" | "otlp" | "stores" => Some(COMMON),
        "flows" | "gateway" => {
            Some(&["flows", "stores", "gateway", "model", "config", "logging", "otlp"])
        }
        "http" => Some(&["http", "flows", "stores", "gateway", "model", "config", "logging"]),
        _ => None,
    }
}

fn imports_up(path: &str, text: &str) -> Vec<String> {
    let Some(allowed) = may_import(path) else { return Vec::new() };
    let own_store =
        path.strip_prefix("stores/").map(|rest| rest.split(['/', '.']).next().unwrap_or_default());
    let fine = |import: &str| {
        let mut parts = import.split("::");
        match (parts.next().unwrap_or_default(), own_store) {
            ("stores", Some(own)) => parts.next().is_some_and(|store| store == own),
            (floor, _) => allowed.contains(&floor),
        }
    };
    numbered(text)
        .flat_map(|(number, line)| imports_of(path, code_of(line)).map(move |i| (number, i)))
        .filter(|(_, import)| !fine(import))
        .map(|(number, import)| format!("line {number}: imports crate::{import}"))
        .collect()
}

/// What a line imports from `crate`. Where a store's own file says `super`, outside its tests,
/// it means its neighbours.
fn imports_of(path: &str, line: &str) -> impl Iterator<Item = String> {
    let is_store = path.matches('/').count() == 1 && path.starts_with("stores/");
    let neighbour = line.strip_prefix("use super::").filter(|_| is_store);
    let neighbour = neighbour.map(|rest| format!("stores::{}", rest.trim_end_matches(';')));
    crate_paths(line).chain(neighbour)
}

/// What follows each `crate::` in a line: `stores::mirror` of `use crate::stores::mirror::Pin;`.
/// A group of floors (`crate::{…}`) is its brace, which no floor may import.
fn crate_paths(line: &str) -> impl Iterator<Item = String> {
    let starts = line.match_indices("crate::").filter(|(at, _)| {
        !line[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$')
    });
    starts.map(|(at, found)| {
        let rest = &line[at + found.len()..];
        let end = rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':')));
        let path = rest[..end.unwrap_or(rest.len())].trim_end_matches(':');
        if path.is_empty() { rest.chars().take(1).collect() } else { path.to_owned() }
    })
}

fn too_long(text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > LONGEST_FILE_LINES)
        .then(|| format!("{lines} lines; {LONGEST_FILE_LINES} at most: let a file be one idea"))
}

fn unsafe_lines(text: &str) -> Vec<String> {
    // The odd parts between quotes are texts.
    let word = |line: &str| {
        let code: String = code_of(line).split('"').step_by(2).collect();
        code.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == "unsafe")
    };
    let found = numbered(text).filter(|(_, line)| word(line));
    found.map(|(number, _)| format!("line {number}: unsafe")).collect()
}

/// The dependencies in a manifest without a `# reason` on their line.
fn unexplained(manifest: &str) -> Vec<String> {
    let (mut in_dependencies, mut depth, mut complaints) = (false, 0, Vec::new());
    for (number, line) in numbered(manifest) {
        let (toml, reason) = split_comment(line);
        let header = depth == 0 && toml.trim_start().starts_with('[');
        if header {
            in_dependencies = toml.trim().trim_end_matches(']').ends_with("dependencies");
        }
        let one_by_itself = header && toml.contains("dependencies.");
        let entry = depth == 0 && !header && in_dependencies && toml.contains('=');
        // Its reason stands in the workspace.
        let inherited = toml.contains(".workspace = true") || toml.contains("workspace = true,");
        if (entry || one_by_itself) && reason.is_empty() && !inherited {
            complaints.push(format!("line {number}: {} gives no reason", toml.trim()));
        }
        depth += nesting(toml) * i32::from(!header);
    }
    complaints
}

/// A line of TOML, and the text of its comment.
fn split_comment(line: &str) -> (&str, &str) {
    let mut quoted = false;
    for (at, c) in line.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '#' if !quoted => return (&line[..at], line[at + 1..].trim()),
            _ => {}
        }
    }
    (line, "")
}

/// How many more brackets a line opens than it closes.
fn nesting(toml: &str) -> i32 {
    toml.chars().map(|c| i32::from("[{".contains(c)) - i32::from("]}".contains(c))).sum()
}

/// Put together here, so that this file names none either.
fn registry_hosts() -> Vec<String> {
    let crates_io = ["index", "static", "sparse"].map(|host| format!("{host}.crates.io"));
    let others = [
        ["pypi", "org"],
        ["npmjs", "org"],
        ["npmjs", "com"],
        ["rubygems", "org"],
        ["nuget", "org"],
        ["maven.apache", "org"],
        ["proxy.golang", "org"],
        ["rsproxy", "cn"],
        ["ustc.edu", "cn"],
        ["tuna.tsinghua.edu", "cn"],
        ["cloudsmith", "io"],
        ["shipyard", "rs"],
        ["jfrog", "io"],
    ];
    crates_io.into_iter().chain(others.map(|parts| parts.join("."))).collect()
}

fn hosts_named(text: &str, hosts: &[String]) -> Vec<String> {
    numbered(text)
        .flat_map(|(number, line)| {
            let line = line.to_ascii_lowercase();
            let named = hosts.iter().filter(move |host| line.contains(host.as_str()));
            named.map(move |host| format!("line {number}: names {host}"))
        })
        .collect()
}

/// A line of Rust without its comment; a `//` in a text ends the line too, which is good enough.
fn code_of(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

// The files.

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn gateway_sources() -> PathBuf {
    root().join("gateway/src")
}

fn source_files() -> Vec<PathBuf> {
    let mut files = files_under(&gateway_sources());
    files.extend(files_under(&root().join("crates")));
    files.retain(|path| is_rust(path));
    assert!(files.len() > 20, "the sources are elsewhere: {files:?}");
    files
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

/// What git tracks; every file, where there is no git.
fn tracked_files() -> Vec<PathBuf> {
    let git = Command::new("git").arg("-C").arg(root()).args(["ls-files", "-z"]).output();
    let Some(listed) = git.ok().filter(|git| git.status.success()) else {
        return files_under(&root());
    };
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    names.split_terminator('\0').map(|name| root().join(name)).collect()
}

fn files_under(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        let kind = fs::symlink_metadata(&path).unwrap();
        if kind.is_file() {
            files.push(path);
        } else if kind.is_dir() && !SKIPPED_FOLDERS.iter().any(|skipped| name == *skipped) {
            files.extend(files_under(&path));
        }
    }
    files.sort();
    files
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn complaints_of(path: &Path, complaints: Vec<String>) -> Vec<String> {
    let shown = path.strip_prefix(root()).unwrap_or(path).display().to_string();
    complaints.into_iter().map(|complaint| format!("{shown}, {complaint}")).collect()
}

fn assert_none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

mod the_checkers {
    use super::*;

    #[test]
    fn see_an_import_that_points_up_a_floor() {
        let up = |path, text| !imports_up(path, text).is_empty();
        assert!(up("model/name.rs", "use crate::config::Config;"));
        assert!(up("stores/blobs.rs", "use crate::flows::registry::download;"));
        assert!(up("stores/blobs.rs", "use crate::gateway::Gateway;"));
        assert!(up("flows/yank.rs", "    fn f(_: &crate::http::request::route::Route) {}"));
        assert!(up("config.rs", "use crate::stores::journal::Broken;"));
        assert!(up("stores/blobs.rs", "use crate::{model::name, http};"), "groups hide floors");
        assert!(up("model.rs", "x\npub(crate) use crate::stores::blobs;"));
    }

    #[test]
    fn see_a_store_that_imports_another() {
        let line = "use crate::stores::mirror::Pin;";
        assert!(!imports_up("stores/blobs.rs", line).is_empty());
        assert!(!imports_up("stores/catalog/apply.rs", line).is_empty());
        assert!(!imports_up("stores/blobs.rs", "use super::mirror::Pin;").is_empty());
        assert!(imports_up("stores/blobs.rs", "mod tests {\n    use super::*;\n}").is_empty());
        assert!(imports_up("stores/catalog/apply.rs", "use super::rows::CrateRow;").is_empty());
        assert!(imports_up("stores/mirror.rs", line).is_empty());
        assert!(imports_up("stores/mirror/pins.rs", line).is_empty());
    }

    #[test]
    fn see_no_harm_in_an_import_that_points_down() {
        assert!(imports_up("model/name.rs", "use crate::model::version;").is_empty());
        assert!(imports_up("stores/blobs.rs", "use crate::config::Config;").is_empty());
        assert!(imports_up("flows/yank.rs", "use crate::stores::blobs;").is_empty());
        assert!(imports_up("http/request/route.rs", "use crate::flows::yank;").is_empty());
        assert!(imports_up("program.rs", "use crate::http::serve;").is_empty());
        let elsewhere = "pub(crate) fn f() {}\n// crate::http is above\nuse other_crate::http;";
        assert!(imports_up("model/name.rs", elsewhere).is_empty());
    }

    #[test]
    fn see_the_files_that_a_page_names() {
        assert_eq!(sources_named("in `a/b.rs`, `c` and `d.rs`: e.rs"), ["a/b.rs", "d.rs"]);
    }

    #[test]
    fn see_a_file_that_is_too_long() {
        assert_eq!(too_long(&"x\n".repeat(LONGEST_FILE_LINES)), None);
        assert!(too_long(&"x\n".repeat(LONGEST_FILE_LINES + 1)).is_some());
    }

    #[test]
    fn see_unsafe_code_and_not_the_word_in_another() {
        assert_eq!(unsafe_lines("fn f() {\n    unsafe { g() }\n}"), ["line 2: unsafe"]);
        assert_eq!(unsafe_lines("pub unsafe fn f() {}").len(), 1);
        assert!(unsafe_lines("#![forbid(unsafe_code)] // no unsafe").is_empty());
        assert!(unsafe_lines("    #[error(\"an unsafe path\")]").is_empty());
    }

    #[test]
    fn see_a_dependency_without_a_reason() {
        let explained = "[package]\nname = \"x\"\n[dependencies]\na = \"1\" # why\n# a heading\n\n\
            b = { version = \"1\", features = [\n    \"c\",\n] } # why\n[features]\nd = []\n";
        assert!(unexplained(explained).len() == 1, "its first line is where one looks");
        assert!(
            unexplained(&explained.replace("features = [\n", "features = [ # why\n")).is_empty()
        );
        for bare in [
            "[dependencies]\na = \"1\"",
            "[dependencies]\na = \"1\" #",
            "[dependencies]\na = { git = \"https://x/#y\" }",
            "[dev-dependencies]\na.workspace = false",
            "[workspace.dependencies]\na = \"1\"",
            "[target.'cfg(unix)'.dependencies]\na = \"1\"",
            "[dependencies.a]\nversion = \"1\"",
        ] {
            assert_eq!(unexplained(bare).len(), 1, "{bare}");
        }
    }

    #[test]
    fn see_the_host_of_a_registry() {
        let hosts = registry_hosts();
        let text = format!("crates.io\nhttps://{}/config.json\n", hosts[0].to_uppercase());
        assert_eq!(hosts_named(&text, &hosts), [format!("line 2: names {}", hosts[0])]);
        let allowed = "crates.io, https://github.com/rust-lang/crates.io-index";
        assert!(hosts_named(allowed, &hosts).is_empty());
    }
}
