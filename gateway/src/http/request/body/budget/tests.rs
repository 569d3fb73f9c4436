//! Who gets room, who waits for it, and for how long.

use futures_util::FutureExt as _;
use proptest::prelude::*;

use super::*;
use cratehouse_core::error::Kind;

const MIB: usize = 1 << 20;
const SIZES: Sizes = Sizes { whole: 64 * MIB, largest: 4 * MIB, share_percent: Some(25) };

fn budget(sizes: Sizes) -> BodyBudget {
    BodyBudget::new("publish", sizes, &Metrics::new().unwrap())
}

fn client(nth: u8) -> Owner {
    let address = std::net::IpAddr::from([203, 0, 113, nth]);
    Owner { client: ClientKey::of(address), token: None }
}

fn token(nth: u32) -> Owner {
    Owner { client: ClientKey::Exempt, token: Some(TokenId(nth)) }
}

/// A body of `bytes`, if there is room for it at once.
fn body(budget: &BodyBudget, owner: Owner, bytes: usize) -> Option<BodyPermit> {
    let mut permit = budget.reserve(owner);
    permit.grow(bytes).now_or_never()?.unwrap();
    Some(permit)
}

fn refusals(budget: &BodyBudget, reason: &str) -> u64 {
    budget.0.metrics.body_refusals.with_label_values(&["publish", reason]).get()
}

#[test]
fn bodies_take_what_has_arrived_and_nothing_before() {
    let budget = budget(SIZES);
    let promised: Vec<_> = (0..1000).map(|_| budget.reserve(client(1))).collect();
    assert_eq!(budget.taken(), 0);
    let large = body(&budget, client(2), 3 * MIB).unwrap();
    assert_eq!(budget.taken(), 3 * MIB);
    assert_eq!(budget.0.held.get(), 3 * MIB as i64);
    drop((promised, large));
    assert_eq!(budget.taken(), 0);
    let ledger = budget.0.lock();
    assert!(ledger.clients.is_empty() && ledger.tokens.is_empty(), "nothing is left");
}

#[tokio::test(start_paused = true)]
async fn one_client_or_token_takes_its_share_and_others_take_theirs() {
    for (owner, other, reason) in [(client(1), client(2), "address"), (token(1), token(2), "token")]
    {
        let budget = budget(SIZES);
        let mut held: Vec<_> = (0..20).map_while(|_| body(&budget, owner, MIB)).collect();
        assert!(budget.taken() <= 16 * MIB && held.len() >= 10, "{}", held.len());
        let refused = budget.reserve(owner).grow(MIB).await.unwrap_err();
        assert_eq!(refused.kind, Kind::Unavailable);
        assert_eq!(refusals(&budget, reason), 1);
        assert!(body(&budget, other, MIB).is_some(), "another one is not touched");
        let mut waiting = budget.reserve(owner);
        let (waited, ()) = tokio::join!(waiting.grow(MIB), async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            held.truncate(2);
        });
        assert_eq!(waited.unwrap().as_secs(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_exempt_is_bounded_by_the_whole_alone() {
    let budget = budget(SIZES);
    let exempt = Owner { client: ClientKey::Exempt, token: None };
    let held: Vec<_> = (0..100).map_while(|_| body(&budget, exempt, MIB)).collect();
    assert!(held.len() > 40 && budget.taken() <= 64 * MIB, "{}", held.len());
    assert!(budget.reserve(exempt).grow(MIB).await.is_err());
    assert_eq!(refusals(&budget, "memory"), 1);
}

#[tokio::test(start_paused = true)]
async fn small_bodies_pass_large_ones_that_wait() {
    let budget = budget(SIZES);
    let exempt = Owner { client: ClientKey::Exempt, token: None };
    let held: Vec<_> = (0..100).map_while(|_| body(&budget, exempt, MIB)).collect();
    let mut large = budget.reserve(exempt);
    let mut waiting = Box::pin(large.grow(MIB));
    assert!(waiting.as_mut().now_or_never().is_none());
    assert!(body(&budget, exempt, 100 * 1024).is_some());
    drop(held);
    assert!(waiting.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn bodies_that_are_half_there_all_come_to_an_end() {
    let budget = budget(Sizes { share_percent: Some(50), ..SIZES });
    let mut under_way = Vec::new();
    for nth in 0..40 {
        let owner = Owner { client: client(nth % 4).client, token: Some(TokenId(nth.into())) };
        let mut permit = budget.reserve(owner);
        under_way.push(async move {
            for _ in 0..16 {
                permit.grow(MIB / 4).await?;
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            Ok::<_, Error>(())
        });
    }
    // 160 MiB in a budget of 64, all of them at one pace.
    for outcome in futures_util::future::join_all(under_way).await {
        outcome.unwrap();
    }
    assert_eq!(budget.taken(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_waits_for_so_long_in_all_its_waits_together() {
    let budget = budget(SIZES);
    let held: Vec<_> = (0..20).map_while(|_| body(&budget, client(1), MIB)).collect();
    let begun = Instant::now();
    assert!(budget.reserve(client(1)).grow(MIB).await.is_err());
    assert!((ROOM_WAIT..ROOM_WAIT * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    drop(held);
    let ledger = budget.0.lock();
    assert_eq!((ledger.whole.waiting, ledger.whole.taken, ledger.whole.bodies), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn no_more_than_so_many_of_one_client_wait() {
    let budget = budget(SIZES);
    let _held: Vec<_> = (0..20).map_while(|_| body(&budget, client(1), MIB)).collect();
    let mut waiting = Vec::new();
    for _ in 0..MAX_WAITING / 4 {
        let mut permit = budget.reserve(client(1));
        let mut growing = Box::pin(async move { permit.grow(MIB).await });
        assert!(growing.as_mut().now_or_never().is_none());
        waiting.push(growing);
    }
    let begun = Instant::now();
    assert!(budget.reserve(client(1)).grow(MIB).await.is_err());
    assert_eq!(begun.elapsed(), Duration::ZERO, "at once");
    drop(waiting);
    assert_eq!(budget.0.lock().whole.waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn a_site_of_many_networks_leaves_half_of_the_whole() {
    let budget = budget(SIZES);
    let host = |nth: u16| Owner {
        client: ClientKey::of([0x2001, 0xdb8, 7, nth, 0, 0, 0, 1].into()),
        token: None,
    };
    let held: Vec<_> = (0..64).map_while(|nth| body(&budget, host(nth), MIB)).collect();
    let all: usize = held.iter().map(|permit| permit.bytes).sum();
    assert!((20 * MIB..=36 * MIB).contains(&all), "{all}");
    assert!(body(&budget, client(1), 8 * MIB).is_some());
    drop(held);
    assert!(budget.0.lock().clients.is_empty());
}

#[test]
fn a_share_holds_two_of_the_largest_bodies_at_the_least() {
    let budget = budget(Sizes { whole: 10 * MIB, largest: 4 * MIB, share_percent: Some(1) });
    assert!(body(&budget, client(1), 4 * MIB).is_some());
    let tiny = self::budget(Sizes { whole: 1, largest: 4 * MIB, share_percent: None });
    assert_eq!(tiny.0.sizes.whole, 8 * MIB);
    assert!(body(&tiny, client(1), 4 * MIB).is_some());
}

proptest! {
    /// Whatever comes and goes, the whole is never exceeded, and it all adds up.
    #[test]
    fn the_whole_is_never_exceeded(
        steps in prop::collection::vec((0u8..6, 0usize..4, 1usize..MIB, any::<bool>()), 1..200),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _inside = runtime.enter(); // for the timers of who waits
        let budget = budget(Sizes { whole: 12 * MIB, largest: 2 * MIB, share_percent: Some(50) });
        let mut permits: Vec<BodyPermit> = Vec::new();
        for (who, at, more, gone) in steps {
            if gone && !permits.is_empty() {
                permits.swap_remove(at % permits.len());
            } else if let Some(permit) = permits.get_mut(at) {
                let more = more.min(2 * MIB - permit.bytes);
                let _ = permit.grow(more).now_or_never();
            } else {
                let owner = Owner { client: client(who % 3).client, token: Some(TokenId(who.into())) };
                permits.push(budget.reserve(owner));
            }
            prop_assert!(budget.taken() <= 12 * MIB);
            prop_assert_eq!(budget.taken(), permits.iter().map(|permit| permit.bytes).sum::<usize>());
        }
    }
}
