//! What an operator sees of the store on `/metrics`.

use std::time::Duration;

use metrics::{Unit, counter, gauge, histogram};
use primitives::StreamPosition;

use crate::CommitError;

/// Describes every number.
pub(crate) fn describe() {
    metrics::describe_counter!("sundial_storage_batches_total", "Batches that were committed or refused, by outcome");
    metrics::describe_histogram!("sundial_storage_group_batches", "How many batches were committed at once");
    metrics::describe_histogram!(
        "sundial_storage_commit_seconds",
        Unit::Seconds,
        "How long callers waited for a batch to be durable"
    );
    metrics::describe_gauge!("sundial_storage_position", "The stream position of the newest batch");
}

/// Counts a group.
#[expect(clippy::cast_precision_loss, reason = "a group has at most 256 batches, and a gauge is exact up to 2⁵³")]
pub(crate) fn group(outcomes: &[Result<StreamPosition, CommitError>], last: StreamPosition) {
    let written = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    counter!("sundial_storage_batches_total", "outcome" => "written").increment(written as u64);
    counter!("sundial_storage_batches_total", "outcome" => "conflict").increment((outcomes.len() - written) as u64);
    histogram!("sundial_storage_group_batches").record(outcomes.len() as f64);
    gauge!("sundial_storage_position").set(last.0 as f64);
}

/// Records how long one caller waited.
pub(crate) fn waited(latency: Duration) {
    histogram!("sundial_storage_commit_seconds").record(latency.as_secs_f64());
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::{Arc, Mutex, atomic::AtomicU64, atomic::Ordering},
    };

    use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString};

    use super::*;

    /// Keeps the numbers by name and labels; of histograms it counts the samples.
    #[derive(Default)]
    struct Numbers(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

    impl Numbers {
        fn number(&self, key: &Key) -> Arc<AtomicU64> {
            let labels: Vec<_> = key.labels().map(|label| format!(" {}", label.value())).collect();
            let mut numbers = self.0.lock().expect("not poisoned");
            Arc::clone(numbers.entry(format!("{}{}", key.name(), labels.concat())).or_default())
        }
    }

    struct Samples(Arc<AtomicU64>);

    impl metrics::HistogramFn for Samples {
        fn record(&self, _: f64) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Recorder for Numbers {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(self.number(key))
        }
        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }
        fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::from_arc(Arc::new(Samples(self.number(key))))
        }
    }

    #[test]
    fn a_group_is_counted_by_outcome() {
        let numbers = Numbers::default();
        metrics::with_local_recorder(&numbers, || {
            describe();
            let written = || Ok(StreamPosition(7));
            group(&[written(), Err(CommitError::Conflict(0)), written()], StreamPosition(7));
            waited(Duration::from_millis(1));
        });
        let numbers = numbers.0.into_inner().expect("not poisoned");
        let shown: Vec<_> = numbers.iter().map(|(name, n)| format!("{name} {}", n.load(Ordering::Relaxed))).collect();
        let expected = [
            "sundial_storage_batches_total conflict 1",
            "sundial_storage_batches_total written 2",
            "sundial_storage_commit_seconds 1",
            "sundial_storage_group_batches 1",
        ];
        assert_eq!(shown, expected);
    }
}
