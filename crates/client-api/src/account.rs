//! Accounts: registering, logging in and out, another password, the end.

mod deactivate;
mod interactive;
mod login;
mod logout;
mod password;
mod refresh;
mod register;
mod registration_token;
mod shared_secret;
mod whoami;

use http::Method;
use serde_json::{Value, json};
use users::IssuedTokens;

use crate::routes::Routes;

pub(crate) use interactive::{Auth, interact};

const V3: &str = "/_matrix/client/v3";

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(Method::GET, &format!("{V3}/login"), login::flows);
    routes.add(Method::POST, &format!("{V3}/login"), login::login);
    routes.add(Method::POST, &format!("{V3}/logout"), logout::logout);
    routes.add(Method::POST, &format!("{V3}/logout/all"), logout::logout_all);
    routes.add(Method::POST, &format!("{V3}/refresh"), refresh::refresh);
    routes.add(Method::POST, &format!("{V3}/register"), register::register);
    routes.add(Method::GET, &format!("{V3}/register/available"), register::available);
    routes.add(
        Method::GET,
        "/_matrix/client/v1/register/m.login.registration_token/validity",
        registration_token::validity,
    );
    routes.add(Method::GET, "/_synapse/admin/v1/register", shared_secret::nonce);
    routes.add(Method::POST, "/_synapse/admin/v1/register", shared_secret::register);
    routes.add(Method::GET, &format!("{V3}/account/whoami"), whoami::whoami);
    routes.add(Method::POST, &format!("{V3}/account/password"), password::change);
    routes.add(Method::POST, &format!("{V3}/account/deactivate"), deactivate::deactivate);
}

/// Tokens as a login, a registration or a refresh answers them.
fn put_tokens(body: &mut Value, tokens: &IssuedTokens) {
    body["access_token"] = json!(tokens.access_token);
    if let Some(refresh_token) = &tokens.refresh_token {
        body["refresh_token"] = json!(refresh_token);
    }
    if let Some(span) = tokens.expires_in {
        body["expires_in_ms"] = json!(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
    }
}
