//! Complement's outcomes: read from Go's JSON test output, kept in a table, and compared from run to run.
//!
//! Everything here is pure: it takes and gives text. The binary `complement-report` does the reading and writing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use serde::Deserialize;

/// The first line of the table of results.
const RESULTS_HEADER: &str = "package\ttest\toutcome";

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It passed.
    Pass,
    /// It failed, or it started and never ended (a panic, a time-out, a killed run).
    Fail,
    /// It skipped itself.
    Skip,
}

impl Outcome {
    fn parse(word: &str) -> Option<Self> {
        match word {
            "pass" => Some(Self::Pass),
            "fail" => Some(Self::Fail),
            "skip" => Some(Self::Skip),
            _ => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Skip => "skip",
        })
    }
}

/// A test or a subtest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TestId {
    /// The Go package from its `tests` directory on, such as `tests/csapi`.
    pub package: String,
    /// The name that Go gives it; a subtest's is its parent's, a slash and its own.
    pub test: String,
}

impl TestId {
    /// Whether it is no subtest.
    pub fn is_top_level(&self) -> bool {
        !self.test.contains('/')
    }
}

impl fmt::Display for TestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.package, self.test)
    }
}

/// What can be wrong with a file handed to this module. Lines count from 1.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A line of Go's output looks like JSON and isn't an event.
    #[error("line {line}: not an event of `go test -json`: {source}")]
    Event {
        /// The line's number.
        line: usize,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// No line of Go's output tells of a test.
    #[error("no test ran: is this the output of `go test -json`?")]
    NoTests,
    /// A row of a table hasn't the expected columns.
    #[error("line {line}: expected {expected}")]
    Row {
        /// The line's number.
        line: usize,
        /// The columns that a row has.
        expected: &'static str,
    },
}

/// Outcomes by test, ordered as the table is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Results(BTreeMap<TestId, Outcome>);

/// An event of `go test -json`; the fields that are not needed are left out.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    action: String,
    #[serde(default)]
    package: String,
    #[serde(default)]
    test: String,
}

impl Results {
    /// Reads the output of one `go test -json`.
    ///
    /// Lines that aren't JSON (what the compiler prints) are passed over, and so is a last line that a kill cut off. A test without a final
    /// outcome failed.
    ///
    /// # Errors
    /// [`ReadError::Event`] for a broken event, [`ReadError::NoTests`] if no test ran.
    pub fn from_go_json(output: &str) -> Result<Self, ReadError> {
        let mut results = BTreeMap::new();
        for (index, line) in output.lines().enumerate() {
            if !line.starts_with('{') {
                continue;
            }
            let event: Event = match serde_json::from_str(line) {
                Ok(event) => event,
                Err(error) if error.is_eof() && output.ends_with(line) => break,
                Err(source) => return Err(ReadError::Event { line: index + 1, source }),
            };
            if event.test.is_empty() {
                continue;
            }
            let id = TestId { package: short_package(&event.package).to_owned(), test: event.test };
            match Outcome::parse(&event.action) {
                Some(outcome) => {
                    results.insert(id, outcome);
                }
                None if event.action == "run" => {
                    results.insert(id, Outcome::Fail);
                }
                None => {}
            }
        }
        if results.is_empty() { Err(ReadError::NoTests) } else { Ok(Self(results)) }
    }

    /// Reads the table that [`Results::to_tsv`] writes. An empty text is an empty table.
    ///
    /// # Errors
    /// [`ReadError::Row`] for a row that isn't package, test and outcome.
    pub fn from_tsv(table: &str) -> Result<Self, ReadError> {
        const EXPECTED: &str = "package, test and outcome (pass, fail or skip), separated by tabs";
        if table.lines().next().is_some_and(|heading| heading != RESULTS_HEADER) {
            return Err(ReadError::Row { line: 1, expected: EXPECTED });
        }
        let row = |(line, columns): (usize, Vec<&str>)| {
            let [package, test, outcome] = columns[..] else { return Err(ReadError::Row { line, expected: EXPECTED }) };
            let outcome = Outcome::parse(outcome).ok_or(ReadError::Row { line, expected: EXPECTED })?;
            Ok((id(package, test), outcome))
        };
        rows(table).map(row).collect::<Result<_, _>>().map(Self)
    }

    /// The table: a heading and a row for each test, sorted by package and test.
    pub fn to_tsv(&self) -> String {
        let mut table = format!("{RESULTS_HEADER}\n");
        for (TestId { package, test }, outcome) in &self.0 {
            writeln!(table, "{package}\t{test}\t{outcome}").expect("a string takes any text");
        }
        table
    }

    /// Takes over every outcome of `run`; tests that aren't in it keep theirs.
    pub fn merge(&mut self, run: Self) {
        self.0.extend(run.0);
    }

    /// The outcome of a test, if it ever ran.
    pub fn outcome(&self, id: &TestId) -> Option<Outcome> {
        self.0.get(id).copied()
    }

    /// What changed from `before` to these results.
    pub fn changes_since(&self, before: &Self) -> Changes {
        let mut changes = Changes::default();
        for (id, &after) in &self.0 {
            match before.outcome(id) {
                None => changes.new += 1,
                Some(was) if (was == Outcome::Pass) == (after == Outcome::Pass) => {}
                Some(Outcome::Pass) => changes.worse.push((id.clone(), after)),
                Some(_) => changes.better.push(id.clone()),
            }
        }
        changes
    }

    /// How many of the top-level tests passed.
    pub fn top_level(&self) -> Count {
        Count::of(self.0.iter().filter(|(id, _)| id.is_top_level()).map(|(_, outcome)| Some(*outcome)))
    }

    /// How many of the subtests, at any depth, passed.
    pub fn subtests(&self) -> Count {
        Count::of(self.0.iter().filter(|(id, _)| !id.is_top_level()).map(|(_, outcome)| Some(*outcome)))
    }
}

/// What changed between two results.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Tests that pass and did not.
    pub better: Vec<TestId>,
    /// Tests that passed and no longer do, with what they do now.
    pub worse: Vec<(TestId, Outcome)>,
    /// How many tests were never seen before.
    pub new: usize,
}

/// A number of tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Those that passed.
    pub passed: usize,
    /// All of them, whether they ran or not.
    pub total: usize,
}

impl Count {
    fn of(outcomes: impl Iterator<Item = Option<Outcome>>) -> Self {
        outcomes.fold(Self::default(), |count, outcome| Self {
            passed: count.passed + usize::from(outcome == Some(Outcome::Pass)),
            total: count.total + 1,
        })
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.passed, self.total)
    }
}

/// The parts of the suite: which top-level tests belong to which piece of work.
#[derive(Debug, Default)]
pub struct Parts(BTreeMap<String, BTreeSet<TestId>>);

impl Parts {
    /// Reads a table with a heading, in which the columns `part`, `package` and `test` are found by name.
    ///
    /// # Errors
    /// [`ReadError::Row`] if the heading lacks a column or a row is too short.
    pub fn from_tsv(table: &str) -> Result<Self, ReadError> {
        const EXPECTED: &str = "columns named part, package and test, separated by tabs";
        let heading: Vec<&str> = table.lines().next().unwrap_or_default().split('\t').collect();
        let column = |name| {
            heading.iter().position(|column| *column == name).ok_or(ReadError::Row { line: 1, expected: EXPECTED })
        };
        let (part, package, test) = (column("part")?, column("package")?, column("test")?);

        let mut parts: BTreeMap<String, BTreeSet<TestId>> = BTreeMap::new();
        for (line, row) in rows(table) {
            let cell = |index: usize| row.get(index).copied().ok_or(ReadError::Row { line, expected: EXPECTED });
            parts.entry(cell(part)?.to_owned()).or_default().insert(id(cell(package)?, cell(test)?));
        }
        Ok(Self(parts))
    }

    /// How many tests of each part passed, and which did not (or never ran).
    pub fn counts(&self, results: &Results) -> Vec<PartCount> {
        let outcome = |id| results.outcome(id);
        self.0
            .iter()
            .map(|(part, tests)| PartCount {
                part: part.clone(),
                count: Count::of(tests.iter().map(outcome)),
                missing: tests.iter().filter(|id| outcome(id) != Some(Outcome::Pass)).cloned().collect(),
            })
            .collect()
    }
}

/// One part of the suite in the summary.
#[derive(Debug, PartialEq, Eq)]
pub struct PartCount {
    /// The part's name.
    pub part: String,
    /// How many of its top-level tests passed.
    pub count: Count,
    /// Those that did not pass.
    pub missing: Vec<TestId>,
}

/// The rows of a table below its heading, with their line numbers, split at tabs.
fn rows(table: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    table.lines().enumerate().skip(1).map(|(index, line)| (index + 1, line.split('\t').collect()))
}

fn id(package: &str, test: &str) -> TestId {
    TestId { package: package.to_owned(), test: test.to_owned() }
}

/// Cuts the module's path off a package's: `example.org/suite/tests/csapi` is `tests/csapi`.
fn short_package(package: &str) -> &str {
    package
        .match_indices("tests")
        .find(|(at, word)| {
            let (before, after) = (&package[..*at], &package[at + word.len()..]);
            (before.is_empty() || before.ends_with('/')) && (after.is_empty() || after.starts_with('/'))
        })
        .map_or(package, |(at, _)| &package[at..])
}

#[cfg(test)]
mod tests;
