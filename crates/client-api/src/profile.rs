//! Profiles (client-server API, "Profiles").

use axum::{Json, extract::State};
use http::Method;
use ruma::{
    OwnedUserId, UserId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
};
use serde_json::{Value, json};
use users::{Profile, Requester};

use crate::{
    Api, ProfilePolicy,
    error::{ApiError, ApiResult},
    extract::{Args, Authenticated, Body},
    routes::Routes,
};

pub(crate) fn routes(routes: &mut Routes) {
    for base in ["/_matrix/client/v3/profile", "/_matrix/client/unstable/uk.tcpip.msc4133/profile"] {
        routes.add(Method::GET, &format!("{base}/{{user}}"), all);
        routes.add(Method::GET, &format!("{base}/{{user}}/{{field}}"), one);
        routes.add(Method::PUT, &format!("{base}/{{user}}/{{field}}"), set);
        routes.add(Method::DELETE, &format!("{base}/{{user}}/{{field}}"), remove);
    }
}

/// A user id out of a path.
pub(crate) fn user_id(text: &str) -> ApiResult<OwnedUserId> {
    OwnedUserId::try_from(text).map_err(|_| ApiError::invalid_param("Not a user id"))
}

/// Whether the configuration lets somebody look up a user. Whether there is such a user isn't looked at before.
async fn check_policy(api: &Api, who: Option<&Requester>, user: &UserId) -> ApiResult<()> {
    if api.options.profile_policy == ProfilePolicy::Everybody {
        return Ok(());
    }
    let who = who.ok_or_else(ApiError::missing_token)?;
    if api.options.profile_policy == ProfilePolicy::LoggedIn || who.user_id == user {
        return Ok(());
    }
    if api.reads.share_a_room(who.user_nid, user).await.map_err(ApiError::internal)? {
        return Ok(());
    }
    Err(ApiError::forbidden("Profiles are shown to users who share a room"))
}

/// A profile. Of another server's user that server is asked, and if one field is wanted, for that one only.
async fn profile(api: &Api, who: Option<Authenticated>, user: &str, field: Option<&str>) -> ApiResult<Profile> {
    let user = user_id(user)?;
    check_policy(api, who.as_ref().map(|Authenticated(who)| who), &user).await?;
    if !api.users.is_local(&user) {
        let remotes = api.remotes.as_ref().ok_or_else(|| ApiError::not_found("Other servers are not asked"))?;
        return Ok(Profile(shown(remotes.profile(&user, field).await?)));
    }
    let profile = api.users.profiles().get(&user).await?;
    profile.ok_or_else(|| ApiError::not_found("No such user"))
}

/// What clients are shown of a profile that another server sent: names and avatars only if they are text.
fn shown(mut profile: CanonicalJsonObject) -> CanonicalJsonObject {
    profile.retain(|field, value| !matches!(field.as_str(), "displayname" | "avatar_url") || value.as_str().is_some());
    profile
}

async fn all(
    State(api): State<Api>,
    who: Option<Authenticated>,
    Args(user): Args<String>,
) -> ApiResult<Json<CanonicalJsonObject>> {
    Ok(Json(profile(&api, who, &user, None).await?.0))
}

async fn one(
    State(api): State<Api>,
    who: Option<Authenticated>,
    Args((user, field)): Args<(String, String)>,
) -> ApiResult<Json<Value>> {
    users::profiles::check_field_name(&field)?;
    let profile = profile(&api, who, &user, Some(&field)).await?;
    match profile.field(&field) {
        Some(value) => Ok(Json(json!({ field: value }))),
        None => Err(ApiError::not_found("The profile has no such field")),
    }
}

/// Only one's own profile can be changed, and by a guest only the name.
fn own(who: &Requester, user: &str, field: &str) -> ApiResult<()> {
    if who.is_guest && field != "displayname" {
        return Err(ApiError::guest_forbidden("Guests may only change their display name"));
    }
    if who.is_suspended {
        return Err(ApiError::suspended());
    }
    if user_id(user)? == who.user_id { Ok(()) } else { Err(ApiError::forbidden("This is somebody else's profile")) }
}

async fn set(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args((user, field)): Args<(String, String)>,
    Body(mut request): Body<CanonicalJsonObject>,
) -> ApiResult<Json<Value>> {
    own(&who, &user, &field)?;
    let value = match request.remove(&field) {
        Some(value) => value,
        // Clients clear these two by leaving them out.
        None if field == "displayname" || field == "avatar_url" => CanonicalJsonValue::Null,
        None => return Err(ApiError::missing_param(format!("`{field}` is missing"))),
    };
    api.jobs.set_profile_field(who.user_nid, &field, value).await?;
    Ok(Json(json!({})))
}

async fn remove(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args((user, field)): Args<(String, String)>,
) -> ApiResult<Json<Value>> {
    own(&who, &user, &field)?;
    api.jobs.remove_profile_field(who.user_nid, &field).await?;
    Ok(Json(json!({})))
}
