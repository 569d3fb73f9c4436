use std::path::Path;

use super::*;

/// Set to `1`, it makes the test below write the table instead of comparing it.
const WRITE: &str = "CRATEHOUSE_WRITE_DOCS";

const PREFACE: &str = "\
# Metrics

The admin listener serves them at `/metrics` ([how to scrape](../deploy/README.md#monitoring)). This
page is made from `crates/core/src/metrics.rs`, and a test keeps it so. Values of a label in the table are
all that it can have, and exist from the start, at 0; a label without any is open.

| name | kind | labels | what it says |
|---|---|---|---|
";

fn page() -> String {
    let rows = DESCRIBED.iter().map(|metric| {
        let labels: Vec<_> = metric.labels.iter().map(label).collect();
        let Described { name, kind, help, .. } = metric;
        format!("| `{name}` | {kind} | {} | {help} |\n", labels.join("; "))
    });
    PREFACE.to_owned() + &rows.collect::<String>()
}

fn label(label: &Label) -> String {
    let values: Vec<_> = label.values.iter().map(|value| format!("`{value}`")).collect();
    match values.is_empty() {
        true => format!("`{}`", label.name),
        false => format!("`{}`: {}", label.name, values.join(" ")),
    }
}

#[test]
fn the_table_in_the_documents_is_this_list() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/metrics.md is not what metrics.rs says; this writes it anew:\n\
         {WRITE}=1 cargo test -p cratehouse-core --lib the_table_in_the_documents"
    );
}

#[test]
fn a_help_text_is_its_fields_doc_comment_in_one_line() {
    let described = DESCRIBED.iter().find(|it| it.name == "cratehouse_http_request_seconds");
    assert_eq!(
        described.unwrap().help,
        "Requests by route and status (499: the client left first), with the time to the end of \
         the response head."
    );
}

#[test]
fn what_is_rare_is_counted_from_zero() {
    let families = Metrics::new().unwrap().registry.gather();
    let alarms = families.iter().find(|family| family.name() == "cratehouse_alarms_total").unwrap();
    assert_eq!(alarms.get_metric().len(), 10);
    assert!(alarms.get_metric().iter().all(|one| one.get_counter().get_value() == 0.0));
}

#[test]
fn every_metric_says_what_it_is_in_a_sentence() {
    for Described { name, help, .. } in DESCRIBED {
        assert!(
            help.ends_with('.') && !help.contains('|') && !help.contains("  "),
            "{name}: {help}"
        );
        assert!(name.starts_with("cratehouse_") || name.starts_with("process_"), "{name}");
    }
}
