//! From which source the real cargo has each crate, by every command, in every configuration: the table
//! in `docs/cargo.md`.

use cratehouse_tests::cargo::{Cargo, Folder, Project, REGISTRY, Ran};
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::Krate;
use cratehouse_tests::upstream::Upstream;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cargo.md");
const BEGINS: &str = "<!-- table: sources -->\n";
const ENDS: &str = "<!-- end of table -->";

/// A column of the table.
#[derive(Debug, Clone, Copy)]
struct Layout {
    title: &'static str,
    unified: bool,
    auth: bool,
}

const LAYOUTS: [Layout; 4] = [
    Layout { title: "recommended", unified: false, auth: false },
    Layout { title: "recommended, reads need a token", unified: false, auth: true },
    Layout { title: "unified", unified: true, auth: false },
    Layout { title: "unified, reads need a token", unified: true, auth: true },
];

/// A registry with crates of both kinds, and a cargo that may publish.
struct TestGateway {
    layout: Layout,
    _upstream: Upstream,
    gateway: Gateway,
    cargo: Cargo,
    configuration: String,
}

impl TestGateway {
    fn new(layout: Layout) -> Self {
        let main = "fn main() {}";
        let upstream = Upstream::with(&[
            Krate::new("public", "1.0.0").lib("pub fn f() {}"),
            Krate::new("public", "1.1.0").lib("pub fn f() {}"),
            Krate::new("public-tool", "1.0.0").file("src/main.rs", main),
        ]);
        let mut builder = Gateway::builder().upstream(&upstream);
        if !layout.unified {
            builder = builder.views();
        }
        if layout.auth {
            builder = builder.auth_required();
        }
        let gateway = builder.start();
        let token = gateway.token("alice");
        for version in ["1.0.0", "1.1.0"] {
            let private = Krate::new("acme-app", version).lib("pub fn f() {}");
            gateway.client().publish(&private, &token).assert_status(200);
        }
        let tool = Krate::new("acme-tool", "1.0.0").file("src/main.rs", main);
        gateway.client().publish(&tool, &token).assert_status(200);
        let configuration = configuration(layout, &gateway);
        let cargo = Cargo::new(&gateway).with_credential_provider();
        cargo.configure(&configuration);
        // Where reads need no token it is for publishing alone, and cargo's own provider keeps it.
        let login = ["login", "--registry", REGISTRY];
        cargo.told(gateway.folder(), &login, &token).assert_ok();
        Self { layout, _upstream: upstream, gateway, cargo, configuration }
    }

    /// The source that a lock file names for a crate that was just added.
    fn added(&self, krate: &str, args: &[&str]) -> String {
        let app = Project::new("app").write();
        let ran = self.cargo.run(&app, &[&["add", krate], args].concat());
        if !ran.ok {
            return refused(&ran);
        }
        self.cargo.run(&app, &["generate-lockfile"]).assert_ok();
        self.source(&app, krate)
    }

    fn source(&self, app: &Folder, krate: &str) -> String {
        let (lock, start) = (app.lock(), format!("name = \"{krate}\"\n"));
        let mut packages = lock.split("[[package]]\n").filter(|p| p.starts_with(&start));
        let package = packages.next().unwrap_or_else(|| panic!("{krate} is not in {lock}"));
        assert!(packages.next().is_none(), "{krate} stands twice in {lock}");
        match package {
            p if p.contains(&self.gateway.index_url()) => "ours".to_owned(),
            p if p.contains("rust-lang/crates.io-index") => "crates.io's".to_owned(),
            other => panic!("another source: {other}"),
        }
    }

    /// The same where all crates are of this registry unless they are said not to be.
    fn added_by_default(&self, krate: &str) -> String {
        self.cargo.configure(&with_default(&self.configuration));
        let source = self.added(krate, &[]);
        self.cargo.configure(&self.configuration);
        source
    }

    /// An application with a crate of each kind.
    fn app(&self) -> Folder {
        let main = "fn main() { acme_app::f(); public::f() }";
        let app = Project::new("app").ours("acme-app", "1").dep("public", "1").main(main);
        Folder::workspace(&[app, Project::new("other").ours("acme-app", "1").dep("public", "1")])
    }

    fn published(&self, name: &str, package: &str, args: &[&str]) -> String {
        let project = Project::new(name).package(package).ours("acme-app", "1").dep("public", "1");
        let project = project.lib("pub fn f() { acme_app::f(); public::f() }").write();
        says(&self.cargo.run(&project, &[&["publish"], args].concat()))
    }

    fn ran(&self, args: &[&str]) -> String {
        says(&self.cargo.run(&Folder::empty(), args))
    }

    /// What was found, by the first word of the answer.
    fn found(&self, args: &[&str]) -> String {
        let ran = self.cargo.run(&Folder::empty(), args);
        match ran.ok {
            true if ran.stdout.trim().is_empty() => "nothing".to_owned(),
            _ => says(&ran),
        }
    }

    fn updated(&self) -> String {
        let app = self.app();
        self.cargo.run(&app, &["generate-lockfile"]).assert_ok();
        for krate in ["public", "acme-app"] {
            let args = ["update", "--package", krate, "--precise", "1.0.0"];
            self.cargo.run(&app, &args).assert_ok();
        }
        let before = app.lock();
        let ran = self.cargo.run(&app, &["update"]);
        assert!(!ran.ok || app.lock() != before, "{ran}");
        says(&ran)
    }

    fn vendored(&self) -> String {
        let app = self.app();
        let ran = self.cargo.run(&app, &["vendor", "--respect-source-config"]);
        if ran.ok {
            app.write(".cargo/config.toml", &ran.stdout);
            self.cargo.run(&app, &["build", "--offline"]).assert_ok();
        }
        says(&ran)
    }

    fn built(&self) -> String {
        let app = self.app();
        let ran = self.cargo.run(&app, &["build"]);
        if ran.ok {
            let twice = self.cargo.run(&app, &["tree", "--duplicates"]).assert_ok();
            assert_eq!(twice.stdout.trim(), "", "{twice}");
            assert_eq!(self.source(&app, "acme-app"), "ours");
            assert_eq!(self.source(&app, "public"), "crates.io's");
        }
        says(&ran)
    }

    /// The column, with what stands before each row.
    fn column(&self) -> Vec<(&'static str, String)> {
        let (list, root) = (["--registry", REGISTRY], Folder::empty());
        let install = |args: &[&str]| {
            let path = root.path().to_str().unwrap();
            self.ran(&[&["install", "--force", "--root", path], args].concat())
        };
        vec![
            ("`cargo add acme-app --registry cratehouse`", self.added("acme-app", &list)),
            ("`cargo add acme-app`", self.added("acme-app", &[])),
            ("`cargo add public`", self.added("public", &[])),
            ("`cargo add public --registry cratehouse`", self.added("public", &list)),
            ("`cargo add acme-app`, with `[registry] default`", self.added_by_default("acme-app")),
            ("`cargo add public`, with `[registry] default`", self.added_by_default("public")),
            (
                "`cargo publish`, with `publish = [\"cratehouse\"]`",
                self.published("acme-one", "publish = [\"cratehouse\"]", &[]),
            ),
            (
                "`cargo publish --registry cratehouse`",
                self.published("acme-two", "publish = true", &list),
            ),
            ("`cargo publish`", self.published("acme-three", "publish = true", &[])),
            (
                "`cargo install acme-tool --registry cratehouse`",
                install(&["acme-tool", "--registry", REGISTRY]),
            ),
            ("`cargo install acme-tool`", install(&["acme-tool"])),
            ("`cargo install public-tool`", install(&["public-tool"])),
            (
                "`cargo search acme-app --registry cratehouse`",
                self.found(&["search", "acme-app", "--registry", REGISTRY]),
            ),
            ("`cargo search acme-app`", self.found(&["search", "acme-app"])),
            (
                "`cargo info acme-app --registry cratehouse`",
                self.ran(&["info", "acme-app", "--registry", REGISTRY]),
            ),
            ("`cargo info acme-app`", self.ran(&["info", "acme-app"])),
            ("`cargo info public`", self.ran(&["info", "public"])),
            ("`cargo update`, both kinds in a workspace", self.updated()),
            ("`cargo vendor --respect-source-config`, the same", self.vendored()),
            ("`cargo build` and `cargo tree --duplicates`, the same", self.built()),
        ]
    }
}

/// The configuration that the gateway prints; for a unified index that of release 0.1, with one URL for
/// both.
fn configuration(layout: Layout, gateway: &Gateway) -> String {
    let printed = gateway.greeting();
    let (_, printed) = printed.split_once("Point cargo here:\n").expect("it says so");
    let mut lines: Vec<String> = printed
        .lines()
        .skip_while(|line| line.is_empty())
        .take_while(|line| line.starts_with("    ") || line.trim().is_empty())
        .map(|line| line.trim_start().to_owned())
        .collect();
    if layout.unified {
        let unified = ["[source.cratehouse-public]", "registry = "];
        lines.retain(|line| !unified.iter().any(|start| line.starts_with(start)));
        lines.iter_mut().filter(|line| line.starts_with("replace-with")).for_each(|line| {
            *line = format!("replace-with = \"{REGISTRY}\"");
        });
    }
    lines.join("\n") + "\n"
}

fn with_default(configuration: &str) -> String {
    let default = format!("[registry]\ndefault = \"{REGISTRY}\"\n");
    match configuration.contains("[registry]\n") {
        true => configuration.replace("[registry]\n", &default),
        false => format!("{configuration}{default}"),
    }
}

fn says(ran: &Ran) -> String {
    if ran.ok { "works".to_owned() } else { refused(ran) }
}

/// Why cargo does not, in a word or two.
fn refused(ran: &Ran) -> String {
    let reasons = [
        ("could not be found", "not found"),
        ("could not find", "not found"),
        ("is replaced with", "refused: replaced"),
        ("remote registry", "refused: replaced"),
        ("no token found", "no token"),
    ];
    let known = reasons.iter().find(|(text, _)| ran.says(text));
    known.unwrap_or_else(|| panic!("not foreseen: {ran}")).1.to_owned()
}

fn column_is_as_the_table_says(nth: usize) {
    let server = TestGateway::new(LAYOUTS[nth]);
    let column = server.column();
    let page = std::fs::read_to_string(PAGE).unwrap();
    let table = page.split_once(BEGINS).unwrap().1.split_once(ENDS).unwrap().0;
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let cell =
        |row: usize, column: usize| rows.get(row).and_then(|cells| cells.get(column).copied());
    let actual: String =
        column.iter().map(|(command, outcome)| format!("{command}: {outcome}\n")).collect();
    assert_eq!(cell(0, nth + 1), Some(server.layout.title));
    assert_eq!(rows.len(), column.len() + 2, "{actual}");
    for (at, (command, outcome)) in column.iter().enumerate() {
        assert_eq!(cell(at + 2, 0), Some(*command), "{actual}");
        assert_eq!(cell(at + 2, nth + 1), Some(outcome.as_str()), "{command}, of\n{actual}");
    }
}

#[test]
fn the_recommended_configuration() {
    column_is_as_the_table_says(0);
}

#[test]
fn the_recommended_configuration_where_reads_need_a_token() {
    column_is_as_the_table_says(1);
}

#[test]
fn a_unified_index() {
    column_is_as_the_table_says(2);
}

#[test]
fn a_unified_index_where_reads_need_a_token() {
    column_is_as_the_table_says(3);
}
