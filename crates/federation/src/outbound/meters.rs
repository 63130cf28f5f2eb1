//! What an operator sees on `/metrics`.

use metrics::{counter, gauge};

/// Names every number.
pub(super) fn describe() {
    metrics::describe_gauge!("sundial_federation_queued_pdus", "Events that wait in memory for other servers");
    metrics::describe_gauge!(
        "sundial_federation_servers_behind",
        "Servers that can't be reached or keep up: they will be sent the newest event of each room"
    );
    metrics::describe_counter!(
        "sundial_federation_transactions_total",
        "Transactions to other servers by outcome: sent, failed (sent again later), refused (for their content)"
    );
    metrics::describe_counter!("sundial_federation_sent_pdus_total", "Events that other servers have acknowledged");
    metrics::describe_counter!("sundial_federation_sent_edus_total", "EDUs that other servers have acknowledged");
    metrics::describe_counter!("sundial_federation_poison_total", "PDUs and EDUs that a server refused and never gets");
    metrics::describe_counter!("sundial_federation_dropped_edus_total", "Ephemeral EDUs for which there was no room");
    metrics::describe_counter!("sundial_federation_fell_behind_total", "How often a server fell behind");
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
pub(super) fn levels((queued, behind): (usize, usize)) {
    gauge!("sundial_federation_queued_pdus").set(queued as f64);
    gauge!("sundial_federation_servers_behind").set(behind as f64);
}

pub(super) fn sent(pdus: usize, edus: usize) {
    counter!("sundial_federation_transactions_total", "outcome" => "sent").increment(1);
    counter!("sundial_federation_sent_pdus_total").increment(pdus as u64);
    counter!("sundial_federation_sent_edus_total").increment(edus as u64);
}

pub(super) fn failed() {
    counter!("sundial_federation_transactions_total", "outcome" => "failed").increment(1);
}

pub(super) fn refused() {
    counter!("sundial_federation_transactions_total", "outcome" => "refused").increment(1);
}

pub(super) fn poison() {
    counter!("sundial_federation_poison_total").increment(1);
}

pub(super) fn dropped_edu() {
    counter!("sundial_federation_dropped_edus_total").increment(1);
}

pub(super) fn fell_behind() {
    counter!("sundial_federation_fell_behind_total").increment(1);
}
