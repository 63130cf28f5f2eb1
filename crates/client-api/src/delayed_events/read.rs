//! Reading: `GET …/delayed_events/{delayId}` (MSC4140) and the list `GET …/delayed_events` (MSC4486).

use ::delayed_events::{DelayId, DelayedEvent, ListQuery, Listed, Status};
use axum::{
    Json,
    extract::{RawQuery, State},
};
use http::Method;
use primitives::UnixMillis;
use ruma::RoomId;
use serde_json::{Map, Value, json};

use super::{errors::Generation, msc4140, render};
use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Args, Authenticated, form_pairs},
    routes::Routes,
};

/// The three states of what has ended.
pub(super) const ENDED: [Status; 3] = [Status::Sent, Status::Cancelled, Status::Failed];

pub(super) fn routes(routes: &mut Routes) {
    routes.add(Method::GET, "/_matrix/client/v1/delayed_events", stable_list);
    routes.add(Method::GET, "/_matrix/client/v1/delayed_events/{delayId}", stable_event);
    routes.add(Method::GET, msc4140!("/delayed_events"), unstable_list);
    routes.add(Method::GET, "/_matrix/client/unstable/org.matrix.msc4486/delayed_events", unstable_list);
    routes.add(Method::GET, msc4140!("/delayed_events/{delayId}"), unstable_event);
}

async fn event(api: &Api, Authenticated(who): Authenticated, id: String) -> ApiResult<DelayedEvent> {
    let event = api.delayed.get(&who.user_id, &DelayId::new(id)).await?;
    event.ok_or_else(|| ApiError::not_found("No such delayed event"))
}

async fn stable_event(State(api): State<Api>, who: Authenticated, Args(id): Args<String>) -> ApiResult<Json<Value>> {
    Ok(Json(render::stable(&event(&api, who, id).await?)))
}

async fn unstable_event(State(api): State<Api>, who: Authenticated, Args(id): Args<String>) -> ApiResult<Json<Value>> {
    Ok(Json(render::unstable(&event(&api, who, id).await?)))
}

async fn stable_list(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    RawQuery(query): RawQuery,
) -> ApiResult<Json<Value>> {
    let page = api.delayed.list(&who.user_id, &parse(query.as_deref(), Generation::Stable)?).await?;
    let events = page.events.iter().map(render::stable).collect();
    Ok(Json(body([("delayed_events", events)], &page)))
}

async fn unstable_list(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    RawQuery(query): RawQuery,
) -> ApiResult<Json<Value>> {
    let page = api.delayed.list(&who.user_id, &parse(query.as_deref(), Generation::Unstable)?).await?;
    let events = page.events.iter().map(render::unstable).collect();
    let scheduled = page.events.iter().filter(|event| event.finalised.is_none()).map(render::scheduled_2025).collect();
    let finalised = page.events.iter().filter_map(render::finalised_2025).collect();
    let lists = [("delayed_events", events), ("scheduled", scheduled), ("finalised", finalised)];
    Ok(Json(body(lists, &page)))
}

/// Lists under their names, and where the next page begins.
pub(super) fn body<const N: usize>(lists: [(&str, Value); N], page: &Listed) -> Value {
    let mut body: Map<String, Value> = lists.into_iter().map(|(name, list)| (name.to_owned(), list)).collect();
    if let Some(next_batch) = &page.next_batch {
        body.insert("next_batch".to_owned(), json!(next_batch));
    }
    Value::Object(body)
}

fn bad(name: &str) -> ApiError {
    ApiError::invalid_param(format!("The value of `{name}` is not one that it can have"))
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> ApiResult<T> {
    text.parse().map_err(|_| bad(name))
}

/// Reads the parameters of a list. Unknown ones are passed over.
pub(super) fn parse(query: Option<&str>, generation: Generation) -> ApiResult<ListQuery> {
    let mut list = ListQuery::default();
    for (name, value) in form_pairs(query.unwrap_or_default()) {
        match &*name {
            "from" => list.from = Some(value),
            "dir" => {
                list.backwards = match &*value {
                    "f" => false,
                    "b" => true,
                    _ => return Err(bad(&name)),
                }
            }
            "from_ts" => list.from_ts = Some(UnixMillis(number(&name, &value)?)),
            "to_ts" => list.to_ts = Some(UnixMillis(number(&name, &value)?)),
            "room_id" => list.room_id = Some(RoomId::parse(&value).map_err(|_| bad(&name))?),
            "type" => list.event_type = Some(value),
            "limit" => list.limit = Some(number::<usize>(&name, &value)?).filter(|limit| *limit > 0),
            "delay_id" if generation == Generation::Unstable => list.delay_ids.push(DelayId::new(value)),
            "status" => match &*value {
                "scheduled" => list.status.push(Status::Scheduled),
                "sent" => list.status.push(Status::Sent),
                "cancelled" => list.status.push(Status::Cancelled),
                "failed" => list.status.push(Status::Failed),
                "finalised" if generation == Generation::Unstable => list.status.extend(ENDED),
                _ => return Err(bad(&name)),
            },
            _ => {}
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_values_are_refused_by_name() {
        for bad in
            ["dir=x", "dir=", "from_ts=-1", "to_ts=1.5", "room_id=x", "status=gone", "limit=x", "status=finalised"]
        {
            assert!(parse(Some(bad), Generation::Stable).is_err(), "{bad}");
        }
        assert!(parse(Some("status=finalised&delay_id=a&delay_id=b&other=1"), Generation::Unstable).is_ok());
        let query =
            parse(Some("dir=b&from_ts=1&to_ts=2&type=m.x&limit=3&from=s1_2"), Generation::Stable).expect("good");
        assert_eq!((query.backwards, query.from_ts, query.to_ts), (true, Some(UnixMillis(1)), Some(UnixMillis(2))));
        assert_eq!(
            (query.event_type.as_deref(), query.limit, query.from.as_deref()),
            (Some("m.x"), Some(3), Some("s1_2"))
        );
    }
}
