//! What a run leaves: a table for people, JSON for programs, and whether the bounds hold.

use std::path::Path;
use std::process::Command;
use std::{fmt, fs};

use serde::Serialize;
use serde_json::{Value, json};

use crate::Result;

/// The outcome of a run.
#[derive(Debug)]
pub(crate) struct Report {
    run: &'static str,
    machine: Machine,
    /// What the run was asked for.
    options: Value,
    columns: &'static [&'static str],
    rows: Vec<Row>,
    bounds: Vec<Bound>,
    notes: Vec<String>,
}

/// One measured case.
#[derive(Debug)]
struct Row {
    cells: Vec<String>,
    json: Value,
}

/// A number that the project has promised.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Bound {
    /// What was measured, with its unit.
    pub(crate) what: String,
    /// The number.
    pub(crate) measured: f64,
    /// What it must be.
    pub(crate) must_be: MustBe,
}

/// What a number must be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MustBe {
    /// Greater than this.
    Above(f64),
    /// Less than this.
    Below(f64),
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

/// What the numbers were measured on.
#[derive(Debug, Serialize)]
struct Machine {
    cpu: String,
    cores: usize,
    memory_mib: u64,
    kernel: String,
    /// The load average of the last minute before the run: what others did.
    load_before: String,
    build: String,
    /// What took part beside the gateway, with its version.
    tools: Vec<String>,
}

impl Report {
    /// An empty one. `columns` are those of the table.
    pub(crate) fn begin(
        run: &'static str,
        options: &impl Serialize,
        columns: &'static [&'static str],
    ) -> Result<Self> {
        let (rows, bounds, notes) = (Vec::new(), Vec::new(), Vec::new());
        let options = serde_json::to_value(options)?;
        Ok(Self { run, machine: Machine::this(), options, columns, rows, bounds, notes })
    }

    /// With more that took part, beside the compiler, each with its version.
    pub(crate) fn using(mut self, tools: Vec<String>) -> Self {
        self.machine.tools.extend(tools);
        self
    }

    /// Adds a measured case, and says so at once, because the next may take a while.
    pub(crate) fn row(&mut self, cells: Vec<String>, json: &impl Serialize) -> Result<()> {
        let named = self.columns.iter().zip(&cells).map(|(name, cell)| format!("{name} {cell}"));
        eprintln!("{}: {}", self.run, named.collect::<Vec<_>>().join(", "));
        self.rows.push(Row { cells, json: serde_json::to_value(json)? });
        Ok(())
    }

    /// Adds a number that is bounded.
    pub(crate) fn bound(&mut self, what: impl Into<String>, measured: f64, must_be: MustBe) {
        self.bounds.push(Bound { what: what.into(), measured, must_be });
    }

    /// Adds a sentence below the table.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Whether every bound holds.
    pub(crate) fn holds(&self) -> bool {
        self.bounds.iter().all(Bound::holds)
    }

    /// Writes it as JSON.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let bounds =
            self.bounds.iter().map(|bound| json!({ "bound": bound, "holds": bound.holds() }));
        let all = json!({
            "run": self.run,
            "machine": self.machine,
            "options": self.options,
            "cases": self.rows.iter().map(|row| &row.json).collect::<Vec<_>>(),
            "bounds": bounds.collect::<Vec<_>>(),
            "notes": self.notes,
        });
        save(path, &format!("{all:#}\n"))
    }

    /// Writes it as a section of a Markdown page.
    pub(crate) fn write_markdown(&self, path: &Path) -> Result<()> {
        save(path, &self.markdown())
    }

    fn markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let titles = self.columns.iter().map(ToString::to_string).collect();
        let machine = self.machine.to_string().replace('\n', ".\n");
        let mut text = format!("## `{}`\n\n{machine}.\n\n{}", self.run, line(titles));
        text += &format!("|---|{}\n", "---:|".repeat(self.columns.len().saturating_sub(1)));
        text.extend(self.rows.iter().map(|row| line(row.cells.clone())));
        text.extend(self.notes.iter().map(|note| format!("\n{note}\n")));
        if !self.bounds.is_empty() {
            text += "\n| bound | measured | must be | |\n|---|---:|---:|---|\n";
        }
        text.extend(self.bounds.iter().map(|bound| {
            let verdict = if bound.holds() { "holds" } else { "**broken**" };
            let Bound { what, measured, .. } = bound;
            line(vec![what.clone(), format!("{measured:.1}"), bound.wanted(), verdict.to_owned()])
        }));
        text
    }
}

fn save(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()).into())
}

impl Bound {
    fn holds(&self) -> bool {
        match self.must_be {
            MustBe::Above(limit) => self.measured > limit,
            MustBe::Below(limit) => self.measured < limit,
            MustBe::AtMost(limit) => self.measured <= limit,
            MustBe::AtLeast(limit) => self.measured >= limit,
        }
    }
}

impl Bound {
    /// `less than 5`.
    fn wanted(&self) -> String {
        let (words, limit) = match self.must_be {
            MustBe::Above(limit) => ("more than", limit),
            MustBe::Below(limit) => ("less than", limit),
            MustBe::AtMost(limit) => ("at most", limit),
            MustBe::AtLeast(limit) => ("at least", limit),
        };
        format!("{words} {limit}")
    }
}

impl Machine {
    fn this() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let kib = memory.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok());
        let load = read("/proc/loadavg");
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: kib.unwrap_or_default() / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_before: load.split_whitespace().next().unwrap_or_default().to_owned(),
            build: build(),
            tools: rustc().into_iter().collect(),
        }
    }
}

/// The profile that this program, and so the gateway, was built with.
fn build() -> String {
    let profile = crate::corpus::profile().unwrap_or_default();
    profile.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What the compiler at hand calls itself: the one that built what is measured.
fn rustc() -> Option<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
    let output = Command::new(rustc).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned()).filter(|text| !text.is_empty())
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cores, memory_mib, kernel, load_before, build, tools } = self;
        writeln!(f, "{build} build, {cores} cores of {cpu}, {memory_mib} MiB, Linux {kernel}")?;
        write!(f, "{}; load before: {load_before}", tools.join(", "))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}: {}\n", self.run, self.machine)?;
        let titles: Vec<String> = self.columns.iter().map(ToString::to_string).collect();
        let lines: Vec<&Vec<String>> =
            std::iter::once(&titles).chain(self.rows.iter().map(|row| &row.cells)).collect();
        for line in &lines {
            for (nth, cell) in line.iter().enumerate() {
                let cells = lines.iter().filter_map(|line| line.get(nth));
                let width = cells.map(|cell| cell.chars().count()).max().unwrap_or_default();
                write!(f, "{}{cell:>width$}", if nth == 0 { "" } else { "  " })?;
            }
            writeln!(f)?;
        }
        writeln!(f)?;
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))?;
        self.bounds.iter().try_for_each(|bound| writeln!(f, "{bound}"))
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.holds() { "HOLDS " } else { "BROKEN" };
        write!(f, "{verdict}  {}: {:.1}, must be {}", self.what, self.measured, self.wanted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::begin("test", &json!({"n": 1}), &["case", "rate"]).unwrap();
        report.row(vec!["a".to_owned(), "1000".to_owned()], &json!({"rate": 1000})).unwrap();
        report
    }

    #[test]
    fn a_bound_is_strict_where_its_words_are() {
        let bound = |measured, must_be| Bound { what: String::new(), measured, must_be }.holds();
        assert!(bound(101.0, MustBe::Above(100.0)) && !bound(100.0, MustBe::Above(100.0)));
        assert!(bound(4.9, MustBe::Below(5.0)) && !bound(5.0, MustBe::Below(5.0)));
        assert!(bound(20.0, MustBe::AtMost(20.0)) && !bound(20.1, MustBe::AtMost(20.0)));
        assert!(bound(20.0, MustBe::AtLeast(20.0)) && !bound(19.9, MustBe::AtLeast(20.0)));
        assert!(!bound(f64::NAN, MustBe::AtMost(20.0)), "what was not measured does not hold");
    }

    #[test]
    fn one_broken_bound_breaks_the_run_and_is_named() {
        let mut report = report();
        assert!(report.holds());
        report.bound("start in seconds", 4.0, MustBe::Below(5.0));
        assert!(report.holds());
        report.bound("resident MB", 151.0, MustBe::Below(150.0));
        assert!(!report.holds());
        let text = report.to_string();
        assert!(text.contains("HOLDS   start in seconds: 4.0, must be less than 5\n"), "{text}");
        assert!(text.contains("BROKEN  resident MB: 151.0, must be less than 150\n"), "{text}");
    }

    #[test]
    fn a_page_has_the_table_and_the_bounds() {
        let mut report = report().using(vec!["nginx/1".to_owned()]);
        report.note("A note.");
        report.bound("start in seconds", 4.0, MustBe::Below(5.0));
        report.bound("% of the rate", 99.0, MustBe::AtLeast(100.0));
        let text = report.markdown();
        assert!(text.starts_with("## `test`\n\n") && text.contains("nginx/1"), "{text}");
        assert!(
            text.contains("\n| case | rate |\n|---|---:|\n| a | 1000 |\n\nA note.\n"),
            "{text}"
        );
        assert!(text.contains("| start in seconds | 4.0 | less than 5 | holds |\n"), "{text}");
        assert!(text.contains("| % of the rate | 99.0 | at least 100 | **broken** |\n"), "{text}");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let text = report().to_string();
        assert!(text.contains("\ncase  rate\n   a  1000\n"), "{text}");
    }
}
