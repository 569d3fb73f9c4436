//! Whether a crate exists for a reader: 10,000 hosted crates, 1,000 teams of which the reader is in 200, and 1,000 rules
//! that restrict a crate each to a team.

use cratehouse::flows::access::reader::Reader;
use cratehouse_core::client_key::ClientKey;
use cratehouse_journal::commands::{ActorCommand, Command, CommandActor};
use cratehouse_journal::subject::SubjectName;
use cratehouse_package::name::CrateName;
use divan::{Bencher, black_box};

use crate::test_gateway::{LOGIN, TestGateway};

const CRATES: usize = 10_000;
const TEAMS: usize = 1_000;
/// Teams that the reader is in.
const OF_READER: usize = 200;
const RULES: usize = 1_000;

/// The decision as a warm look-up and download ask it.
#[divan::bench(args = ["open", "restricted, and readable", "restricted, and hidden"])]
fn exists_for(bencher: Bencher, what: &str) {
    let (server, reader) = organisation();
    let name = match what {
        "open" => krate(RULES + 1),
        "restricted, and readable" => krate(OF_READER / 2),
        _ => krate(OF_READER + 1),
    };
    let visibility = &server.gateway.visibility;
    assert_eq!(visibility.exists_for(&reader, &name).unwrap(), what != "restricted, and hidden");
    bencher.bench(|| visibility.exists_for(black_box(&reader), black_box(&name)).unwrap());
}

/// The same for the first time after a change: by the catalog.
#[divan::bench]
fn exists_for_after_a_change(bencher: Bencher) {
    let (server, reader) = organisation();
    let visibility = &server.gateway.visibility;
    let mut nth = 0;
    bencher
        .with_inputs(|| {
            nth = (nth + 1) % RULES;
            krate(nth)
        })
        .bench_local_refs(|name| {
            visibility.exists_for(black_box(&reader), black_box(name)).unwrap()
        });
}

fn krate(nth: usize) -> CrateName {
    format!("bench-{nth}").parse().unwrap()
}

fn organisation() -> (TestGateway, Reader) {
    let server = TestGateway::hosting_many((0..CRATES).map(krate));
    let gateway = &server.gateway;
    let append = |command: Command| {
        let command = ActorCommand { by: CommandActor::Operator, command };
        server.wait(gateway.journal.append(command)).unwrap();
    };
    append(Command::create_user("nobody"));
    for nth in 0..TEAMS {
        let logins = match nth < OF_READER {
            true => vec![LOGIN.to_owned()],
            false => vec!["nobody".to_owned()],
        };
        append(Command::AddMembers { team: format!("team-{nth}"), logins });
    }
    for nth in 0..RULES {
        let readers = vec![SubjectName::Team(format!("team-{nth}"))];
        append(Command::Restrict { pattern: krate(nth).as_str().parse().unwrap(), readers });
    }
    let who = server.reader();
    (server, Reader::Client(ClientKey::OWN, Some(who)))
}
