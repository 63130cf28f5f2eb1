//! Figures and how they are shown.

use std::{fmt, time::Duration};

use hdrhistogram::Histogram;

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
    /// Reported only.
    None,
}

/// One measured figure.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The value.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// What it should be.
    pub goal: Goal,
    /// The server's peak resident memory meanwhile, in MiB.
    pub peak_mib: Option<f64>,
}

impl Figure {
    /// A figure without a memory reading.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str, goal: Goal) -> Self {
        Self { name: name.into(), value, unit, goal, peak_mib: None }
    }

    /// The same with the server's peak memory.
    #[must_use]
    pub fn peak(mut self, kib: u64) -> Self {
        self.peak_mib = Some(mib(kib));
        self
    }

    fn verdict(&self) -> &'static str {
        match self.goal {
            Goal::AtMost(goal) if self.value <= goal => "met",
            Goal::AtLeast(goal) if self.value >= goal => "met",
            Goal::None => "",
            _ => "MISSED",
        }
    }
}

/// KiB as MiB.
#[expect(clippy::cast_precision_loss, reason = "memory sizes are far below 2^53")]
pub(super) fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// Figures in the order in which they were measured.
#[derive(Clone, Debug, Default)]
pub struct Table(Vec<Figure>);

impl Table {
    /// Adds a figure and prints it at once, so that a run that is broken off has said what it knew.
    pub fn add(&mut self, figure: Figure) {
        println!("  {}: {:.3} {}", figure.name, figure.value, figure.unit);
        self.0.push(figure);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| figure | value | unit | goal | verdict | peak RSS (MiB) |\n|---|---:|---|---|---|---:|")?;
        for figure in &self.0 {
            let goal = match figure.goal {
                Goal::AtMost(goal) => format!("≤ {goal}"),
                Goal::AtLeast(goal) => format!("≥ {goal}"),
                Goal::None => String::new(),
            };
            let peak = figure.peak_mib.map(|peak| format!("{peak:.1}")).unwrap_or_default();
            writeln!(
                f,
                "| {} | {:.3} | {} | {goal} | {} | {peak} |",
                figure.name,
                figure.value,
                figure.unit,
                figure.verdict()
            )?;
        }
        Ok(())
    }
}

/// Latencies, to the microsecond.
#[derive(Clone, Debug)]
pub(super) struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        // Up to ten minutes; what is longer counts as that.
        Self(Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds and the precision are valid"))
    }
}

impl Latencies {
    /// Adds one.
    pub(super) fn add(&mut self, span: Duration) {
        self.0.saturating_record(u64::try_from(span.as_micros()).unwrap_or(u64::MAX));
    }

    /// The latency that `quantile` (0 to 1) of all stay below, in milliseconds.
    #[expect(clippy::cast_precision_loss, reason = "latencies are far below 2^53 µs")]
    pub(super) fn ms(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1_000.0
    }
}
