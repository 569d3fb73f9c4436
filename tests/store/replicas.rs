//! Several replicas over one bucket are one registry: whatever is killed, cut or raced for,
//! nothing that was answered is lost, and all of them show the same.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use cratehouse_tests::client::{Client, Reply};
use cratehouse_tests::fault_proxy::{Fault, FaultProxy};
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::http::Request;
use cratehouse_tests::krate::{Krate, sha256};
use cratehouse_tests::patience::{PATIENCE, eventually_within, until};
use cratehouse_tests::replicas::Replicas;
use cratehouse_tests::rgw::Rgw;
use reqwest::Method;

fn foo(version: &str) -> Krate {
    Krate::new("foo", version)
}

fn three() -> Replicas {
    let bucket = Rgw::shared().bucket();
    let way = bucket.endpoint.clone();
    Replicas::start(3, bucket, &way, |builder| builder)
}

#[test]
fn what_one_replica_answered_is_seen_in_all_and_what_it_revoked_is_refused_by_all() {
    let replicas = three();
    let first = &replicas.all[0];
    let clients: Vec<Client> = replicas.all.iter().map(Gateway::client).collect();
    let token = first.token("alice");
    // A token that this replica has never heard of is looked for in the journal.
    clients[1].publish(&foo("1.0.0"), &token).assert_status(200);
    clients[2].publish(&foo("1.1.0"), &token).assert_status(200);
    for client in &clients {
        until("both are seen", || {
            let reply = client.index("foo");
            reply.status == 200 && reply.lines().len() == 2
        });
        client.download("foo", "1.1.0").assert_status(200);
    }
    clients[0].yank("foo", "1.0.0", &token).assert_status(200);
    for client in &clients {
        until("the yank is seen", || client.index("foo").line("1.0.0")["yanked"] == true);
    }

    let root = first.token_with("root", &["--scope", "admin"]);
    let list = clients[0].get_as("/api/v1/admin/tokens", &root).assert_status(200).json();
    let reader = first.token_with("root", &["--scope", "admin", "--name", "reader"]);
    let reads = |client: &Client| client.get_as("/api/v1/admin/users", &reader).status;
    for client in &clients {
        until("the reader's token is known", || reads(client) == 200);
    }
    let alices = list.as_array().unwrap().iter().find(|t| t["user"] == "alice").unwrap();
    let readers = alices["id"].as_u64().unwrap() + 2; // root's own stands between
    for id in [alices["id"].as_u64().unwrap(), readers] {
        let path = format!("/api/v1/admin/tokens/{id}");
        clients[0].call(Method::DELETE, &path, None, &root).assert_status(200);
    }
    for (n, client) in clients.iter().enumerate() {
        // What appends is judged at the journal's end: at once, in every replica.
        let refused = client.publish(&foo(&format!("2.{n}.0")), &token);
        assert!([401, 403].contains(&refused.status), "{refused}");
        until("what only reads is refused too", || reads(client) == 401);
    }
    assert_eq!(clients[1].index("foo").lines().len(), 2);
}

/// A publish that somebody is about to try.
struct Job {
    krate: Krate,
    /// Which of the [`World`]'s tokens.
    user: usize,
    /// Yank it, where it was answered.
    yank: bool,
}

/// What one publisher in the end learnt about one job.
struct Outcome {
    job: Job,
    /// Some try was answered with a yes.
    answered: bool,
    /// Some try was not answered, so that a later no may be to its own success.
    doubted: bool,
}

struct World {
    rgw: Rgw,
    proxy: FaultProxy,
    replicas: Replicas,
    tokens: [String; 2],
    admin: String,
    outcomes: Vec<Outcome>,
    /// Tries that ended without a definite answer.
    unknown: AtomicUsize,
}

const PUBLISHERS: usize = 8;
const LOGINS: [&str; 2] = ["alice", "bob"];
/// Versions of a phase for which three publishers race, new names for which two users race,
/// and versions that only one wants: 100 publishes.
const CONTESTED: usize = 20;
const CONTESTED_NAMES: usize = 10;
const UNCONTESTED: usize = 20;
const CRATES: usize = 5;

impl World {
    fn new() -> Self {
        let rgw = Rgw::start();
        let proxy = FaultProxy::before(rgw.addr());
        let bucket = rgw.bucket();
        let replicas = Replicas::start(3, bucket, &proxy.origin(), |builder| {
            builder.set("limits", "append_seconds = 3")
        });
        let tokens = LOGINS.map(|login| replicas.all[0].token(login));
        let admin = replicas.all[0].token_with("root", &["--scope", "admin"]);
        let unknown = AtomicUsize::new(0);
        Self { rgw, proxy, replicas, tokens, admin, outcomes: Vec::new(), unknown }
    }

    /// Publishers at work while something is done to the world; returns when all have a
    /// definite answer for each of their jobs.
    fn phase(&mut self, nth: usize, disturb: impl FnOnce(&mut Disturbance<'_>)) {
        let jobs = Mutex::new(jobs(nth));
        let outcomes = Mutex::new(Vec::new());
        let (tokens, unknown) = (&self.tokens, &self.unknown);
        let before = unknown.load(Ordering::SeqCst);
        let done = AtomicUsize::new(0);
        let clients: Vec<_> = (0..PUBLISHERS).map(|_| self.replicas.client()).collect();
        let publish = |client: Client| {
            let next = || jobs.lock().unwrap().pop_front();
            while let Some(job) = next() {
                let (answered, doubted) = work(&client, &job, &tokens[job.user], unknown);
                outcomes.lock().unwrap().push(Outcome { job, answered, doubted });
                done.fetch_add(1, Ordering::SeqCst);
            }
        };
        thread::scope(|scope| {
            let publish = &publish;
            clients.into_iter().for_each(|client| drop(scope.spawn(move || publish(client))));
            let (rgw, proxy, replicas) = (&self.rgw, &self.proxy, &mut self.replicas.all);
            disturb(&mut Disturbance { rgw, proxy, replicas, done: &done, unknown });
        });
        self.proxy.heal();
        let unknown = self.unknown.load(Ordering::SeqCst) - before;
        println!("phase {nth}: {unknown} tries without a definite answer");
        self.outcomes.append(&mut outcomes.into_inner().unwrap());
    }
}

/// What there is to disturb, and how far the publishers are.
struct Disturbance<'a> {
    rgw: &'a Rgw,
    proxy: &'a FaultProxy,
    replicas: &'a mut Vec<Gateway>,
    done: &'a AtomicUsize,
    unknown: &'a AtomicUsize,
}

impl Disturbance<'_> {
    /// Waits until that many jobs of the phase are done.
    fn after(&self, jobs: usize) {
        let get_on = || (self.done.load(Ordering::SeqCst) >= jobs).then_some(());
        eventually_within(3 * PATIENCE, "the publishers get on", get_on);
    }

    /// SIGKILL, an empty disk, and a new start.
    fn replace(&mut self, nth: usize) {
        self.replicas[nth].kill();
        self.replicas[nth].wipe();
        self.replicas[nth].start_again_and_again();
    }

    /// The S3 server is killed, and started again when somebody has felt it.
    fn interrupt_the_store(&self) {
        let felt = self.unknown.load(Ordering::SeqCst);
        self.rgw.kill();
        until("the outage is felt", || self.unknown.load(Ordering::SeqCst) > felt);
        self.rgw.restart();
    }
}

/// The jobs of a phase. Those that race stand side by side, and so run at the same time.
fn jobs(phase: usize) -> VecDeque<Job> {
    let job = |name: String, version: String, user: usize, rival: usize| {
        let text = format!("pub const RIVAL: (usize, usize) = ({user}, {rival});");
        Job { krate: Krate::new(&name, &version).lib(&text), user, yank: false }
    };
    let mut jobs = VecDeque::new();
    for n in 0..CONTESTED {
        let name = format!("race-{}", n % CRATES);
        jobs.extend((0..3).map(|rival| job(name.clone(), format!("{phase}.{n}.0"), 0, rival)));
        if n < CONTESTED_NAMES {
            let name = format!("race-for-name-{phase}-{n}");
            jobs.extend((0..2).map(|user| job(name.clone(), "1.0.0".to_owned(), user, 0)));
        }
        if n < UNCONTESTED {
            let yank = n % 4 == 0;
            let alone = job(format!("race-{}", n % CRATES), format!("{phase}.{n}.1"), 0, 0);
            jobs.push_back(Job { yank, ..alone });
        }
    }
    jobs
}

/// Publishes until there is a definite answer, and says whether it was a yes, and whether there
/// were tries before it.
fn work(client: &Client, job: &Job, token: &str, unknown: &AtomicUsize) -> (bool, bool) {
    let body = job.krate.publish_body();
    let send = |method: Method, path: &str, body: Vec<u8>| {
        insist(client, method, path, token, body, unknown)
    };
    let (reply, tries) = send(Method::PUT, "/api/v1/crates/new", body);
    let answered = match (reply.status, reply.text()) {
        (200, _) => true,
        (400, text) if text.contains("already uploaded") => false,
        (403, text) if text.contains("only the owners") => false,
        _ => panic!("{}: {reply}", job.krate.root()),
    };
    if job.yank {
        let path = format!("/api/v1/crates/{}/{}/yank", job.krate.name, job.krate.version);
        send(Method::DELETE, &path, Vec::new()).0.assert_status(200);
    }
    (answered, tries > 1)
}

/// Sends a request until it gets a definite answer; how many tries that took.
fn insist(
    client: &Client,
    method: Method,
    path: &str,
    token: &str,
    body: Vec<u8>,
    unknown: &AtomicUsize,
) -> (Reply, usize) {
    let headers = [("authorization", token), ("accept", "application/json")];
    let mut tries = 0;
    // Longer than one wait: the store is away twice in some phases, and has to come back on a busy machine.
    let reply = eventually_within(3 * PATIENCE, "a definite answer", || {
        tries += 1;
        let sent = client.try_send(method.clone(), path, &headers, Some(body.clone()));
        let definite = sent.ok().filter(|reply| reply.status < 500);
        unknown.fetch_add(usize::from(definite.is_none()), Ordering::SeqCst);
        definite
    });
    (reply, tries)
}

fn is_an_entry(request: &Request) -> bool {
    request.method == "PUT" && request.path.contains("/journal/")
}

/// These befall entries in turn, with a few that are let through.
fn in_turn(faults: &'static [Option<Fault>]) -> impl Fn(&Request) -> Option<Fault> {
    let turn = AtomicUsize::new(0);
    move |request| match is_an_entry(request) {
        true => faults[turn.fetch_add(1, Ordering::SeqCst) % faults.len()],
        false => None,
    }
}

/// Every so manieth request is cut off, whatever it is.
fn cuts(every: usize) -> impl Fn() -> Option<Fault> {
    let turn = AtomicUsize::new(0);
    move || turn.fetch_add(1, Ordering::SeqCst).is_multiple_of(every).then_some(Fault::Cut)
}

const APPLIED: &[Option<Fault>] =
    &[Some(Fault::LoseReply), None, Some(Fault::ApplyAndAnswer(500)), None];
const NOT_APPLIED: &[Option<Fault>] =
    &[Some(Fault::Refuse(409)), None, Some(Fault::Refuse(503)), None, None];
const EITHER: &[Option<Fault>] =
    &[Some(Fault::LoseReply), None, Some(Fault::Refuse(409)), None, None, Some(Fault::Cut), None];

#[test]
fn races_kills_outages_and_lost_replies_lose_nothing_and_leave_all_replicas_equal() {
    let mut world = World::new();
    world.phase(1, |world| {
        // Time for the others to put theirs at the same number.
        let slow = Fault::Delay(Duration::from_millis(20));
        world.proxy.plan(move |request| is_an_entry(request).then_some(slow));
    });
    let retries = |one: &Gateway| one.metric("cratehouse_journal_append_retries_total", &[]);
    let lost: f64 = world.replicas.all.iter().map(retries).sum();
    assert!(lost > 10.0, "{lost} races for a number were lost");
    world.phase(2, |world| world.proxy.plan(in_turn(APPLIED)));
    world.phase(3, |world| {
        let (entries, cut) = (in_turn(NOT_APPLIED), cuts(12));
        world.proxy.plan(move |request| entries(request).or_else(&cut));
    });
    world.phase(4, |world| {
        for nth in 0..3 {
            world.after(20 * nth + 5);
            world.replace(nth);
        }
    });
    world.phase(5, |world| {
        for nth in 0..2 {
            world.after(30 * nth + 10);
            world.interrupt_the_store();
        }
    });
    world.phase(6, |world| {
        world.proxy.plan(in_turn(EITHER));
        world.after(10);
        world.replicas[0].kill();
        world.interrupt_the_store();
        world.replicas[0].wipe();
        world.replicas[0].start_again_and_again();
        world.after(40);
        world.replace(2);
    });
    assert!(world.proxy.faults() > 50, "{} faults", world.proxy.faults());
    assert!(world.unknown.load(Ordering::SeqCst) > 10);
    check(&world);
}

/// When a token was last used is no part of what replicas agree on: each has seen its own.
fn without_uses((etag, text): &(Option<String>, String)) -> (Option<String>, String) {
    let Ok(serde_json::Value::Array(mut rows)) = serde_json::from_str(text) else {
        return (etag.clone(), text.clone());
    };
    for row in &mut rows {
        row.as_object_mut().map(|row| row.remove("last_used"));
    }
    (etag.clone(), serde_json::Value::Array(rows).to_string())
}

/// What must hold afterwards.
fn check(world: &World) {
    world.replicas.settle();
    let verified = world.replicas.all[1].cli_ok(&["journal", "verify"]);
    println!("{verified}");
    let crates: BTreeSet<String> =
        world.outcomes.iter().map(|o| o.job.krate.name.clone()).collect();
    let shown = world.replicas.shown(&crates, &world.admin);
    for (nth, other) in shown.iter().enumerate().skip(1) {
        for (what, answer) in other {
            let (answer, first) = (without_uses(answer), without_uses(&shown[0][what]));
            assert_eq!(answer, first, "replica {nth} and replica 0 about {what}");
        }
    }
    let clients: Vec<_> = world.replicas.all.iter().map(Gateway::client).collect();
    let rivals = rivals(&world.outcomes);
    let answered = world.outcomes.iter().filter(|outcome| outcome.answered).count();
    println!(
        "{} publishes of {} versions, {answered} answered",
        world.outcomes.len(),
        rivals.len()
    );
    for ((name, version), rivals) in &rivals {
        let lines = clients[0].index(name).lines();
        let lines: Vec<_> = lines.iter().filter(|line| line["vers"] == **version).collect();
        let [line] = lines[..] else { panic!("{name}@{version} has {} lines", lines.len()) };
        let cksum = line["cksum"].as_str().unwrap();
        let winner = rivals.iter().find(|rival| rival.job.krate.cksum() == cksum);
        let winner = winner.unwrap_or_else(|| panic!("{name}@{version} is nobody's"));
        for rival in rivals.iter().filter(|rival| rival.answered) {
            assert_eq!(rival.job.krate.cksum(), cksum, "{name}@{version} was answered and is lost");
        }
        assert!(winner.answered || winner.doubted, "{name}@{version} was refused and is there");
        assert_eq!(line["yanked"], winner.job.yank, "{name}@{version}");
        for client in &clients {
            let bytes = client.download(name, version).assert_status(200).body;
            assert_eq!(sha256(&bytes), cksum, "{name}@{version}");
        }
        let owners = clients[0].get_as(&format!("/api/v1/crates/{name}/owners"), &world.admin);
        let owner = &owners.assert_status(200).json()["users"];
        assert_eq!(owner.as_array().unwrap().len(), 1, "{name}: {owner}");
        assert_eq!(owner[0]["login"], LOGINS[winner.job.user], "{name}");
    }
    let listed: usize = crates.iter().map(|name| clients[0].index(name).lines().len()).sum();
    assert_eq!(listed, rivals.len(), "nothing is there that nobody published");
}

/// By version, all who wanted it.
fn rivals(outcomes: &[Outcome]) -> BTreeMap<(&str, &str), Vec<&Outcome>> {
    let mut rivals = BTreeMap::<_, Vec<_>>::new();
    for outcome in outcomes {
        let krate = &outcome.job.krate;
        rivals.entry((&*krate.name, &*krate.version)).or_default().push(outcome);
    }
    rivals
}
