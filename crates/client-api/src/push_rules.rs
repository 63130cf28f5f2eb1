//! Push rules (client-server API, "Push Rules: API").

use axum::{Json, extract::State};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use users::{
    Requester,
    push_rules::{NewRule, Owner, Place, Rule, RuleKind, Ruleset},
};

use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Args, Body, NoGuest, Query},
    routes::Routes,
};

pub(crate) fn routes(routes: &mut Routes) {
    let rule = "/_matrix/client/v3/pushrules/global/{kind}/{rule}";
    routes.add(Method::GET, "/_matrix/client/v3/pushrules/", all);
    routes.add(Method::GET, "/_matrix/client/v3/pushrules/global/", global);
    routes.add(Method::GET, rule, get).add(Method::PUT, rule, put).add(Method::DELETE, rule, delete);
    let (enabled, actions) = (format!("{rule}/enabled"), format!("{rule}/actions"));
    routes.add(Method::GET, &enabled, get_enabled).add(Method::PUT, &enabled, put_enabled);
    routes.add(Method::GET, &actions, get_actions).add(Method::PUT, &actions, put_actions);
}

fn owner(who: &Requester) -> Owner<'_> {
    Owner { user: who.user_nid, user_id: &who.user_id }
}

async fn ruleset(api: &Api, who: &Requester) -> ApiResult<Ruleset> {
    let rules = api.users.push_rules().get(owner(who)).await.map_err(ApiError::internal)?;
    Ok(rules.rules.clone())
}

/// The kind of a rule that is looked for: there is nothing of a kind that doesn't exist.
fn known_kind(name: &str) -> ApiResult<RuleKind> {
    RuleKind::parse(name).ok_or_else(|| ApiError::not_found("There are no rules of this kind"))
}

/// The kind of a rule that is to be made.
fn new_kind(name: &str) -> ApiResult<RuleKind> {
    RuleKind::parse(name).ok_or_else(|| ApiError::invalid_param("There are no rules of this kind"))
}

async fn find(api: &Api, who: &Requester, kind: &str, rule_id: &str) -> ApiResult<Rule> {
    let rule = ruleset(api, who).await?.get(known_kind(kind)?, rule_id).cloned();
    rule.ok_or_else(|| ApiError::not_found("There is no such rule"))
}

async fn all(State(api): State<Api>, NoGuest(who): NoGuest) -> ApiResult<Json<Value>> {
    Ok(Json(json!({ "global": ruleset(&api, &who).await? })))
}

async fn global(State(api): State<Api>, NoGuest(who): NoGuest) -> ApiResult<Json<Ruleset>> {
    Ok(Json(ruleset(&api, &who).await?))
}

async fn get(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args((kind, rule_id)): Args<(String, String)>,
) -> ApiResult<Json<Rule>> {
    Ok(Json(find(&api, &who, &kind, &rule_id).await?))
}

#[derive(Debug, Deserialize)]
struct Neighbours {
    before: Option<String>,
    after: Option<String>,
}

async fn put(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args((kind, rule_id)): Args<(String, String)>,
    Query(neighbours): Query<Neighbours>,
    Body(rule): Body<NewRule>,
) -> ApiResult<Json<Value>> {
    let place = Place { before: neighbours.before.as_deref(), after: neighbours.after.as_deref() };
    api.users.push_rules().put(owner(&who), new_kind(&kind)?, &rule_id, rule, place).await?;
    Ok(Json(json!({})))
}

async fn delete(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args((kind, rule_id)): Args<(String, String)>,
) -> ApiResult<Json<Value>> {
    api.users.push_rules().delete(owner(&who), known_kind(&kind)?, &rule_id).await?;
    Ok(Json(json!({})))
}

async fn get_enabled(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args((kind, rule_id)): Args<(String, String)>,
) -> ApiResult<Json<Value>> {
    Ok(Json(json!({ "enabled": find(&api, &who, &kind, &rule_id).await?.enabled })))
}

#[derive(Debug, Deserialize)]
struct Enabled {
    enabled: bool,
}

async fn put_enabled(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args((kind, rule_id)): Args<(String, String)>,
    Body(Enabled { enabled }): Body<Enabled>,
) -> ApiResult<Json<Value>> {
    api.users.push_rules().set_enabled(owner(&who), known_kind(&kind)?, &rule_id, enabled).await?;
    Ok(Json(json!({})))
}

async fn get_actions(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args((kind, rule_id)): Args<(String, String)>,
) -> ApiResult<Json<Value>> {
    Ok(Json(json!({ "actions": find(&api, &who, &kind, &rule_id).await?.actions })))
}

#[derive(Debug, Deserialize)]
struct Actions {
    actions: Vec<Value>,
}

async fn put_actions(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args((kind, rule_id)): Args<(String, String)>,
    Body(Actions { actions }): Body<Actions>,
) -> ApiResult<Json<Value>> {
    api.users.push_rules().set_actions(owner(&who), known_kind(&kind)?, &rule_id, actions).await?;
    Ok(Json(json!({})))
}
