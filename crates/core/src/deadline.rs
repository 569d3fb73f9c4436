//! How long one request may wait for us in all. Each wait has its own bound; together they would be
//! longer than cargo waits, and a change would be done after its client has given up.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// All waits of one request, without those for its client. Cargo gives up after 30 s without progress
/// (cargo: `http.timeout`).
pub const ALL_WAITS: Duration = Duration::from_secs(27);

tokio::task_local! {
    static BEGAN: Cell<Instant>;
}

/// Does a request's work; what it waits for counts from `began`. Work that it leaves to other tasks is
/// not bounded by this.
pub async fn of_request<T>(began: Instant, work: impl Future<Output = T>) -> T {
    BEGAN.scope(Cell::new(began), work).await
}

/// What a wait may take that may take so long by itself: no more than the request has left. One that is
/// longer by itself than all waits together (an operator wants it so) only counts what has passed.
pub fn at_most(wait: Duration) -> Duration {
    let left = BEGAN.try_with(|began| wait.max(ALL_WAITS).saturating_sub(began.get().elapsed()));
    left.map_or(wait, |left| left.min(wait))
}

/// Does not count a time in which the client was waited for: it sees progress of its own.
pub fn excuse(time: Duration) {
    let _ = BEGAN.try_with(|began| began.set(began.get() + time));
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_of_one_request_share_what_it_has() {
        let [ten, twenty] = [10, 20].map(Duration::from_secs);
        let began = Instant::now();
        assert_eq!(at_most(twenty), twenty, "our own work");
        of_request(began, async {
            sleep(ten).await;
            assert_eq!(at_most(ten), ten);
            sleep(ten).await;
            assert_eq!(at_most(ten), ALL_WAITS - twenty);
            sleep(ten).await;
            excuse(ten); // its body came
            assert_eq!(at_most(ten), ALL_WAITS - twenty);
            assert_eq!(at_most(ALL_WAITS + ten), ALL_WAITS + ten - twenty);
            sleep(ten).await;
            assert_eq!(at_most(ten), Duration::ZERO);
        })
        .await;
    }
}
