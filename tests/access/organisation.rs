//! An organisation for the tests of who may do what: people, a team, an open and a restricted crate of each origin.

use cratehouse_tests::gateway::{Builder, Gateway};
use cratehouse_tests::krate::Krate;
use cratehouse_tests::patience::until;
use cratehouse_tests::upstream::Upstream;

/// Hosted, and open.
pub(super) const OPEN: &str = "acme-open";
/// Hosted, restricted to Rita; owned by Olga and the team `core`.
pub(super) const HIDDEN: &str = "acme-hidden";
/// Mirrored, and open.
pub(super) const PUBLIC: &str = "public-open";
/// Mirrored, restricted to Rita and the team `core`.
pub(super) const PUBLIC_HIDDEN: &str = "public-hidden";
/// Reserved, and nobody's.
pub(super) const ABSENT: &str = "acme-absent";

/// The scopes that change something.
const ALL: &str = "read,publish-new,publish-update,yank,change-owners,tokens";

/// Who asks, each with a token of their own.
pub(super) struct Person {
    /// What they are to the restricted crates.
    pub(super) who: &'static str,
    /// Their token.
    pub(super) token: String,
}

/// A gateway, its upstream, and those who ask it.
pub(super) struct Organisation {
    /// The gateway.
    pub(super) gateway: Gateway,
    /// What is mirrored; it answers as long as it is held.
    _upstream: Upstream,
    /// Everybody.
    pub(super) people: Vec<Person>,
}

impl Organisation {
    /// One whose reads need a token, or not.
    pub(super) fn new(builder: Builder) -> Self {
        let upstream =
            Upstream::with(&[Krate::new(PUBLIC, "1.0.0"), Krate::new(PUBLIC_HIDDEN, "1.0.0")]);
        let gateway = builder.upstream(&upstream).reserved(&["acme-*"]).start();
        let olga = gateway.token_with("olga", &["--scope", ALL]);
        for name in [OPEN, HIDDEN] {
            gateway.client().publish(&Krate::new(name, "1.0.0"), &olga).assert_status(200);
        }
        let token = |user: &str, scopes: &str| gateway.token_with(user, &["--scope", scopes]);
        let person = |who, token| Person { who, token };
        let people = vec![
            person("owner", olga.clone()),
            person("member of an owning team", token("tom", ALL)),
            person("reader", token("rita", ALL)),
            person("stranger", token("stan", ALL)),
            person("administrator", token("ada", &format!("{ALL},admin"))),
            person("auditor", token("audrey", &format!("{ALL},audit"))),
        ];
        for args in [
            &["role", "grant", "audrey", "auditor"][..],
            &["team", "add", "core", "tom"],
            &["owner", "set", HIDDEN, "user:olga", "team:core"],
            &["owner", "set", OPEN, "user:olga", "team:core"],
            &["crate", "restrict", HIDDEN, "--reader", "rita"],
            &["crate", "restrict", PUBLIC_HIDDEN, "--reader", "user:rita,team:core"],
        ] {
            gateway.cli_ok(args);
        }
        let organisation = Self { gateway, _upstream: upstream, people };
        let ada = organisation.token("administrator");
        let rules = || organisation.gateway.client().get_as("/api/v1/admin/restrictions", ada);
        until("the rules are known", || {
            rules().json().as_array().is_some_and(|all| all.len() == 2)
        });
        organisation
    }

    /// The token of one of them.
    pub(super) fn token(&self, who: &str) -> &str {
        &self.people.iter().find(|person| person.who == who).unwrap().token
    }
}
