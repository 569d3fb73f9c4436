//! The end of a run: what is left must be one registry.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::changes::{Change, TEAMS, pattern};
use crate::reads::Knowing;
use crate::rights::Rules;
use cratehouse_journal::catalog::RuleRow;
use cratehouse_journal::principal::Role;
use cratehouse_journal::subject::{Subject, SubjectName};

/// After so long, in calm weather, every replica has read what was answered before.
const FOLLOWED: Duration = Duration::from_millis(1250);
const LAST_CRATE: &str = "last";

impl World {
    /// The weather clears, and what is left must be one registry.
    pub(super) async fn settle(self: &Arc<Self>) -> Result<(), String> {
        sleep(SETTLED).await;
        for at in 0..self.replicas.len() {
            let wire = Arc::clone(&self.replicas[at].lock().unwrap().wire);
            wire.set(self.calm());
            wire.cut(Duration::ZERO);
        }
        sleep(RECOVERY).await;
        self.works_again().await?;
        if self.strict {
            self.lets_nobody_read_any_longer().await?;
        }
        let mut catalogs = Vec::new();
        for at in 0..self.replicas.len() {
            let process = self.process(at).ok_or(format!("{at} has not come back"))?;
            let caught_up = process.journal.catch_up().await.and(ready(&process));
            caught_up.map_err(|e| format!("{at} has not recovered: {}", e.chain()))?;
            catalogs.push(process.catalog.clone());
        }
        let rows = catalogs.first().map(Catalog::rows);
        if let Some(at) = catalogs.iter().position(|c| Some(c.rows()) != rows) {
            return Err(format!("catalogs differ: {rows:?} and {:?}", catalogs[at].rows()));
        }
        let journal = self.journal().await;
        let begin = Catalog::in_memory(REGISTRY).unwrap().head().unwrap().hash;
        let records = self.records.lock().unwrap().clone();
        let reads = self.reads.lock().unwrap().clone();
        let founded = Registry::begin((1..=USERS).filter(|user| self.user(*user).admin));
        let last = history::check((begin, founded), &journal, &records, &reads)?;
        same(&catalogs[0], &last)?;
        self.rebuilt(&journal, rows.unwrap_or_default())?;
        self.bytes_are_there(&last).await
    }

    /// Without a restart; and what one replica has answered, all know an interval later.
    async fn works_again(&self) -> Result<(), String> {
        let at = self.anyone();
        let token = *self.tokens.lock().unwrap() + 1;
        if self.strict {
            let user = user_of(token);
            for change in [Change::Enable { user }, Change::GrantRole { user, role: Role::Admin }] {
                self.operate(at, Operation::Change(change)).await;
            }
        }
        let (krate, version) = (LAST_CRATE.to_owned(), "1.0.0".to_owned());
        let cksum = Checksum::of(LAST.as_bytes());
        let answer =
            self.wish(Client::ALONE, at, token, Operation::Publish { krate, version, cksum }).await;
        if answer != Answer::Certain(Fulfilled::Done) {
            return Err(format!("{at} does not work again: {answer:?}"));
        }
        sleep(FOLLOWED).await;
        for at in 0..self.replicas.len() {
            let process = self.process(at).ok_or(format!("{at} has not come back"))?;
            if process.catalog.head().unwrap().seq < self.sea.head() {
                return Err(format!("{at} does not follow"));
            }
        }
        Ok(())
    }

    /// A right that was taken is taken on every replica once that had the time to follow, though nobody asks it to.
    async fn lets_nobody_read_any_longer(&self) -> Result<(), String> {
        let publisher = user_of(*self.tokens.lock().unwrap() + 1);
        let reader = if publisher == 1 { 2 } else { 1 };
        let (team, pattern) = (TEAMS[0].to_owned(), pattern(LAST_CRATE));
        let named = vec![SubjectName::Team(team.clone())];
        let readers = named.clone();
        for change in [
            Change::Enable { user: reader },
            Change::AddMember { team: team.clone(), user: reader },
            Change::Restrict { pattern: pattern.clone(), readers },
        ] {
            self.operate(self.anyone(), Operation::Change(change)).await;
        }
        self.all_read(reader).await?;
        let taken = match self.draw(|rng| rng.random_range(0..4)) {
            0 => Change::RemoveReaders { pattern, readers: named },
            1 => Change::RemoveMember { team, user: reader },
            2 => Change::RemoveTeam { team },
            _ => Change::Disable { user: reader },
        };
        self.operate(self.anyone(), Operation::Change(taken)).await;
        self.all_read(reader).await
    }

    /// Has every replica asked for the last crate, after all had the time to follow.
    async fn all_read(&self, reader: u32) -> Result<(), String> {
        let head = self.sea.head();
        sleep(FOLLOWED).await;
        for at in 0..self.replicas.len() {
            self.read(Client::ALONE, at, reader, (LAST_CRATE, Knowing::Entry(head))).await?;
        }
        Ok(())
    }

    async fn journal(&self) -> Vec<Vec<u8>> {
        let mut journal = Vec::new();
        loop {
            let path = Path::from(format!("journal/{:020}.json", journal.len() + 1));
            match self.sea.inner.get(&path).await {
                Ok(found) => journal.push(found.bytes().await.unwrap().to_vec()),
                Err(_) => return journal,
            }
        }
    }

    fn rebuilt(&self, journal: &[Vec<u8>], rows: String) -> Result<(), String> {
        let catalog = Catalog::in_memory(REGISTRY).unwrap();
        let mut prev = catalog.head().unwrap().hash;
        let mut entries = Vec::new();
        for (seq, bytes) in (1..).zip(journal) {
            let opened = Entry::open(bytes, seq, &prev).map_err(|e| e.to_string())?;
            prev = opened.1;
            entries.push(opened);
        }
        catalog.apply(&entries).unwrap();
        let same = catalog.rows() == rows;
        same.then_some(()).ok_or("a catalog from the journal alone is another".to_owned())
    }

    async fn bytes_are_there(&self, last: &Registry) -> Result<(), String> {
        for (krate, version, cksum, _) in last.present() {
            let text = text_of(&cksum);
            let hex = cksum.to_string();
            let path = Path::from(format!("blobs/hosted/{}/{hex}", &hex[..2]));
            if !holds(&self.sea, &path, text.as_bytes()).await {
                return Err(format!("the bytes of {krate} {version} are lost"));
            }
        }
        Ok(())
    }
}

fn ready(process: &Process) -> Result<()> {
    process.journal.ready().map_err(Error::unavailable)
}

/// Whether a catalog says what the simplest registry says.
fn same(catalog: &Catalog, registry: &Registry) -> Result<(), String> {
    let view = catalog.view().unwrap();
    let (mut present, mut owners) = (Vec::new(), BTreeMap::new());
    for krate in view.crates().unwrap() {
        for row in view.versions(&krate.name.key()).unwrap() {
            if !row.removed {
                let (name, version) = (row.line.name.to_string(), row.line.vers.to_string());
                present.push((name, version, row.line.cksum, row.line.yanked));
            }
        }
        let users = krate.owners.iter().copied().map(Subject::User);
        let all = users.chain(krate.teams.iter().copied().map(Subject::Team));
        owners.insert(krate.name.to_string(), all.collect::<BTreeSet<_>>());
    }
    present.sort();
    let mut expected: Vec<_> = registry.present().collect();
    expected.sort();
    if present != expected || owners != registry.owners().collect() {
        return Err(format!("the catalog says {present:?}, and it should say {expected:?}"));
    }
    let (found, rights) = (rights_of(catalog), &registry.rights);
    let roles = (1..=USERS).map(|user| rights.role_of(user)).collect();
    let expected = (
        (rights.disabled.clone(), roles),
        (rights.teams.clone(), rights.members.clone()),
        (rights.creators.clone(), rights.readers.clone()),
    );
    match found == expected {
        true => Ok(()),
        false => Err(format!("the catalog says {found:?}, and it should say {expected:?}")),
    }
}

type People = (BTreeSet<u32>, Vec<Option<Role>>);
type Teams = (BTreeMap<String, u32>, BTreeSet<(u32, u32)>);

/// What a catalog says of who is who, in the words of the simplest registry.
fn rights_of(catalog: &Catalog) -> (People, Teams, (Rules, Rules)) {
    let (view, now) = (catalog.view().unwrap(), Timestamp::now());
    let users = view.users().unwrap();
    let disabled = users.iter().filter(|user| user.disabled).map(|user| user.id.0).collect();
    let roles = users.iter().map(|user| view.role_of(user, now).unwrap()).collect();
    let teams: Vec<_> = view.teams().unwrap();
    let members = users.iter().flat_map(|user| {
        let teams = view.teams_of(user.id).unwrap();
        teams.into_iter().map(|team| (team.0, user.id.0)).collect::<Vec<_>>()
    });
    let rules = |rows: Vec<RuleRow>| {
        rows.into_iter()
            .map(|row| (row.pattern.key(), row.subjects.into_iter().collect()))
            .collect()
    };
    (
        (disabled, roles),
        (teams.iter().map(|team| (team.name.clone(), team.id.0)).collect(), members.collect()),
        (rules(view.creator_rules().unwrap()), rules(view.restrictions().unwrap())),
    )
}
