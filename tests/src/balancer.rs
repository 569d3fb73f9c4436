//! A balancer in front of several gateways, as dumb as they come: it hands each connection to
//! the next one that accepts it, and copies bytes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// A running balancer; it ends when it is dropped.
#[derive(Debug)]
pub struct Balancer {
    addr: SocketAddr,
    backends: Arc<Backends>,
    runtime: Option<Runtime>,
}

#[derive(Debug, Default)]
struct Backends {
    all: Mutex<Vec<SocketAddr>>,
    turn: AtomicUsize,
    /// What a backend hears before the client's own bytes.
    greeting: Mutex<Vec<u8>>,
}

impl Balancer {
    /// One on a free port of 127.0.0.1, over nothing yet.
    pub fn start() -> Self {
        let runtime = crate::http::runtime();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap();
        let backends = Arc::<Backends>::default();
        runtime.spawn(accept(listener, Arc::clone(&backends)));
        Self { addr, backends, runtime: Some(runtime) }
    }

    /// Also balances over this one.
    pub fn add(&self, backend: SocketAddr) {
        self.backends.all.lock().unwrap().push(backend);
    }

    /// From now on says this to a backend before it passes on what a client says.
    pub fn greet(&self, words: Vec<u8>) {
        *self.backends.greeting.lock().unwrap() = words;
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Backends {
    /// All, beginning with the one whose turn it is.
    fn in_turn(&self) -> Vec<SocketAddr> {
        let mut all = self.all.lock().unwrap().clone();
        if !all.is_empty() {
            let turn = self.turn.fetch_add(1, Ordering::SeqCst);
            let first = turn % all.len();
            all.rotate_left(first);
        }
        all
    }
}

async fn accept(listener: TcpListener, backends: Arc<Backends>) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(hand_over(client, Arc::clone(&backends)));
    }
}

/// With nobody alive, the connection is closed.
async fn hand_over(mut client: TcpStream, backends: Arc<Backends>) {
    for backend in backends.in_turn() {
        if let Ok(mut server) = TcpStream::connect(backend).await {
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let greeting = backends.greeting.lock().unwrap().clone();
            let _ = server.write_all(&greeting).await;
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use crate::http::{Action, Response, Server};
    use crate::upstream::closed_port_url;

    #[test]
    fn connections_go_round_and_a_dead_backend_is_skipped() {
        let named = |name: &'static str| {
            Server::start(move |_, _| Action::Answer(Response::ok(name.as_bytes())))
        };
        let (a, b) = (named("a"), named("b"));
        let balancer = Balancer::start();
        balancer.add(a.addr());
        let dead = closed_port_url();
        balancer.add(dead.split('/').nth(2).unwrap().parse().unwrap());
        balancer.add(b.addr());
        let url = format!("http://{}", balancer.addr());
        let ask = || Client::new(&url, None).get("/").text();
        let answers: Vec<_> = (0..6).map(|_| ask()).collect();
        assert_eq!(answers, ["a", "b", "b", "a", "b", "b"]);
    }
}
