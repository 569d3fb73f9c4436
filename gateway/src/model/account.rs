//! Whose shell this is, for the audit log.

use std::fs;

use cratehouse_journal::entry::Account;

/// The longest name that is written down, in characters.
const MAX_CHARS: usize = 64;

/// The account that runs this process and the machine that it runs on, as far as they are known without asking the
/// network.
pub fn of_this_process() -> Account {
    let host = rustix::system::uname();
    let uid = rustix::process::getuid().as_raw();
    let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let became = std::env::var("SUDO_USER").ok();
    Account {
        user: user(uid, &accounts, became.as_deref()),
        host: short(&host.nodename().to_string_lossy()),
    }
}

fn user(uid: u32, accounts: &str, became: Option<&str>) -> String {
    let name = named(uid, accounts).map_or_else(|| format!("uid {uid}"), short);
    match became.map(short).filter(|before| !before.is_empty() && *before != name) {
        Some(before) => format!("{name} (sudo by {before})"),
        None => name,
    }
}

/// By a line of passwd(5): `alice:x:1000:1000:…`.
fn named(uid: u32, accounts: &str) -> Option<&str> {
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _password, number) = (fields.next()?, fields.next()?, fields.next()?);
        (number.parse() == Ok(uid)).then_some(name)
    })
}

fn short(text: &str) -> String {
    text.trim().chars().filter(|c| !c.is_control()).take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNTS: &str =
        "root:x:0:0:root:/root:/bin/bash\nbroken\nalice:x:1000:1000::/home/alice:/bin/sh\n";

    #[test]
    fn an_account_is_told_by_its_name_and_by_who_became_it() {
        assert_eq!(user(1000, ACCOUNTS, None), "alice");
        assert_eq!(user(7, ACCOUNTS, None), "uid 7");
        assert_eq!(user(0, ACCOUNTS, Some("alice")), "root (sudo by alice)");
        assert_eq!(user(1000, ACCOUNTS, Some("alice")), "alice");
        assert_eq!(user(0, ACCOUNTS, Some("a\u{1b}[2Jb")), "root (sudo by a[2Jb)");
        assert_eq!(short(&"x".repeat(100)).len(), 64);
    }
}
