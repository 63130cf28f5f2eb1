//! Requests to other servers: signed, bounded, and not sent to who failed just now. One method for each call.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use primitives::{Noted, Random, SharedClock, UnixMillis, canonical};
use ruma::{
    OwnedServerName, ServerName, ServerSigningKeyId, UserId,
    api::federation::authentication::XMatrix,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    serde::Base64,
    signatures::KeyPair,
};
use serde::Deserialize;
use serde_json::json;

use crate::{OwnKeys, Pause, Pauses, RemoteServers, Unreachable, backoff::BackOff, remote::Outgoing};

/// What may stand in a path segment or a query value as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The largest document of keys that is read.
pub(crate) const KEYS_MAX_BYTES: usize = 64 << 10;
/// The largest profile that is read. The specification lets profiles be of 64 KiB, as canonical JSON.
const PROFILE_MAX_BYTES: usize = 128 << 10;
/// The longest wait for keys: somebody's request waits for them.
const KEYS_TIMEOUT: Duration = Duration::from_secs(10);
/// The most that is kept of another server's `error`, in characters.
const ERROR_MAX_CHARS: usize = 200;

/// The bounds of requests.
#[derive(Clone, Copy, Debug)]
pub struct ClientOptions {
    /// The largest answer, in bytes.
    pub answer_max_bytes: usize,
    /// The longest wait for an answer.
    pub timeout: Duration,
    /// The largest answer that holds the state of a room, in bytes.
    pub state_answer_max_bytes: usize,
    /// The longest wait for the answer to a join.
    pub join_timeout: Duration,
    /// How long a server that failed is left alone.
    pub pauses: Pauses,
}

/// Why another server didn't do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// This server has no need to ask itself.
    #[error("this is the server itself")]
    Ourselves,
    /// It failed lately and isn't asked yet.
    #[error("the server failed lately and is left alone for another {} s", .0.as_secs())]
    LeftAlone(Duration),
    /// There was no answer.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// It refused.
    #[error("the server answered {status} {errcode}: {error}")]
    Refused {
        /// The HTTP status, not of the 200s.
        status: StatusCode,
        /// The `errcode`; `M_UNKNOWN` if there is none.
        errcode: String,
        /// The `error`, cut off where it is long.
        error: String,
    },
    /// Its answer makes no sense.
    #[error("the server's answer makes no sense: {0}")]
    Malformed(String),
}

/// Asks other servers. Cheap to clone.
#[derive(Clone)]
pub struct FederationClient(Arc<Inner>);

struct Inner {
    keys: Arc<OwnKeys>,
    remotes: Arc<dyn RemoteServers>,
    back_off: Arc<BackOff>,
    options: ClientOptions,
}

impl fmt::Debug for FederationClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FederationClient").field(&self.0.keys.server_name()).finish()
    }
}

/// What `GET /_matrix/federation/v1/version` tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ServerVersion {
    /// The name of the implementation.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
}

/// A request in the making.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) path_and_query: String,
    pub(crate) body: Option<&'a CanonicalJsonObject>,
    pub(crate) signed: bool,
    pub(crate) answer_max_bytes: usize,
    pub(crate) timeout: Duration,
    /// A refusal that speaks of the server or of this one, not of the request, counts as a failure.
    pub(crate) refusals_fail: bool,
}

impl FederationClient {
    /// Asks in the name of the server whose keys these are.
    pub fn new(
        keys: Arc<OwnKeys>,
        remotes: Arc<dyn RemoteServers>,
        clock: SharedClock,
        random: Random,
        options: ClientOptions,
    ) -> Self {
        let back_off = BackOff::new(options.pauses, clock, random);
        Self(Arc::new(Inner { keys, remotes, back_off, options }))
    }

    /// The keys that requests are signed with.
    pub fn own_keys(&self) -> &Arc<OwnKeys> {
        &self.0.keys
    }

    /// Another server has shown that it lives: it may be asked at once.
    pub fn heard_from(&self, server: &ServerName) {
        self.0.back_off.alive(server);
    }

    /// What is known of a server that failed last time.
    pub fn pause(&self, server: &ServerName) -> Option<Pause> {
        self.0.back_off.pause(server)
    }

    /// Goes on with a pause of before the start.
    pub fn restore_pause(&self, server: &ServerName, pause: Pause) {
        self.0.back_off.restore(server, pause);
    }

    /// The servers whose pause has begun, grown or ended. For one follower.
    pub fn pauses_changed(&self) -> &Noted<OwnedServerName> {
        self.0.back_off.changed()
    }

    /// `GET /_matrix/federation/v1/version`.
    pub async fn version(&self, server: &ServerName) -> Result<ServerVersion, RemoteError> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            server: ServerVersion,
        }
        let ask = Ask { signed: false, ..self.get("/_matrix/federation/v1/version".to_owned()) };
        Ok(read::<Answer>(&self.ask(server, ask).await?)?.server)
    }

    /// `GET /_matrix/federation/v1/query/profile`: the whole profile, or one field of it, as the server sends it.
    pub async fn profile(&self, user: &UserId, field: Option<&str>) -> Result<CanonicalJsonObject, RemoteError> {
        let mut path = format!("/_matrix/federation/v1/query/profile?user_id={}", encoded(user.as_str()));
        if let Some(field) = field {
            path = format!("{path}&field={}", encoded(field));
        }
        let ask = Ask { answer_max_bytes: PROFILE_MAX_BYTES, ..self.get(path) };
        object(&self.ask(user.server_name(), ask).await?)
    }

    /// `GET /_matrix/key/v2/server`: the document as it came, unchecked. Asked even of a server that failed lately: the keys are wanted because
    /// somebody has just shown something that it signed.
    pub(crate) async fn server_keys(&self, server: &ServerName) -> Result<CanonicalJsonObject, RemoteError> {
        let ask = Ask { signed: false, ..self.get("/_matrix/key/v2/server".to_owned()) };
        object(&self.send(server, keys_bounds(ask)).await?)
    }

    /// `POST /_matrix/key/v2/query`: the documents of a server that a notary has, unchecked.
    pub(crate) async fn notary_keys(
        &self,
        notary: &ServerName,
        server: &ServerName,
        key_id: Option<&ServerSigningKeyId>,
        minimum_valid_until: UnixMillis,
    ) -> Result<Vec<CanonicalJsonObject>, RemoteError> {
        #[derive(Deserialize)]
        struct Answer {
            server_keys: Vec<CanonicalJsonObject>,
        }
        let least = minimum_valid_until.0.min((1 << 53) - 1);
        let keys = key_id.map_or_else(|| json!({}), |id| json!({ id.as_str(): { "minimum_valid_until_ts": least } }));
        let wanted = json!({ "server_keys": { server.as_str(): keys } });
        let Ok(CanonicalJsonValue::Object(body)) = canonical::to_canonical(wanted) else {
            return Err(RemoteError::Malformed("the question has no canonical form".to_owned()));
        };
        let ask = Ask { method: Method::POST, body: Some(&body), ..self.get("/_matrix/key/v2/query".to_owned()) };
        Ok(read::<Answer>(&self.send(notary, keys_bounds(ask)).await?)?.server_keys)
    }
}

fn keys_bounds(ask: Ask<'_>) -> Ask<'_> {
    Ask { answer_max_bytes: KEYS_MAX_BYTES, timeout: KEYS_TIMEOUT, ..ask }
}

/// The machinery of a call.
impl FederationClient {
    pub(crate) fn options(&self) -> &ClientOptions {
        &self.0.options
    }

    /// A signed `GET` within the usual bounds.
    pub(crate) fn get(&self, path_and_query: String) -> Ask<'static> {
        let ClientOptions { answer_max_bytes, timeout, .. } = self.0.options;
        Ask {
            method: Method::GET,
            path_and_query,
            body: None,
            signed: true,
            answer_max_bytes,
            timeout,
            refusals_fail: false,
        }
    }

    /// Asks, unless the server failed lately.
    pub(crate) async fn ask(&self, server: &ServerName, ask: Ask<'_>) -> Result<Bytes, RemoteError> {
        match self.0.back_off.remaining(server) {
            Some(left) => Err(RemoteError::LeftAlone(left)),
            None => self.send(server, ask).await,
        }
    }

    /// Asks, even if the server failed lately.
    pub(crate) async fn send(&self, server: &ServerName, ask: Ask<'_>) -> Result<Bytes, RemoteError> {
        if server == self.0.keys.server_name() {
            return Err(RemoteError::Ourselves);
        }
        let Ask { answer_max_bytes, timeout, refusals_fail, .. } = ask;
        let request = self.request(server, ask)?;
        let outgoing = Outgoing { destination: server.to_owned(), request, answer_max_bytes, timeout };
        let answer = match self.0.remotes.send(outgoing).await {
            Ok(answer) => answer,
            Err(unreachable) => {
                self.0.back_off.failed(server);
                return Err(unreachable.into());
            }
        };
        let status = answer.status();
        let fails = is_overloaded(status) || refusals_fail && is_of_the_server(status);
        if fails {
            self.0.back_off.failed(server);
        } else {
            self.0.back_off.alive(server);
        }
        if status.is_success() { Ok(answer.into_body()) } else { Err(refused(status, answer.body())) }
    }

    /// The request as it goes out; signed with its destination (server-server API, "Request Authentication").
    fn request(&self, server: &ServerName, ask: Ask<'_>) -> Result<Request<Bytes>, RemoteError> {
        let body = ask.body.map(canonical::to_bytes).unwrap_or_default();
        let mut request = Request::builder()
            .method(ask.method)
            .uri(ask.path_and_query)
            .body(Bytes::from(body))
            .map_err(|error| RemoteError::Malformed(error.to_string()))?;
        if ask.body.is_some() {
            request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if ask.signed {
            let authorization = HeaderValue::from(&sign(&self.0.keys, &request, server)?);
            request.headers_mut().insert(header::AUTHORIZATION, authorization);
        }
        Ok(request)
    }
}

/// The server can't do it now, whatever it was asked.
fn is_overloaded(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// The server is not the one asked for, or will have nothing from this one.
fn is_of_the_server(status: StatusCode) -> bool {
    [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::NOT_FOUND, StatusCode::REQUEST_TIMEOUT]
        .contains(&status)
}

impl RemoteError {
    /// Whether the other server lives and finds fault with what it was sent: the same will never be accepted.
    pub fn is_poison(&self) -> bool {
        matches!(self, Self::Refused { status, .. }
            if !status.is_success() && !is_overloaded(*status) && !is_of_the_server(*status))
    }
}

fn sign(keys: &OwnKeys, request: &Request<Bytes>, destination: &ServerName) -> Result<XMatrix, RemoteError> {
    let signed = XMatrix::request_object(request, keys.server_name(), destination).map_err(malformed)?;
    let text = serde_json::to_vec(&signed).map_err(malformed)?;
    let (_, signature) = keys.current().sign(&text).into_parts();
    let (origin, key) = (keys.server_name().to_owned(), keys.current().id().clone());
    Ok(XMatrix::new(origin, destination.to_owned(), key, Base64::new(signature)))
}

/// A path segment or a value of the query.
pub(crate) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// Reads an answer that is an object of canonical JSON.
pub(crate) fn object(body: &[u8]) -> Result<CanonicalJsonObject, RemoteError> {
    canonical::parse_object(body).map_err(|error| RemoteError::Malformed(error.to_string()))
}

/// Reads an answer, nested no deeper than [`canonical::MAX_DEPTH`].
pub(crate) fn read<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, RemoteError> {
    if canonical::deeper_than(body, canonical::MAX_DEPTH) {
        return Err(RemoteError::Malformed("nested too deep".to_owned()));
    }
    serde_json::from_slice(body).map_err(malformed)
}

/// An answer, or a request, that makes no sense as JSON.
#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
pub(crate) fn malformed(error: serde_json::Error) -> RemoteError {
    RemoteError::Malformed(error.to_string())
}

fn refused(status: StatusCode, body: &[u8]) -> RemoteError {
    #[derive(Default, Deserialize)]
    struct Answer {
        errcode: Option<String>,
        error: Option<String>,
    }
    let Answer { errcode, error } = read::<Answer>(body).unwrap_or_default();
    let cut = |text: String| text.chars().take(ERROR_MAX_CHARS).collect();
    RemoteError::Refused {
        status,
        errcode: errcode.map_or_else(|| "M_UNKNOWN".to_owned(), cut),
        error: error.map(cut).unwrap_or_default(),
    }
}
