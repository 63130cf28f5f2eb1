//! What a client asks first: versions, capabilities, `.well-known`.

use ::rooms::RoomVersion;
use axum::{Json, extract::State};
use http::Method;
use serde_json::{Map, Value, json};
use users::Requester;

use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::Authenticated,
    routes::Routes,
};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(Method::GET, "/_matrix/client/versions", versions);
    routes.add(Method::GET, "/_matrix/client/v3/capabilities", capabilities);
    routes.add(Method::GET, "/.well-known/matrix/client", well_known_client);
    routes.add(Method::GET, "/.well-known/matrix/support", well_known_support);
}

/// The minor versions of the specification that are served, oldest and newest.
const MINOR_VERSIONS: std::ops::RangeInclusive<u8> = 1..=19;

/// `GET /versions` (client-server API, "API versions"): the specification's versions, and the unstable features that work.
async fn versions(State(api): State<Api>) -> Json<Value> {
    let versions: Vec<String> =
        std::iter::once("r0.6.1".to_owned()).chain(MINOR_VERSIONS.map(|minor| format!("v1.{minor}"))).collect();
    Json(json!({
        "versions": versions,
        "unstable_features": {
            "org.matrix.msc4140": api.options.delayed_events,
            "org.matrix.msc4140.stable": api.options.delayed_events && api.options.delayed_events_stable,
            "org.matrix.msc3391": true,
            "org.matrix.msc4143": true,
            "org.matrix.msc4155": true,
            "org.matrix.msc4222": true,
            "org.matrix.msc4115": true,
            "org.matrix.msc2836": true,
            "org.matrix.msc3874": true,
            "org.matrix.msc3981": true,
            "org.matrix.msc4306": true,
            "uk.tcpip.msc4133": true,
            "uk.tcpip.msc4133.stable": true,
        },
    }))
}

/// `GET /capabilities` (client-server API, "Capabilities negotiation").
async fn capabilities(State(api): State<Api>, Authenticated(who): Authenticated) -> ApiResult<Json<Value>> {
    let stability = |version: RoomVersion| if version.is_stable() { "stable" } else { "unstable" };
    let available: Map<String, Value> =
        RoomVersion::supported().map(|version| (version.as_str().to_owned(), json!(stability(version)))).collect();
    let mut capabilities = json!({
        "m.change_password": { "enabled": may_change_password(&api, &who).await? },
        "m.room_versions": { "default": api.options.default_room_version, "available": available },
        "m.set_displayname": { "enabled": !who.is_suspended },
        "m.set_avatar_url": { "enabled": !who.is_suspended && !who.is_guest },
        "m.3pid_changes": { "enabled": false },
        "m.get_login_token": { "enabled": false },
        "m.profile_fields": profile_fields(&who),
        "uk.tcpip.msc4133.profile_fields": profile_fields(&who),
        "m.forget_forced_upon_leave": { "enabled": false },
    });
    if who.is_admin {
        let moderation = json!({ "suspend": true, "lock": true });
        capabilities["m.account_moderation"] = moderation.clone();
        capabilities["uk.timedout.msc4323"] = moderation;
    }
    if api.options.delayed_events {
        let limits = json!({
            "max_delay_ms": api.options.delayed_events_max_delay_ms,
            "max_scheduled": api.options.delayed_events_max_scheduled,
        });
        capabilities["m.delayed_events"] = limits.clone();
        capabilities["org.matrix.msc4140.delayed_events"] = limits;
    }
    Ok(Json(json!({ "capabilities": capabilities })))
}

/// Whoever logs in by password can change it.
async fn may_change_password(api: &Api, who: &Requester) -> ApiResult<bool> {
    let account = api.users.account(who.user_nid).await?;
    Ok(!who.is_guest && account.is_some_and(|account| account.has_password))
}

/// Which fields of their profile somebody may change: a guest only the name.
fn profile_fields(who: &Requester) -> Value {
    let mut fields = json!({ "enabled": !who.is_suspended });
    if who.is_guest {
        fields["allowed"] = json!(["displayname"]);
    }
    fields
}

/// `GET /.well-known/matrix/client`: where clients reach the server; 404 while no address is configured.
async fn well_known_client(State(api): State<Api>) -> ApiResult<Json<Value>> {
    let base_url =
        api.options.public_base_url.as_deref().ok_or_else(|| ApiError::not_found("No public address is configured"))?;
    let mut document = json!({ "m.homeserver": { "base_url": base_url } });
    if !api.options.rtc_transports.is_empty() {
        // Where clients look for the same list that are older than `/rtc/transports`.
        document["org.matrix.msc4143.rtc_foci"] = json!(api.options.rtc_transports);
    }
    Ok(Json(document))
}

/// `GET /.well-known/matrix/support`: whom to write to; 404 while nobody is configured.
async fn well_known_support(State(api): State<Api>) -> ApiResult<Json<Value>> {
    api.options.support.clone().map(Json).ok_or_else(|| ApiError::not_found("No support contact is configured"))
}
