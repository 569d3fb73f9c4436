use std::convert::Infallible;
use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

/// Notes all that it sees, a line each.
#[derive(Default)]
struct Notes(String);

impl Notes {
    fn note(&mut self, mark: char, at: Place<'_>, node: Node<'_>) {
        let _ = writeln!(self.0, "{mark}{} {} {node:?}", at.arrays, at.keys.join("/"));
    }
}

impl Visitor for Notes {
    type Error = Infallible;

    fn value(&mut self, at: Place<'_>, node: Node<'_>) -> Result<(), Infallible> {
        self.note('=', at, node);
        Ok(())
    }

    fn item(&mut self, at: Place<'_>, node: Node<'_>) -> Result<(), Infallible> {
        self.note('-', at, node);
        Ok(())
    }
}

fn notes(text: &str) -> Result<String, TomlError> {
    let mut notes = Notes::default();
    match walk(text, MANIFEST, &mut notes) {
        Ok(()) => Ok(notes.0),
        Err(Stopped::Toml(error)) => Err(error),
        Err(Stopped::Visitor(never)) => match never {},
    }
}

fn error(text: &str) -> TomlError {
    notes(text).unwrap_err()
}

#[test]
fn every_value_is_seen_with_its_place() {
    let text = "a = 1\nb.c = 'x' # why\n[d.\"e\\u0066\"]\nf = [true, [2], {g.h = \"\"\"\ny\"\"\"}]\n\
                i = { j = {} }\n[[k]]\nl = 1979-05-27\n[[k]]\n[k.m]\n[[k.n]]\no = ''\n";
    let seen = "=0 a Other\n=0 b/c Text(\"x\")\n=0 d/ef Table\n=0 d/ef/f Array\n\
                -0 d/ef/f Bool(true)\n-0 d/ef/f Array\n-1 d/ef/f Other\n-0 d/ef/f Table\n\
                =1 d/ef/f/g/h Text(\"y\")\n=0 d/ef/i Table\n=0 d/ef/i/j Table\n\
                =0 k Array\n-0 k Table\n=1 k/l Other\n-0 k Table\n=1 k/m Table\n\
                =1 k/n Array\n-1 k/n Table\n=2 k/n/o Text(\"\")\n";
    assert_eq!(notes(text).unwrap(), seen);
}

#[test]
fn what_is_wrong_is_told_with_its_line_and_without_its_words() {
    for (text, line) in [
        ("a = 1\nb = secret", 2),
        ("a = [1,\n2\n", 2),
        ("\na = 1\na = 2", 3),
        ("[a]\n[a]", 2),
        ("a = 'x\n'", 1),
        ("a = 2024-13-01", 1),
        ("x\n\n", 1),
    ] {
        let error = error(text);
        assert_eq!(error.line, line, "{text}: {error}");
        assert!(!error.why.contains("secret"), "{error}");
    }
}

#[test]
fn keys_depth_and_expressions_are_bounded() {
    let keys = |n: usize| (0..n).map(|n| format!("k{n}=0\n")).collect::<String>();
    assert!(notes(&keys(MANIFEST.keys)).is_ok());
    assert!(error(&keys(MANIFEST.keys + 1)).why.contains("more than 20000 keys"));
    for (open, close) in [("[", "]"), ("{a=", "}")] {
        let nested = |n: usize| format!("x = {}0{}", open.repeat(n), close.repeat(n));
        assert!(notes(&nested(MANIFEST.depth - 1)).is_ok());
        assert!(error(&nested(MANIFEST.depth)).why.contains("levels deep"));
        assert!(error(&nested(100_000)).why.contains("more than"));
    }
    for dotted in [format!("{}b = 1", "a.".repeat(32)), format!("[{}b]", "a.".repeat(32))] {
        assert!(error(&dotted).why.contains("levels deep"));
    }
    assert!(error(&format!("x = [{}]", "1,".repeat(40_000))).why.contains("tokens"));
}

#[test]
fn keys_that_were_written_already_are_refused_as_by_the_toml_crate() {
    for text in [
        "a = 1\na.b = 2",
        "a.b = 1\na.c = 2",
        "a.b = 1\n[a]",
        "a = {}\na.b = 1",
        "a = {}\n[a.b]",
        "[a.b]\n[a]\nc = 1",
        "[a.b]\n[a]\nb.c = 1",
        "[a.b.c]\n[a]\nb.d = 1",
        "[a]\nb.c = 1\n[a.b.d]",
        "[a]\nb.c = 1\n[a.b]",
        "[[a]]\n[a]",
        "[a]\n[[a]]",
        "a = []\n[[a]]",
        "[[a]]\nb = 1\n[[a]]\nb = 2\n[a.c]\n[[a]]\n[a.c]",
        "[a]\n[a.b]\n[a]",
        "a = {b.c = 1, b.d = 2}",
        "a = {b = 1, b = 2}",
        "a = {b = {}, b.c = 2}",
        "\"a\" = 1\na = 2",
        "[a.b]\n[a.\"\\u0062\"]",
        "[x.y.z]\n[x]\n[x.y]",
    ] {
        assert_eq!(notes(text).is_ok(), toml::from_str::<toml::Table>(text).is_ok(), "{text}");
    }
}

/// Pieces that hostile and ordinary texts are made of.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "b",
        "c",
        "'d'",
        "\"e\"",
        ".",
        "=",
        "= 1",
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        ",",
        "\n",
        "\n[a]\n",
        "\n[a.b]\n",
        "\n[[a]]\n",
        "\na = 1\n",
        "\nb.c = 1\n",
        "\nc = {a = 1, b.c = 2}\n",
        " ",
        "#x",
        "true",
        "'x'",
        "\"\\u0041\"",
        "\"\"\"",
        "'''",
        "\r\n",
        "\r",
        "1979-05-27",
        "0x",
        "0o7",
        "-0b",
        "9223372036854775808",
        "1e",
        "é",
        "a = [1, {b = 2}]",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// A text whose one odd thing is a dotted key through an array of tables, which is refused here alone.
fn dots_through_tables(text: &str) -> bool {
    text.contains("[[")
}

#[test]
fn numbers_that_are_none_are_refused() {
    for text in ["a=0x", "a = 0b", "a = 9223372036854775808", "a = -", "a = 1e"] {
        assert!(notes(text).is_err(), "{text}");
        assert!(toml::from_str::<toml::Table>(text).is_err(), "{text}");
    }
    assert!(notes("a = [0xff, 0o17, -9223372036854775808, 1_000, +1, 1e3, -inf, nan]").is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn what_is_taken_is_what_the_toml_crate_takes(text in pieces()) {
        let (here, there) = (notes(&text), toml::from_str::<toml::Table>(&text));
        match (&here, &there) {
            (Err(_), Ok(_)) if dots_through_tables(&text) => {}
            _ => prop_assert_eq!(here.is_ok(), there.is_ok(), "{:?}: {:?} {:?}", text, here, there),
        }
    }

    #[test]
    fn any_text_is_walked_or_refused(text in ".{0,200}") {
        let _ = notes(&text);
    }
}
