//! Answers of long lists of events, read from the store while they are sent: what is held of a state of 100,000 events is a few hundred of them.

use std::{collections::VecDeque, mem};

use axum::{
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use http::{HeaderValue, header};
use rooms::read::{EventSeries, ServeError, ServedPdu};

/// What the lists hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The events.
    Pdus,
    /// Their ids.
    Ids,
}

/// An object whose fields are lists of events.
#[derive(Debug)]
pub(crate) struct Lists {
    shape: Shape,
    left: VecDeque<(&'static str, EventSeries)>,
    /// What is to be sent next.
    text: String,
    /// What ends the response.
    end: &'static str,
    /// Whether the list that is being sent has begun.
    begun: bool,
    ended: bool,
}

impl Lists {
    /// An object without fields.
    pub(crate) fn new(shape: Shape) -> Self {
        Self { shape, left: VecDeque::new(), text: "{".to_owned(), end: "}", begun: false, ended: false }
    }

    /// The object as the second part of a pair, after a status of 200: the form of version 1 of some endpoints.
    pub(crate) fn in_pair(self) -> Self {
        Self { text: format!("[200,{}", self.text), end: "}]", ..self }
    }

    /// With a field before the lists.
    pub(crate) fn field(mut self, name: &'static str, json: &str) -> Self {
        self.text.extend(["\"", name, "\":", json, ","]);
        self
    }

    /// With one list more.
    pub(crate) fn list(mut self, name: &'static str, events: EventSeries) -> Self {
        self.left.push_back((name, events));
        self
    }

    /// The response. An error on the way breaks it off: no reader takes half a state for a whole one.
    pub(crate) fn into_response(self) -> Response {
        let parts = stream::try_unfold(self, async |mut lists: Self| match lists.next().await {
            Ok(text) => Ok(text.map(|text| (Bytes::from(text), lists))),
            Err(error) => {
                tracing::error!(%error, "a list of events was not read to its end");
                Err(error)
            }
        });
        let json = HeaderValue::from_static("application/json");
        ([(header::CONTENT_TYPE, json)], Body::from_stream(parts)).into_response()
    }

    /// The next part of the text; none at the end.
    async fn next(&mut self) -> Result<Option<String>, ServeError> {
        let Some((name, events)) = self.left.front_mut() else {
            return Ok((!mem::replace(&mut self.ended, true)).then(|| self.end.to_owned()));
        };
        let (mut text, first) = (mem::take(&mut self.text), !mem::replace(&mut self.begun, true));
        if first {
            text.extend(["\"", name, "\":["]);
        }
        let part = match self.shape {
            Shape::Pdus => events.next_pdus().await?.iter().map(ServedPdu::json).collect::<Vec<_>>().join(","),
            Shape::Ids => quoted(&events.next_ids().await?),
        };
        if !first && !part.is_empty() {
            text.push(',');
        }
        text.push_str(&part);
        if events.is_empty() {
            self.left.pop_front();
            self.begun = false;
            text.push_str(if self.left.is_empty() { "]" } else { "]," });
        }
        Ok(Some(text))
    }
}

/// Event ids as JSON strings. Those of room versions 1 and 2 may hold characters that must be escaped.
fn quoted(ids: &[String]) -> String {
    ids.iter().map(|id| serde_json::Value::from(id.as_str()).to_string()).collect::<Vec<_>>().join(",")
}
