//! Rights on several replicas: what one is told, all know within the time that they follow the journal in.

use cratehouse_tests::cargo::{Cargo, Project};
use cratehouse_tests::client::Client;
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::{Krate, index_path};
use cratehouse_tests::patience::until;
use cratehouse_tests::replicas::Replicas;
use cratehouse_tests::rgw::Rgw;
use reqwest::Method;
use serde_json::{Value, json};

use super::organisation::HIDDEN;

struct Site {
    replicas: Replicas,
    clients: Vec<Client>,
    ada: String,
    rita: String,
}

impl Site {
    fn start() -> Self {
        let bucket = Rgw::shared().bucket();
        let way = bucket.endpoint.clone();
        let replicas = Replicas::start(3, bucket, &way, |builder| {
            builder.auth_required().reserved(&["acme-*"])
        });
        let first = &replicas.all[0];
        let ada = first.token_with("ada", &["--scope", "read,publish-new,admin"]);
        let rita = first.token_with("rita", &["--scope", "read"]);
        let clients: Vec<_> = replicas.all.iter().map(Gateway::client).collect();
        clients[0].publish(&Krate::new(HIDDEN, "1.0.0"), &ada).assert_status(200);
        let site = Self { replicas, clients, ada, rita };
        site.change(0, Method::PUT, &format!("restrictions/{HIDDEN}"), json!({ "readers": [] }));
        site
    }

    /// What an administrator changes at one replica.
    fn change(&self, at: usize, method: Method, path: &str, body: Value) {
        let (path, body) = (format!("/api/v1/admin/{path}"), body.to_string().into_bytes());
        self.clients[at].call(method, &path, Some(body), &self.ada).assert_status(200);
    }

    fn reads(&self, at: usize) -> bool {
        let path = format!("/index/{}", index_path(HIDDEN));
        self.clients[at].get_as(&path, &self.rita).status == 200
    }

    fn builds(&self, at: usize) -> bool {
        let project = Project::new("app").ours(HIDDEN, "1").write();
        let cargo = Cargo::new(&self.replicas.all[at]).token(&self.rita);
        cargo.run(&project, &["fetch"]).is_ok()
    }
}

/// Each right is given on one replica, used on another, and taken on a third.
#[test]
fn what_is_granted_on_one_replica_is_read_on_another_and_taken_on_a_third() {
    let site = Site::start();
    let subject = json!({ "subjects": ["user:rita"] });
    let readers = format!("restrictions/{HIDDEN}/readers");
    let rule = format!("restrictions/{HIDDEN}");
    until("it is hidden everywhere", || (0..3).all(|at| !site.reads(at)));
    assert!(!site.builds(1));

    site.change(0, Method::PUT, &rule, subject.clone());
    until("a reader reads on another replica", || site.reads(1));
    assert!(site.builds(1));
    site.change(2, Method::DELETE, &readers, subject);
    until("and on none after it was taken", || (0..3).all(|at| !site.reads(at)));
    assert!(!site.builds(1));

    let members = json!({ "users": ["rita"] });
    site.change(1, Method::PUT, "teams/core/members", members.clone());
    site.change(1, Method::PUT, &rule, json!({ "subjects": ["team:core"] }));
    until("a member of a team reads", || site.reads(2));
    assert!(site.builds(2));
    site.change(0, Method::DELETE, "teams/core/members", members);
    until("and nobody who left it", || (0..3).all(|at| !site.reads(at)));
    assert!(!site.builds(2));

    site.change(2, Method::PUT, &rule, json!({ "subjects": ["user:rita"] }));
    until("she reads", || site.reads(0));
    site.change(1, Method::DELETE, "users/rita", Value::Null);
    until("and not when disabled", || (0..3).all(|at| !site.reads(at)));
}

/// One of two administrators stays, whatever both ask for at one time on two replicas.
#[test]
fn two_administrators_who_remove_each_other_at_once_leave_one() {
    let site = Site::start();
    let bea = site.replicas.all[0].token_with("bea", &["--scope", "admin"]);
    let administers = |token: &str, at: usize| {
        site.clients[at].get_as("/api/v1/admin/users", token).status == 200
    };
    until("both administer", || administers(&bea, 1) && administers(&site.ada, 0));
    let remove = |at: usize, who: &str, token: &str| {
        let path = format!("/api/v1/admin/users/{who}/role");
        site.clients[at].call(Method::DELETE, &path, None, token).status
    };
    let statuses = std::thread::scope(|scope| {
        let one = scope.spawn(|| remove(0, "bea", &site.ada));
        let other = scope.spawn(|| remove(1, "ada", &bea));
        [one.join().unwrap(), other.join().unwrap()]
    });
    assert!(statuses.contains(&200), "{statuses:?}");
    let left = |token: &str| (0..3).filter(|at| administers(token, *at)).count();
    until("one of them is left, everywhere", || {
        let mut left = [left(&site.ada), left(&bea)];
        left.sort_unstable();
        left == [0, 3]
    });
}
