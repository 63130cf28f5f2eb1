//! Lists of devices in a crash run: who looks at a list whenever they are told that it changed has it as it is, and no list's stream goes backwards.

use std::{collections::BTreeMap, path::Path};

use primitives::{Random, ServerKey, StreamPosition, SystemClock, UserNid};
use serde_json::{Map, Value, json};
use storage::{Direction, KeyRange, Storage, schema::remote_devices::DeviceStreams};

use super::{User, ledger::Ledger, verify::Outcome};
use crate::client::{CallError, Client};

/// Rows that one page of a scan reads.
const PAGE: usize = 1_000;

/// The names of the users' only devices, as their lists tell them, by user id.
pub(super) type Names = BTreeMap<String, String>;

/// Lets every user have a list: a device is in it when it has keys.
pub(super) async fn begin(client: &Client, device: &str) -> Result<(), CallError> {
    let public = ServerKey::generate(&Random::os()).public_base64();
    let keys = json!({
        "user_id": client.user_id, "device_id": device, "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
        "keys": { format!("ed25519:{device}"): public, format!("curve25519:{device}"): public }, "signatures": {},
    });
    client.upload_keys(json!({ "device_keys": keys })).await
}

/// Looks at the lists of some users.
pub(super) async fn look(client: &Client, users: impl IntoIterator<Item = &String>) -> Result<Names, CallError> {
    let wanted: Map<String, Value> = users.into_iter().map(|user| (user.clone(), json!([]))).collect();
    if wanted.is_empty() {
        return Ok(Names::new());
    }
    let answer = client.query_keys(wanted.into()).await?;
    let mut names = Names::new();
    for (user, devices) in answer["device_keys"].as_object().into_iter().flatten() {
        for device in devices.as_object().into_iter().flat_map(|devices| devices.values()) {
            let name = device["unsigned"]["device_display_name"].as_str();
            names.extend(name.map(|name| (user.clone(), name.to_owned())));
        }
    }
    Ok(names)
}

/// Devices whose name is none that it may be. To be called after a start, while nobody writes.
pub(super) async fn lost(ledger: &Ledger, users: &[User], base: &str) -> anyhow::Result<Vec<String>> {
    let Some(first) = users.first() else { return Ok(Vec::new()) };
    let there = look(&first.client.at(base), users.iter().map(|user| &user.client.user_id)).await?;
    let mut names = ledger.names.lock().await;
    let mut lost = Vec::new();
    for (index, register) in names.iter_mut() {
        let user = &users[*index].client.user_id;
        if !register.settle(there.get(user).map(String::as_str)) {
            lost.push(format!("{user}:device-name"));
        }
    }
    Ok(lost)
}

/// Compares what a follower learned of those in its room with the lists as they are: what it was not told of is a gap.
pub(super) async fn judge(user: &User, base: &str, learned: &Names, outcome: &mut Outcome) -> anyhow::Result<()> {
    let there = look(&user.client.at(base), &user.mates).await?;
    outcome.gaps.extend(stale(&there, learned).map(|whose| format!("{}:list-of-{whose}", user.client.user_id)));
    Ok(())
}

fn stale<'a>(there: &'a Names, learned: &'a Names) -> impl Iterator<Item = &'a String> {
    there.iter().filter(|(whose, name)| learned.get(*whose) != Some(name)).map(|(whose, _)| whose)
}

/// Where the streams of all lists stand.
#[derive(Debug, Default)]
pub(super) struct Streams(BTreeMap<UserNid, StreamPosition>);

impl Streams {
    /// Reads them from the store of a server that does not run, and says which have gone backwards.
    pub(super) async fn follow(&mut self, data: &Path) -> anyhow::Result<Vec<String>> {
        let options = storage::Options::directory(data.join("store"), "harness.test");
        let storage = Storage::open(options, &SystemClock::shared(), &Random::os())?;
        let (mut now, mut rest) = (BTreeMap::new(), Some(KeyRange::prefix(&())));
        while let Some(range) = rest {
            let page = storage.view().scan::<DeviceStreams>(&range, PAGE, Direction::Forward).await?;
            now.extend(page.rows.into_iter().map(|((user,), row)| (user, row.position)));
            rest = page.rest;
        }
        storage.close().await?;
        Ok(self.go_on(now))
    }

    fn go_on(&mut self, now: BTreeMap<UserNid, StreamPosition>) -> Vec<String> {
        let before = std::mem::replace(&mut self.0, now);
        let back = before.into_iter().filter(|(user, at)| self.0.get(user).is_none_or(|now| now < at));
        back.map(|(user, _)| format!("device-list-stream-of-user-{}", user.0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_goes_backwards_or_vanishes_is_found() {
        let at = |rows: &[(u32, u64)]| rows.iter().map(|(user, at)| (UserNid(*user), StreamPosition(*at))).collect();
        let mut streams = Streams::default();
        assert!(streams.go_on(at(&[(1, 5), (2, 6)])).is_empty());
        assert!(streams.go_on(at(&[(1, 5), (2, 7), (3, 1)])).is_empty());
        assert_eq!(
            streams.go_on(at(&[(1, 4), (3, 1)])),
            ["device-list-stream-of-user-1", "device-list-stream-of-user-2"]
        );
    }

    #[test]
    fn a_list_that_has_another_name_than_was_learned_is_stale() {
        let names = |of: &[(&str, &str)]| of.iter().map(|(user, name)| ((*user).into(), (*name).into())).collect();
        let (there, learned): (Names, Names) = (names(&[("a", "1"), ("b", "2")]), names(&[("a", "1"), ("b", "1")]));
        assert_eq!(stale(&there, &learned).collect::<Vec<_>>(), ["b"]);
        assert_eq!(stale(&there, &Names::new()).count(), 2);
        assert_eq!(stale(&there, &there).count(), 0);
    }
}
