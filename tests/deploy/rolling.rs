//! Replicas are replaced one after another, and one is killed, while the real cargo fetches and
//! publishes: no command fails that cargo itself tries again, and nothing that was published is lost. The short test is run with
//! all others; `tests/run --rolling` runs the long one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cratehouse_tests::cargo::{Cargo, Folder, Project, REGISTRY, Ran};
use cratehouse_tests::fleet::{Fleet, Replaced};
use cratehouse_tests::gateway::UpstreamConfig;
use cratehouse_tests::haproxy::Counted;
use cratehouse_tests::krate::{Krate, sha256};
use cratehouse_tests::patience::until;
use cratehouse_tests::upstream::Upstream;
use serde_json::Value;

/// How much is done.
struct Effort {
    /// Cargo processes at one time.
    workers: usize,
    /// How often each replica is replaced.
    rounds: usize,
    /// Commands that end between two disturbances.
    between: usize,
}

const SHORT: Effort = Effort { workers: 4, rounds: 1, between: 6 };
const LONG: Effort = Effort { workers: 8, rounds: 2, between: 60 };
/// Mirrored crates, and how large each file is in bytes.
const PUBLIC: usize = 12;
const PUBLIC_BYTES: usize = 40_000;
/// Hosted crates that everybody uses.
const HOUSE: usize = 3;

/// What a cargo command came to.
struct Did {
    kind: &'static str,
    took: Duration,
    ran: Ran,
}

impl Did {
    /// A publish whose connection broke while it was under way: cargo sends an upload once.
    fn was_cut(&self) -> bool {
        let said = &self.ran.stderr;
        let refused = said.contains("the remote server responded");
        !self.ran.ok && said.contains("error: failed to publish ") && !refused
    }

    /// Requests that cargo tried again.
    fn retries(&self) -> usize {
        self.ran.stderr.matches("spurious network error").count()
    }
}

/// A part of the run, as it was reported.
struct Part {
    did: Vec<Did>,
    counted: Counted,
}

struct Scene {
    fleet: Fleet,
    _upstream: Upstream,
    token: String,
    /// Each worker's newest version.
    newest: Vec<AtomicU32>,
    /// Versions whose publishing succeeded.
    published: Mutex<BTreeSet<(String, String)>>,
}

/// What there is to disturb, and how far the workers are.
struct Disturbance<'a> {
    fleet: &'a mut Fleet,
    done: &'a AtomicUsize,
    replaced: Vec<Replaced>,
}

impl Disturbance<'_> {
    /// Waits until that many more commands have ended.
    fn let_them_work(&self, commands: usize) {
        let begun = self.done.load(Ordering::SeqCst);
        for each in 1..=commands {
            until("cargo gets on", || self.done.load(Ordering::SeqCst) >= begun + each);
        }
    }

    fn replace(&mut self, nth: usize) {
        let replaced = self.fleet.replace(nth);
        self.replaced.push(replaced);
    }

    fn kill_and_renew(&mut self, nth: usize, between: usize) {
        self.fleet.kill(nth);
        self.let_them_work(between);
        let replaced = self.fleet.renew(nth, Duration::ZERO);
        self.replaced.push(replaced);
    }

    /// One step: the files are replaced, and every replica shows the new certificate.
    fn rotate_certificate(&mut self) {
        self.fleet.rotate_certificate();
        for nth in 0..self.fleet.replicas.len() {
            until("the new certificate is shown", || self.fleet.shows_newest_certificate(nth));
        }
    }
}

impl Scene {
    fn new(workers: usize) -> Self {
        let crates: Vec<_> = (0..PUBLIC).map(public).collect();
        let upstream = Upstream::with(&crates);
        let fleet = Fleet::start(|builder| {
            builder
                .upstream(UpstreamConfig::from(&upstream).fresh_seconds(5))
                .reserved(&["server-*", "worker-*"])
                .set("server", "unready_seconds = 2")
                .set("tls", "reload_seconds = 1")
        });
        let token = fleet.replicas[0].token("alice");
        let client = fleet.client();
        for n in 0..HOUSE {
            let krate = Krate::new(&format!("server-{n}"), "1.0.0").dep("public-0", "1");
            client.publish(&krate, &token).assert_status(200);
        }
        fleet.settle();
        let newest = (0..workers).map(|_| AtomicU32::new(0)).collect();
        Self { fleet, _upstream: upstream, token, newest, published: Mutex::default() }
    }

    /// Workers at work while something is done to the fleet; ends when each has ended the
    /// command that it was at.
    fn part(&mut self, disturb: impl FnOnce(&mut Disturbance<'_>)) -> (Part, Vec<Replaced>) {
        let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
        let (url, ca) = (self.fleet.index_url(), self.fleet.ca_path());
        let (did, before) = (Mutex::new(Vec::new()), self.fleet.haproxy.counted());
        let (token, newest, published) = (&self.token, &self.newest, &self.published);
        let worker = |nth: usize| {
            let own = Worker { nth, newest: &newest[nth], published };
            while !stop.load(Ordering::SeqCst) {
                for step in Step::ALL {
                    // A home of its own each time: nothing is there from before.
                    let cargo = Cargo::at(&url, &ca, &std::env::temp_dir()).token(token);
                    let ended = own.take(step, &cargo);
                    did.lock().unwrap().push(ended);
                    done.fetch_add(1, Ordering::SeqCst);
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                }
            }
        };
        let mut disturbance = Disturbance { fleet: &mut self.fleet, done: &done, replaced: vec![] };
        thread::scope(|scope| {
            let _stop = StopAtTheEnd(&stop);
            for nth in 0..newest.len() {
                let worker = &worker;
                scope.spawn(move || worker(nth));
            }
            disturb(&mut disturbance);
        });
        let replaced = disturbance.replaced;
        let counted = self.fleet.haproxy.counted().since(before);
        (Part { did: did.into_inner().unwrap(), counted }, replaced)
    }

    /// Every publish that was reported is there, once, on each replica, with its bytes.
    fn check(&self) {
        self.fleet.settle();
        let published = self.published.lock().unwrap();
        for replica in &self.fleet.replicas {
            let client = replica.client();
            for (name, version) in published.iter() {
                let lines = client.index(name).assert_status(200).lines();
                let same: Vec<_> = lines.iter().filter(|line| line["vers"] == **version).collect();
                let [line] = same[..] else { panic!("{name}@{version}: {} lines", same.len()) };
                let bytes = client.download(name, version).assert_status(200).body;
                assert_eq!(sha256(&bytes), line["cksum"], "{name}@{version}");
            }
        }
        let files = |of: &cratehouse_tests::gateway::Gateway| -> Vec<Vec<Value>> {
            let names: BTreeSet<_> = published.iter().map(|(name, _)| name).collect();
            names.into_iter().map(|name| of.client().index(name).lines()).collect()
        };
        let first = files(&self.fleet.replicas[0]);
        for replica in &self.fleet.replicas[1..] {
            assert_eq!(files(replica), first, "all replicas show the same");
        }
        self.fleet.replicas[0].cli_ok(&["journal", "verify"]);
        println!("{} publishes were reported, and all are there, on each replica", published.len());
    }
}

/// Ends the workers also when a test fails.
struct StopAtTheEnd<'a>(&'a AtomicBool);

impl Drop for StopAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// What a worker does in turn.
#[derive(Clone, Copy)]
enum Step {
    Publish,
    FetchOwn,
    FetchAll,
}

impl Step {
    const ALL: [Self; 3] = [Self::Publish, Self::FetchOwn, Self::FetchAll];
}

struct Worker<'a> {
    nth: usize,
    newest: &'a AtomicU32,
    published: &'a Mutex<BTreeSet<(String, String)>>,
}

impl Worker<'_> {
    fn name(&self) -> String {
        format!("worker-{}", self.nth)
    }

    fn version(&self) -> String {
        format!("1.0.{}", self.newest.load(Ordering::SeqCst))
    }

    /// What was published a turn ago. The newest may not have reached every replica: what one
    /// took, the others show when they have next read the journal (`limits.follow_ms`).
    fn earlier(&self) -> Option<String> {
        let published = self.published.lock().unwrap();
        let newest = self.newest.load(Ordering::SeqCst);
        let versions = (1..newest).rev().map(|n| format!("1.0.{n}"));
        versions.into_iter().find(|version| published.contains(&(self.name(), version.clone())))
    }

    /// One that was cut is sent again, as its user would: it is done by then, or can be done now.
    fn publish(&self, cargo: &Cargo) -> Did {
        self.newest.fetch_add(1, Ordering::SeqCst);
        let project = Project::new(&self.name()).version(&self.version());
        let project = project.ours("server-0", "1").dep("public-1", "1").write();
        let send = || run("publish", cargo, &project, &["--no-verify", "--registry", REGISTRY]);
        let did = send();
        if did.was_cut() {
            let again = send();
            assert!(again.ran.ok || again.ran.says("already"), "{}", again.ran);
        }
        if did.ran.ok || did.was_cut() {
            self.published.lock().unwrap().insert((self.name(), self.version()));
        }
        did
    }

    fn take(&self, step: Step, cargo: &Cargo) -> Did {
        match step {
            Step::Publish => self.publish(cargo),
            Step::FetchOwn => {
                let app = Project::new("app");
                let app = match self.earlier() {
                    Some(version) => app.ours(&self.name(), &format!("={version}")),
                    None => app.ours("server-0", "1"),
                };
                run("fetch", cargo, &app.write(), &[])
            }
            Step::FetchAll => {
                let public = (0..PUBLIC).map(|n| format!("public-{n}"));
                let app = public.fold(Project::new("app"), |app, name| app.dep(&name, "1"));
                let server = (0..HOUSE).map(|n| format!("server-{n}"));
                let app = server.fold(app, |app, name| app.ours(&name, "1"));
                run("fetch", cargo, &app.write(), &[])
            }
        }
    }
}

fn run(kind: &'static str, cargo: &Cargo, folder: &Folder, args: &[&str]) -> Did {
    let began = Instant::now();
    let ran = cargo.run(folder, &[&[kind], args].concat());
    Did { kind, took: began.elapsed(), ran }
}

fn public(n: usize) -> Krate {
    let krate = Krate::new(&format!("public-{n}"), "1.0.0").ballast(PUBLIC_BYTES);
    if n == 0 { krate } else { krate.dep("public-0", "1") }
}

impl Part {
    /// Prints what ran, and what failed.
    fn report(&self, what: &str) {
        let mut kinds = BTreeMap::<_, Vec<&Did>>::new();
        self.did.iter().for_each(|did| kinds.entry(did.kind).or_default().push(did));
        for (kind, did) in kinds {
            let mut took: Vec<_> = did.iter().map(|did| did.took.as_secs_f64()).collect();
            took.sort_by(f64::total_cmp);
            let failed = did.iter().filter(|did| !did.ran.ok).count();
            let retries: usize = did.iter().map(|did| did.retries()).sum();
            println!(
                "{what}: cargo {kind}: {} commands, {failed} failed, {retries} requests tried again; \
                 median {:.1} s, longest {:.1} s",
                did.len(),
                took[took.len() / 2],
                took[took.len() - 1]
            );
        }
        let Counted { sessions, retries, redispatches, refused, aborted } = self.counted;
        println!(
            "{what}: the balancer gave {sessions} connections, tried {retries} again, gave \
             {redispatches} to another, {refused} to nobody; {aborted} were broken off"
        );
        let cut = self.failed().filter(|did| did.was_cut()).count();
        println!("{what}: {cut} publishes were cut while they were under way");
        let retried = self.did.iter().flat_map(|did| did.ran.stderr.lines());
        for line in retried.filter(|line| line.contains("spurious network error")) {
            println!("{what}: {line}");
        }
        for did in self.failed() {
            println!("{what}: failed: {}", did.ran);
        }
    }

    fn failed(&self) -> impl Iterator<Item = &Did> {
        self.did.iter().filter(|did| !did.ran.ok)
    }
}

fn report_replaced(what: &str, replaced: &[Replaced]) {
    for Replaced { ending, starting, joining } in replaced {
        println!(
            "{what}: ended after {:.2} s, ready {:.2} s after its start, used {:.2} s later",
            ending.as_secs_f64(),
            starting.as_secs_f64(),
            joining.as_secs_f64()
        );
    }
}

fn replace_all_and_kill_one(effort: &Effort) {
    let mut scene = Scene::new(effort.workers);
    let (rolling, replaced) = scene.part(|world| {
        for round in 0..effort.rounds {
            for nth in 0..3 {
                world.let_them_work(effort.between);
                world.replace(nth);
            }
            if round == 0 {
                world.rotate_certificate();
            }
        }
        world.let_them_work(effort.between);
    });
    rolling.report("rolling");
    report_replaced("rolling", &replaced);
    let (killing, replaced) = scene.part(|world| {
        world.let_them_work(effort.between);
        world.kill_and_renew(1, effort.between);
        world.let_them_work(effort.between);
    });
    killing.report("killing");
    report_replaced("killing", &replaced);
    scene.check();
    assert_eq!(rolling.failed().count(), 0, "commands failed: see above");
    // Nobody can save an upload that the killed replica was just reading.
    assert_eq!(killing.failed().filter(|did| !did.was_cut()).count(), 0, "see above");
}

#[test]
fn no_cargo_command_fails_while_replicas_are_replaced_and_one_is_killed() {
    replace_all_and_kill_one(&SHORT);
}

#[test]
#[ignore = "takes minutes: `tests/run --rolling`"]
fn long_no_cargo_command_fails_while_replicas_are_replaced_twice_and_one_is_killed() {
    replace_all_and_kill_one(&LONG);
}
