//! A folder store whose disk is full, or mounted read-only, and what the mirror leaves free of it. On
//! real file systems, so these tests mount some: they run as root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::Krate;
use cratehouse_tests::patience::{PATIENCE, until};
use cratehouse_tests::upstream::Upstream;

/// A small disk, until it is dropped.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    fn mount(mib: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = Self { folder };
        let size = format!("size={mib}m,mode=700");
        disk.run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs"]);
        disk
    }

    fn run(&self, program: &str, args: &[&str]) {
        let status = Command::new(program).args(args).arg(self.path()).status().unwrap();
        assert!(status.success(), "{program} {args:?}: {status}: run this test as root");
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut size = 1 << 20;
        let mut all = Vec::new();
        while size >= 1024 {
            all.resize(all.len() + size, b'x');
            if fs::write(self.ballast(size, all.len()), vec![b'x'; size]).is_err() {
                size /= 2;
            }
        }
    }

    fn ballast(&self, size: usize, nth: usize) -> PathBuf {
        let folder = self.path().join("ballast");
        fs::create_dir_all(&folder).unwrap();
        folder.join(format!("{size}-{nth}"))
    }

    /// Files of the store below a folder of it.
    fn stored(&self, below: &str) -> usize {
        fn count(folder: &Path) -> usize {
            let entries = fs::read_dir(folder).into_iter().flatten().map(Result::unwrap);
            entries.map(|e| if e.path().is_dir() { count(&e.path()) } else { 1 }).sum()
        }
        count(&self.path().join("store").join(below))
    }

    fn make_room(&self) {
        fs::remove_dir_all(self.path().join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// A gateway whose store is on this disk, with `foo`, and alice's token.
fn server(disk: &Disk) -> (Gateway, String) {
    let url = format!("url = \"file://{}\"", disk.path().join("store").display());
    let gateway = Gateway::builder().set("store", &url).start();
    let token = gateway.token("alice");
    gateway.client().publish(&Krate::new("foo", "1.0.0"), &token).assert_status(200);
    (gateway, token)
}

/// All that is said of a store that takes nothing, and what goes on all the same.
fn is_named(gateway: &Gateway, token: &str, reason: &str, words: &str) {
    let client = gateway.client();
    client.publish(&Krate::new("foo", "1.1.0"), token).assert_refused(503, words);
    client.yank("foo", "1.0.0", token).assert_refused(503, words);
    let began = Instant::now();
    let output = gateway.cli(&["user", "add", "bob"]);
    assert!(began.elapsed() < PATIENCE, "a command ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(words), "{said}");

    let refuses = [("reason", reason)];
    assert_eq!(gateway.metric("cratehouse_store_refuses_writes", &refuses), 1.0);
    let alarm = [("alarm", "store_unwritable")];
    assert_eq!(gateway.metric("cratehouse_alarms_total", &alarm), 1.0);
    let ready = gateway.admin().get("/readyz").assert_status(200).text();
    let line = ready.lines().find(|line| line.starts_with("store: ")).unwrap();
    assert!(line.contains("nothing can be published") && line.contains(words), "{ready}");
    client.index("foo").assert_status(200);
    client.download("foo", "1.0.0").assert_status(200);
    assert!(gateway.cli_ok(&["user", "list"]).contains("alice"));
}

/// It recovers by itself, also when nobody writes anything.
fn recovers(disk: &Disk, gateway: &Gateway, token: &str) {
    until("the alarm ends", || gateway.metric("cratehouse_store_refuses_writes", &[]) == 0.0);
    let ready = gateway.admin().get("/readyz").assert_status(200).text();
    assert!(ready.contains("store: ok\n"), "{ready}");
    gateway.client().publish(&Krate::new("foo", "1.1.0"), token).assert_status(200);
    assert_eq!(gateway.client().index("foo").lines().len(), 2);
    assert!(!gateway.cli_ok(&["user", "list"]).contains("bob"), "what was refused is not done");
    gateway.cli_ok(&["journal", "verify"]);
    until("no probe is left", || disk.stored("selftest") == 0);
    assert!(disk.stored("journal") > 0);
}

#[test]
fn a_full_disk_is_named_everywhere_and_over_when_there_is_room() {
    let disk = Disk::mount(8);
    let (gateway, token) = server(&disk);
    until("its size is known", || gateway.metric("cratehouse_store_disk_bytes", &[]) > 0.0);
    disk.fill();
    is_named(&gateway, &token, "full", "is full");
    disk.make_room();
    recovers(&disk, &gateway, &token);
}

#[test]
fn a_disk_that_became_read_only_is_named_everywhere_and_over_when_it_is_mended() {
    let disk = Disk::mount(8);
    let (gateway, token) = server(&disk);
    disk.run("mount", &["-o", "remount,ro"]);
    is_named(&gateway, &token, "read_only", "read-only");
    disk.run("mount", &["-o", "remount,rw"]);
    recovers(&disk, &gateway, &token);
}

#[test]
fn a_start_on_a_full_disk_says_so_and_waits_for_room() {
    let disk = Disk::mount(8);
    let (mut gateway, _) = server(&disk);
    assert!(gateway.stop().success());
    disk.fill();
    gateway.spawn();
    let ready = || gateway.admin().try_send(reqwest::Method::GET, "/readyz", &[], None);
    until("it says why it waits", || ready().is_ok_and(|reply| reply.text().contains("is full")));
    let refuses = [("reason", "full")];
    assert_eq!(gateway.metric("cratehouse_store_refuses_writes", &refuses), 1.0);
    disk.make_room();
    gateway.await_ready();
    assert_eq!(gateway.metric("cratehouse_store_refuses_writes", &[]), 0.0);
    gateway.client().download("foo", "1.0.0").assert_status(200);
}

#[test]
fn where_nobody_set_a_bound_the_mirror_leaves_a_fifth_of_the_disk_free() {
    const CRATES: u32 = 8;
    let krate = |n: u32| Krate::new(&format!("crate-{n}"), "1.0.0").ballast(2 << 20);
    let crates: Vec<_> = (0..CRATES).map(krate).collect();
    let upstream = Upstream::with(&crates);
    let disk = Disk::mount(20);
    let url = format!("url = \"file://{}\"", disk.path().join("store").display());
    let mut gateway = Gateway::builder().set("store", &url).upstream(&upstream).start();
    assert!(
        gateway.log_contains("4 MiB of the store's disk (20 MiB) stay free"),
        "{}",
        gateway.log()
    );
    for n in 0..CRATES {
        gateway.client().download(&format!("crate-{n}"), "1.0.0").assert_status(200);
    }
    until("all are kept", || disk.stored("blobs/mirror") == CRATES as usize);
    // Room for the mirror is looked at when a server starts, and each minute.
    assert!(gateway.stop().success());
    fs::write(disk.ballast(1, 1), vec![b'x'; 3 << 20]).unwrap();
    gateway.start_again();
    until("some are given up", || gateway.metric("cratehouse_mirror_evictions_total", &[]) > 0.0);
    until("enough is free", || {
        gateway.metric("cratehouse_store_disk_free_bytes", &[]) >= (4 << 20) as f64
    });
    assert!(gateway.metric("cratehouse_mirror_blobs", &[]) > 0.0, "not all of them");
    let token = gateway.token("alice");
    gateway.client().publish(&Krate::new("own", "1.0.0"), &token).assert_status(200);
}
