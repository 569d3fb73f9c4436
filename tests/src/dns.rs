//! A name server that says of every name that it is this machine.

use std::net::{Ipv4Addr, UdpSocket};

/// Answers until the process ends, at an address of loopback that is its own: resolvers know no
/// other port than 53, for which one must be root.
pub fn serve() -> Ipv4Addr {
    let address = Ipv4Addr::new(127, 153, 0, 53);
    let socket = UdpSocket::bind((address, 53)).expect("only root may bind port 53");
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, asker)) = socket.recv_from(&mut packet) {
            let answer = answer(&packet[..length]);
            _ = socket.send_to(&answer, asker);
        }
    });
    address
}

/// RFC 1035, §4: the question again and, where it is one for an IPv4 address, 127.0.0.1.
fn answer(query: &[u8]) -> Vec<u8> {
    const HEADER: usize = 12;
    let name = query[HEADER..].iter().position(|byte| *byte == 0).unwrap() + 1;
    let end = HEADER + name + 4;
    let is_a = query[HEADER + name..end] == [0, 1, 0, 1];
    let mut answer = query[..2].to_vec();
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    answer.extend(&query[HEADER..end]);
    if is_a {
        answer.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    answer
}
