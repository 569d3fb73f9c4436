//! The URLs of the policy, below `/api/v1/policy`. They are ours: cargo knows none of them.

use super::{Refused, Verb, name, version};
use crate::model::name::CrateName;
use crate::model::version::CrateVersion;

/// Questions about the policy in force. They change nothing, and who may read may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// `POST check`, with a Cargo.lock
    Check,
    /// `GET explain/{crate}[/{version}]`
    Explain(CrateName, Option<CrateVersion>),
    /// `GET waivers`
    Waivers,
}

pub(super) fn ask(verb: Verb, segments: &[&str]) -> Result<Ask, Refused> {
    Ok(match (verb, segments) {
        (Verb::Post, ["check"]) => Ask::Check,
        (Verb::Get, ["explain", n]) => Ask::Explain(name(n)?, None),
        (Verb::Get, ["explain", n, v]) => Ask::Explain(name(n)?, Some(version(v)?)),
        (Verb::Get, ["waivers"]) => Ask::Waivers,
        _ => return Err(Refused::Unknown),
    })
}

impl Ask {
    /// The word for it in metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Ask::Check => "policy_check",
            Ask::Explain(..) => "policy_explain",
            Ask::Waivers => "policy_waivers",
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::Method;

    use super::super::{Route, route};
    use super::*;

    #[test]
    fn the_questions_are_mapped() {
        let call = |method, path: &str| route(&method, &format!("/api/v1/policy/{path}"), None);
        let ok = |ask| Ok(Route::Policy(ask));
        let foo: CrateName = "Foo".parse().unwrap();
        assert_eq!(call(Method::POST, "check"), ok(Ask::Check));
        assert_eq!(call(Method::GET, "explain/Foo"), ok(Ask::Explain(foo.clone(), None)));
        let version = Some("1.0.0+b".parse().unwrap());
        assert_eq!(call(Method::GET, "explain/Foo/1.0.0%2Bb"), ok(Ask::Explain(foo, version)));
        assert_eq!(call(Method::GET, "waivers"), ok(Ask::Waivers));
        assert_eq!(call(Method::GET, "check"), Err(Refused::Method("POST".to_owned())));
        assert!(matches!(call(Method::GET, "explain/1a"), Err(Refused::Absent(_))));
        assert_eq!(call(Method::GET, ""), Err(Refused::Unknown));
    }
}
