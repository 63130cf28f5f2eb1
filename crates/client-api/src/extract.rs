//! What handlers take: who asks, the path's arguments, the query, the body. Each refuses with the specification's error.

use axum::{
    RequestPartsExt,
    body::{Body as HttpBody, Bytes},
    extract::{FromRequest, FromRequestParts, OptionalFromRequestParts, Path, Request},
};
use http::{HeaderMap, header, request::Parts};
use primitives::canonical;
use serde::de::DeserializeOwned;
use users::Requester;

use crate::{Api, error::ApiError};

/// A user with a valid access token.
#[derive(Debug, Clone)]
pub(crate) struct Authenticated(pub(crate) Requester);

/// The access token of a request: from the `Authorization` header, or from the deprecated query parameter.
pub(crate) fn access_token(headers: &HeaderMap, query: Option<&str>) -> Result<Option<String>, ApiError> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let text = value.to_str().map_err(|_| ApiError::missing_token())?;
        let Some((scheme, token)) = text.split_once(' ') else {
            return Err(ApiError::missing_token());
        };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(ApiError::missing_token());
        }
        return Ok(Some(token.trim().to_owned()));
    }
    let pairs = form_pairs(query.unwrap_or_default());
    Ok(pairs.into_iter().find(|(key, _)| key == "access_token").map(|(_, token)| token))
}

/// The decoded pairs of a query string.
pub(crate) fn form_pairs(query: &str) -> Vec<(String, String)> {
    serde_html_form::from_str(query).unwrap_or_default()
}

async fn requester(parts: &Parts, api: &Api) -> Result<Option<Requester>, ApiError> {
    let Some(token) = access_token(&parts.headers, parts.uri.query())? else {
        return Ok(None);
    };
    let requester = api.users.authenticate(&token).await?;
    let address = parts.extensions.get::<primitives::net::ClientAddress>().map(|address| address.0);
    let user_agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    api.users.saw(&requester, address, user_agent);
    Ok(Some(requester))
}

impl FromRequestParts<Api> for Authenticated {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        requester(parts, api).await?.map(Self).ok_or_else(ApiError::missing_token)
    }
}

impl OptionalFromRequestParts<Api> for Authenticated {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Option<Self>, ApiError> {
        Ok(requester(parts, api).await?.map(Self))
    }
}

/// A user with a valid access token who is no guest: for endpoints that the specification closes to guests.
#[derive(Debug, Clone)]
pub(crate) struct NoGuest(pub(crate) Requester);

impl FromRequestParts<Api> for NoGuest {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let who = requester(parts, api).await?.ok_or_else(ApiError::missing_token)?;
        if who.is_guest {
            return Err(ApiError::guest_forbidden("Guests may not use this endpoint"));
        }
        Ok(Self(who))
    }
}

/// The address a request came from, as the listener determined it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct From(pub(crate) std::net::IpAddr);

impl FromRequestParts<Api> for From {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, ApiError> {
        let address = parts.extensions.get::<primitives::net::ClientAddress>();
        Ok(Self(address.map_or(std::net::Ipv4Addr::UNSPECIFIED.into(), |address| address.0)))
    }
}

/// The path's arguments, percent-decoded, in order.
#[derive(Debug)]
pub(crate) struct Args<T>(pub(crate) T);

impl<T: DeserializeOwned + Send + 'static> FromRequestParts<Api> for Args<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, ApiError> {
        match parts.extract::<Path<T>>().await {
            Ok(Path(args)) => Ok(Self(args)),
            Err(rejection) => Err(ApiError::invalid_param(rejection.body_text())),
        }
    }
}

/// The query's parameters.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Api> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        serde_html_form::from_str(query).map(Self).map_err(|error| param_error(&error.to_string()))
    }
}

fn param_error(message: &str) -> ApiError {
    if message.contains("missing field") {
        ApiError::missing_param(message.to_owned())
    } else {
        ApiError::invalid_param(message.to_owned())
    }
}

/// The body as it came, no larger than the limit for JSON bodies.
#[derive(Debug)]
pub(crate) struct RawBody(pub(crate) Bytes);

async fn read_body(headers: &HeaderMap, body: HttpBody, limit: usize) -> Result<Bytes, ApiError> {
    if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        let status = http::StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(ApiError::new(status, "M_UNKNOWN", "Compressed request bodies are not accepted"));
    }
    let too_large = || ApiError::too_large(format!("The body is larger than {limit} bytes"));
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<usize>().ok());
    if length.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    match http_body_util::BodyExt::collect(http_body_util::Limited::new(body, limit)).await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Err(_) => Err(ApiError::bad("M_UNKNOWN", "The body could not be read")),
    }
}

impl FromRequest<Api> for RawBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        Ok(Self(read_body(&parts.headers, body, api.options.body_max_bytes).await?))
    }
}

/// Reads JSON: what is no JSON is `M_NOT_JSON`, what is nested too deep or of the wrong shape `M_BAD_JSON`, what lacks a field `M_MISSING_PARAM`.
pub(crate) fn parse_json<T: DeserializeOwned>(bytes: &[u8], max_depth: usize) -> Result<T, ApiError> {
    if canonical::deeper_than(bytes, max_depth) {
        return Err(ApiError::bad_json(format!("JSON is nested deeper than {max_depth} levels")));
    }
    // The parser passes over what nobody reads without looking at its encoding.
    let text = std::str::from_utf8(bytes).map_err(|error| ApiError::not_json(error.to_string()))?;
    serde_json::from_str(text).map_err(|error| match error.classify() {
        serde_json::error::Category::Data if error.to_string().starts_with("missing field") => {
            ApiError::missing_param(error.to_string())
        }
        serde_json::error::Category::Data => match serde_json::from_str::<serde::de::IgnoredAny>(text) {
            Ok(_) => ApiError::bad_json(error.to_string()),
            Err(syntax) => ApiError::not_json(syntax.to_string()),
        },
        _ => ApiError::not_json(error.to_string()),
    })
}

/// A JSON body. An empty body reads as `{}`, since clients leave out what holds nothing.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Api> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        let RawBody(bytes) = RawBody::from_request(request, api).await?;
        let bytes: &[u8] = if bytes.trim_ascii().is_empty() { b"{}" } else { &bytes };
        Ok(Self(parse_json(bytes, api.options.json_max_depth)?))
    }
}

/// A JSON body of key uploads and key backups, which may be larger. Otherwise as [`Body`].
#[derive(Debug)]
pub(crate) struct KeysBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Api> for KeysBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let bytes = read_body(&parts.headers, body, api.options.keys_body_max_bytes).await?;
        let bytes: &[u8] = if bytes.trim_ascii().is_empty() { b"{}" } else { &bytes };
        Ok(Self(parse_json(bytes, api.options.json_max_depth)?))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::Value;

    use super::parse_json;

    #[derive(Debug, Deserialize)]
    struct Wanted {
        _name: Option<String>,
    }

    fn errcode(bytes: &[u8]) -> String {
        let error = parse_json::<Wanted>(bytes, 10).expect_err("refused");
        assert_eq!(error.status, http::StatusCode::BAD_REQUEST);
        error.errcode.expect("has a code").into_owned()
    }

    #[test]
    fn what_is_no_json_and_what_is_the_wrong_json_are_told_apart() {
        assert_eq!(errcode(b"{ \"nobody reads this\": \"a\x81\" }"), "M_NOT_JSON");
        assert_eq!(errcode(b"{ \"nobody reads this\": NaN }"), "M_NOT_JSON");
        assert_eq!(errcode(b"{"), "M_NOT_JSON");
        assert_eq!(errcode(b"\"a string\""), "M_BAD_JSON");
        assert_eq!(errcode(b"{ \"_name\": 1 }"), "M_BAD_JSON");
        assert_eq!(errcode(b"[[[[[[[[[[[]]]]]]]]]]]"), "M_BAD_JSON");
        assert!(parse_json::<Value>(b"{ \"name\": \"a\" }", 10).is_ok());
    }
}
