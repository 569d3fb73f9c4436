//! Plain http at a port that speaks TLS: a common slip, which TLS answers with an alert that says nothing
//! to anybody.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::traffic::Counted;
use crate::http::response::respond;

/// What is read of such a request, in bytes: with what is unread the answer would be lost.
const READ_BYTES: usize = 64 * 1024;
/// Such a client has said all when it is silent for so long.
const SILENCE: Duration = Duration::from_millis(500);

/// Whether the client begins as HTTP does, with a method in capitals. A TLS client begins with a record
/// of a handshake, which is byte 22 (RFC 8446 §5.1).
///
/// # Errors
/// Those of the socket.
pub(super) async fn is_spoken(stream: &Counted) -> io::Result<bool> {
    let mut first = [0];
    Ok(stream.peek(&mut first).await? == 1 && first.iter().all(u8::is_ascii_uppercase))
}

/// Answers it with our URL, and ends the conversation.
///
/// # Errors
/// Those of the socket.
pub(super) async fn answer(mut stream: Counted, url: &str) -> io::Result<()> {
    stream.write_all(respond::to_plain_http(url).as_bytes()).await?;
    stream.shutdown().await?;
    let (mut scrap, mut seen) = ([0; 1024], 0);
    while let Ok(Ok(read @ 1..)) = timeout(SILENCE, stream.read(&mut scrap)).await {
        seen += read;
        if seen > READ_BYTES {
            break;
        }
    }
    Ok(())
}
