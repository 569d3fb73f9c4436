//! Pins: what was first served stands, until an administrator says otherwise, with a reason.

use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::Krate;
use cratehouse_tests::patience::until;
use cratehouse_tests::upstream::Upstream;

fn first() -> Krate {
    Krate::new("lib", "1.0.0")
}

fn second() -> Krate {
    first().lib("pub fn other() {}")
}

#[test]
fn a_corrected_pin_decides_on_every_replica() {
    let upstream = Upstream::with(&[first()]);
    let mut gateway = Gateway::mirroring(&upstream);
    let client = gateway.client();
    client.download("lib", "1.0.0").assert_status(200);
    upstream.publish(&second());
    until("the change was seen", || client.index("lib").line("1.0.0")["yanked"] == true);
    client.download("lib", "1.0.0").assert_status(403);
    let pins = gateway.stored("mirror");

    gateway.cli_ok(&["format", "enable", "2"]);
    let shown = gateway.cli_ok(&["pin", "show", "lib@1.0.0"]);
    assert!(shown.contains(&first().cksum()) && !shown.contains("corrected"), "{shown}");
    let correct = |checksum: &str| {
        let args = ["pin", "correct", "lib@1.0.0", "--checksum", checksum, "--reason"];
        gateway.cli_ok(&[&args[..], &["its authors told us"]].concat())
    };
    assert!(correct(&second().cksum()).contains("from now on"));
    assert!(correct(&second().cksum()).contains("already"));
    until("the correction is known", || client.download("lib", "1.0.0").status == 200);
    assert_eq!(client.download("lib", "1.0.0").body, second().crate_bytes());
    assert_eq!(client.index("lib").line("1.0.0")["yanked"], false);
    let of_pins = |stored: Vec<String>| -> Vec<String> {
        stored.into_iter().filter(|path| path.contains("/pins/")).collect()
    };
    assert_eq!(of_pins(gateway.stored("mirror")), of_pins(pins), "the pins themselves stay");

    let trail = gateway.cli_ok(&["journal", "show", "--crate", "lib"]);
    for part in [&first().cksum(), &second().cksum(), "operator", "its authors told us"] {
        assert!(trail.contains(part), "{trail}");
    }
    let shown = gateway.cli_ok(&["pin", "show", "lib@1.0.0"]);
    assert!(shown.contains("corrected to") && shown.contains(&first().cksum()), "{shown}");
    gateway.cli_ok(&["journal", "verify"]);

    // A replica with an empty disk, and one that starts from a checkpoint.
    for checkpoint in [false, true] {
        if checkpoint {
            gateway.cli_ok(&["checkpoint"]);
        }
        gateway.restart_on_an_empty_disk();
        let client = gateway.client();
        client.download("lib", "1.0.0").assert_status(200);
        assert_eq!(client.index("lib").line("1.0.0")["yanked"], false);
    }
}

#[test]
fn a_correction_away_from_what_is_listed_refuses_it() {
    let upstream = Upstream::with(&[first()]);
    let gateway = Gateway::mirroring(&upstream);
    let client = gateway.client();
    client.download("lib", "1.0.0").assert_status(200);
    gateway.cli_ok(&["format", "enable", "2"]);
    let args = ["pin", "correct", "lib@1.0.0", "--reason", "the first one was wrong", "--checksum"];
    gateway.cli_ok(&[&args[..], &[&second().cksum()]].concat());
    until("the correction is known", || client.download("lib", "1.0.0").status == 403);
    let is_yanked = || client.index("lib").line("1.0.0")["yanked"] == true;
    until("its verdict follows, though the upstream lists what it always did", is_yanked);
}

#[test]
fn only_what_is_pinned_can_be_corrected() {
    let upstream = Upstream::with(&[Krate::new("lib", "1.0.0+a")]);
    let gateway = Gateway::mirroring(&upstream);
    gateway.client().download("lib", "1.0.0+a").assert_status(200);
    let refused = |more: &[&str]| {
        let out = gateway.cli(&[&["pin"][..], more].concat());
        assert!(!out.status.success(), "{out:?}");
        String::from_utf8_lossy(&out.stderr).into_owned()
    };
    let sum = first().cksum();
    let why = ["--reason", "x", "--checksum", &sum];
    assert!(refused(&["show", "lib@1.0.0+b"]).contains("it has 1.0.0+a"));
    assert!(refused(&[&["correct", "lib@2.0.0"][..], &why].concat()).contains("has no pin"));
    let elsewhere = [&["correct", "lib@1.0.0+a", "--upstream", "nobody"][..], &why].concat();
    assert!(refused(&elsewhere).contains("only these upstreams"));
}
