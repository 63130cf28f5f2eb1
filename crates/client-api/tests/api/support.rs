//! A server in memory and clients that speak HTTP with it, without a socket between.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body};
use client_api::{Api, Options};
use federation_client::{ClientOptions, FakeServers, FederationClient, OwnKeys, Pauses};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use primitives::ServerKey;
use serde_json::{Value, json};
use testkit::Parts;
use tower::ServiceExt;

/// A server and the way in.
pub(crate) struct Site {
    pub(crate) parts: Parts,
    pub(crate) router: Router,
    /// The other servers that it reaches.
    pub(crate) servers: FakeServers,
}

/// What the server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// The body of a success.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        self.body
    }

    /// Asserts an error's status and code; the body.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, errcode: &str) -> Value {
        assert_eq!((self.status.as_u16(), &self.body["errcode"]), (status, &json!(errcode)), "{}", self.body);
        self.body
    }
}

/// What the tests' servers are configured with.
pub(crate) fn options() -> Options {
    Options {
        body_max_bytes: 1 << 20,
        keys_body_max_bytes: 8 << 20,
        json_max_depth: 100,
        sync_timeout_max_ms: 60_000,
        public_base_url: Some("https://hs.test".to_owned()),
        support: None,
        rtc_transports: Vec::new(),
        profile_policy: client_api::ProfilePolicy::Everybody,
        default_room_version: "12".to_owned(),
        people_searched: rooms::find::Searched::default(),
        delayed_events: true,
        delayed_events_stable: true,
        delayed_events_tokenless: true,
        delayed_events_max_delay_ms: 86_400_000,
        delayed_events_max_scheduled: 100,
    }
}

/// Asks these other servers in the name of `hs.test`.
fn remotes(parts: &Parts, servers: &FakeServers) -> FederationClient {
    let key = Arc::new(ServerKey::new("1", [7; 32]).expect("a key"));
    let keys = Arc::new(OwnKeys::new(testkit::server_name(), key, Vec::new()));
    let options = ClientOptions {
        answer_max_bytes: 1 << 20,
        timeout: Duration::from_secs(30),
        state_answer_max_bytes: 64 << 20,
        join_timeout: Duration::from_mins(2),
        pauses: Pauses { min: Duration::from_mins(1), max: Duration::from_hours(1) },
    };
    FederationClient::new(keys, Arc::new(servers.clone()), parts.clock.clone(), parts.random.clone(), options)
}

impl Site {
    pub(crate) async fn new() -> Self {
        Self::of(Parts::new().await)
    }

    pub(crate) fn of(parts: Parts) -> Self {
        Self::with(parts, options())
    }

    /// A server that is configured otherwise.
    pub(crate) fn with(parts: Parts, options: Options) -> Self {
        let servers = FakeServers::default();
        let api = Api {
            users: parts.users.clone(),
            rooms: parts.rooms.clone(),
            reads: parts.reads.clone(),
            search: Some(parts.search.clone()),
            delayed: parts.delayed.clone(),
            jobs: parts.jobs.clone(),
            remotes: Some(remotes(&parts, &servers)),
            options: Arc::new(options),
        };
        Self { router: client_api::router(api), parts, servers }
    }

    /// One request with these exact bytes.
    pub(crate) async fn raw(&self, method: Method, path: &str, token: Option<&str>, body: impl Into<Body>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.ask(request.body(body.into()).expect("a request")).await
    }

    /// One request as it is.
    pub(crate) async fn ask(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.expect("the router answers");
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// A new administrator.
    pub(crate) async fn admin(&self, name: &str) -> User<'_> {
        let admin = self.user(name).await;
        self.parts.users.administer(admin.nid().await, users::Administration::Admin(true)).await.expect("promoted");
        admin
    }

    /// Does the work that waits in the background.
    pub(crate) async fn work(&self) {
        self.parts.jobs.run_due().await.expect("the store works");
    }

    /// A new user.
    pub(crate) async fn user(&self, name: &str) -> User<'_> {
        let body = json!({ "username": name, "password": "secret word", "auth": { "type": "m.login.dummy" } });
        let answer = self.raw(Method::POST, "/_matrix/client/v3/register", None, body.to_string()).await.ok();
        User::from(self, &answer)
    }
}

/// A user on one device.
#[derive(Clone)]
pub(crate) struct User<'a> {
    pub(crate) site: &'a Site,
    pub(crate) id: String,
    pub(crate) device: String,
    pub(crate) token: String,
}

impl<'a> User<'a> {
    /// The user that a login or a registration answered.
    pub(crate) fn from(site: &'a Site, answer: &Value) -> Self {
        let text = |key: &str| answer[key].as_str().expect(key).to_owned();
        Self { site, id: text("user_id"), device: text("device_id"), token: text("access_token") }
    }

    /// The user's number.
    pub(crate) async fn nid(&self) -> primitives::UserNid {
        let id = ruma::OwnedUserId::try_from(self.id.as_str()).expect("a user id");
        self.site.parts.users.nid(&id).await.expect("readable").expect("an account")
    }

    /// The same user on another device.
    pub(crate) async fn log_in(&self) -> Self {
        let identifier = json!({ "type": "m.id.user", "user": self.id });
        let body = json!({ "type": "m.login.password", "identifier": identifier, "password": "secret word" });
        Self::from(
            self.site,
            &self.site.raw(Method::POST, "/_matrix/client/v3/login", None, body.to_string()).await.ok(),
        )
    }

    /// One request below `/_matrix/client`.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Value) -> Answer {
        let path = format!("/_matrix/client/{path}");
        let body = if method == Method::GET { Body::empty() } else { body.to_string().into() };
        self.site.raw(method, &path, Some(&self.token), body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, Value::Null).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PUT, path, body).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, body).await
    }

    /// A new room; its id.
    pub(crate) async fn room(&self, body: Value) -> String {
        self.post("v3/createRoom", body).await.ok()["room_id"].as_str().expect("a room id").to_owned()
    }

    /// Sends a text message; the event id.
    pub(crate) async fn say(&self, room: &str, txn: &str, text: &str) -> String {
        let body = json!({ "msgtype": "m.text", "body": text });
        let answer = self.put(&format!("v3/rooms/{room}/send/m.room.message/{txn}"), body).await.ok();
        answer["event_id"].as_str().expect("an event id").to_owned()
    }

    pub(crate) async fn delete(&self, path: &str, body: Value) -> Answer {
        self.call(Method::DELETE, path, body).await
    }

    /// The content of a state event with an empty state key.
    pub(crate) async fn state(&self, room: &str, event_type: &str) -> Value {
        self.get(&format!("v3/rooms/{room}/state/{event_type}/")).await.ok()
    }

    /// Sets state with an empty state key.
    pub(crate) async fn set_state(&self, room: &str, event_type: &str, content: Value) -> Answer {
        self.put(&format!("v3/rooms/{room}/state/{event_type}/"), content).await
    }

    /// Joins a room.
    pub(crate) async fn join(&self, room: &str) -> Answer {
        self.post(&format!("v3/join/{room}"), json!({})).await
    }

    /// Leaves a room.
    pub(crate) async fn leave(&self, room: &str) {
        self.post(&format!("v3/rooms/{room}/leave"), json!({})).await.ok();
    }

    /// Does something to another user in a room: `invite`, `kick`, `ban` or `unban`.
    pub(crate) async fn act(&self, room: &str, action: &str, target: &Self) -> Answer {
        self.post(&format!("v3/rooms/{room}/{action}"), json!({ "user_id": target.id })).await
    }

    /// The content of a user's member event.
    pub(crate) async fn member(&self, room: &str, user: &Self) -> Value {
        self.get(&format!("v3/rooms/{room}/state/m.room.member/{}", user.id)).await.ok()
    }

    /// One sync with these parameters.
    pub(crate) async fn sync_with(&self, query: &str) -> Value {
        self.get(&format!("v3/sync?{query}")).await.ok()
    }

    /// One sync without waiting.
    pub(crate) async fn sync(&self, since: Option<&Value>) -> Value {
        let since = since.map(|since| format!("&since={}", since.as_str().expect("a token"))).unwrap_or_default();
        self.get(&format!("v3/sync?timeout=0{since}")).await.ok()
    }
}

/// The events of a list, by their type.
pub(crate) fn types(events: &Value) -> Vec<&str> {
    events.as_array().expect("events").iter().map(|event| event["type"].as_str().expect("a type")).collect()
}

/// The ids of a list of events.
pub(crate) fn ids(events: &Value) -> Vec<&str> {
    events.as_array().expect("events").iter().map(|event| event["event_id"].as_str().expect("an id")).collect()
}

/// The bodies of the messages in a list of events.
pub(crate) fn bodies(events: &Value) -> Vec<&str> {
    events.as_array().expect("events").iter().filter_map(|event| event["content"]["body"].as_str()).collect()
}

/// The state keys of the events of a type in a list, in order.
pub(crate) fn state_keys<'a>(events: &'a Value, event_type: &str) -> Vec<&'a str> {
    let events = events.as_array().expect("events").iter().filter(|event| event["type"] == event_type);
    let mut keys: Vec<_> = events.map(|event| event["state_key"].as_str().expect("a state key")).collect();
    keys.sort_unstable();
    keys
}

/// The first event of a type in a list.
#[track_caller]
pub(crate) fn of_type<'a>(events: &'a Value, event_type: &str) -> &'a Value {
    let found = events.as_array().expect("events").iter().find(|event| event["type"] == event_type);
    found.unwrap_or_else(|| panic!("no {event_type} in {events}"))
}

/// What proves that one knows the shared secret: an HMAC over the fields of the request, in hexadecimal.
pub(crate) fn mac(fields: [&str; 4]) -> String {
    use hmac::{Hmac, KeyInit, Mac};
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(b"secret").expect("any key");
    mac.update(fields.join("\0").as_bytes());
    mac.finalize().into_bytes().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Percent-encodes all but letters and digits.
pub(crate) fn url(text: &str) -> String {
    let encode = |byte: u8| {
        if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(encode).collect()
}

/// A filter as a parameter of a query.
pub(crate) fn filter(filter: &Value) -> String {
    format!("filter={}", url(&filter.to_string()))
}
