//! The URLs about the store, the journal and the mirror, below `/api/v1/admin`: for who looks after them. They are ours.

use super::{Refused, Verb, malformed, name, parameter, parameters, version};
use crate::flows::pulls::log::page::{Cursor, MOST_RECORDS};
use crate::flows::store::show::{Selection, Since};
use crate::flows::store::trail_page::{Asked as AskedTrail, MOST_EVENTS};
use crate::model::pull::Subject;
use cratehouse_journal::entry::EventKind;
use cratehouse_journal::principal::TokenId;
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;

/// Requests about the store and the mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upkeep {
    /// `GET journal[?crate=&user=&token=&kind=&since=&order=&limit=&after=]`
    Journal(Box<AskedTrail>),
    /// `POST journal/verify`
    Verify,
    /// `POST checkpoints`
    Checkpoint,
    /// `GET format`
    Format,
    /// `PUT format`
    EnableFormat,
    /// `POST gc`
    Sweep,
    /// `GET pins/{name}/{version}`
    Pins(CrateName, CrateVersion),
    /// `PUT pins/{name}/{version}`
    CorrectPin(CrateName, CrateVersion),
    /// `POST prefetch`
    Prefetch,
    /// `GET pulls?crate=[&since=&user=&token=&limit=&after=]`
    Pulls(Box<AskedPulls>),
    /// `GET doctor`
    Doctor,
    /// `GET advisories`
    Advisories,
    /// `POST advisories/fetch`
    FetchAdvisories,
    /// `POST policy/try`
    TryPolicy,
    /// `GET crates/{name}/owners`
    Owners(CrateName),
}

/// Who pulled what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedPulls {
    /// The crate and its versions.
    pub subject: Subject,
    /// Only from here on.
    pub since: Option<Since>,
    /// Only this user's.
    pub user: Option<String>,
    /// Only those with this token.
    pub token: Option<TokenId>,
    /// So many at the most.
    pub limit: usize,
    /// Where the page before has ended.
    pub after: Option<Cursor>,
}

pub(super) fn upkeep(
    verb: Verb,
    segments: &[&str],
    query: Option<&str>,
) -> Result<Upkeep, Refused> {
    use Verb::{Get, Post, Put};
    Ok(match (verb, segments) {
        (Get, ["journal"]) => Upkeep::Journal(Box::new(trail(query)?)),
        (Post, ["journal", "verify"]) => Upkeep::Verify,
        (Post, ["checkpoints"]) => Upkeep::Checkpoint,
        (Get, ["format"]) => Upkeep::Format,
        (Put, ["format"]) => Upkeep::EnableFormat,
        (Post, ["gc"]) => Upkeep::Sweep,
        (Get, ["pins", n, v]) => Upkeep::Pins(name(n)?, version(v)?),
        (Put, ["pins", n, v]) => Upkeep::CorrectPin(name(n)?, version(v)?),
        (Post, ["prefetch"]) => Upkeep::Prefetch,
        (Get, ["pulls"]) => Upkeep::Pulls(Box::new(pulls(query)?)),
        (Get, ["doctor"]) => Upkeep::Doctor,
        (Get, ["advisories"]) => Upkeep::Advisories,
        (Post, ["advisories", "fetch"]) => Upkeep::FetchAdvisories,
        (Post, ["policy", "try"]) => Upkeep::TryPolicy,
        (Get, ["crates", n, "owners"]) => Upkeep::Owners(name(n)?),
        _ => return Err(Refused::Unknown),
    })
}

fn trail(query: Option<&str>) -> Result<AskedTrail, Refused> {
    let krate: Option<CrateName> = read(query, "crate")?;
    let mut kinds = Vec::new();
    for kind in parameters(query, "kind")
        .flat_map(|all| all.split(',').map(str::to_owned).collect::<Vec<_>>())
    {
        if !EventKind::NAMES.contains(&kind.as_str()) {
            let all = EventKind::NAMES.join(", ");
            return Err(malformed(format_args!("`kind`: choose among {all}")));
        }
        kinds.push(kind);
    }
    let selection = Selection {
        krate: krate.map(|name| name.key()),
        since: read(query, "since")?,
        user: parameter(query, "user").map(|user| user.into_owned()),
        token: token(query)?,
        kinds,
    };
    Ok(AskedTrail {
        selection,
        order: read(query, "order")?.unwrap_or_default(),
        limit: limit(query, MOST_EVENTS)?,
        after: read(query, "after")?,
    })
}

fn pulls(query: Option<&str>) -> Result<AskedPulls, Refused> {
    let subject = read(query, "crate")?;
    let subject =
        subject.ok_or_else(|| malformed("`crate` says whose pulls are meant: `foo`, `foo@1.2`"))?;
    Ok(AskedPulls {
        subject,
        since: read(query, "since")?,
        user: parameter(query, "user").map(|user| user.into_owned()),
        token: token(query)?,
        limit: limit(query, MOST_RECORDS)?,
        after: read(query, "after")?,
    })
}

fn token(query: Option<&str>) -> Result<Option<TokenId>, Refused> {
    Ok(read::<u32>(query, "token")?.map(TokenId))
}

fn limit(query: Option<&str>, most: usize) -> Result<usize, Refused> {
    Ok(read::<usize>(query, "limit")?.unwrap_or(most).clamp(1, most))
}

fn read<T>(query: Option<&str>, key: &str) -> Result<Option<T>, Refused>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let text = parameter(query, key);
    let read = text.map(|text| text.parse()).transpose();
    read.map_err(|e| malformed(format_args!("`{key}`: {e}")))
}

impl Upkeep {
    /// The word for it in metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Upkeep::Journal(_) => "admin_journal",
            Upkeep::Verify => "admin_journal_verify",
            Upkeep::Checkpoint => "admin_checkpoint",
            Upkeep::Format => "admin_format",
            Upkeep::EnableFormat => "admin_format_enable",
            Upkeep::Sweep => "admin_gc",
            Upkeep::Pins(..) => "admin_pins",
            Upkeep::CorrectPin(..) => "admin_pin_correct",
            Upkeep::Prefetch => "admin_prefetch",
            Upkeep::Pulls(_) => "admin_pulls",
            Upkeep::Doctor => "admin_doctor",
            Upkeep::Advisories => "admin_advisories",
            Upkeep::FetchAdvisories => "admin_advisories_fetch",
            Upkeep::TryPolicy => "admin_policy_try",
            Upkeep::Owners(_) => "admin_owners",
        }
    }

    /// Whether it changes nothing of the registry's.
    pub fn is_read(&self) -> bool {
        match self {
            Upkeep::Journal(_)
            | Upkeep::Verify
            | Upkeep::Format
            | Upkeep::Pins(..)
            | Upkeep::Pulls(_)
            | Upkeep::Doctor
            | Upkeep::Advisories
            | Upkeep::TryPolicy
            | Upkeep::Owners(_) => true,
            Upkeep::Checkpoint
            | Upkeep::EnableFormat
            | Upkeep::Sweep
            | Upkeep::CorrectPin(..)
            | Upkeep::Prefetch
            | Upkeep::FetchAdvisories => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::Method;

    use super::super::{Administer, Route, route};
    use super::*;
    use crate::flows::store::trail_page::Order;

    fn asked(method: Method, path: &str) -> Result<Upkeep, Refused> {
        let (path, query) = path.split_once('?').map_or((path, None), |(p, q)| (p, Some(q)));
        match route(&method, &format!("/api/v1/admin/{path}"), query)? {
            Route::Admin(Administer::Upkeep(what)) => Ok(what),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_trail_is_selected_as_on_the_command_line() {
        let Ok(Upkeep::Journal(all)) = asked(Method::GET, "journal") else { panic!() };
        let whole = AskedTrail { limit: MOST_EVENTS, ..AskedTrail::default() };
        assert_eq!(*all, whole);
        let query = "journal?crate=Foo&user=alice&token=7&kind=yanked,published&kind=removed&since=7&order=desc\
                     &limit=5&after=9";
        let Ok(Upkeep::Journal(some)) = asked(Method::GET, query) else { panic!() };
        let selection = Selection {
            krate: Some("foo".parse::<CrateName>().unwrap().key()),
            since: Some(Since::Seq(7)),
            user: Some("alice".to_owned()),
            token: Some(TokenId(7)),
            kinds: ["yanked", "published", "removed"].map(str::to_owned).to_vec(),
        };
        let wanted = AskedTrail { selection, order: Order::Desc, limit: 5, after: Some(9) };
        assert_eq!(*some, wanted);
        for odd in
            ["crate=1a", "token=x", "kind=party", "since=soon", "order=up", "limit=x", "after=-1"]
        {
            let refused = asked(Method::GET, &format!("journal?{odd}"));
            assert!(matches!(refused, Err(Refused::Malformed(_))), "{odd}");
        }
    }

    #[test]
    fn pulls_need_a_crate() {
        assert!(matches!(asked(Method::GET, "pulls"), Err(Refused::Malformed(_))));
        let query = "pulls?crate=foo%40%3E%3D1.2%2C%20%3C1.4&limit=9999&user=al";
        let Ok(Upkeep::Pulls(pulls)) = asked(Method::GET, query) else { panic!() };
        assert_eq!(pulls.subject.to_string(), "foo@>=1.2, <1.4");
        assert_eq!((pulls.limit, pulls.user.as_deref()), (MOST_RECORDS, Some("al")));
    }

    #[test]
    fn the_urls_of_upkeep_are_mapped() {
        let (foo, one) = ("foo".parse().unwrap(), "1.0.0".parse().unwrap());
        assert_eq!(asked(Method::PUT, "pins/foo/1.0.0"), Ok(Upkeep::CorrectPin(foo, one)));
        assert_eq!(asked(Method::POST, "journal/verify"), Ok(Upkeep::Verify));
        let refused = asked(Method::DELETE, "format");
        assert_eq!(refused, Err(Refused::Method("GET, HEAD, PUT".to_owned())));
    }
}
