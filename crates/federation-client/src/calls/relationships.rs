//! Asking for events that relate to each other (MSC2836, "Querying relationships over federation").

use http::Method;
use ruma::{ServerName, canonical_json::CanonicalJsonValue};
use serde::{Deserialize, Serialize};

use super::events::{RawPdu, read_pdus};
use crate::{FederationClient, RemoteError, client::Ask};

/// The most events of auth chains that are read of an answer.
const CHAIN_MAX: usize = 10_000;

/// Where a walk leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WalkDirection {
    /// To what events relate to.
    Up,
    /// To what relates to them.
    #[default]
    Down,
    /// Nowhere that is known.
    #[serde(other)]
    Unknown,
}

/// What is asked, by clients and by servers alike.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the fields of the request")]
pub struct RelationshipsQuery {
    /// Where the walk starts.
    pub event_id: String,
    /// The event's room: says who may have the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room_id: Option<String>,
    /// How many levels are walked; below zero: without bound.
    #[serde(default = "three")]
    pub max_depth: i64,
    /// How many children of an event are followed; below zero: without bound.
    #[serde(default = "ten")]
    pub max_breadth: i64,
    /// The most events in the answer.
    #[serde(default = "hundred")]
    pub limit: u64,
    /// Down one branch before the next.
    #[serde(default)]
    pub depth_first: bool,
    /// The newest children first.
    #[serde(default = "yes")]
    pub recent_first: bool,
    /// Also the event that the first one relates to.
    #[serde(default)]
    pub include_parent: bool,
    /// Also all the events that relate to the first one.
    #[serde(default)]
    pub include_children: bool,
    /// Where the walk leads.
    #[serde(default)]
    pub direction: WalkDirection,
}

fn three() -> i64 {
    3
}

fn ten() -> i64 {
    10
}

fn hundred() -> u64 {
    100
}

fn yes() -> bool {
    true
}

/// What a server found.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct RelatedEvents {
    /// The events.
    pub events: Vec<RawPdu>,
    /// Their auth chains.
    #[serde(default)]
    pub auth_chain: Vec<RawPdu>,
}

impl FederationClient {
    /// `POST /_matrix/federation/unstable/event_relationships`: events that relate to one. No more than the limit are given out, whatever the server sends.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn event_relationships(
        &self,
        server: &ServerName,
        query: &RelationshipsQuery,
    ) -> Result<RelatedEvents, RemoteError> {
        let body = ruma::canonical_json::to_canonical_value(query);
        let Ok(CanonicalJsonValue::Object(body)) = body else {
            return Err(RemoteError::Malformed("the question has a number that JSON can't hold".to_owned()));
        };
        let path = "/_matrix/federation/unstable/event_relationships".to_owned();
        let ask = Ask { method: Method::POST, body: Some(&body), ..self.get(path) };
        let mut found = read_pdus::<RelatedEvents>(&self.ask(server, ask).await?)?;
        found.events.truncate(usize::try_from(query.limit).unwrap_or(usize::MAX));
        found.auth_chain.truncate(CHAIN_MAX);
        Ok(found)
    }
}
