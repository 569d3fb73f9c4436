//! Asks the admin listener of the server of a configuration, on this machine.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use cratehouse_core::error::{Error, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For how long it waits for the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest answer that is read, in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// Where a server says whether it is ready.
pub const READY: &str = "/readyz";
/// Where it says whether it turns.
pub const LIVE: &str = "/livez";

/// Whether all is well, by the server that listens there, and what it says.
///
/// # Errors
/// When nobody answers.
pub async fn ask(listening: SocketAddr, path: &str) -> Result<(bool, String)> {
    let at = reachable(listening);
    let failed = |why: &dyn std::fmt::Display| {
        Error::unavailable(format!(
            "nothing answers at http://{at}{path} ({why}): is the server of this configuration running, on \
             this machine? The address is `server.admin_listen`"
        ))
    };
    let answer = match timeout(PATIENCE, get(at, path)).await {
        Ok(answer) => answer.map_err(|e| failed(&e))?,
        Err(_) => return Err(failed(&format_args!("within {} s", PATIENCE.as_secs()))),
    };
    let (is_good, body) =
        read(&answer).ok_or_else(|| failed(&"what answers there is not a Cratehouse"))?;
    Ok((is_good, body.to_owned()))
}

/// A server that listens on every address is asked on the loopback.
fn reachable(listening: SocketAddr) -> SocketAddr {
    let mut at = listening;
    if at.ip().is_unspecified() {
        at.set_ip(if at.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        });
    }
    at
}

async fn get(at: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(at).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_BYTES).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Whether an answer is a 200, and its body.
fn read(answer: &str) -> Option<(bool, &str)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?;
    matches!(status, "200" | "503").then_some((status == "200", body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_good_or_not_or_not_ours() {
        assert_eq!(read("HTTP/1.1 200 OK\r\nA: b\r\n\r\nstore ok\n"), Some((true, "store ok\n")));
        assert_eq!(read("HTTP/1.1 503 No\r\n\r\nno"), Some((false, "no")));
        for answer in
            ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 404 No\r\n\r\n", "SSH-2.0\r\n\r\n", "HTTP/1.1 é"]
        {
            assert_eq!(read(answer), None, "{answer}");
        }
    }

    #[test]
    fn every_address_is_asked_on_the_loopback() {
        for (listening, at) in [
            ("0.0.0.0:8444", "127.0.0.1:8444"),
            ("[::]:8444", "[::1]:8444"),
            ("10.0.0.1:1", "10.0.0.1:1"),
        ] {
            assert_eq!(reachable(listening.parse().unwrap()).to_string(), at);
        }
    }
}
