//! An index file as the policy lets it be seen.

use std::collections::HashSet;

use bytes::Bytes;

use cratehouse_package::edits::Edits;
use cratehouse_package::mirrored::Line;
use cratehouse_package::version::CrateVersion;

/// An index file in which the lines of some versions say `"yanked":true`; every other byte stays,
/// and the very same bytes come back when nothing changes. Lines that cannot be read pass as they
/// are, as cargo passes over them. Parses every line, unless there is nothing to hide: run it off
/// the async threads.
pub fn hide<S: std::hash::BuildHasher>(lines: &Bytes, hidden: &HashSet<CrateVersion, S>) -> Bytes {
    let text = match std::str::from_utf8(lines) {
        Ok(text) if !hidden.is_empty() => text,
        _ => return lines.clone(),
    };
    let mut edits = Edits::new(text);
    for (at, line) in text.split_inclusive('\n').enumerate() {
        let Ok(parsed) = Line::parse(line, at + 1) else { continue };
        let version = parsed.vers.parse::<CrateVersion>();
        if version.is_ok_and(|version| hidden.contains(&version)) {
            match parsed.yanked.map(|yanked| yanked.get()) {
                Some("true") => {}
                Some(other) => edits.replace(other, "true"),
                // The line begins with its brace, and has members for a comma to part.
                None => edits.replace(brace(line), "{\"yanked\":true,"),
            }
        }
    }
    edits.apply(lines)
}

fn brace(line: &str) -> &str {
    let from = line.find('{').unwrap_or(0);
    line.get(from..=from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUM: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn versions(texts: &[&str]) -> HashSet<CrateVersion> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn line(vers: &str, yanked: &str) -> String {
        format!(
            r#"{{"name":"foo","vers":"{vers}","cksum":"{SUM}"{yanked},"x":{{"yanked":false}}}}"#
        )
    }

    #[test]
    fn only_the_hidden_lines_change_and_only_their_yanked() {
        let text = [
            line("1.0.0", r#","yanked":false"#),
            line("1.1.0", r#", "yanked"	:  false "#),
            line("1.2.0", ""),
            line("1.3.0", r#","yanked":null"#),
            line("1.4.0", r#","yanked":true"#),
            line("1.5.0+b", r#","yanked":false"#),
            format!("\t {}", line("1.6.0", "")),
            "{\"vers\":\"1.0.0\"}".to_owned(),
            line("2.0.0", r#","yanked":false"#),
        ];
        let body = Bytes::from(format!("{}\r\n", text.join("\n")));
        let all = ["1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0", "1.5.0+b", "1.6.0"];
        let expected = [
            line("1.0.0", r#","yanked":true"#),
            line("1.1.0", r#", "yanked"	:  true "#),
            line("1.2.0", "").replacen('{', r#"{"yanked":true,"#, 1),
            line("1.3.0", r#","yanked":true"#),
            line("1.4.0", r#","yanked":true"#),
            line("1.5.0+b", r#","yanked":true"#),
            format!("\t {}", line("1.6.0", "").replacen('{', r#"{"yanked":true,"#, 1)),
            text[7].clone(),
            text[8].clone(),
        ];
        let rendered = hide(&body, &versions(&all));
        assert_eq!(rendered, format!("{}\r\n", expected.join("\n")));
        assert_eq!(hide(&rendered, &versions(&all)).as_ptr(), rendered.as_ptr());
    }

    #[test]
    fn nothing_to_hide_gives_the_very_same_bytes() {
        let body = Bytes::from(format!("{}\n{}", line("1.0.0", ""), line("1.1.0+b", "")));
        for none in [&[][..], &["3.0.0"], &["1.1.0"]] {
            assert_eq!(hide(&body, &versions(none)).as_ptr(), body.as_ptr(), "{none:?}");
        }
        let binary = Bytes::from_static(b"\xff\n");
        assert_eq!(hide(&binary, &versions(&["1.0.0"])), binary);
    }

    proptest::proptest! {
        #[test]
        fn nothing_but_yanked_ever_changes(
            lines in proptest::collection::vec((0u64..4, 0usize..5, "[ \t]{0,2}"), 0..8),
            hidden in proptest::collection::hash_set(0u64..4, 0..4),
        ) {
            let fields = ["", r#","yanked":false"#, r#","yanked": true"#, r#", "yanked":null "#, r#","yanked":0"#];
            let text: String = lines.iter()
                .map(|(minor, field, space)| format!("{space}{}{space}\n", line(&format!("1.{minor}.0"), fields[*field])))
                .collect();
            let body = Bytes::from(text);
            let wanted: HashSet<CrateVersion> =
                hidden.iter().map(|minor| format!("1.{minor}.0").parse().unwrap()).collect();
            let rendered = hide(&body, &wanted);
            let (before, after) = (std::str::from_utf8(&body).unwrap(), std::str::from_utf8(&rendered).unwrap());
            assert_eq!(before.lines().count(), after.lines().count());
            for ((old, new), (minor, ..)) in before.lines().zip(after.lines()).zip(&lines) {
                if !hidden.contains(minor) {
                    assert_eq!(old, new);
                    continue;
                }
                let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
                let (mut old, new) = (read(old), read(new));
                old["yanked"] = true.into();
                assert_eq!(old, new);
            }
        }

        #[test]
        fn any_bytes_are_rendered(bytes in proptest::collection::vec(0u8..255, 0..200)) {
            let _ = hide(&Bytes::from(bytes), &versions(&["1.0.0"]));
        }
    }
}
