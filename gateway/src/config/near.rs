//! What was meant by a key that there is not.

use std::collections::BTreeSet;

/// The keys that are named, at most.
const NAMED: usize = 3;

/// The known keys (and sections) that a path may have been meant for, the likeliest ones; none where
/// nothing is near.
pub(super) fn meant(unknown: &str, known: &BTreeSet<String>) -> Vec<String> {
    let sections =
        known.iter().flat_map(|path| path.match_indices('.').map(|(at, _)| path.split_at(at).0));
    let candidates: BTreeSet<&str> = known.iter().map(String::as_str).chain(sections).collect();
    let far = |candidate: &&str| distance(unknown, candidate);
    let Some(least) = candidates.iter().filter_map(far).min() else { return Vec::new() };
    let nearest = candidates.iter().filter(|candidate| distance(unknown, candidate) == Some(least));
    nearest.take(NAMED).map(ToString::to_string).collect()
}

/// How far a key is from what was written, if it may have been meant: some wrong letters, or the right name
/// in a wrong section.
fn distance(unknown: &str, known: &str) -> Option<usize> {
    let ((section, name), (of_known, name_of_known)) = (parts(unknown), parts(known));
    let allowed = (name.len() / 3).max(1);
    let whole = strsim::damerau_levenshtein(unknown, known);
    let in_row = |section: &str| section.contains(|c: char| c.is_ascii_digit());
    let elsewhere = (section != of_known && !in_row(section) && !in_row(of_known))
        .then(|| strsim::damerau_levenshtein(name, name_of_known) + 1);
    Some(elsewhere.map_or(whole, |elsewhere| whole.min(elsewhere))).filter(|far| *far <= allowed)
}

/// A section, and the name in it.
fn parts(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_nothing_is_made_up() {
        let known = [
            "cache.crates_mib",
            "server.admin_listen",
            "server.listen",
            "server.url",
            "store.url",
            "upstream.0.fresh_seconds",
            "upstream.0.index",
        ];
        let known: BTreeSet<_> = known.map(str::to_owned).into();
        let meant = |unknown| meant(unknown, &known).join(" ");
        assert_eq!(meant("server.lisen"), "server.listen");
        assert_eq!(meant("server.listne"), "server.listen");
        assert_eq!(meant("sever"), "server");
        assert_eq!(meant("listen"), "server.listen");
        assert_eq!(meant("server_listen"), "server.listen");
        assert_eq!(meant("limits.crates_mib"), "cache.crates_mib");
        assert_eq!(meant("url"), "server.url store.url");
        assert_eq!(meant("upstream.0.indx"), "upstream.0.index");
        assert_eq!(meant("upstream.0.url"), "");
        assert_eq!(meant("fresh_seconds"), "");
        assert_eq!(meant("nothing"), "");
    }
}
