//! What a hosted crate must have before it is published.

use crate::parse::Rules;
use crate::requirement::Requirement;
use crate::schema::{Publishing, Required, Wildcards};
use crate::words::Mode;
use cratehouse_package::published::Published;

/// What the policy has against a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Whether it is refused, or only counted and logged.
    pub mode: Mode,
    /// Everything that is wrong, for the publisher.
    pub sentence: String,
}

/// Dependencies that are named in a sentence, at the most.
const MAX_NAMED: usize = 5;

pub(crate) fn objection(rules: &Rules, published: &Published, readme: bool) -> Option<Violation> {
    let rule = rules.publish.as_ref()?;
    let line = &published.line;
    if rule.exceptions.iter().any(|pattern| pattern.covers(&line.name.key())) {
        return None;
    }
    let missing = rule.require.iter().filter(|required| !has(**required, published, readme));
    let missing: Vec<_> = missing.map(|required| required.described()).collect();
    let mut wrong = Vec::new();
    if !missing.is_empty() {
        wrong.push(format!("lacks {}", missing.join(", ")));
    }
    wrong.extend(wildcards(rule, published));
    wrong.extend(too_large(rule, published.size));
    let sentence = format!(
        "`{}` {} does not meet the policy of this registry: it {}",
        line.name,
        line.vers,
        wrong.join("; it ")
    );
    (!wrong.is_empty()).then(|| Violation { mode: rules.mode.and(rule.mode), sentence })
}

fn has(required: Required, published: &Published, readme: bool) -> bool {
    let metadata = &published.metadata;
    let said = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.trim().is_empty());
    match required {
        Required::Description => said(&metadata.description),
        Required::License => said(&metadata.license) || said(&metadata.license_file),
        Required::Repository => said(&metadata.repository),
        Required::RustVersion => said(&published.line.rust_version),
        Required::Readme => readme,
    }
}

fn wildcards(rule: &Publishing, published: &Published) -> Option<String> {
    if rule.wildcards == Wildcards::Allow {
        return None;
    }
    let any = |req: &str| req.parse::<Requirement>().is_ok_and(|req| req.is_any());
    let deps = published.line.deps.iter().filter(|dep| any(&dep.req));
    let names: Vec<_> = deps.map(|dep| format!("`{}` (`{}`)", dep.name, dep.req)).collect();
    let named = names.get(..MAX_NAMED.min(names.len())).unwrap_or_default().join(", ");
    (!names.is_empty())
        .then(|| format!("takes any version of {named}: say which ones it works with"))
}

fn too_large(rule: &Publishing, size: u64) -> Option<String> {
    let most = rule.max_bytes.filter(|most| size > *most)?;
    Some(format!(
        "has {size} bytes, and {most} are the most: leave files out with `package.exclude`"
    ))
}

impl Required {
    fn described(self) -> &'static str {
        match self {
            Self::Description => "a `description`",
            Self::License => "a `license`",
            Self::Repository => "a `repository`",
            Self::RustVersion => "a `rust-version`",
            Self::Readme => "a README",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Policy, PolicyText};
    use cratehouse_package::published::Metadata;

    fn published() -> Published {
        let dep = |name: &str, req: &str| {
            serde_json::json!({"name": name, "req": req, "features": [], "optional": false,
                "default_features": true, "target": null, "kind": "normal"})
        };
        let line = serde_json::json!({"name": "foo", "vers": "1.2.3", "features": {},
            "deps": [dep("a", ">=0.0.0"), dep("b", "^1")], "yanked": false,
            "cksum": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"});
        let line = serde_json::from_value(line).unwrap();
        Published { line, size: 1001, metadata: Metadata::default() }
    }

    fn objection(text: &str, published: &Published, readme: bool) -> Option<Violation> {
        let file = PolicyText { name: "p.toml".to_owned(), text: text.to_owned() };
        Policy::parse(&[file]).unwrap().objection_to_publish(published, readme)
    }

    const ALL: &str = "[publish]\nwildcards = \"deny\"\nmax_bytes = 1000\nexceptions = [\"x-*\"]\n\
        require = [\"description\", \"license\", \"repository\", \"rust-version\", \"readme\"]\n";

    #[test]
    fn all_that_is_missing_stands_in_one_sentence() {
        let found = objection(ALL, &published(), false).unwrap();
        assert_eq!(found.mode, Mode::Enforce);
        assert_eq!(
            found.sentence,
            "`foo` 1.2.3 does not meet the policy of this registry: it lacks a `description`, a \
             `license`, a `repository`, a `rust-version`, a README; it takes any version of `a` \
             (`>=0.0.0`): say which ones it works with; it has 1001 bytes, and 1000 are the most: \
             leave files out with `package.exclude`"
        );
    }

    #[test]
    fn a_crate_that_has_everything_meets_no_objection() {
        let mut whole = published();
        whole.metadata.description = Some("d".to_owned());
        whole.metadata.license_file = Some("LICENSE".to_owned());
        whole.metadata.repository = Some("https://git.example/foo".to_owned());
        whole.line.rust_version = Some("1.80".to_owned());
        whole.line.deps.remove(0);
        whole.size = 1000;
        assert_eq!(objection(ALL, &whole, true), None);
        whole.metadata.description = Some(" ".to_owned());
        assert!(objection(ALL, &whole, true).unwrap().sentence.ends_with("a `description`"));
    }

    #[test]
    fn observed_excepted_and_absent_rules_refuse_nothing() {
        let observed = format!("{ALL}mode = \"observe\"");
        assert_eq!(objection(&observed, &published(), false).unwrap().mode, Mode::Observe);
        assert_eq!(objection(&ALL.replace("x-*", "FOO"), &published(), false), None);
        assert_eq!(objection("", &published(), false), None);
        assert_eq!(objection("[publish]", &published(), false), None);
    }
}
