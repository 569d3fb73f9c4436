//! Certificates that are replaced while the gateway runs.

use std::os::unix::fs::symlink;
use std::path::Path;

use cratehouse_tests::authority::Authority;
use cratehouse_tests::client::Client;
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::Krate;
use cratehouse_tests::patience::until;
use cratehouse_tests::upstream::{Answer, Upstream};
use reqwest::Method;

/// Puts a pair into a folder as Kubernetes mounts a secret: files that are links into `..data`,
/// which is itself a link to the folder of the day, and is swapped for another one.
fn mount(folder: &Path, day: &str, cert: &str, key: &str) {
    let of_the_day = folder.join(day);
    std::fs::create_dir(&of_the_day).unwrap();
    for (name, text) in [("cert.pem", cert), ("cert.key", key)] {
        std::fs::write(of_the_day.join(name), text).unwrap();
        let _ = std::fs::remove_file(folder.join(name));
        symlink(Path::new("..data").join(name), folder.join(name)).unwrap();
    }
    symlink(day, folder.join("..data_tmp")).unwrap();
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}

/// A client that trusts one authority, and no connection yet.
fn trusting(authority: &Authority, gateway: &Gateway) -> Client {
    Client::new(&gateway.url(), Some(authority.ca.as_bytes()))
}

fn is_served(client: &Client) -> bool {
    let reply = client.try_send(Method::GET, "/index/config.json", &[], None);
    reply.is_ok_and(|reply| reply.status == 200)
}

#[test]
fn a_new_certificate_serves_new_clients_and_interrupts_nobody() {
    let (old, new) = (Authority::new(), Authority::new());
    let upstream = Upstream::with(&[Krate::new("foo", "1.0.0")]);
    upstream.set(|s| s.krate = Answer::Hold);
    let builder = Gateway::builder().certificate(&old).set("tls", "reload_seconds = 1");
    let mut gateway = builder.upstream(&upstream).prepare();
    mount(gateway.folder(), "..1", &old.cert, &old.key);
    gateway.start_again();
    let before = trusting(&old, &gateway);
    assert!(is_served(&before) && !is_served(&trusting(&new, &gateway)));
    let ends = gateway.metric("cratehouse_tls_certificate_not_after_timestamp_seconds", &[]);
    assert!(ends > 0.0);
    let asker = {
        let before = before.clone();
        std::thread::spawn(move || before.download("foo", "1.0.0").status)
    };
    until("the upstream is asked", || upstream.download_count() == 1);

    mount(gateway.folder(), "..2", &new.cert, &new.key);
    until("the new one is shown", || is_served(&trusting(&new, &gateway)));
    assert!(!is_served(&trusting(&old, &gateway)));
    // Whoever trusts the old one alone can have no other connection than that before.
    assert!(is_served(&before));
    upstream.set(|s| s.krate = Answer::Normal);
    assert_eq!(asker.join().unwrap(), 200);
    assert_eq!(gateway.metric("cratehouse_tls_reloads_total", &[]), 1.0);
    assert_eq!(gateway.metric("cratehouse_tls_certificate_broken", &[]), 0.0);
    assert!(gateway.log_contains("the certificate was replaced"), "{}", gateway.log());
}

#[test]
fn a_broken_pair_is_not_taken_and_said_once() {
    let (old, new) = (Authority::new(), Authority::new());
    let builder = Gateway::builder().certificate(&old).set("tls", "reload_seconds = 1");
    let gateway = builder.start();
    let (cert, key) = (gateway.folder().join("cert.pem"), gateway.folder().join("cert.key"));
    let broken = || gateway.metric("cratehouse_tls_certificate_broken", &[]);
    std::fs::write(&cert, &new.cert).unwrap();
    until("it is noticed", || broken() == 1.0);
    assert!(is_served(&trusting(&old, &gateway)));
    std::fs::write(&key, &new.key).unwrap();
    until("it is mended", || broken() == 0.0);
    assert!(is_served(&trusting(&new, &gateway)));
    let log = gateway.log();
    assert_eq!(log.matches("does not belong to the certificate").count(), 1, "{log}");
}
