//! The wish to look again at once at what is looked at now and then anyway: an operator's SIGHUP.

use tokio::sync::watch;

/// Passes the wish on.
#[derive(Debug)]
pub struct Rereader(watch::Sender<()>);

/// Hears it. A wish while nobody listens is heard by the next who does.
#[derive(Debug, Clone)]
pub struct Reread(watch::Receiver<()>);

/// Both ends.
pub fn reread() -> (Rereader, Reread) {
    let (send, receive) = watch::channel(());
    (Rereader(send), Reread(receive))
}

impl Rereader {
    /// Everything is to be read again.
    pub fn ask(&self) {
        self.0.send_replace(());
    }
}

impl Reread {
    /// One that nobody asks for.
    pub fn never() -> Self {
        reread().1
    }

    /// Waits until somebody asks; for ever where nobody can any more.
    pub async fn asked(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wish_is_heard_once_by_each_also_by_who_listens_later() {
        let (rereader, mut heard) = reread();
        let mut other = heard.clone();
        rereader.ask();
        heard.asked().await;
        other.asked().await;
        let again = tokio::time::timeout(Duration::from_secs(1), heard.asked()).await;
        assert!(again.is_err());
        drop(rereader);
        assert!(tokio::time::timeout(Duration::from_secs(1), heard.asked()).await.is_err());
    }
}
