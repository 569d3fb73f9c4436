//! The URLs of the policy, below `/api/v1/policy`. They are ours: cargo knows none of them.

use super::{Refused, Verb, malformed, name, parameter, version};
use cratehouse_package::name::CrateName;
use cratehouse_policy::Which;

/// Questions about the policy in force. They change nothing, and who may read may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// `POST check`, with a Cargo.lock
    Check,
    /// `GET explain/{crate}[?before=…&per_page=…]` and `GET explain/{crate}/{version}`
    Explain(CrateName, Which),
    /// `GET waivers`
    Waivers,
}

/// Versions of an explanation when `per_page` is absent, and at most.
pub(super) const MAX_EXPLAINED: usize = 1000;

pub(super) fn ask(verb: Verb, segments: &[&str], query: Option<&str>) -> Result<Ask, Refused> {
    Ok(match (verb, segments) {
        (Verb::Post, ["check"]) => Ask::Check,
        (Verb::Get, ["explain", n]) => Ask::Explain(name(n)?, page(query)?),
        (Verb::Get, ["explain", n, v]) => Ask::Explain(name(n)?, Which::One(version(v)?)),
        (Verb::Get, ["waivers"]) => Ask::Waivers,
        _ => return Err(Refused::Unknown),
    })
}

fn page(query: Option<&str>) -> Result<Which, Refused> {
    // A `+` that was not encoded arrives as a blank, which no version has.
    let before = parameter(query, "before").map(|text| text.replace(' ', "+").parse());
    let before = before.transpose().map_err(|e| malformed(format_args!("`before`: {e}")))?;
    let most = match parameter(query, "per_page") {
        None => MAX_EXPLAINED,
        Some(text) => text.parse().map_err(|_| malformed("`per_page` must be a number"))?,
    };
    Ok(Which::Page { before, most: most.clamp(1, MAX_EXPLAINED) })
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
        let page = |before: Option<&str>, most| {
            let before = before.map(|version| version.parse().unwrap());
            Ok(Route::Policy(Ask::Explain("Foo".parse().unwrap(), Which::Page { before, most })))
        };
        assert_eq!(call(Method::GET, "explain/Foo"), page(None, 1000));
        let asked = |query| route(&Method::GET, "/api/v1/policy/explain/Foo", Some(query));
        assert_eq!(asked("before=1.0.0%2Bb&per_page=7"), page(Some("1.0.0+b"), 7));
        assert_eq!(asked("before=1.0.0+b&per_page=9999"), page(Some("1.0.0+b"), 1000));
        for odd in ["before=1", "per_page=x"] {
            assert!(matches!(asked(odd), Err(Refused::Malformed(_))), "{odd}");
        }
        let one = Which::One("1.0.0+b".parse().unwrap());
        assert_eq!(call(Method::GET, "explain/Foo/1.0.0%2Bb"), ok(Ask::Explain(foo, one)));
        assert_eq!(call(Method::GET, "waivers"), ok(Ask::Waivers));
        assert_eq!(call(Method::GET, "check"), Err(Refused::Method("POST".to_owned())));
        assert!(matches!(call(Method::GET, "explain/1a"), Err(Refused::Absent(_))));
        assert_eq!(call(Method::GET, ""), Err(Refused::Unknown));
    }
}
