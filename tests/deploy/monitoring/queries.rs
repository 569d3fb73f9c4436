//! What a text of PromQL names.

/// The metrics of ours in it, each with its matchers, and the labels that it groups by.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Named {
    pub(crate) metrics: Vec<(String, Vec<(String, String)>)>,
    pub(crate) grouped_by: Vec<String>,
}

/// Reads as much of PromQL as names something; the names of recorded rules, which have a colon, are
/// not metrics.
pub(crate) fn named(text: &str) -> Named {
    let mut named = Named::default();
    let mut rest = text;
    while let Some(start) = rest.find(is_name) {
        let word_and_more = &rest[start..];
        let end = word_and_more.find(|c| !is_name(c)).unwrap_or(word_and_more.len());
        let (word, more) = word_and_more.split_at(end);
        let ours = word.starts_with("cratehouse_") || word.starts_with("process_");
        if ours && !word.contains(':') {
            named.metrics.push((word.to_owned(), matchers(more)));
        }
        if word == "by" || word == "on" {
            let list = more.trim_start().strip_prefix('(').and_then(|list| list.split_once(')'));
            let labels = list.map(|(list, _)| list.split(',')).into_iter().flatten();
            named.grouped_by.extend(labels.map(|label| label.trim().to_owned()));
        }
        rest = more;
    }
    named.grouped_by.retain(|label| !label.is_empty());
    named
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// `{a="x", b=~"y|z"}`, where the text begins with it. No value has a comma or a brace.
fn matchers(text: &str) -> Vec<(String, String)> {
    let inside = text.strip_prefix('{').and_then(|inside| inside.split_once('}'));
    let matchers = inside.map(|(inside, _)| inside.split(',')).into_iter().flatten();
    let pair = |matcher: &str| {
        let (label, value) = matcher.split_at(matcher.find(['=', '!'])?);
        let value = value.trim_start_matches(['=', '!', '~']).trim_matches('"');
        Some((label.trim().to_owned(), value.to_owned()))
    };
    matchers.filter_map(pair).collect()
}

#[test]
fn names_matchers_and_groups_are_read() {
    let text = "sum by (job, le) (rate(cratehouse_a_total{x=\"1\", y=~\"2|3\", z!~\"4\"}[5m])) \
                / on (kind) job:cratehouse_b:rate5m > process_c";
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let matchers = vec![pair("x", "1"), pair("y", "2|3"), pair("z", "4")];
    let metrics =
        vec![("cratehouse_a_total".to_owned(), matchers), ("process_c".to_owned(), Vec::new())];
    let grouped_by = ["job", "le", "kind"].map(str::to_owned).to_vec();
    assert_eq!(named(text), Named { metrics, grouped_by });
}
