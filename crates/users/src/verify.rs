//! Checking what is stored of keys, reading only: every key belongs to a device, and what is counted is there.

use std::{collections::BTreeMap, fmt};

use primitives::UserNid;
use storage::{
    Direction, KeyRange, ReadError, Text, View,
    schema::{
        keys::{DeviceKeyStateRow, DeviceKeyStates, DeviceKeys, OneTimeKeyIds, OneTimeKeys},
        users::Devices,
    },
};

use crate::Users;

/// Faults that a report lists; of more it only says how many.
const MAX_LISTED: usize = 100;
/// Rows that one page of a scan reads.
const PAGE: usize = 500;

/// What a check of keys found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Devices with identity keys.
    pub devices: u64,
    /// One-time keys that nobody has claimed.
    pub one_time_keys: u64,
    /// The first faults.
    pub faults: Vec<String>,
    /// How many faults there are.
    pub fault_count: u64,
}

impl Report {
    /// Whether there is no fault.
    pub fn is_whole(&self) -> bool {
        self.fault_count == 0
    }

    fn fault(&mut self, what: String) {
        self.fault_count += 1;
        if self.faults.len() < MAX_LISTED {
            self.faults.push(what);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { devices, one_time_keys, faults, fault_count } = self;
        write!(f, "devices with keys: {devices}, one-time keys: {one_time_keys}, faults: {fault_count}")?;
        for fault in faults {
            write!(f, "\n{fault}")?;
        }
        let unlisted = fault_count - faults.len() as u64;
        if unlisted > 0 { write!(f, "\nand {unlisted} more") } else { Ok(()) }
    }
}

impl Users {
    /// Checks what is stored. Writes nothing. For a store that is not being written.
    ///
    /// # Errors
    /// A store that can't be read.
    pub async fn verify(&self) -> Result<Report, ReadError> {
        let (view, mut report) = (self.view(), Report::default());
        let mut rest = Some(KeyRange::prefix(&()));
        while let Some(range) = rest {
            let page = view.scan_keys::<DeviceKeys>(&range, PAGE, Direction::Forward).await?;
            for device in &page.keys {
                report.devices += 1;
                if !view.contains::<Devices>(device).await? {
                    report.fault(format!("user {}: the device {} has keys and is not there", device.0, device.1.0));
                }
            }
            rest = page.rest;
        }
        let mut rest = Some(KeyRange::prefix(&()));
        while let Some(range) = rest {
            let page = view.scan::<DeviceKeyStates>(&range, PAGE, Direction::Forward).await?;
            for (device, state) in page.rows {
                verify_given_away(&view, &device, state, &mut report).await?;
            }
            rest = page.rest;
        }
        Ok(report)
    }
}

/// The one-time keys of a device: as many as are counted, each with its id.
async fn verify_given_away(
    view: &View,
    device: &(UserNid, Text),
    state: DeviceKeyStateRow,
    report: &mut Report,
) -> Result<(), ReadError> {
    let name = format!("user {}, device {}", device.0, device.1.0);
    let (mut counts, mut ids) = (BTreeMap::<String, u32>::new(), BTreeMap::new());
    let mut claimed = 0_u32;
    let mut rest = Some(KeyRange::prefix(device));
    while let Some(range) = rest {
        let page = view.scan::<OneTimeKeyIds>(&range, PAGE, Direction::Forward).await?;
        for ((.., algorithm, id), row) in page.rows {
            claimed += u32::from(row.value.claimed);
            ids.insert((algorithm.0, id.0), row.value.claimed);
        }
        rest = page.rest;
    }
    let mut rest = Some(KeyRange::prefix(device));
    while let Some(range) = rest {
        let page = view.scan::<OneTimeKeys>(&range, PAGE, Direction::Forward).await?;
        for ((_, _, algorithm, ..), row) in page.rows {
            report.one_time_keys += 1;
            *counts.entry(algorithm.0.clone()).or_default() += 1;
            if ids.get(&(algorithm.0, row.key_id.clone())) != Some(&false) {
                report
                    .fault(format!("{name}: the one-time key {} is there, and was claimed or never came", row.key_id));
            }
        }
        rest = page.rest;
    }
    if counts != state.counts.into_iter().collect() {
        report.fault(format!("{name}: other one-time keys are counted than are there"));
    }
    if claimed != state.claimed {
        report.fault(format!("{name}: {} claimed keys are counted, and {claimed} remembered", state.claimed));
    }
    Ok(())
}
