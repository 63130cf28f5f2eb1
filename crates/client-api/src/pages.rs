//! Pages for browsers, for clients that don't know a way to authenticate: the fallbacks of login and of user-interactive authentication.
//!
//! A page is whole in itself: its style and its script are in it, allowed by their hashes, and nothing else may run, be loaded or frame it.
//! What a request says is never put into a page.

mod auth_fallback;
mod login;

use axum::response::{IntoResponse, Response};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderName, Method, StatusCode, header};
use sha2::{Digest, Sha256};

use crate::routes::Routes;

const STYLE: &str = include_str!("pages/style.css");

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(Method::GET, "/_matrix/static/client/login/", login::login);
    let fallback = "/_matrix/client/v3/auth/{type}/fallback/web";
    routes.add(Method::GET, fallback, auth_fallback::show);
    routes.add(Method::POST, fallback, auth_fallback::submit);
}

/// A page: its title, its body and its script, each fixed text.
struct Page {
    status: StatusCode,
    title: &'static str,
    body: String,
    script: Option<&'static str>,
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let Self { status, title, body, script } = self;
        let tag = script.map(|script| format!("<script>{script}</script>")).unwrap_or_default();
        let html = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<style>{STYLE}</style></head>\n\
             <body>\n{body}{tag}</body></html>\n"
        );
        let scripts = script.map_or_else(|| "'none'".to_owned(), hash_source);
        let policy = format!(
            "default-src 'none'; script-src {scripts}; style-src {}; connect-src 'self'; form-action 'self'; \
             frame-ancestors 'none'; base-uri 'none'",
            hash_source(STYLE)
        );
        let headers: [(HeaderName, String); 6] = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
            (header::CONTENT_SECURITY_POLICY, policy),
            (header::X_FRAME_OPTIONS, "DENY".to_owned()),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
            (header::REFERRER_POLICY, "no-referrer".to_owned()),
            (header::CACHE_CONTROL, "no-store".to_owned()),
        ];
        (status, headers, html).into_response()
    }
}

/// The source expression of a content security policy that allows exactly this text.
fn hash_source(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text.as_bytes())))
}
