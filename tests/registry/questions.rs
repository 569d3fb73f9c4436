//! Questions that need a look at the journal, from clients that show no token that counts: they stand
//! before nobody else's changes, and fill no log.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::Krate;
use cratehouse_tests::patience::until;

/// A sixteenth of the default.
const QUEUE: &str = "append_queue = 64";
const ASKERS: usize = 256;
const PUBLISHES: usize = 16;

#[test]
fn questions_of_strangers_take_no_place_from_publishes() {
    let gateway = Gateway::builder()
        .set("limits", QUEUE)
        .set("limits", "journal_waits = 32")
        .set("limits", "failed_credentials = 1000000")
        .start();
    let alice = gateway.token("alice");
    let reader = gateway.token_with("bob", &["--scope", "read,yank"]);
    let over = AtomicBool::new(false);
    let (unknown, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for n in 0..ASKERS {
            let (client, over, unknown, refused) = (gateway.client(), &over, &unknown, &refused);
            let reader = &reader;
            scope.spawn(move || {
                let kinds =
                    ["/api/v1/crates/absent/owners", "/api/v1/crates/absent/1.0.0/download"];
                while !over.load(Ordering::Relaxed) {
                    let reply = match n % 4 {
                        0 => client.yank("foo", "1.0.0", "a-token-that-nobody-has"),
                        // A token that counts, and allows nothing of the kind.
                        3 => client.yank("absent", "1.0.0", reader),
                        kind => client.get(kinds[kind - 1]),
                    };
                    match reply.status {
                        503 => {
                            assert!(reply.header("retry-after").is_some(), "{reply}");
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                        401 | 403 | 404 => drop(unknown.fetch_add(1, Ordering::Relaxed)),
                        _ => panic!("{reply}"),
                    }
                }
            });
        }
        until("many ask", || {
            unknown.load(Ordering::Relaxed) + refused.load(Ordering::Relaxed) > 500
        });
        let statuses: Vec<_> = (0..PUBLISHES)
            .map(|n| {
                let (client, token) = (gateway.client(), &alice);
                scope.spawn(move || {
                    client.publish(&Krate::new("foo", &format!("1.0.{n}")), token).status
                })
            })
            .collect::<Vec<_>>()
            .into_iter()
            .map(|publish| publish.join().unwrap())
            .collect();
        over.store(true, Ordering::Relaxed);
        assert_eq!(statuses, [200; PUBLISHES]);
    });
    assert!(unknown.load(Ordering::Relaxed) > 0 && refused.load(Ordering::Relaxed) > 0);
    assert!(gateway.metric("cratehouse_journal_read_waits_refused_total", &[]) > 0.0);
    for who in ["authenticated", "unauthenticated"] {
        let waiting = || gateway.metric("cratehouse_journal_read_waiting", &[("who", who)]);
        until("nobody waits any more", || waiting() == 0.0);
    }
    let left_out =
        |kind| gateway.metric("cratehouse_log_lines_suppressed_total", &[("kind", kind)]);
    let suppressed = left_out("request_refused") + left_out("request_failed");
    assert!(suppressed > 0.0, "their lines are limited");
    assert!(gateway.log().lines().count() < 2000, "{}", gateway.log().lines().count());
}
