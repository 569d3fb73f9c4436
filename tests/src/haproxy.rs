//! HAProxy in front of replicas, as an organisation would set it up: connections are passed on
//! as they are, and only replicas that say they are ready get new ones. `tests/run` installs it.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::client::Client;
use crate::gateway::{Gateway, free_port};
use crate::patience::until;
use crate::watchdog::Watchdog;

/// A running HAProxy; it ends when it is dropped.
#[derive(Debug)]
pub struct Haproxy {
    folder: TempDir,
    port: u16,
    stats_port: u16,
    child: Option<Child>,
}

/// What HAProxy has counted about its servers, all of them together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Connections that were given to a server.
    pub sessions: u64,
    /// Connections to a server that failed and were tried again.
    pub retries: u64,
    /// Those that another server got.
    pub redispatches: u64,
    /// Connections that no server took: their clients saw them closed.
    pub refused: u64,
    /// Connections that a server broke off.
    pub aborted: u64,
}

impl Counted {
    /// What was counted after an earlier look.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            sessions: self.sessions - earlier.sessions,
            retries: self.retries - earlier.retries,
            redispatches: self.redispatches - earlier.redispatches,
            refused: self.refused - earlier.refused,
            aborted: self.aborted - earlier.aborted,
        }
    }
}

const CONFIG: &str = "haproxy.cfg";
const LOG: &str = "haproxy.log";

impl Haproxy {
    /// One that is not started yet: its address is for the configuration of the replicas.
    pub fn prepare() -> Self {
        let folder = TempDir::with_prefix("cratehouse-haproxy-").unwrap();
        Self { folder, port: free_port(), stats_port: free_port(), child: None }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Starts it in front of these replicas; returns when it gives connections to all of them.
    pub fn start(&mut self, replicas: &[Gateway]) {
        fs::write(self.folder.path().join(CONFIG), self.config(replicas)).unwrap();
        let log = fs::File::create(self.folder.path().join(LOG)).unwrap();
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
        let child = Command::new("haproxy")
            .args(["-db", "-f", CONFIG])
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", path)
            .process_group(Watchdog::shared().group())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap_or_else(|e| panic!("haproxy (tests/run installs it): {e}")));
        until("the balancer answers", || {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            let log = || fs::read_to_string(self.folder.path().join(LOG)).unwrap_or_default();
            assert!(ended.is_none(), "haproxy ended:\n{}", log());
            !self.rows().is_empty()
        });
        for nth in 0..replicas.len() {
            until("the balancer uses a replica", || self.uses(nth));
        }
    }

    /// Whether a replica gets new connections.
    pub fn uses(&self, nth: usize) -> bool {
        let name = format!("replica-{nth}");
        self.rows().iter().any(|row| row.server == name && row.status == "UP")
    }

    /// What it has counted since its start.
    pub fn counted(&self) -> Counted {
        let mut all = Counted::default();
        for row in self.rows().iter().filter(|row| row.server.starts_with("replica-")) {
            let Counted { sessions, retries, redispatches, refused, aborted } = row.counted;
            all.sessions += sessions;
            all.retries += retries;
            all.redispatches += redispatches;
            all.refused += refused;
            all.aborted += aborted;
        }
        all
    }

    fn rows(&self) -> Vec<Row> {
        let client = Client::new(&format!("http://127.0.0.1:{}", self.stats_port), None);
        let reply = client.try_send(reqwest::Method::GET, "/;csv", &[], None);
        reply.map_or_else(|_| Vec::new(), |reply| rows(&reply.assert_status(200).text()))
    }

    /// One failed look is enough to give a replica no new connection, and one good one to give it
    /// some; a connection that a replica refuses goes to another one.
    fn config(&self, replicas: &[Gateway]) -> String {
        let mut text = format!(
            "global
    maxconn 2000
defaults
    mode tcp
    timeout connect 2s
    timeout client 1h
    timeout server 1h
    timeout check 2s
    retries 3
    option redispatch 1
frontend registry
    bind {}
    default_backend replicas
backend replicas
    balance leastconn
    option httpchk GET /readyz
    default-server inter 500ms fall 1 rise 1
",
            self.addr()
        );
        for (nth, replica) in replicas.iter().enumerate() {
            let (at, admin) = (replica.addr(), replica.admin_addr().port());
            text += &format!("    server replica-{nth} {at} check port {admin}\n");
        }
        text + &format!(
            "listen stats
    mode http
    bind 127.0.0.1:{}
    stats enable
    stats uri /
",
            self.stats_port
        )
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A line of HAProxy's statistics.
#[derive(Debug)]
struct Row {
    server: String,
    status: String,
    counted: Counted,
}

/// The statistics in HAProxy's CSV form (its management guide, 9.1), whose first line names the
/// columns.
fn rows(csv: &str) -> Vec<Row> {
    let mut lines = csv.trim_start_matches("# ").lines();
    let names: Vec<_> = lines.next().unwrap_or_default().split(',').collect();
    let column = |name: &str| names.iter().position(|n| *n == name).unwrap_or(usize::MAX);
    let [server, status] = ["svname", "status"].map(column);
    let counters = ["stot", "wretr", "wredis", "econ", "srv_abrt"].map(column);
    let row = |line: &str| {
        let cells: Vec<_> = line.split(',').collect();
        let cell = |at: usize| cells.get(at).copied().unwrap_or_default().to_owned();
        let [sessions, retries, redispatches, refused, aborted] =
            counters.map(|at| cell(at).parse().unwrap_or(0));
        let counted = Counted { sessions, retries, redispatches, refused, aborted };
        Row { server: cell(server), status: cell(status), counted }
    };
    lines.map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_read_by_the_names_of_their_columns() {
        let csv = "# pxname,svname,stot,econ,wretr,wredis,status,srv_abrt\n\
                   replicas,replica-0,7,1,2,3,UP,4\nreplicas,BACKEND,9,,,,UP,\n";
        let rows = rows(csv);
        assert_eq!((rows[0].server.as_str(), rows[0].status.as_str()), ("replica-0", "UP"));
        let counted = Counted { sessions: 7, retries: 2, redispatches: 3, refused: 1, aborted: 4 };
        assert_eq!(rows[0].counted, counted);
        assert_eq!(rows[1].counted, Counted { sessions: 9, ..Counted::default() });
    }
}
