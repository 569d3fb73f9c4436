//! `deploy/image/build`: two builds of one commit in different folders are one image, and its
//! binary needs nothing but what is in it. Compiles everything twice, so it is no part of the usual
//! run: `tests/run --image`.

mod unpacked;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use cratehouse_tests::authority::{Authority, EXAMPLE};
use cratehouse_tests::client::Client;
use cratehouse_tests::dns;
use cratehouse_tests::gateway::free_port;
use cratehouse_tests::https::Https;
use cratehouse_tests::krate::Krate;
use cratehouse_tests::patience::until;
use cratehouse_tests::tools::{self, said, tool};
use cratehouse_tests::upstream::Upstream;
use serde_json::Value;
use unpacked::{Image, Running};

const LARGEST_IMAGE_BYTES: u64 = 40_000_000;

/// The SBOM of each program, its package, and the flags with which it is built.
const SBOMS: [(&str, &str, &[&str]); 2] = [
    ("sbom.cdx.json", "cratehouse", &[]),
    ("credential.cdx.json", "cargo-credential-cratehouse", &["--no-default-features"]),
];

/// What makes the compiler quick; the script is the same.
const QUICK: [(&str, &str); 3] = [
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Built from a checkout, with a target folder that stays for the next time.
fn built(sources: &Path, place: &Path) -> Image {
    let image = place.join("image");
    let built = Command::new(sources.join("deploy/image/build"))
        .arg(&image)
        .env("CARGO_TARGET_DIR", place.join("target"))
        .env("PATH", tools::with_path())
        .envs(QUICK)
        .status()
        .unwrap();
    assert!(built.success(), "the image was not built");
    Image::open(&image)
}

/// A folder of the tests of the image.
fn place(name: &str) -> PathBuf {
    tools::folder().with_file_name("image-test").join(name)
}

/// This checkout's.
fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| built(&root(), &place("one")))
}

#[test]
#[ignore = "compiles a release: tests/run --image"]
fn two_builds_in_different_folders_are_one_image() {
    assert!(!commit().ends_with("-dirty"), "commit first: the other build is of a clone");
    let place = place("another/deeper");
    let clone = place.join("src");
    if clone.exists() {
        fs::remove_dir_all(&clone).unwrap();
    }
    said(Command::new("git").args(["clone", "--quiet", "--no-local"]).arg(root()).arg(&clone));
    let other = built(&clone, &place);
    assert_eq!(image().digest(), other.digest());
    let told = fs::read_to_string(image().folder.join("digest")).unwrap();
    assert_eq!(told, other.digest());
}

#[test]
#[ignore = "compiles a release: tests/run --image"]
fn the_image_is_small_and_says_what_it_is() {
    let image = image();
    assert!(image.bytes() < LARGEST_IMAGE_BYTES, "{} bytes", image.bytes());
    assert_eq!(image.others_property(), ["var/lib/cratehouse/"]);
    let config = &image.config["config"];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Entrypoint"], serde_json::json!(["/cratehouse"]));
    assert_eq!(config["Cmd"], serde_json::json!(["serve"]));
    assert_eq!(config["Labels"]["org.opencontainers.image.revision"], commit());
    assert_eq!(config["Labels"]["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
}

#[test]
#[ignore = "compiles a release: tests/run --image"]
fn nothing_in_the_image_tells_of_the_machine_that_built_it() {
    let home = || std::env::var("HOME").map(|home| format!("{home}/.cargo")).unwrap();
    let cargo = std::env::var("CARGO_HOME").unwrap_or_else(|_| home());
    let here = [image().folder.parent().unwrap().to_str().unwrap(), &cargo];
    let programs = ["cratehouse", "cargo-credential-cratehouse"];
    let sboms = SBOMS.map(|(file, ..)| format!("usr/share/doc/cratehouse/{file}"));
    for file in programs.into_iter().chain(sboms.iter().map(String::as_str)) {
        let bytes = fs::read(image().root().join(file)).unwrap();
        for path in here {
            let found = bytes.windows(path.len()).any(|window| window == path.as_bytes());
            assert!(!found, "{file} has {path}");
        }
    }
}

#[test]
#[ignore = "compiles a release: tests/run --image"]
fn its_credential_provider_runs_in_its_root_alone() {
    let (root, data) = (image().unpack(), tempfile::tempdir().unwrap());
    let mut command =
        image().program("/cargo-credential-cratehouse", root.path(), data.path(), &[]);
    let version = said(command.arg("--version"));
    assert_eq!(version, concat!("cargo-credential-cratehouse ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
#[ignore = "compiles a release: tests/run --image"]
fn it_has_completions_and_the_manual() {
    for file in [
        "usr/share/bash-completion/completions/cratehouse",
        "usr/share/zsh/site-functions/_cratehouse",
        "usr/share/fish/vendor_completions.d/cratehouse.fish",
        "usr/share/man/man1/cratehouse.1",
        "usr/share/man/man1/cratehouse-token-create.1",
    ] {
        let text = fs::read_to_string(image().root().join(file)).unwrap();
        assert!(text.contains("cratehouse"), "{file}");
    }
}

/// The root of the image and nothing else, and that to read only: names are looked up and upstreams
/// are trusted by what is there.
#[test]
#[ignore = "compiles a release: tests/run --image"]
fn its_binary_runs_in_its_root_alone_and_serves_what_an_upstream_has() {
    let (root, data) = (image().unpack(), tempfile::tempdir().unwrap());
    let version = said(image().command(root.path(), data.path(), &[]).arg("--version"));
    assert_eq!(
        version.trim_end(),
        format!("cratehouse {} ({})", env!("CARGO_PKG_VERSION"), commit())
    );

    let authority = Authority::new();
    fs::write(root.path().join("etc/ssl/certs/ca-certificates.crt"), &authority.ca).unwrap();
    let resolver = format!("nameserver {}\n", dns::serve());
    fs::write(root.path().join("etc/resolv.conf"), resolver).unwrap();
    let krate = Krate::new("foo", "1.0.0");
    let upstream = Upstream::with(&[krate]);
    let port_of = |url: &str| url.rsplit_once(':').unwrap().1.parse::<u16>().unwrap();
    let plain = ([127, 0, 0, 1], port_of(&upstream.origin())).into();
    let https = Https::before(plain, &authority);

    let (port, admin) = (free_port(), free_port());
    let variables = [
        ("CRATEHOUSE_SERVER__LISTEN", format!("127.0.0.1:{port}")),
        ("CRATEHOUSE_SERVER__ADMIN_LISTEN", format!("127.0.0.1:{admin}")),
        ("CRATEHOUSE_UPSTREAM__0__NAME", "public".to_owned()),
        ("CRATEHOUSE_UPSTREAM__0__IDENTITY", "crates-io".to_owned()),
        ("CRATEHOUSE_UPSTREAM__0__INDEX", format!("https://{EXAMPLE}:{}/index/", https.port())),
    ];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut command = image().command(root.path(), data.path(), &variables);
    let _running = Running::start(command.arg("serve"));
    let admin = Client::new(&format!("http://127.0.0.1:{admin}"), None);
    until("it is ready", || {
        let asked = admin.try_send(reqwest::Method::GET, "/readyz", &[], None);
        asked.is_ok_and(|reply| reply.status == 200)
    });
    admin.get("/livez").assert_status(200);
    let ca = fs::read(data.path().join("tls/ca.pem")).unwrap();
    let client = Client::new(&format!("https://127.0.0.1:{port}"), Some(&ca));
    let index = client.get("/crates-io/index/3/f/foo").assert_status(200);
    assert_eq!(index.body, upstream.index_file("foo"));
}

#[test]
#[ignore = "compiles a release: tests/run --image"]
fn each_sbom_names_what_its_binary_is_made_of_and_nothing_else() {
    for (file, package, flags) in SBOMS {
        check_sbom(file, package, flags);
    }
}

fn check_sbom(file: &str, package: &str, flags: &[&str]) {
    let inside = image().root().join("usr/share/doc/cratehouse").join(file);
    let inside = fs::read(inside).unwrap();
    let file = image().folder.join(file);
    assert_eq!(inside, fs::read(&file).unwrap());
    let valid = "import sys; from cyclonedx.schema import SchemaVersion; \
        from cyclonedx.validation.json import JsonStrictValidator; \
        problem = JsonStrictValidator(SchemaVersion.V1_5).validate_str(open(sys.argv[1]).read()); \
        sys.exit(repr(problem) if problem else 0)";
    said(tool("python/bin/python").args(["-c", valid]).arg(file));

    let sbom: Value = serde_json::from_slice(&inside).unwrap();
    let component = &sbom["metadata"]["component"];
    assert_eq!(component["name"], package);
    assert_eq!(component["version"], env!("CARGO_PKG_VERSION"));
    let of = |object: &Value| format!("{} {}", object["name"], object["version"]);
    let named: Vec<String> = sbom["components"].as_array().unwrap().iter().map(of).collect();
    let metadata = said(
        Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
            .args(["tree", "--locked", "--package", package, "--edges", "normal,build"])
            .args(["--prefix", "none", "--format", "{p}"])
            .args(flags)
            .current_dir(root()),
    );
    let mut used: Vec<String> = metadata
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
            Some(format!("\"{name}\" \"{version}\""))
        })
        .filter(|part| !part.starts_with(&format!("\"{package}\"")))
        .collect();
    used.sort();
    used.dedup();
    let mut named = named;
    named.sort();
    assert_eq!(named, used);
}

/// What the binary tells: the last commit, and whether anything is different from it.
fn commit() -> String {
    let git = |words: &[&str]| said(Command::new("git").args(words).current_dir(root()));
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).trim_end().to_owned();
    let changed = !git(&["status", "--porcelain"]).is_empty();
    if changed { commit + "-dirty" } else { commit }
}
