//! A small Matrix client that says exactly what the server answered: for crash runs and benchmarks.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// What a request came to.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer: the connection broke or there is no server. What was asked for may or may not have happened.
    #[error("no answer: {0}")]
    NoAnswer(#[from] reqwest::Error),
    /// The server answered with an error.
    #[error("{status}: {body}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// The body.
        body: Value,
    },
}

impl CallError {
    /// Whether the server said nothing, so that the outcome is open.
    pub fn is_open(&self) -> bool {
        match self {
            Self::NoAnswer(_) => true,
            Self::Refused { status, .. } => status.is_server_error(),
        }
    }
}

/// One user's client.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
    /// The user's id.
    pub user_id: String,
}

/// A part of a path, percent-encoded.
pub fn encoded(part: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    part.bytes().map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

impl Client {
    /// Registers a user, open registration, and becomes that user.
    pub async fn register(base: &str, name: &str) -> Result<Self, CallError> {
        let mut client = Self::of_session(base, "", "")?;
        let body =
            json!({ "username": name, "password": "correct horse battery", "auth": { "type": "m.login.dummy" } });
        let answer = client.call(Method::POST, "/_matrix/client/v3/register", Some(body)).await?;
        text(&answer["access_token"]).clone_into(&mut client.token);
        text(&answer["user_id"]).clone_into(&mut client.user_id);
        Ok(client)
    }

    /// A user who has a session already.
    pub fn of_session(base: &str, user_id: &str, token: &str) -> Result<Self, CallError> {
        let http = reqwest::Client::builder().tcp_nodelay(true).timeout(Duration::from_mins(1)).build()?;
        Ok(Self { http, base: base.to_owned(), token: token.to_owned(), user_id: user_id.to_owned() })
    }

    /// The access token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The same user on a connection pool of its own.
    pub fn apart(&self) -> Result<Self, CallError> {
        Self::of_session(&self.base, &self.user_id, &self.token)
    }

    /// The same user, who waits so long for an answer.
    pub fn patient(mut self, timeout: Duration) -> Result<Self, CallError> {
        self.http = reqwest::Client::builder().tcp_nodelay(true).timeout(timeout).build()?;
        Ok(self)
    }

    /// The same user at another address: the server was started again.
    #[must_use]
    pub fn at(&self, base: &str) -> Self {
        Self { base: base.to_owned(), ..self.clone() }
    }

    /// One request; the answer's JSON.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, CallError> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await?;
        let status = response.status();
        let bytes = response.bytes().await?;
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if status.is_success() { Ok(body) } else { Err(CallError::Refused { status, body }) }
    }

    /// Uploads keys of the client's device.
    pub async fn upload_keys(&self, keys: Value) -> Result<(), CallError> {
        self.call(Method::POST, "/_matrix/client/v3/keys/upload", Some(keys)).await.map(drop)
    }

    /// Claims a one-time key of a device.
    pub async fn claim_key(&self, user_id: &str, device: &str, algorithm: &str) -> Result<Value, CallError> {
        let body = json!({ "one_time_keys": { user_id: { device: algorithm } } });
        self.call(Method::POST, "/_matrix/client/v3/keys/claim", Some(body)).await
    }

    /// Asks for the keys of users' devices: lists of devices, empty for all, by user.
    pub async fn query_keys(&self, of: Value) -> Result<Value, CallError> {
        let body = json!({ "device_keys": of });
        self.call(Method::POST, "/_matrix/client/v3/keys/query", Some(body)).await
    }

    /// Gives a device of the client's user a name.
    pub async fn name_device(&self, device: &str, name: &str) -> Result<(), CallError> {
        let path = format!("/_matrix/client/v3/devices/{}", encoded(device));
        self.call(Method::PUT, &path, Some(json!({ "display_name": name }))).await.map(drop)
    }

    /// Creates a public room.
    pub async fn create_room(&self) -> Result<String, CallError> {
        let body = json!({ "preset": "public_chat" });
        Ok(text(&self.call(Method::POST, "/_matrix/client/v3/createRoom", Some(body)).await?["room_id"]).to_owned())
    }

    /// Joins a room.
    pub async fn join(&self, room: &str) -> Result<(), CallError> {
        self.call(Method::POST, &format!("/_matrix/client/v3/join/{}", encoded(room)), Some(json!({}))).await.map(drop)
    }

    /// Sends a text message; the event id.
    pub async fn send(&self, room: &str, txn: &str, body: &str) -> Result<String, CallError> {
        let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/{txn}", encoded(room));
        let body = json!({ "msgtype": "m.text", "body": body });
        Ok(text(&self.call(Method::PUT, &path, Some(body)).await?["event_id"]).to_owned())
    }

    /// Sets state; the event id.
    pub async fn state(&self, room: &str, event_type: &str, key: &str, content: Value) -> Result<String, CallError> {
        let path = format!("/_matrix/client/v3/rooms/{}/state/{event_type}/{}", encoded(room), encoded(key));
        Ok(text(&self.call(Method::PUT, &path, Some(content)).await?["event_id"]).to_owned())
    }

    /// Sends a marker to all devices of a user.
    pub async fn send_to_devices(&self, user_id: &str, txn: &str, marker: &str) -> Result<(), CallError> {
        let path = format!("/_matrix/client/v3/sendToDevice/test.harness.note/{txn}");
        let body = json!({ "messages": { user_id: { "*": { "marker": marker } } } });
        self.call(Method::PUT, &path, Some(body)).await.map(drop)
    }

    /// Sets account data of the user, in a room or everywhere.
    pub async fn set_account_data(&self, room: Option<&str>, data_type: &str, content: Value) -> Result<(), CallError> {
        let room = room.map(|room| format!("/rooms/{}", encoded(room))).unwrap_or_default();
        let path = format!("/_matrix/client/v3/user/{}{room}/account_data/{data_type}", encoded(&self.user_id));
        self.call(Method::PUT, &path, Some(content)).await.map(drop)
    }

    /// Moves a receipt of no thread to an event.
    pub async fn receipt(&self, room: &str, receipt_type: &str, event_id: &str) -> Result<(), CallError> {
        let path = format!("/_matrix/client/v3/rooms/{}/receipt/{receipt_type}/{}", encoded(room), encoded(event_id));
        self.call(Method::POST, &path, Some(json!({}))).await.map(drop)
    }

    /// Schedules a text message; the delay id.
    pub async fn schedule(&self, room: &str, txn: &str, body: &str, delay: Duration) -> Result<String, CallError> {
        let path = format!(
            "/_matrix/client/v3/rooms/{}/send/m.room.message/{txn}?org.matrix.msc4140.delay={}",
            encoded(room),
            delay.as_millis()
        );
        let body = json!({ "msgtype": "m.text", "body": body });
        Ok(text(&self.call(Method::PUT, &path, Some(body)).await?["delay_id"]).to_owned())
    }

    /// `send`, `cancel` or `restart` of a delayed event.
    pub async fn act(&self, delay_id: &str, action: &str) -> Result<(), CallError> {
        let path = format!("/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{}/{action}", encoded(delay_id));
        self.call(Method::POST, &path, Some(json!({}))).await.map(drop)
    }

    /// Makes a future of a text message (MSC4140 of 2024); the answer with its tokens. `query` says its timeout, its group, or both.
    pub async fn future(&self, room: &str, txn: &str, body: &str, query: &str) -> Result<Value, CallError> {
        let unstable = "/_matrix/client/unstable/org.matrix.msc4140";
        let path = format!("{unstable}/rooms/{}/send_future/m.room.message/{txn}?{query}", encoded(room));
        self.call(Method::PUT, &path, Some(json!({ "msgtype": "m.text", "body": body }))).await
    }

    /// Makes a batch of futures and sends a message at once; the answer.
    pub async fn batch(&self, room: &str, txn: &str, body: Value) -> Result<Value, CallError> {
        let unstable = "/_matrix/client/unstable/org.matrix.msc4140";
        self.call(Method::PUT, &format!("{unstable}/rooms/{}/send/future/{txn}", encoded(room)), Some(body)).await
    }

    /// Does what a future's token stands for.
    pub async fn spend(&self, token: &str) -> Result<(), CallError> {
        let path = format!("/_matrix/client/unstable/org.matrix.msc4140/future/{}", encoded(token));
        self.call(Method::POST, &path, Some(json!({}))).await.map(drop)
    }

    /// The delay ids that are scheduled.
    pub async fn scheduled(&self) -> Result<Vec<String>, CallError> {
        let mut ids = Vec::new();
        let mut from = String::new();
        loop {
            let path = format!("/_matrix/client/unstable/org.matrix.msc4140/delayed_events{from}");
            let page = self.call(Method::GET, &path, None).await?;
            ids.extend(list(&page["delayed_events"]).iter().map(|event| text(&event["delay_id"]).to_owned()));
            match page["next_batch"].as_str() {
                Some(next) => from = format!("?from={}", encoded(next)),
                None => return Ok(ids),
            }
        }
    }

    /// One sync.
    pub async fn sync(&self, since: Option<&str>, timeout: Duration) -> Result<Value, CallError> {
        let since = since.map(|since| format!("&since={}", encoded(since))).unwrap_or_default();
        let path = format!("/_matrix/client/v3/sync?timeout={}{since}", timeout.as_millis());
        self.call(Method::GET, &path, None).await
    }

    /// Every event of a room, newest first.
    pub async fn history(&self, room: &str) -> Result<Vec<Value>, CallError> {
        self.history_from(room, None, None).await
    }

    /// Events of a room back from a token and down to another, newest first.
    pub async fn history_from(
        &self,
        room: &str,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<Vec<Value>, CallError> {
        let mut events = Vec::new();
        let mut from = from.map(ToOwned::to_owned);
        loop {
            let mut path = format!("/_matrix/client/v3/rooms/{}/messages?dir=b&limit=100", encoded(room));
            for (name, token) in [("from", from.as_deref()), ("to", to)] {
                if let Some(token) = token {
                    path = format!("{path}&{name}={}", encoded(token));
                }
            }
            let page = self.call(Method::GET, &path, None).await?;
            events.extend(list(&page["chunk"]).iter().cloned());
            match page["end"].as_str() {
                Some(end) => from = Some(end.to_owned()),
                None => return Ok(events),
            }
        }
    }
}

/// A JSON string, or nothing.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A JSON array, or an empty one.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
