//! Commands by a server (`--server`): the same output and the same status as at its store, for administrators and, where
//! they only read, for auditors.

use std::fs;
use std::process::{Command, Output};

use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::{CRATES_IO, Krate};
use cratehouse_tests::patience::until;
use cratehouse_tests::upstream::Upstream;

const POLICY: &str = "[[ban]]\nname = \"evil\"\nreason = \"steals keys\"\n\n[[waiver]]\nname = \"odd\"\nuntil = \"2100-01-01\"\nreason = \"reviewed\"\nwho = \"ada\"\n";

/// A registry with an upstream, a policy and a history, and the tokens of an administrator and an auditor.
struct Site {
    gateway: Gateway,
    _upstream: Upstream,
    admin: String,
    auditor: String,
}

/// How a command ended, and what it printed.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        Self { status: output.status.code(), stdout, stderr }
    }
}

impl Site {
    fn start() -> Self {
        let upstream = Upstream::with(&[
            Krate::new("public", "1.0.0"),
            Krate::new("common", "1.0.0"),
            Krate::new("evil", "1.0.0"),
        ]);
        let builder = Gateway::builder().upstream(&upstream).reserved(&["acme-*"]);
        let builder = builder.set("policy", "dir = \"policies\"").set("pulls", "flush_seconds = 1");
        let mut gateway = builder.prepare();
        for (folder, text) in
            [("policies", POLICY), ("stricter", "[[ban]]\nname = \"public\"\nreason = \"x\"\n")]
        {
            fs::create_dir_all(gateway.folder().join(folder)).unwrap();
            fs::write(gateway.folder().join(folder).join("policy.toml"), text).unwrap();
        }
        gateway.start_again();
        let admin = gateway.token_with("root", &["--scope", "admin,read"]);
        let auditor = gateway.token_with("audrey", &["--scope", "audit,read"]);
        gateway.cli_ok(&["role", "grant", "root", "admin"]);
        gateway.cli_ok(&["role", "grant", "audrey", "auditor"]);
        let alice = gateway.token("alice");
        let client = gateway.client();
        for version in ["1.0.0", "1.1.0"] {
            client.publish(&Krate::new("acme-foo", version), &alice).assert_status(200);
        }
        client.yank("acme-foo", "1.0.0", &alice).assert_status(200);
        client.download("acme-foo", "1.1.0").assert_status(200);
        client.download("public", "1.0.0").assert_status(200);
        client.download("common", "1.0.0").assert_status(200);
        let lock = |name: &str| {
            let cksum = Krate::new(name, "1.0.0").cksum();
            format!(
                "[[package]]\nname = \"{name}\"\nversion = \"1.0.0\"\nsource = \"registry+{CRATES_IO}\"\nchecksum = \"{cksum}\"\n\n"
            )
        };
        let text = format!("version = 4\n\n{}{}", lock("evil"), lock("public"));
        fs::write(gateway.folder().join("Cargo.lock"), text).unwrap();
        until("the pulls are written", || {
            let batches =
                gateway.stored("pulls").into_iter().map(|path| gateway.stored_bytes(&path));
            let text = String::from_utf8(batches.collect::<Vec<_>>().concat()).unwrap();
            text.contains("acme-foo") && text.contains("public")
        });
        Self { gateway, _upstream: upstream, admin, auditor }
    }

    fn at_store(&self, args: &[&str]) -> Ended {
        self.gateway.cli(args).into()
    }

    /// A command by the server, without a token.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.gateway.command_line(args);
        command.args(["--server", &self.gateway.url()]);
        command.env("CARGO_HTTP_CAINFO", self.gateway.ca_path());
        command
    }

    /// A command by the server, once that has seen all that was done at the store.
    #[track_caller]
    fn by_server(&self, args: &[&str], token: &str) -> Ended {
        let client = self.gateway.client();
        until("the server has caught up", || {
            let head =
                client.get_as("/api/v1/admin/journal/head", &self.auditor).assert_status(200);
            head.json()["seq"].as_u64() == Some(self.gateway.stored("journal").len() as u64)
        });
        let ended: Ended =
            self.command(args).env("CRATEHOUSE_TOKEN", token).output().unwrap().into();
        for shown in [&ended.stdout, &ended.stderr, &self.gateway.log()] {
            assert!(!shown.contains(token), "{args:?} shows its token");
        }
        assert!(ended.stderr.contains(&format!("server {}", self.gateway.url())), "{ended:?}");
        ended
    }

    /// A command that reads is the same by both ways, whoever asks.
    #[track_caller]
    fn same(&self, args: &[&str]) {
        let wanted = self.at_store(args);
        for (who, token) in [("admin", &self.admin), ("auditor", &self.auditor)] {
            let found = self.by_server(args, token);
            let told = format!(
                "{args:?} by {who}\n{}{}\n{}{}",
                wanted.stdout, wanted.stderr, found.stdout, found.stderr
            );
            assert_eq!(found.status, wanted.status, "{told}");
            assert_eq!(plain(&found.stdout), plain(&wanted.stdout), "{told}");
            assert_eq!(errors(&found), errors(&wanted), "{told}");
        }
    }

    /// A command that changes something is the same by both ways, about another thing each; an auditor may not.
    #[track_caller]
    fn both(&self, args: &str, things: [&str; 2]) -> [Ended; 2] {
        let [at_store, by_server] = things.map(|thing| args.replace('%', thing));
        let [at_store, by_server]: [Vec<_>; 2] =
            [at_store.split(' ').collect(), by_server.split(' ').collect()];
        let refused = self.by_server(&by_server, &self.auditor);
        assert_eq!(
            (refused.status, refused.stdout.as_str()),
            (Some(1), ""),
            "{by_server:?}: {refused:?}"
        );
        assert!(
            refused.stderr.contains("error: ") && refused.stderr.contains("admin"),
            "{refused:?}"
        );
        let (wanted, found) = (self.at_store(&at_store), self.by_server(&by_server, &self.admin));
        let [first, second] = things;
        assert_eq!(found.status, wanted.status, "{by_server:?}: {found:?} {wanted:?}");
        let same = plain(&found.stdout).replace(second, first);
        assert_eq!(same, plain(&wanted.stdout), "{by_server:?}: {found:?}");
        assert_eq!(errors(&found).replace(second, first), errors(&wanted), "{by_server:?}");
        [wanted, found]
    }
}

/// A server knows of uses of tokens that it has not written down yet.
fn without_uses(text: &str) -> String {
    if let Ok(mut json) = serde_json::from_str::<serde_json::Value>(text) {
        forget_uses(&mut json);
        return serde_json::to_string_pretty(&json).unwrap();
    }
    let line = |line: &str| {
        let used = |cell: &str| cell.contains(" from 127.0.0.0/24");
        let cells = line.split('\t').map(|cell| if used(cell) { "never" } else { cell });
        cells.collect::<Vec<_>>().join("\t")
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

fn forget_uses(json: &mut serde_json::Value) {
    match json {
        serde_json::Value::Object(fields) => {
            fields.remove("last_used");
            fields.values_mut().for_each(forget_uses);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(forget_uses),
        _ => (),
    }
}

/// A text whose numbers are all one: times, ids, sizes, checksums; so are tokens.
fn plain(text: &str) -> String {
    let text = &without_uses(text);
    let is_sum = |word: &str| word.len() >= 16 && word.bytes().all(|b| b.is_ascii_hexdigit());
    if text.starts_with("crh_") && text.trim_end().len() == text.len() - 1 {
        return "TOKEN".to_owned(); // alone, on its line
    }
    let mut plain = String::new();
    for piece in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let word = piece.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        plain += if is_sum(word) { "SUM" } else { word };
        plain += &piece[word.len()..];
    }
    let mut numbers = String::new();
    for c in plain.chars() {
        match c {
            '0'..='9' if numbers.ends_with('0') => (),
            '0'..='9' => numbers.push('0'),
            other => numbers.push(other),
        }
    }
    numbers
}

/// What a command says is wrong.
fn errors(ended: &Ended) -> String {
    ended.stderr.lines().filter(|line| line.starts_with("error: ")).collect()
}

#[test]
fn what_reads_is_the_same_at_the_store_and_by_the_server_for_administrators_and_auditors() {
    let site = Site::start();
    site.gateway.cli_ok(&["team", "add", "core", "alice"]);
    site.gateway.cli_ok(&["creators", "add", "acme-*", "team:core"]);
    site.gateway.cli_ok(&["crate", "restrict", "secret-*", "--reader", "team:core"]);
    for args in [
        "user list",
        "user list --json",
        "user show alice",
        "user show alice --json",
        "user show nobody",
        "team list",
        "team list core --json",
        "team list nobody",
        "token list",
        "token list --json",
        "token list --user alice",
        "token list --user nobody",
        "owner list acme-foo",
        "owner list acme-foo --json",
        "owner list nothing",
        "creators list",
        "creators list --json",
        "crate list",
        "crate list --json",
        "journal show",
        "journal show --json",
        "journal show --tail 3",
        "journal show --tail 3 --json",
        "journal show --crate acme-foo --json",
        "journal show --user alice",
        "journal show --user nobody",
        "journal show --token 1 --json",
        "journal show --kind published,yanked --kind user_created",
        "journal show --since 4 --json",
        "journal show --since 2100-01-01",
        "journal verify",
        "pulls acme-foo",
        "pulls acme-foo --json",
        "pulls acme-foo@1.1 --since 2020-01-01",
        "pulls acme-foo --user nobody",
        "pulls nothing",
        "format show",
        "pin show public@1.0.0",
        "pin show public@1.0.0 --json",
        "pin show public@2.0.0",
        "names audit",
        "names audit --json",
        "policy check",
        "policy check --json",
        "policy check --policy stricter",
        "policy diff policies stricter",
        "policy diff policies stricter --json",
        "policy diff policies nowhere",
        "policy waivers",
        "policy waivers --json",
        "policy waivers --policy stricter",
        "advisories show",
        "doctor",
        "doctor --json",
    ] {
        site.same(&args.split(' ').collect::<Vec<_>>());
    }
}

#[test]
fn what_changes_something_is_the_same_by_the_server_and_is_for_administrators_alone() {
    let site = Site::start();
    let gateway = &site.gateway;
    site.both("user add %", ["ada", "zoe"]);
    site.both("user add % --service", ["ci-a", "ci-b"]);
    site.both("user add %", ["ada", "zoe"]); // again
    site.both("user disable %", ["ada", "zoe"]);
    site.both("user enable %", ["ada", "zoe"]);
    site.both("role grant % auditor", ["ada", "zoe"]);
    site.both("role revoke %", ["ada", "zoe"]);
    site.both("team add % alice audrey", ["one", "two"]);
    site.both("team remove % alice", ["one", "two"]);
    site.both("team rename % x%", ["one", "two"]);
    site.both("team remove x%", ["one", "two"]);
    site.both("team remove x%", ["one", "two"]); // there is none any more
    site.both("creators add %-* user:alice", ["one", "two"]);
    site.both("creators remove %-* user:alice", ["one", "two"]);
    site.both("creators remove %-*", ["one", "two"]);
    site.both("crate restrict %-* --reader user:alice,user:ada", ["one", "two"]);
    site.both("crate restrict %-* --remove-reader user:ada", ["one", "two"]);
    site.both("crate open %-*", ["one", "two"]);
    site.both("owner set acme-foo user:alice user:%", ["ada", "zoe"]);
    let made =
        site.both("token create --user % --name ci --scope read --expires 90d", ["ada", "zoe"]);
    for token in made.map(|made| made.stdout) {
        let whose = gateway.client().get_as("/api/v1/me", token.trim()).assert_status(200);
        assert!(["ada", "zoe"].contains(&whose.json()["user"]["login"].as_str().unwrap()));
    }
    let of = |login: &str| {
        let list = gateway.cli_ok(&["token", "list", "--user", login]);
        list.lines().nth(1).unwrap().split('\t').next().unwrap().to_owned()
    };
    let (ada, zoe) = (of("ada"), of("zoe"));
    site.both("token rotate % --overlap 1h", [&ada, &zoe]);
    site.both("token revoke %", [&ada, &zoe]);
    site.both("token revoke 999%", ["1", "2"]);
    site.both("remove acme-foo@1.%.0 --reason leaked", ["0", "1"]);
    site.both("mirror refresh %", ["public", "common"]);
    site.both("mirror refresh acme-%", ["one", "two"]); // reserved
    site.both("prefetch %", ["public", "common"]);
    site.both("prefetch --lock Cargo.lock --json%", ["", ""]);
    site.both("prefetch nothing-%", ["one", "two"]);
    let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    site.both(
        &format!("pin correct %@1.0.0 --checksum {sum} --reason tried"),
        ["public", "common"],
    );
    site.both("mirror purge %", ["public", "common"]);
    site.both("checkpoint%", ["", ""]);
    site.both("format enable 2%", ["", ""]);
    site.both("format enable %", ["8", "9"]);
    site.both("gc --dry-run --json --grace 0s%", ["", ""]);
    site.both("gc --grace 12h%", ["", ""]);
    let swept = site.by_server(&["gc", "--grace", "0s"], &site.admin);
    assert!(swept.stdout.contains("2 deleted"), "{swept:?}");
    let trail = gateway.cli_ok(&["journal", "show", "--kind", "condemned,collected"]);
    assert_eq!(trail.matches("\troot (token 1)\t").count(), 2, "{trail}");
    gateway.cli_ok(&["journal", "verify"]);
}

#[test]
fn what_is_for_who_has_the_store_says_so_and_does_nothing() {
    let site = Site::start();
    let copy = ["store", "copy", "file://data/store", "file://other"];
    for args in [&["serve"][..], &["init"], &["config", "check"], &["admin", "link"], &copy] {
        let refused: Ended =
            site.command(args).env("CRATEHOUSE_TOKEN", &site.admin).output().unwrap().into();
        assert_eq!(
            (refused.status, refused.stdout.as_str()),
            (Some(64), ""),
            "{args:?}: {refused:?}"
        );
        assert!(refused.stderr.contains("leave `--server` out"), "{refused:?}");
    }
    let both = site.command(&["user", "list", "--store", "file://x"]).output().unwrap();
    assert_eq!(both.status.code(), Some(64));
    let file = site.by_server(&["advisories", "fetch", "--file", "db.tar.gz"], &site.admin);
    assert!(file.status == Some(64) && file.stderr.contains("for who has the store"), "{file:?}");
    let fetch = site.by_server(&["policy", "check", "--fetch"], &site.admin);
    assert!(fetch.status == Some(2) && fetch.stderr.contains("cratehouse prefetch"), "{fetch:?}");
}

#[test]
fn a_token_comes_from_the_environment_a_file_or_cargo_and_never_shows() {
    let site = Site::start();
    let run = |command: &mut Command| Ended::from(command.output().unwrap());
    let list = ["user", "list"];
    let none = run(&mut site.command(&list));
    assert_eq!((none.status, none.stdout.as_str()), (Some(64), ""), "{none:?}");
    for way in ["CRATEHOUSE_TOKEN", "--token-file", "credentials.toml"] {
        assert!(none.stderr.contains(way), "{none:?}");
    }
    let wrong = run(site.command(&list).env("CRATEHOUSE_TOKEN", "crh_wrong"));
    assert!(wrong.status == Some(1) && wrong.stderr.contains("error: "), "{wrong:?}");
    assert!(!wrong.stderr.contains("crh_wrong"), "{wrong:?}");

    let wanted = site.at_store(&list).stdout;
    let file = site.gateway.folder().join("token");
    fs::write(&file, format!("{}\n", site.auditor)).unwrap();
    assert_eq!(run(site.command(&list).arg("--token-file").arg(&file)).stdout, wanted);
    let cargo = site.gateway.folder().join(".cargo");
    fs::create_dir_all(&cargo).unwrap();
    let index = site.gateway.index_url();
    fs::write(cargo.join("config.toml"), format!("[registries.acme]\nindex = \"{index}\"\n"))
        .unwrap();
    fs::write(
        cargo.join("credentials.toml"),
        format!("[registries.acme]\ntoken = \"{}\"\n", site.auditor),
    )
    .unwrap();
    let kept = run(&mut site.command(&list));
    assert_eq!((kept.status, &kept.stdout), (Some(0), &wanted), "{kept:?}");
    let variable = run(site.command(&list).env("CARGO_REGISTRIES_ACME_TOKEN", "crh_wrong"));
    assert_eq!(variable.status, Some(1), "the variable is before the file");
    assert!(!site.gateway.log().contains(&site.auditor));
}

#[test]
fn a_server_is_asked_over_tls_that_is_trusted_or_on_this_machine_and_health_needs_no_token() {
    let site = Site::start();
    let health = Ended::from(site.command(&["health"]).output().unwrap());
    let answers = format!("{} answers\n", site.gateway.url());
    assert_eq!((health.status, health.stdout), (Some(0), answers), "{}", health.stderr);
    let mut untrusted = site.command(&["user", "list"]);
    untrusted.env_remove("CARGO_HTTP_CAINFO").env("CRATEHOUSE_TOKEN", &site.admin);
    let untrusted = Ended::from(untrusted.output().unwrap());
    assert!(
        untrusted.status == Some(1) && untrusted.stderr.contains("is not trusted here"),
        "{untrusted:?}"
    );
    let at = |url: &str| {
        let mut command = site.gateway.command_line(&["user", "list", "--server", url]);
        Ended::from(command.env("CRATEHOUSE_TOKEN", &site.admin).output().unwrap())
    };
    let clear = at("http://crates.acme.example");
    assert!(clear.status == Some(64) && clear.stderr.contains("https://"), "{clear:?}");

    let plain = Gateway::builder().plain_http().start();
    let admin = plain.token_with("root", &["--scope", "admin"]);
    plain.cli_ok(&["role", "grant", "root", "admin"]);
    let list = plain
        .command_line(&["user", "list", "--server", &plain.url()])
        .env("CRATEHOUSE_TOKEN", &admin)
        .output();
    assert!(String::from_utf8(list.unwrap().stdout).unwrap().contains("\troot\t"));
    let plain_url = plain.url();
    drop(plain);
    let gone = at(&plain_url);
    assert!(gone.status == Some(1) && gone.stderr.contains("does not answer"), "{gone:?}");
}
