//! A forward proxy, as companies have one between themselves and the world: it alone knows
//! where the names that it serves are.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write, copy};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A running proxy; its thread ends with the test process.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

type Places = BTreeMap<String, SocketAddr>;

impl Proxy {
    /// One that leads to these places, each known by `host:port`, and to no other.
    pub fn start(places: &[(&str, SocketAddr)]) -> Self {
        let places: Places = places.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self { addr: listener.local_addr().unwrap(), asked: Arc::default() };
        let (places, asked) = (Arc::new(places), Arc::clone(&proxy.asked));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (places, asked) = (Arc::clone(&places), Arc::clone(&asked));
                thread::spawn(move || serve(client, &places, &asked));
            }
        });
        proxy
    }

    /// Its URL, for `HTTPS_PROXY` and the like.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The request lines that came, such as `CONNECT crates.example:443 HTTP/1.1`; of a
    /// connection that is kept, the first.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Whatever fails on the way ends the connection, which is all that a client is to see.
fn serve(client: TcpStream, places: &Places, asked: &Mutex<Vec<String>>) -> Option<()> {
    let mut from_client = BufReader::new(client.try_clone().ok()?);
    let head = head(&mut from_client)?;
    let line = head.lines().next()?.to_owned();
    let mut words = line.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let tunnel = method == "CONNECT";
    let place = target.strip_prefix("http://").unwrap_or(target).split('/').next()?;
    let place = if place.contains(':') { place } else { &format!("{place}:80") };
    asked.lock().unwrap().push(line.clone());
    let mut to_client = client;
    let Some(at) = places.get(place) else {
        return to_client.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").ok();
    };
    let mut server = TcpStream::connect(at).ok()?;
    match tunnel {
        true => to_client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?,
        false => server.write_all(head.as_bytes()).ok()?,
    }
    let mut from_server = server.try_clone().ok()?;
    let back = thread::spawn(move || pump(&mut from_server, &mut to_client));
    pump(&mut from_client, &mut server);
    back.join().ok()
}

/// A request's head, its empty line included.
fn head(from: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        (from.read_line(&mut head).ok()? > 0).then_some(())?;
    }
    Some(head)
}

fn pump(from: &mut impl Read, to: &mut TcpStream) {
    let _ = copy(from, to); // a broken connection is an end like any other
    let _ = to.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Action, Response, Server};

    #[test]
    fn it_leads_to_the_places_that_it_knows_and_to_no_other() {
        let server = Server::start(|_, _| Action::Answer(Response::ok("here")));
        let proxy = Proxy::start(&[("known.example:80", server.addr())]);
        let through = reqwest::Proxy::all(proxy.url()).unwrap();
        let client = reqwest::blocking::Client::builder().proxy(through).build().unwrap();
        let get = |url: &str| client.get(url).send().unwrap();
        assert_eq!(get("http://known.example:80/a").text().unwrap(), "here");
        assert_eq!(server.count("/a"), 1);
        assert_eq!(get("http://other.example/").status(), 502);
        assert_eq!(proxy.asked().len(), 2, "{:?}", proxy.asked());
    }
}
