//! One-time keys in a crash run: each that was acknowledged is there or was given out, none is given out twice, and none that nobody uploaded.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use super::{User, verify::Outcome};
use crate::client::{CallError, Client, text};

/// The algorithm of the keys, which needs no signature.
const ALGORITHM: &str = "curve25519";
/// Keys of one upload.
const KEYS: usize = 3;
/// Characters of a public key in unpadded base64.
const CHARACTERS: usize = 43;

/// What is known of keys.
#[derive(Debug, Default)]
struct Book {
    /// Ids of keys, and whether their upload was acknowledged.
    uploaded: BTreeMap<String, bool>,
    /// Ids of keys that were given out, as often as they were.
    claimed: Vec<String>,
    /// Uploads that were refused, by their markers.
    refused: Vec<String>,
    /// Claims without an answer: each may have taken a key.
    open: usize,
}

/// One-time keys. What an answer says is noted in one go, so that a client that is stopped in between has an answer or none.
#[derive(Debug, Default)]
pub struct Keys(Mutex<Book>);

impl Keys {
    /// Uploads some keys under a marker. Whether there was an answer.
    pub(super) async fn upload(&self, client: &Client, marker: &str) -> bool {
        let ids: Vec<String> = (0..KEYS).map(|number| format!("{marker}k{number}")).collect();
        self.0.lock().await.uploaded.extend(ids.iter().map(|id| (id.clone(), false)));
        let keys: Map<String, Value> =
            ids.iter().map(|id| (format!("{ALGORITHM}:{id}"), json!(format!("{id:A<CHARACTERS$}")))).collect();
        let answer = client.upload_keys(json!({ "one_time_keys": keys })).await;
        let mut book = self.0.lock().await;
        match answer {
            Ok(()) => book.uploaded.extend(ids.into_iter().map(|id| (id, true))),
            Err(error) if error.is_open() => return false,
            Err(error) => book.refused.push(format!("{marker}:{error}")),
        }
        true
    }

    /// Claims a key of a user's device. Whether there was an answer, and the key's id if one was left.
    pub(super) async fn claim(&self, client: &Client, of: &User) -> Result<(bool, Option<String>), CallError> {
        self.0.lock().await.open += 1;
        let answer = match client.claim_key(&of.client.user_id, &of.device, ALGORITHM).await {
            Ok(answer) => answer,
            Err(error) if error.is_open() => return Ok((false, None)),
            Err(error) => return Err(error),
        };
        let given = answer["one_time_keys"][&of.client.user_id][&of.device].as_object();
        let id = given.and_then(|keys| keys.keys().next()).and_then(|id| id.split_once(':'));
        let id = id.map(|(_, id)| id.to_owned());
        let mut book = self.0.lock().await;
        book.open -= 1;
        book.claimed.extend(id.clone());
        Ok((true, id))
    }

    /// Takes what is left, and judges.
    pub(super) async fn judge(&self, users: &[User], base: &str, outcome: &mut Outcome) -> anyhow::Result<()> {
        for user in users {
            let client = user.client.at(base);
            while self.claim(&client, user).await?.1.is_some() {}
        }
        self.0.lock().await.judge(outcome);
        Ok(())
    }
}

impl Book {
    /// Judges when every key that was left has been claimed.
    fn judge(&self, outcome: &mut Outcome) {
        outcome.claimed = self.claimed.len();
        outcome.lost.extend(self.refused.iter().cloned());
        let mut seen = BTreeSet::new();
        for id in &self.claimed {
            if !seen.insert(id) {
                outcome.twice.push(id.clone());
            }
            if !self.uploaded.contains_key(id) {
                outcome.orphans.push(id.clone());
            }
        }
        // What a claim without an answer took is with nobody: no more keys than such claims.
        let missing: Vec<_> = self.uploaded.iter().filter(|(id, known)| **known && !seen.contains(id)).collect();
        let surplus = missing.len().saturating_sub(self.open);
        outcome.lost.extend(missing.into_iter().take(surplus).map(|(id, _)| id.clone()));
    }
}

/// The device that a client is logged in on.
pub(super) async fn device_of(client: &Client) -> Result<String, CallError> {
    let who = client.call(reqwest::Method::GET, "/_matrix/client/v3/account/whoami", None).await?;
    Ok(text(&who["device_id"]).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(uploaded: &[(&str, bool)], claimed: &[&str], open: usize) -> [usize; 3] {
        let uploaded = uploaded.iter().map(|(id, known)| ((*id).to_owned(), *known)).collect();
        let claimed = claimed.iter().map(|id| (*id).to_owned()).collect();
        let mut outcome = Outcome::default();
        Book { uploaded, claimed, open, refused: Vec::new() }.judge(&mut outcome);
        [outcome.lost.len(), outcome.twice.len(), outcome.orphans.len()]
    }

    #[test]
    fn keys_that_are_lost_or_given_out_twice_or_made_up_are_found() {
        let uploaded = [("a", true), ("b", true), ("c", false)];
        assert_eq!(judged(&uploaded, &["b", "a"], 0), [0, 0, 0]);
        assert_eq!(judged(&uploaded, &["b", "a", "c"], 0), [0, 0, 0], "an upload without an answer may have happened");
        assert_eq!(judged(&uploaded, &["b"], 0), [1, 0, 0]);
        assert_eq!(judged(&uploaded, &["b"], 1), [0, 0, 0], "a claim without an answer may have taken it");
        assert_eq!(judged(&uploaded, &[], 1), [1, 0, 0]);
        assert_eq!(judged(&uploaded, &["a", "b", "a"], 1), [0, 1, 0]);
        assert_eq!(judged(&uploaded, &["a", "b", "d"], 0), [0, 0, 1]);
    }
}
