//! What a balancer says of its client before the client's own first byte: the PROXY protocol,
//! version 2 ("The PROXY protocol", section 2.2, of HAProxy's documentation). Sixteen bytes,
//! then addresses, then extensions (TLVs), which mean nothing here.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What such a header begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version and command, family, length.
const HEAD_BYTES: usize = 16;
/// Addresses and extensions, in bytes; extensions may hold a client's certificate.
const REST_BYTES: u16 = 8 * 1024;

/// Who speaks on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Introduced {
    /// The client with this address.
    Client(SocketAddr),
    /// The balancer itself, for a health check, or for a client that it cannot name.
    Itself,
    /// Nobody: it was closed before the first byte, as simple health checks do.
    Nobody,
}

/// Why a connection is not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// No header at all.
    #[error("it does not begin with a PROXY header of version 2")]
    Absent,
    /// One that the protocol does not know.
    #[error("its PROXY header is malformed")]
    Malformed,
    /// One that is larger than it may be.
    #[error("its PROXY header is too large: {0} bytes")]
    TooLarge(u16),
    /// It broke off.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What the first sixteen bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    family: Family,
    rest: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
    /// None that has an IP address, or of no interest.
    Other,
}

/// Reads a header, and not a byte more. The caller bounds the time.
///
/// # Errors
/// What is not such a header, or breaks off.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Introduced, Refused> {
    let mut head = [0; HEAD_BYTES];
    if stream.read_exact(&mut head[..1]).await.is_err() {
        return Ok(Introduced::Nobody);
    }
    stream.read_exact(&mut head[1..]).await?;
    let head = Head::parse(head)?;
    let mut rest = vec![0; usize::from(head.rest)];
    stream.read_exact(&mut rest).await?;
    head.client(&rest)
}

impl Head {
    fn parse(bytes: [u8; HEAD_BYTES]) -> Result<Self, Refused> {
        let [signature @ .., version_and_command, family, high, low] = bytes;
        if signature != SIGNATURE {
            return Err(Refused::Absent);
        }
        let family = match (version_and_command, family) {
            (0x20, _) => Family::Other, // LOCAL: whatever stands there is to be passed over
            (0x21, 0x11) => Family::V4, // PROXY, TCP over IPv4
            (0x21, 0x21) => Family::V6,
            (0x21, 0x00 | 0x31) => Family::Other, // unspecified; a Unix socket
            _ => return Err(Refused::Malformed),
        };
        match u16::from_be_bytes([high, low]) {
            rest if rest > REST_BYTES => Err(Refused::TooLarge(rest)),
            rest => Ok(Self { family, rest }),
        }
    }

    /// Source address, destination address, source port, destination port.
    fn client(self, rest: &[u8]) -> Result<Introduced, Refused> {
        let (address, port) = match self.family {
            Family::Other => return Ok(Introduced::Itself),
            Family::V4 => {
                let address = rest.first_chunk::<4>().map(|a| IpAddr::V4(Ipv4Addr::from(*a)));
                (address, rest.get(8..12))
            }
            Family::V6 => {
                let address = rest.first_chunk::<16>().map(|a| IpAddr::V6(Ipv6Addr::from(*a)));
                (address, rest.get(32..36))
            }
        };
        match (address, port) {
            (Some(address), Some(&[high, low, _, _])) => {
                let port = u16::from_be_bytes([high, low]);
                Ok(Introduced::Client(SocketAddr::new(address.to_canonical(), port)))
            }
            _ => Err(Refused::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE.as_slice(), &[command, family], &length, rest].concat()
    }

    /// What is read, and what is left to the next reader.
    async fn told(mut bytes: &[u8]) -> (Result<Introduced, Refused>, &[u8]) {
        let told = read(&mut bytes).await;
        (told, bytes)
    }

    async fn refused(bytes: &[u8]) -> String {
        told(bytes).await.0.unwrap_err().to_string()
    }

    const V4: [u8; 12] = [203, 0, 113, 7, 10, 0, 0, 1, 0x12, 0x34, 0x01, 0xbb];

    #[tokio::test]
    async fn a_client_is_named_and_what_it_says_itself_is_left() {
        let client = |text: &str| Introduced::Client(text.parse().unwrap());
        let bytes = [header(0x21, 0x11, &V4), b"hello".to_vec()].concat();
        let (got, left) = told(&bytes).await;
        assert_eq!((got.unwrap(), left), (client("203.0.113.7:4660"), b"hello".as_slice()));

        let extended = [V4.as_slice(), &[4, 0, 2, 0, 0]].concat();
        let bytes = [header(0x21, 0x11, &extended), b"hello".to_vec()].concat();
        let (got, left) = told(&bytes).await;
        assert_eq!((got.unwrap(), left), (client("203.0.113.7:4660"), b"hello".as_slice()));

        let source: Ipv6Addr = "2001:db8::7".parse().unwrap();
        let v6 = [source.octets().as_slice(), &[0; 16], &[0, 80, 1, 0xbb]].concat();
        assert_eq!(told(&header(0x21, 0x21, &v6)).await.0.unwrap(), client("[2001:db8::7]:80"));
        let mapped: Ipv6Addr = "::ffff:192.0.2.1".parse().unwrap();
        let v6 = [mapped.octets().as_slice(), &[0; 16], &[0, 80, 1, 0xbb]].concat();
        assert_eq!(told(&header(0x21, 0x21, &v6)).await.0.unwrap(), client("192.0.2.1:80"));
    }

    #[tokio::test]
    async fn health_checks_are_the_balancers_own() {
        for header in [
            header(0x20, 0x00, &[]),
            header(0x20, 0x11, &V4),
            header(0x20, 0x77, &[1, 2, 3]),
            header(0x21, 0x00, &[]),
            header(0x21, 0x31, &[0; 216]),
        ] {
            let (got, left) = told(&header).await;
            assert_eq!((got.unwrap(), left), (Introduced::Itself, [].as_slice()));
        }
        assert_eq!(told(&[]).await.0.unwrap(), Introduced::Nobody);
    }

    #[tokio::test]
    async fn everything_else_is_refused() {
        let other = refused(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(other.contains("does not begin"), "{other}");
        let older = refused(b"PROXY TCP4 203.0.113.7 10.0.0.1 4660 443\r\n").await;
        assert!(older.contains("does not begin"), "{older}");
        for malformed in [
            header(0x11, 0x11, &V4),
            header(0x22, 0x11, &V4),
            header(0x21, 0x12, &V4),
            header(0x21, 0x11, &V4[..11]),
            header(0x21, 0x21, &[0; 35]),
        ] {
            let why = refused(&malformed).await;
            assert!(why.contains("malformed"), "{why}: {malformed:?}");
        }
        let why = refused(&header(0x21, 0x11, &vec![0; usize::from(REST_BYTES) + 1])).await;
        assert!(why.contains("8193 bytes"), "{why}");
        for cut in [1, 15, 16, 20] {
            let whole = header(0x21, 0x11, &V4);
            assert!(matches!(told(&whole[..cut]).await.0, Err(Refused::Io(_))), "{cut}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_client_or_an_error(
            signed: bool, command: u8, family: u8, rest in prop::collection::vec(any::<u8>(), 0..300)
        ) {
            let mut bytes = header(command, family, &rest);
            if !signed {
                bytes.drain(..SIGNATURE.len());
            }
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _ = runtime.block_on(told(&bytes)).0;
        }
    }
}
