//! The advisory database in the store: fetched by a command or a schedule, taken up by every replica.

use std::sync::{Arc, Mutex};

use cratehouse_tests::authority::Authority;
use cratehouse_tests::cargo::Folder;
use cratehouse_tests::gateway::{Builder, Gateway, UpstreamConfig};
use cratehouse_tests::http::{Action, Response, Server};
use cratehouse_tests::krate::Krate;
use cratehouse_tests::memory_s3::MemoryS3;
use cratehouse_tests::patience::until;
use cratehouse_tests::upstream::Upstream;
use flate2::Compression;
use flate2::write::GzEncoder;

const RULES: &str = "[advisories]\nvulnerability = \"hold\"\n";
const FETCHES: &str = "cratehouse_policy_advisories_fetches_total";
const BROKEN: &str = "cratehouse_policy_broken";

/// As GitHub packs the repository: so many advisories, the first about `public` below 1.1.0.
fn archive(count: usize, at: u64) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for n in 1..=count {
        let name = if n == 1 { "public" } else { "other" };
        let text = format!(
            "```toml\n[advisory]\nid = \"RUSTSEC-2026-{n:04}\"\npackage = \"{name}\"\n\
             date = \"2026-01-02\"\n\n[versions]\npatched = [\">= 1.1.0\"]\n```\n\n# A hole\n\nIt leaks.\n"
        );
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(at);
        let path = format!("advisory-db-main/crates/{name}/RUSTSEC-2026-{n:04}.md");
        tar.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// A server of archives, which sends on once, as GitHub does.
struct Shop {
    server: Server,
    goods: Arc<Mutex<Vec<u8>>>,
}

impl Shop {
    fn new(goods: Vec<u8>) -> Self {
        let goods = Arc::new(Mutex::new(goods));
        let shown = Arc::clone(&goods);
        let server = Server::start(move |request, _| {
            let goods = shown.lock().unwrap().clone();
            let tag = format!("\"{}\"", cratehouse_tests::krate::sha256(&goods));
            Action::Answer(match request.path.as_str() {
                "/db.tar.gz" => Response::status(302).header("location", "/packed"),
                "/packed" if request.header("if-none-match") == Some(&tag) => Response::status(304),
                "/packed" => Response::ok(goods).header("etag", &tag),
                _ => Response::status(404),
            })
        });
        Self { server, goods }
    }

    fn url(&self) -> String {
        format!("{}/db.tar.gz", self.server.origin())
    }

    fn has(&self, goods: Vec<u8>) {
        *self.goods.lock().unwrap() = goods;
    }
}

fn builder(upstream: &Upstream, policy: &Folder, shop: &Shop) -> Builder {
    policy.write("policy.toml", RULES);
    Gateway::builder()
        .upstream(UpstreamConfig::from(upstream))
        .set("policy", &format!("dir = {:?}", policy.path()))
        .set("policy", &format!("advisories_url = {:?}", shop.url()))
        .set("policy", "advisories_least = 3")
        .set("policy", "reload_seconds = 1")
}

fn public() -> Upstream {
    Upstream::with(&[Krate::new("public", "1.0.0"), Krate::new("public", "1.1.0")])
}

fn is_held(gateway: &Gateway) -> bool {
    let index = gateway.client().index("public").assert_status(200);
    assert_eq!(index.line("1.1.0")["yanked"], false);
    index.line("1.0.0")["yanked"] == true
}

/// The exit status of a command, and all that it said.
fn run(gateway: &Gateway, args: &[&str]) -> (Option<i32>, String) {
    let output = gateway.cli(args);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn a_database_is_fetched_by_a_command_and_a_running_server_takes_it_up() {
    let (upstream, policy, shop) =
        (public(), Folder::empty(), Shop::new(archive(5, 1_790_000_000)));
    let gateway = builder(&upstream, &policy, &shop).start();
    until("the want is told", || gateway.log_contains("`cratehouse advisories fetch` brings"));
    assert!(!is_held(&gateway));
    assert_eq!(gateway.metric(BROKEN, &[("what", "advisories")]), 0.0, "no alarm");
    assert_eq!(run(&gateway, &["advisories", "show"]).0, Some(1));
    assert!(run(&gateway, &["doctor"]).1.contains("there is none: those rules say nothing"));

    let (status, said) = run(&gateway, &["advisories", "fetch"]);
    assert!(status == Some(0) && said.contains("kept in the store: 5 advisories from"), "{said}");
    let (_, said) = run(&gateway, &["advisories", "fetch"]);
    assert!(said.contains("nothing new: 5 advisories"), "{said}");
    let (_, said) = run(&gateway, &["doctor"]);
    assert!(said.contains("5 advisories in the store"), "{said}");
    until("the advisory is in force", || is_held(&gateway));
    assert_eq!(gateway.metric("cratehouse_policy_advisories", &[]), 5.0);
    assert!(
        gateway.metric("cratehouse_policy_advisories_timestamp_seconds", &[]) > 1_790_000_000.0
    );
    let (status, said) = run(&gateway, &["advisories", "show"]);
    assert!(
        status == Some(0) && said.contains("advisories  5\n") && said.contains(&shop.url()),
        "{said}"
    );

    // What is cut, shrunk or an error page is not kept.
    let whole = archive(6, 1_790_000_001);
    for (goods, why) in [
        (whole[..whole.len() - 9].to_vec(), "cannot be read"),
        (archive(4, 1_790_000_001), "it has 4 advisories, and the one that is kept 5"),
        (archive(2, 1_790_000_001), "`policy.advisories_least` is 3"),
        (archive(5, 1_780_000_000), "older than the one that is kept"),
        (b"<html>sign in</html>".to_vec(), "cannot be read"),
    ] {
        shop.has(goods);
        let (status, said) = run(&gateway, &["advisories", "fetch"]);
        assert!(status == Some(1) && said.contains(why), "{why}: {said}");
    }
    assert_eq!(gateway.stored("advisories").len(), 2);
    shop.server.set_down(true);
    let (status, said) = run(&gateway, &["advisories", "fetch"]);
    assert!(status == Some(1) && said.contains("`policy.advisories_url`"), "{said}");
    assert!(is_held(&gateway));
}

#[test]
fn a_file_is_taken_where_nobody_has_the_internet_and_checks_judge_by_it() {
    let (upstream, policy, shop) = (public(), Folder::empty(), Shop::new(Vec::new()));
    let gateway = builder(&upstream, &policy, &shop).start();
    std::fs::write(gateway.folder().join("db.tar.gz"), archive(3, 1_790_000_000)).unwrap();
    let lock = format!(
        "version = 4\n\n[[package]]\nname = \"public\"\nversion = \"1.0.0\"\nsource = \
         \"registry+{}\"\nchecksum = \"{}\"\n",
        cratehouse_tests::krate::CRATES_IO,
        Krate::new("public", "1.0.0").cksum()
    );
    std::fs::write(gateway.folder().join("Cargo.lock"), lock).unwrap();
    let (status, said) = run(&gateway, &["policy", "check"]);
    assert!(status == Some(0) && said.contains("note: there is no advisory database"), "{said}");
    let (status, said) = run(&gateway, &["advisories", "fetch", "--file", "db.tar.gz"]);
    assert!(status == Some(0) && said.contains("3 advisories from db.tar.gz"), "{said}");
    let (status, said) = run(&gateway, &["policy", "check"]);
    assert!(
        status == Some(0) && said.contains("RUSTSEC-2026-0001") && !said.contains("note:"),
        "{said}"
    );
    let (status, said) = run(&gateway, &["advisories", "fetch", "--file", "none.tar.gz"]);
    assert!(status == Some(64) && said.contains("none.tar.gz cannot be read"), "{said}");
    assert_eq!(shop.server.requests().len(), 0);
}

#[test]
fn one_replica_fetches_on_schedule_and_all_of_them_know() {
    let (upstream, policy, shop) =
        (public(), Folder::empty(), Shop::new(archive(4, 1_790_000_000)));
    let s3 = MemoryS3::start();
    let replica = || {
        builder(&upstream, &policy, &shop)
            .certificate(&Authority::new())
            .s3(&s3.bucket())
            .set("policy", "advisories_hours = 1")
            .start()
    };
    let replicas = [replica(), replica()];
    for one in &replicas {
        until("the advisory is in force", || is_held(one));
    }
    assert_eq!(shop.server.count("/packed"), 1, "one for all");
    let fetched = |one: &Gateway| one.metric(FETCHES, &[("outcome", "new")]);
    assert_eq!(replicas.iter().map(fetched).sum::<f64>(), 1.0);
    // A new one need not ask, nor wait.
    shop.server.set_down(true);
    let third = replica();
    assert!(is_held(&third));
}

#[test]
fn config_check_fails_for_advisories_that_a_start_would_do_without() {
    let (upstream, policy, shop) = (public(), Folder::empty(), Shop::new(Vec::new()));
    let none = builder(&upstream, &policy, &shop).set("policy", "advisories = \"no-database\"");
    let (status, said) = run(&none.prepare(), &["config", "check"]);
    assert!(status == Some(64) && said.contains("no-database"), "{said}");
    let both = builder(&upstream, &policy, &shop)
        .set("policy", "advisories = \"db\"")
        .set("policy", "advisories_hours = 6");
    let (status, said) = run(&both.prepare(), &["config", "check"]);
    assert!(status == Some(64) && said.contains("leave one of them out"), "{said}");
    let (status, said) = run(&builder(&upstream, &policy, &shop).prepare(), &["config", "check"]);
    assert!(status == Some(0), "{said}");
}
