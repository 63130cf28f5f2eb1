//! What handlers take: which server asks, and what it sends. A request is signed by its origin over method, path, destination and body
//! (server-server API, "Request Authentication").

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, Request},
};
use federation_client::{KeyError, ValidAt};
use http::{HeaderMap, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use primitives::canonical::{self, MarkedNumbers};
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedServerName, ServerName,
    api::federation::authentication::XMatrix,
    canonical_json::CanonicalJsonObject,
    serde::Base64,
    signatures::{PublicKeyMap, verify_canonical_json_bytes},
};
use serde::de::DeserializeOwned;

use crate::{Federation, error::ApiError};

/// Event ids that one request may name.
const MAX_EVENT_IDS: usize = 1_000;

/// A server that has signed its request: method, path, query and body.
#[derive(Debug)]
pub(crate) struct Signed {
    /// Who asks. Never this server.
    pub(crate) origin: OwnedServerName,
    /// The body as it came: empty, or a JSON object nested no deeper than is read. It may hold numbers that canonical JSON doesn't know.
    pub(crate) body: Bytes,
    /// What else was signed.
    pub(crate) parts: Parts,
}

impl FromRequest<Federation> for Signed {
    type Rejection = ApiError;

    async fn from_request(request: Request, federation: &Federation) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        // Who sends no signature at all is refused before anything is read.
        let claim = claim(&parts.headers)?;
        let body = read_body(&parts.headers, body, federation.options.request_max_bytes).await?;
        let numbers = if body.is_empty() { None } else { other_numbers(&body)? };
        let request = http::Request::from_parts(parts, body);
        verify(federation, &claim, &request, numbers).await?;
        federation.client.heard_from(&claim.origin);
        let (parts, body) = request.into_parts();
        Ok(Self { origin: claim.origin, body, parts })
    }
}

/// The numbers of a body that canonical JSON doesn't know, if it is an object but for them. They are no reason to refuse all that comes with them: events of room
/// versions 1 to 5 may hold such numbers, and of other versions the one event is refused. Whoever sends them has signed some text of them. The servers that do so send the
/// body as they signed it, so the numbers' own text is what the signature is over; if it isn't, the signature is not valid.
fn other_numbers(body: &[u8]) -> Result<Option<MarkedNumbers>, ApiError> {
    let Err(error) = parse::<CanonicalJsonObject>(body) else { return Ok(None) };
    parse::<serde::de::IgnoredAny>(body)?;
    let marked = MarkedNumbers::mark(body);
    if canonical::parse_object(&marked.json).is_err() {
        return Err(error);
    }
    Ok(Some(marked))
}

impl Signed {
    /// The query's parameters.
    pub(crate) fn query<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        query(&self.parts)
    }

    /// The body, read as some type; `M_BAD_JSON` if it is of another shape.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        parse(&self.body)
    }
}

/// A room id out of a path.
pub(crate) fn room_id(text: &str) -> Result<OwnedRoomId, ApiError> {
    OwnedRoomId::try_from(text).map_err(|_| ApiError::invalid_param("Not a room id"))
}

/// An event id out of a path or a query.
pub(crate) fn event_id(text: &str) -> Result<OwnedEventId, ApiError> {
    OwnedEventId::try_from(text).map_err(|_| ApiError::invalid_param("Not an event id"))
}

/// The event ids that a request names.
pub(crate) fn event_ids(texts: &[String]) -> Result<Vec<OwnedEventId>, ApiError> {
    if texts.len() > MAX_EVENT_IDS {
        return Err(ApiError::invalid_param(format!("More than {MAX_EVENT_IDS} event ids")));
    }
    texts.iter().map(|text| event_id(text)).collect()
}

/// The query's parameters.
pub(crate) fn query<T: DeserializeOwned>(parts: &Parts) -> Result<T, ApiError> {
    serde_html_form::from_str(parts.uri.query().unwrap_or_default()).map_err(|error| {
        let message = error.to_string();
        let code = if message.contains("missing field") { "M_MISSING_PARAM" } else { "M_INVALID_PARAM" };
        ApiError::new(StatusCode::BAD_REQUEST, code, message)
    })
}

/// Reads JSON: what is no JSON is `M_NOT_JSON`, what is of the wrong shape `M_BAD_JSON`.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let bad = |errcode, message| ApiError::new(StatusCode::BAD_REQUEST, errcode, message);
    if canonical::deeper_than(body, canonical::MAX_DEPTH) {
        return Err(bad("M_BAD_JSON", "The JSON is nested too deep".to_owned()));
    }
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => bad("M_BAD_JSON", error.to_string()),
        _ => bad("M_NOT_JSON", error.to_string()),
    })
}

/// A body no larger than the bound, and not compressed.
pub(crate) async fn read_body(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, ApiError> {
    if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        let message = "Compressed request bodies are not accepted";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "M_UNKNOWN", message));
    }
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("The body is larger than {limit} bytes");
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", message))
        }
        Err(_) => Err(ApiError::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", "The body could not be read")),
    }
}

/// What the request says of who signed it. Of two such headers neither is believed: they could name two origins.
fn claim(headers: &HeaderMap) -> Result<XMatrix, ApiError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or_else(|| ApiError::unauthorized("The request is not signed"))?;
    if values.next().is_some() {
        return Err(ApiError::unauthorized("More than one Authorization header"));
    }
    XMatrix::try_from(value).map_err(|error| ApiError::unauthorized(format!("Malformed Authorization header: {error}")))
}

async fn verify(
    federation: &Federation,
    claim: &XMatrix,
    request: &http::Request<Bytes>,
    numbers: Option<MarkedNumbers>,
) -> Result<(), ApiError> {
    let own_name = federation.keys().server_name();
    if claim.destination.as_deref().is_some_and(|destination| destination != own_name) {
        return Err(ApiError::unauthorized("The request is for another server"));
    }
    if claim.origin == own_name {
        return Err(ApiError::unauthorized("The request claims to be from this server"));
    }
    let public = federation.ring.key(&claim.origin, &claim.key, ValidAt::Now).await.map_err(no_key)?;
    if let Some(numbers) = numbers {
        return verify_with_numbers(claim, request, own_name, &public, &numbers)
            .ok_or_else(|| ApiError::unauthorized("The signature is not valid"));
    }
    let keys = [(claim.key.to_string(), Base64::new(public.to_vec()))].into();
    let keys = PublicKeyMap::from([(claim.origin.to_string(), keys)]);
    claim
        .verify_http_request(request, own_name, &keys)
        .map_err(|error| ApiError::unauthorized(format!("The signature is not valid: {error}")))
}

/// The same for a body with numbers that canonical JSON doesn't know. `None`: the signature is not valid.
fn verify_with_numbers(
    claim: &XMatrix,
    request: &http::Request<Bytes>,
    own_name: &ServerName,
    public: &[u8],
    numbers: &MarkedNumbers,
) -> Option<()> {
    let marked = http::Request::builder().method(request.method()).uri(request.uri()).body(&numbers.json).ok()?;
    let object = XMatrix::request_object(&marked, &claim.origin, own_name).ok()?;
    let signed = numbers.unmark(&serde_json::to_string(&object).ok()?)?;
    let algorithm = claim.key.algorithm();
    verify_canonical_json_bytes(&algorithm, public, claim.sig.as_bytes(), signed.as_bytes()).ok()
}

fn no_key(error: KeyError) -> ApiError {
    match error {
        KeyError::NotValid | KeyError::AskedLately | KeyError::Unavailable(_) => {
            ApiError::unauthorized(format!("The signature can't be checked: {error}"))
        }
        KeyError::Read(error) => ApiError::internal(error),
        KeyError::Commit(error) => ApiError::internal(error),
    }
}
