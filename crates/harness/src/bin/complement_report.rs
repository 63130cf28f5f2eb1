//! `complement-report`: folds Go's JSON test output into the table of Complement's results, prints what got better and
//! worse, and fails if a test that passed before no longer does.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use harness::complement::{Changes, PartCount, Parts, Results};

/// Fold Go's JSON test output into the table of Complement's results.
#[derive(Parser)]
#[command(name = "complement-report")]
struct Arguments {
    /// The table, read first if it exists and then rewritten.
    #[arg(long, value_name = "TSV", default_value = "complement/results.tsv")]
    results: PathBuf,
    /// A table with columns `part`, `package` and `test`: the summary then counts each part.
    #[arg(long, value_name = "TSV")]
    parts: Option<PathBuf>,
    /// Names the tests of this part that don't pass yet; may be given several times.
    #[arg(long, value_name = "PART", requires = "parts")]
    missing: Vec<String>,
    /// Outputs of `go test -json`; a test in several takes its outcome from the last.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let before =
        if arguments.results.exists() { read(&arguments.results, Results::from_tsv)? } else { Results::default() };
    let parts = arguments.parts.as_deref().map(|path| read(path, Parts::from_tsv)).transpose()?;
    let mut after = before.clone();
    for file in &arguments.files {
        after.merge(read(file, Results::from_go_json)?);
    }
    std::fs::write(&arguments.results, after.to_tsv())
        .with_context(|| format!("cannot write {}", arguments.results.display()))?;

    let counts = parts.map(|parts| parts.counts(&after)).unwrap_or_default();
    let changes = after.changes_since(&before);
    io::stdout().lock().write_all(report(&changes, &after, &counts, &arguments.missing).as_bytes())?;
    Ok(if changes.worse.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read<T>(path: &Path, parse: impl Fn(&str) -> Result<T, harness::complement::ReadError>) -> anyhow::Result<T> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    // A server's log inside the output may hold any byte; the events themselves are ASCII.
    parse(&String::from_utf8_lossy(&bytes)).with_context(|| path.display().to_string())
}

fn report(changes: &Changes, after: &Results, parts: &[PartCount], missing: &[String]) -> String {
    let mut text = String::new();
    let line =
        |text: &mut String, line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("a string takes any text");
    for id in &changes.better {
        line(&mut text, format_args!("better  {id}"));
    }
    for (id, outcome) in &changes.worse {
        line(&mut text, format_args!("WORSE   {id} ({outcome})"));
    }
    for part in parts {
        line(&mut text, format_args!("part {}: {} top-level tests pass", part.part, part.count));
        for id in part.missing.iter().filter(|_| missing.contains(&part.part)) {
            line(&mut text, format_args!("        not yet {id}"));
        }
    }
    line(
        &mut text,
        format_args!(
            "{} better, {} worse, {} new; {} top-level tests pass, {} subtests",
            changes.better.len(),
            changes.worse.len(),
            changes.new,
            after.top_level(),
            after.subtests()
        ),
    );
    text
}
