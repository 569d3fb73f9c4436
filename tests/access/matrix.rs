//! Every route, with every kind of credential, holder and crate: what is allowed, and how the rest is refused. The
//! outcome is `docs/access-matrix.md`, which security reviewers read; `CRATEHOUSE_WRITE_MATRIX=1` writes it anew.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use cratehouse_tests::client::{Client, Reply, base64};
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::{Krate, index_path};
use cratehouse_tests::patience::until;
use reqwest::Method;
use serde_json::{Value, json};

use super::organisation::{ABSENT, HIDDEN, OPEN, Organisation, PUBLIC, PUBLIC_HIDDEN};

const SCOPES: [&str; 8] =
    ["read", "publish-new", "publish-update", "yank", "change-owners", "tokens", "audit", "admin"];

/// Owned by all three holders of the first tables, so that scopes and roles alone decide.
const SHARED: &str = "acme-shared";
const HOLDERS: [(&str, Option<&str>); 3] =
    [("nora", None), ("otto", Some("auditor")), ("anna", Some("admin"))];

/// Requests under way at once.
const AT_ONCE: usize = 6;

/// One request of a route, made so that whoever may do it changes nothing by it.
struct Asked {
    /// As the document has it.
    shown: String,
    method: Method,
    path: String,
    body: Option<Vec<u8>>,
    /// A 404 tells who may that there is no such thing; it hides nothing.
    absence_is_told: bool,
    /// A 503 tells who may that another such is under way.
    is_one_at_a_time: bool,
}

fn asked(method: Method, path: impl Into<String>) -> Asked {
    let path = path.into();
    let shown = format!("{method} {path}");
    let (absence_is_told, is_one_at_a_time) = (false, false);
    Asked { shown, method, path, body: None, absence_is_told, is_one_at_a_time }
}

impl Asked {
    fn shown_as(self, path: &str) -> Self {
        Self { shown: format!("{} {path}", self.method), ..self }
    }

    fn json(self, body: Value) -> Self {
        Self { body: Some(body.to_string().into_bytes()), ..self }
    }

    fn bytes(self, body: Vec<u8>) -> Self {
        Self { body: Some(body), ..self }
    }

    /// One such at a time: another is told to come again, which it is only if it may.
    fn busy(self) -> Self {
        Self { is_one_at_a_time: true, ..self }
    }

    fn telling(self) -> Self {
        Self { absence_is_told: true, ..self }
    }

    /// Asks with a credential in each form of the header, which must come to the same.
    fn ask(&self, client: &Client, token: Option<&str>) -> Reply {
        let send = |authorization: Option<String>| {
            let header = authorization.as_deref().map(|value| ("authorization", value));
            let headers: Vec<_> = header.into_iter().collect();
            client.send(self.method.clone(), &self.path, &headers, self.body.clone())
        };
        let Some(token) = token else { return send(None) };
        let bare = send(Some(token.to_owned()));
        for form in [format!("Bearer {token}"), format!("Basic {}", base64(&format!("x:{token}")))]
        {
            let reply = send(Some(form));
            if self.is_one_at_a_time && [bare.status, reply.status].contains(&503) {
                assert_eq!(self.outcome(&reply), self.outcome(&bare), "{}", self.shown);
                continue;
            }
            assert_eq!(reply.status, bare.status, "{}: {bare}\n{reply}", self.shown);
        }
        bare
    }

    /// Whether a holder's token is let through.
    fn allows(&self, reply: &Reply) -> bool {
        let outcome = self.outcome(reply);
        assert!(["yes", "403"].contains(&outcome.as_str()), "{}: {reply}", self.shown);
        outcome == "yes"
    }

    /// `yes`, or the status of the refusal.
    fn outcome(&self, reply: &Reply) -> String {
        match reply.status {
            401 | 403 => reply.status.to_string(),
            404 if !self.absence_is_told => "404".to_owned(),
            200..=499 => "yes".to_owned(),
            503 if self.is_one_at_a_time => "yes".to_owned(),
            _ => panic!("{}: {reply}", self.shown),
        }
    }
}

/// A publish that gets no further than its archive, which is none.
fn publish(name: &str) -> Asked {
    let body = Krate::new(name, "9.0.0").publish_body_with(b"no archive");
    asked(Method::PUT, "/api/v1/crates/new").bytes(body)
}

/// Every route that is about one crate.
fn of_crate(name: &str) -> Vec<Asked> {
    use Method as M;
    let api = |path: &str| format!("/api/v1/crates/{name}{path}");
    let users = |login: &str| json!({ "users": [login] });
    vec![
        asked(M::GET, format!("/index/{}", index_path(name))).shown_as("/index/…/NAME"),
        asked(M::GET, format!("/crates-io/index/{}", index_path(name)))
            .shown_as("/crates-io/index/…/NAME"),
        asked(M::GET, api("/1.0.0/download")).shown_as("/api/v1/crates/NAME/VERSION/download"),
        asked(M::GET, api("/owners")).shown_as("/api/v1/crates/NAME/owners"),
        asked(M::GET, format!("/api/v1/policy/explain/{name}"))
            .shown_as("/api/v1/policy/explain/NAME"),
        publish(name).shown_as("/api/v1/crates/new (NAME)"),
        asked(M::DELETE, api("/1.0.0/yank")).shown_as("/api/v1/crates/NAME/VERSION/yank"),
        asked(M::PUT, api("/1.0.0/unyank")).shown_as("/api/v1/crates/NAME/VERSION/unyank"),
        asked(M::PUT, api("/owners")).json(users("olga")).shown_as("/api/v1/crates/NAME/owners"),
    ]
}

/// Every other route, and those of one crate that exists.
fn of_registry() -> Vec<Asked> {
    use Method as M;
    let admin = |method, path: &str| asked(method, format!("/api/v1/admin/{path}")).telling();
    let who = || json!({ "subjects": ["user:no-such-user"] });
    let mut all = vec![
        asked(M::GET, "/"),
        asked(M::GET, "/me"),
        asked(M::GET, "/api/v1/openapi.json"),
        asked(M::GET, "/index/config.json"),
        asked(M::GET, "/crates-io/index/config.json"),
        asked(M::GET, "/api/v1/crates?q=acme").shown_as("/api/v1/crates"),
        asked(M::POST, "/api/v1/policy/check").bytes(b"version = 4\n".to_vec()),
        asked(M::GET, "/api/v1/policy/waivers"),
        publish("acme-new-one").shown_as("/api/v1/crates/new (a new name)"),
    ];
    all.extend(of_crate(SHARED).into_iter().filter(|one| !one.shown.contains("crates-io")));
    let nobody = json!({ "users": ["no-such-user"] });
    all.extend([
        asked(M::GET, format!("/crates-io/index/{}", index_path(PUBLIC)))
            .shown_as("/crates-io/index/…/NAME"),
        asked(M::DELETE, format!("/api/v1/crates/{SHARED}/owners"))
            .json(nobody.clone())
            .shown_as("/api/v1/crates/NAME/owners")
            .telling(),
        asked(M::POST, "/api/v1/tokens/report").json(json!([])),
        asked(M::GET, "/api/v1/me"),
        asked(M::GET, "/api/v1/me/tokens"),
        asked(M::PUT, "/api/v1/me/tokens").json(json!({})),
        asked(M::POST, "/api/v1/me/tokens/999/rotate")
            .json(json!({ "overlap": "1h" }))
            .shown_as("/api/v1/me/tokens/ID/rotate")
            .telling(),
        asked(M::DELETE, "/api/v1/me/tokens/999").shown_as("/api/v1/me/tokens/ID").telling(),
        admin(M::GET, "users"),
        admin(M::POST, "users").json(json!({ "login": "not a name" })),
        admin(M::GET, "users/none"),
        admin(M::DELETE, "users/none"),
        admin(M::PUT, "users/none/enable"),
        admin(M::PUT, "users/none/role").json(json!({ "role": "auditor" })),
        admin(M::DELETE, "users/none/role"),
        admin(M::GET, "tokens"),
        admin(M::POST, "tokens").json(json!({ "user": "no-such-user" })),
        admin(M::DELETE, "tokens/999"),
        admin(M::POST, "tokens/999/rotate").json(json!({ "overlap": "1h" })),
        admin(M::GET, "teams"),
        admin(M::GET, "teams/none"),
        admin(M::DELETE, "teams/none"),
        admin(M::PUT, "teams/none/name").json(json!({ "name": "other" })),
        admin(M::PUT, "teams/none/members").json(nobody.clone()),
        admin(M::DELETE, "teams/none/members").json(nobody),
        admin(M::PUT, "crates/acme-none/owners").json(json!({ "owners": ["user:nora"] })),
        admin(M::DELETE, "crates/acme-none/1.0.0").json(json!({ "reason": "none" })),
        admin(M::GET, "creators"),
        admin(M::PUT, "creators/none-*").json(who()),
        admin(M::DELETE, "creators/none-*"),
        admin(M::DELETE, "creators/none-*/subjects").json(who()),
        admin(M::GET, "restrictions"),
        admin(M::PUT, "restrictions/none-*").json(who()),
        admin(M::DELETE, "restrictions/none-*"),
        admin(M::DELETE, "restrictions/none-*/readers").json(who()),
        admin(M::POST, "mirror/none/refresh"),
        admin(M::POST, "mirror/none/purge"),
        admin(M::GET, "names/audit"),
        admin(M::GET, "journal?limit=1").shown_as("/api/v1/admin/journal"),
        admin(M::POST, "journal/verify").busy(),
        admin(M::POST, "checkpoints").busy(),
        admin(M::GET, "format"),
        admin(M::PUT, "format").json(json!({ "level": 1 })),
        admin(M::POST, "gc").json(json!({ "dry_run": true })).busy(),
        admin(M::GET, "pins/none/1.0.0"),
        admin(M::PUT, "pins/none/1.0.0").json(json!({})),
        admin(M::POST, "prefetch").json(json!({})).busy(),
        admin(M::GET, "pulls?crate=none").shown_as("/api/v1/admin/pulls"),
        admin(M::GET, "doctor").busy(),
        admin(M::GET, "advisories"),
        admin(M::POST, "advisories/fetch").json(json!({ "no": 1 })).busy(),
        admin(M::POST, "policy/try").json(json!({})).busy(),
        admin(M::GET, "crates/acme-none/owners"),
        admin(M::GET, "journal/head"),
    ]);
    all
}

/// Credentials that are good for nothing: where they are looked at, all are refused alike.
struct Useless {
    tokens: Vec<(&'static str, String)>,
}

/// The tokens of the first tables: for each holder, one for each scope alone.
struct Tokens {
    of: Vec<Vec<String>>,
    useless: Useless,
}

fn admin(gateway: &Gateway, ada: &str, method: Method, path: &str, body: Value) -> Value {
    let body = Some(body.to_string().into_bytes());
    let path = format!("/api/v1/admin/{path}");
    gateway.client().call(method, &path, body, ada).assert_status(200).json()
}

impl Tokens {
    fn of(organisation: &Organisation) -> Self {
        let (gateway, ada) = (&organisation.gateway, organisation.token("administrator"));
        let admin = |method, path: &str, body| admin(gateway, ada, method, path, body);
        let role = |login: &str, role: Option<&str>| {
            let path = format!("users/{login}/role");
            match role {
                Some(role) => admin(Method::PUT, &path, json!({ "role": role })),
                None => admin(Method::DELETE, &path, Value::Null),
            }
        };
        let token = |login: &str, scope: &str| {
            let made = admin(Method::POST, "tokens", json!({ "user": login, "scopes": [scope] }));
            made["token"].as_str().unwrap().to_owned()
        };
        let mut of = Vec::new();
        for (login, _) in HOLDERS {
            admin(Method::POST, "users", json!({ "login": login }));
        }
        for (login, wanted) in HOLDERS {
            // Only for an administrator a token with that scope is made; the role goes, the token stays.
            role(login, Some("admin"));
            of.push(SCOPES.iter().map(|scope| token(login, scope)).collect());
            role(login, wanted);
        }
        let owner = organisation.token("owner");
        gateway.client().publish(&Krate::new(SHARED, "1.0.0"), owner).assert_status(200);
        let logins = HOLDERS.iter().map(|(login, _)| *login).chain(["olga"]);
        let owners: Vec<_> = logins.map(|login| format!("user:{login}")).collect();
        admin(Method::PUT, &format!("crates/{SHARED}/owners"), json!({ "owners": owners }));
        Self { of, useless: Useless::of(organisation) }
    }
}

impl Useless {
    fn of(organisation: &Organisation) -> Self {
        let gateway = &organisation.gateway;
        let [revoked, disabled, ended] = [
            gateway.token_with("rex", &["--scope", "read,yank,admin"]),
            gateway.token_with("dora", &["--scope", "read,yank"]),
            gateway.token_with("ed", &["--scope", "read,yank", "--expires", "1s"]),
        ];
        let client = gateway.client();
        let whose = |token: &str| client.get_as("/api/v1/me", token);
        let id = whose(&revoked).json()["token"]["id"].to_string();
        gateway.cli_ok(&["token", "revoke", &id]);
        gateway.cli_ok(&["user", "disable", "dora"]);
        for token in [&revoked, &disabled, &ended] {
            until("it counts no more", || whose(token).status == 401);
        }
        let cut = organisation.token("administrator").split_at(20).0.to_owned();
        let tokens = vec![
            ("unknown", "crh_jWguwoYyRxDMudr65rcnaEGH5TcOUfFT".to_owned()),
            ("another registry's", Gateway::start().token("olga")),
            ("cut", cut),
            ("of no form", "hello".to_owned()),
            ("ended", ended),
            ("revoked", revoked),
            ("of a disabled user", disabled),
        ];
        Self { tokens }
    }

    /// What they come to, which is the same for all of them.
    fn outcome(&self, asked: &Asked, client: &Client) -> String {
        let outcome = |token: &str| asked.outcome(&asked.ask(client, Some(token)));
        let outcomes: Vec<_> = self.tokens.iter().map(|(_, token)| outcome(token)).collect();
        let [first, ..] = outcomes.as_slice() else { unreachable!() };
        for ((kind, _), outcome) in self.tokens.iter().zip(&outcomes) {
            assert_eq!(outcome, first, "{}: a token {kind}", asked.shown);
        }
        first.clone()
    }
}

fn scopes(allowed: impl Iterator<Item = bool>) -> String {
    let named: Vec<_> =
        SCOPES.iter().zip(allowed).filter(|(_, yes)| *yes).map(|(scope, _)| *scope).collect();
    match named.len() {
        0 => "–".to_owned(),
        all if all == SCOPES.len() => "any".to_owned(),
        _ => named.join(", "),
    }
}

/// Routes by scopes and roles.
fn by_scope(organisation: &Organisation, tokens: &Tokens, doc: &mut String) -> usize {
    let client = organisation.gateway.client();
    *doc += "| Route | No credential | A useless one | Scopes, without a role | Auditor | Administrator |\n";
    *doc += "|---|---|---|---|---|---|\n";
    let rows = of_registry();
    let row = |asked: &Asked| {
        let nobody = asked.outcome(&asked.ask(&client, None));
        let useless = tokens.useless.outcome(asked, &client);
        let allowed = |token: &String| asked.allows(&asked.ask(&client, Some(token)));
        let holders = tokens.of.iter().map(|of| scopes(of.iter().map(allowed)));
        let holders: Vec<_> = holders.collect();
        let changes = [
            "/crates/new",
            "/yank",
            "/unyank",
            "PUT /api/v1/crates/NAME/owners",
            "DELETE /api/v1/crates/NAME/owners",
        ];
        if changes.iter().any(|change| asked.shown.contains(change)) {
            assert_eq!(holders[1], "–", "an auditor changes no crate: {}", asked.shown);
        }
        format!("| `{}` | {nobody} | {useless} | {} |\n", asked.shown, holders.join(" | "))
    };
    let lines = side_by_side(&rows, row);
    *doc += &lines.concat();
    // The last that is asked of each token: it ends it, so it is asked once.
    let last = asked(Method::DELETE, "/api/v1/tokens/current");
    let nobody = last.outcome(&last.ask(&client, None));
    let useless = tokens.useless.outcome(&last, &client);
    let ends =
        |token: &String| last.allows(&client.call(last.method.clone(), &last.path, None, token));
    let holders: Vec<_> = tokens.of.iter().map(|of| scopes(of.iter().map(ends))).collect();
    writeln!(doc, "| `{}` | {nobody} | {useless} | {} |", last.shown, holders.join(" | ")).unwrap();
    let tokens = tokens.useless.tokens.len() + HOLDERS.len() * SCOPES.len();
    (rows.len() + 1) * (1 + 3 * tokens)
}

/// Some at once: much of an answer's time is waiting for the store.
fn side_by_side<T: Sync>(all: &[T], one: impl Fn(&T) -> String + Sync) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(vec![String::new(); all.len()]);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let n = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(what) = all.get(n)
                {
                    let text = one(what);
                    done.lock().unwrap()[n] = text;
                }
            });
        }
    });
    done.into_inner().unwrap()
}

/// Routes of a crate by who asks and what the crate is.
fn by_crate(organisation: &Organisation, doc: &mut String) -> usize {
    let gateway = &organisation.gateway;
    let (client, mut cells) = (gateway.client(), 0);
    let narrow = |flag: &str| gateway.token_with("olga", &[flag, "other-*"]);
    let owner = organisation.token("owner").to_owned();
    let mut asking: Vec<(&str, Option<String>)> = vec![("Nobody", None), ("Owner", Some(owner))];
    for who in ["member of an owning team", "reader", "stranger", "administrator", "auditor"] {
        asking.push((who, Some(organisation.token(who).to_owned())));
    }
    asking.push(("Owner, token `--crate other-*`", Some(narrow("--crate"))));
    asking.push(("Owner, token `--read-only-crates other-*`", Some(narrow("--read-only-crates"))));
    let known = |token: &Option<String>| match token {
        Some(token) => client.get_as("/api/v1/me", token).status == 200,
        None => true,
    };
    until("all tokens are known", || asking.iter().all(|(_, token)| known(token)));
    for (kind, name) in [
        ("Hosted, open", OPEN),
        ("Hosted, restricted", HIDDEN),
        ("Mirrored, open", PUBLIC),
        ("Mirrored, restricted", PUBLIC_HIDDEN),
        ("No such crate", ABSENT),
    ] {
        writeln!(doc, "\n#### {kind}\n").unwrap();
        let heads: Vec<_> = asking.iter().map(|(who, _)| *who).collect();
        writeln!(doc, "| Route | {} |\n|---{}|", heads.join(" | "), "|---".repeat(heads.len()))
            .unwrap();
        let rows = of_crate(name);
        let row = |asked: &Asked| {
            let outcome = |token: Option<&str>| asked.outcome(&asked.ask(&client, token));
            let all: Vec<_> = asking.iter().map(|(_, token)| outcome(token.as_deref())).collect();
            format!("| `{}` | {} |\n", asked.shown, all.join(" | "))
        };
        *doc += &side_by_side(&rows, row).concat();
        cells += rows.len() * asking.len() * 3;
        let found = asking.iter().map(|(_, token)| {
            let search = asked(Method::GET, format!("/api/v1/crates?q={name}"));
            let reply = search.ask(&client, token.as_deref());
            match reply.status {
                200 => if reply.json()["meta"]["total"] == 0 { "–" } else { "found" }.to_owned(),
                status => status.to_string(),
            }
        });
        let found: Vec<_> = found.collect();
        writeln!(doc, "| `GET /api/v1/crates?q=NAME` | {} |", found.join(" | ")).unwrap();
        cells += found.len() * 3;
    }
    cells
}

/// The words that the table of routes has for them.
fn labels() -> BTreeSet<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gateway/src/http/request");
    let mut labels = BTreeSet::new();
    for file in
        ["route.rs", "route/access.rs", "route/admin.rs", "route/policy.rs", "route/upkeep.rs"]
    {
        let text = fs::read_to_string(source.join(file)).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap().to_owned();
        for body in code.split("pub fn label(&self) -> &'static str {").skip(1) {
            let body = body.split("\n    }\n").next().unwrap();
            labels.extend(body.split('"').skip(1).step_by(2).map(str::to_owned));
        }
    }
    assert!(labels.len() > 40, "{labels:?}");
    labels
}

/// The routes that were asked, as the metrics name them.
fn asked_routes(gateway: &Gateway) -> BTreeSet<String> {
    let metrics = gateway.admin().get("/metrics").text();
    let series =
        metrics.lines().filter(|l| l.starts_with("cratehouse_http_request_seconds_count{"));
    let counted = series.filter(|line| !line.ends_with(" 0"));
    let route = |line: &str| Some(line.split("route=\"").nth(1)?.split('"').next()?.to_owned());
    counted.filter_map(route).collect()
}

fn document() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/access-matrix.md")
}

#[test]
fn every_route_is_what_the_document_says_for_every_credential() {
    let mut doc = HEAD.to_owned();
    let mut cells = 0;
    for (title, is_closed) in [("Reads need a token", true), ("Reads are open", false)] {
        let builder = Gateway::builder().set("limits", "failed_credentials = 1000000");
        let organisation = Organisation::new(match is_closed {
            true => builder.auth_required(),
            false => builder,
        });
        let tokens = Tokens::of(&organisation);
        let auth = format!("`auth.required = {is_closed}`");
        writeln!(doc, "\n## {title} ({auth})\n\n### By scope and role\n").unwrap();
        // What it takes to read one crate comes first: the last request of the other tables ends tokens.
        let mut crates = format!("\n### By crate and by who asks ({auth})\n");
        cells += by_crate(&organisation, &mut crates);
        cells += by_scope(&organisation, &tokens, &mut doc);
        doc += &crates;
        let missing: Vec<_> =
            labels().difference(&asked_routes(&organisation.gateway)).cloned().collect();
        assert!(missing.is_empty(), "routes that no row asks: {missing:?}");
    }
    writeln!(doc, "\n{cells} answers were compared for these tables.").unwrap();
    if std::env::var_os("CRATEHOUSE_WRITE_MATRIX").is_some() {
        fs::write(document(), &doc).unwrap();
    }
    let committed = fs::read_to_string(document()).unwrap_or_default();
    let differing = committed.lines().zip(doc.lines()).find(|(old, new)| old != new);
    assert!(
        committed == doc,
        "docs/access-matrix.md is not what the program does ({differing:?}): look whether that is meant, then \
         write it anew with CRATEHOUSE_WRITE_MATRIX=1"
    );
}

const HEAD: &str = "# Who may do what

Each cell was seen: a test asks every route of a running server with every credential in each of its three forms
(bare, `Bearer`, `Basic`), and this file is what came of it. `yes`: the request was let through, and then perhaps told
that what it names does not exist or is wrong. `401`: no credential that counts. `403`: one that does not allow this.
`404`: for who asks there is no such crate, word for word as if there were none.

*A useless credential* is each of: unknown, another registry's, cut short, of no form of a token, ended, revoked, of a
disabled user. *Scopes* are tokens with that scope alone, whose holders own the crate that is asked for; `any` are all
eight of them, `–` none. Roles belong to holders: a token of an administrator without the scope `admin` administers
nothing, and neither does one with that scope whose holder is no administrator any more.
";
