//! Whatever names a version means exactly that one, build metadata included.

use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::Krate;
use cratehouse_tests::upstream::Upstream;
use reqwest::Method;
use serde_json::json;

/// A gateway with `foo` 1.0.0+a by alice, and the token of an administrator.
fn server() -> (Gateway, String) {
    let gateway = Gateway::start();
    let alice = gateway.token("alice");
    gateway.client().publish(&Krate::new("foo", "1.0.0+a"), &alice).assert_status(200);
    let root = gateway.token_with("root", &["--scope", "admin,yank"]);
    (gateway, root)
}

#[test]
fn what_changes_a_version_names_the_one_that_there_is() {
    let (gateway, root) = server();
    let client = gateway.client();
    let yanked = || client.index("foo").line("1.0.0+a")["yanked"] == true;
    let journal = || gateway.stored("journal").len();
    let before = journal();
    for other in ["1.0.0+b", "1.0.0%2Bb", "1.0.0"] {
        client.yank("foo", other, &root).assert_refused(404, "1.0.0+a");
        let remove = format!("/api/v1/admin/crates/foo/{other}");
        let reason = json!({ "reason": "leaked" }).to_string().into_bytes();
        client.call(Method::DELETE, &remove, Some(reason), &root).assert_refused(404, "1.0.0+a");
    }
    assert!(!yanked());
    client.yank("foo", "1.0.0+a", &root).assert_status(200);
    for other in ["1.0.0+b", "1.0.0"] {
        client.unyank("foo", other, &root).assert_refused(404, "1.0.0+a");
    }
    assert!(yanked());
    client.unyank("foo", "1.0.0+a", &root).assert_status(200);
    let removed = gateway.cli(&["remove", "foo@1.0.0+b", "--reason", "leaked"]);
    assert!(!removed.status.success());
    assert!(String::from_utf8_lossy(&removed.stderr).contains("1.0.0+a"), "{removed:?}");
    client.download("foo", "1.0.0+a").assert_status(200);
    assert_eq!(journal() - before, 2, "yanked and unyanked, once each");
    gateway.cli_ok(&["remove", "foo@1.0.0+a", "--reason", "leaked"]);
}

#[test]
fn a_number_is_published_once_whatever_its_build_metadata() {
    let (gateway, _root) = server();
    let alice = gateway.token_with("bob", &[]);
    let again = gateway.client().publish(&Krate::new("foo", "1.0.0+b"), &alice);
    assert!([400, 403].contains(&again.status), "{again}");
}

#[test]
fn what_reads_a_version_names_the_one_that_there_is() {
    let upstream = Upstream::with(&[Krate::new("public", "1.0.0+a")]);
    let gateway = Gateway::mirroring(&upstream);
    let (client, alice) = (gateway.client(), gateway.token("alice"));
    client.publish(&Krate::new("foo", "1.0.0+a"), &alice).assert_status(200);
    for name in ["foo", "public"] {
        for other in ["1.0.0+b", "1.0.0"] {
            let download = client.download(name, other).assert_status(404);
            assert!(download.text().contains("it has 1.0.0+a"), "{name}: {download}");
            let explain = client.get(&format!("/api/v1/policy/explain/{name}/{other}"));
            explain.assert_refused(404, "it has 1.0.0+a");
        }
        client.download(name, "1.0.0+a").assert_status(200);
        client.get(&format!("/api/v1/policy/explain/{name}/1.0.0%2Ba")).assert_status(200);
    }
}

#[test]
fn a_plus_in_a_query_may_arrive_as_a_blank() {
    let spelled = [("1.0.0", "+"), ("2.0.0", "%2B"), ("3.0.0", "%20")];
    let krates = spelled.map(|(number, _)| Krate::new("public", &format!("{number}+a")));
    let upstream = Upstream::with(&krates);
    let gateway = Gateway::mirroring(&upstream);
    let (client, root) = (gateway.client(), gateway.token_with("root", &["--scope", "admin"]));
    for krate in &krates {
        client.download("public", &krate.version).assert_status(200);
    }
    let purge = |version: &str| {
        let path = format!("/api/v1/admin/mirror/public/purge?version={version}");
        client.call(Method::POST, &path, None, &root)
    };
    let stored = |count: usize| {
        let blobs = gateway.stored_soon("blobs/mirror", count);
        assert_eq!(blobs.len(), count, "{blobs:?}");
    };
    for (done, (number, plus)) in spelled.into_iter().enumerate() {
        stored(3 - done);
        purge(&format!("{number}{plus}b")).assert_refused(404, &format!("{number}+a"));
        stored(3 - done);
        purge(&format!("{number}{plus}a")).assert_status(200);
    }
    stored(0);
}

#[test]
fn pulls_of_a_version_are_those_of_no_other() {
    let upstream =
        Upstream::with(&[Krate::new("public", "1.0.0+a"), Krate::new("public", "1.0.0")]);
    let mut gateway = Gateway::builder().upstream(&upstream).start();
    gateway.client().download("public", "1.0.0+a").assert_status(200);
    gateway.client().download("public", "1.0.0").assert_status(200);
    assert!(gateway.stop().success());
    let pulls = |of: &str| gateway.cli_ok(&["pulls", "--json", of]).lines().count();
    let counts = ["public", "public@1.0.0", "public@1.0.0+a", "public@1.0.0+b", "public@=1.0.0"];
    assert_eq!(counts.map(pulls), [2, 1, 1, 0, 2]);
    assert_eq!(pulls("public@=1.0.0+a"), 1);
}
