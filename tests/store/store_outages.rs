//! The store fails while the gateway runs: reads go on, writes are refused honestly, nothing
//! that was answered is lost, and it recovers by itself.

use std::path::PathBuf;

use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::Krate;
use cratehouse_tests::patience::until;
use cratehouse_tests::test_gateway::TestGateway;

/// How a folder can fail. (Permissions would not stop a process that runs as root.)
#[derive(Debug, Clone, Copy)]
enum Outage {
    /// Every call fails: a file stands where the folder was.
    Broken,
    /// The folder is gone, as a volume that was unmounted; what is created there is lost.
    Gone,
    /// An empty folder, which is what an unmounted volume leaves.
    Empty,
}

impl Outage {
    fn begin(self, gateway: &Gateway) {
        let (store, away) = places(gateway);
        std::fs::rename(&store, away).unwrap();
        match self {
            Self::Broken => std::fs::write(&store, "").unwrap(),
            Self::Gone => {}
            Self::Empty => std::fs::create_dir(&store).unwrap(),
        }
    }

    /// Ends it; gives the files that were created meanwhile, where none should be.
    fn end(self, gateway: &Gateway) -> Vec<String> {
        let created = gateway.stored("");
        let (store, away) = places(gateway);
        if store.is_dir() {
            std::fs::remove_dir_all(&store).unwrap();
        } else if store.exists() {
            std::fs::remove_file(&store).unwrap();
        }
        std::fs::rename(away, store).unwrap();
        created
    }
}

fn places(gateway: &Gateway) -> (PathBuf, PathBuf) {
    (gateway.data().join("store"), gateway.data().join("store.away"))
}

fn survives(outage: Outage) {
    let gateway = Gateway::builder()
        .set("limits", "append_seconds = 2")
        .set("limits", "follow_ms = 50")
        .start();
    let mut server = TestGateway::of(gateway);
    server.publish(&Krate::new("foo", "1.0.0")).assert_status(200);
    server.publish(&Krate::new("bar", "1.0.0")).assert_status(200);
    let file = server.client.index("foo").assert_status(200).body;
    let bytes = server.client.download("foo", "1.0.0").assert_status(200).body;

    outage.begin(&server.gateway);
    assert_eq!(server.client.index("foo").assert_status(200).body, file, "from memory");
    assert_eq!(server.client.download("foo", "1.0.0").assert_status(200).body, bytes);
    server.client.index("bar").assert_status(200); // never asked for before: from the catalog
    server.publish(&Krate::new("foo", "1.1.0")).assert_trouble();
    server.client.download("bar", "1.0.0").assert_trouble();
    server.client.yank("bar", "1.0.0", &server.token).assert_trouble();
    assert_eq!(server.client.index("foo").assert_status(200).body, file, "nothing was published");
    server.gateway.admin().get("/livez").assert_status(200);

    let created = outage.end(&server.gateway);
    assert_eq!(created, Vec::<String>::new(), "written to where it is lost");
    server.client.download("bar", "1.0.0").assert_status(200);
    until("it publishes again", || server.publish(&Krate::new("foo", "1.2.0")).status == 200);
    let versions =
        |server: &TestGateway| server.client.index("foo").assert_status(200).lines().len();
    assert_eq!(versions(&server), 2);
    server.gateway.cli_ok(&["journal", "verify"]);
    let seen = (server.client.index("foo").body, server.client.index("bar").body);
    server.gateway.restart_on_an_empty_disk();
    server.client = server.gateway.client();
    assert_eq!((server.client.index("foo").body, server.client.index("bar").body), seen);
}

#[test]
fn a_store_that_fails_every_call_loses_nothing_and_comes_back() {
    survives(Outage::Broken);
}

#[test]
fn a_store_that_is_gone_is_an_outage_and_no_empty_store() {
    survives(Outage::Gone);
}

#[test]
fn a_store_whose_volume_was_unmounted_is_an_outage_and_no_empty_store() {
    survives(Outage::Empty);
}
