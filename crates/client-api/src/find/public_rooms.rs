//! `GET` and `POST /publicRooms` (client-server API, "Published room directory").

use ::rooms::find::{DirectoryRequest, DirectoryResponse, Network};
use axum::{Json, extract::State};
use ruma::OwnedServerName;
use serde::Deserialize;

use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Authenticated, Body, Query},
};

#[derive(Debug, Deserialize)]
pub(super) struct Parameters {
    limit: Option<u64>,
    since: Option<String>,
    server: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Server {
    server: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Filter {
    generic_search_term: Option<String>,
    room_types: Option<Vec<Option<String>>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Request {
    limit: Option<u64>,
    since: Option<String>,
    filter: Option<Filter>,
    #[serde(default)]
    include_all_networks: bool,
    third_party_instance_id: Option<String>,
}

pub(super) async fn all(
    State(api): State<Api>,
    Query(parameters): Query<Parameters>,
) -> ApiResult<Json<DirectoryResponse>> {
    let request = DirectoryRequest {
        limit: parameters.limit,
        since: since(parameters.since.as_deref())?,
        ..DirectoryRequest::default()
    };
    answer(&api, parameters.server.as_deref(), &request).await
}

pub(super) async fn some(
    State(api): State<Api>,
    Authenticated(_): Authenticated,
    Query(Server { server }): Query<Server>,
    Body(request): Body<Request>,
) -> ApiResult<Json<DirectoryResponse>> {
    let network = match (request.include_all_networks, request.third_party_instance_id.filter(|id| !id.is_empty())) {
        (false, None) => Network::Own,
        (true, None) => Network::All,
        (false, Some(instance)) => Network::Instance(instance),
        (true, Some(_)) => {
            let message = "`third_party_instance_id` and `include_all_networks` exclude each other";
            return Err(ApiError::invalid_param(message));
        }
    };
    let filter = request.filter.unwrap_or_default();
    let request = DirectoryRequest {
        limit: request.limit,
        since: since(request.since.as_deref())?,
        search_term: filter.generic_search_term,
        room_types: filter.room_types,
        network,
    };
    answer(&api, server.as_deref(), &request).await
}

/// The token out of a request; clients may send an empty one for none.
fn since<T: std::str::FromStr>(text: Option<&str>) -> Result<Option<T>, T::Err> {
    text.filter(|text| !text.is_empty()).map(str::parse).transpose()
}

async fn answer(api: &Api, server: Option<&str>, request: &DirectoryRequest) -> ApiResult<Json<DirectoryResponse>> {
    if let Some(server) = server.filter(|server| !server.is_empty()) {
        let server = OwnedServerName::try_from(server).map_err(|_| ApiError::invalid_param("Not a server name"))?;
        if server != api.users.server_name() {
            return Err(ApiError::not_found(format!("The directory of {server} cannot be reached")));
        }
    }
    Ok(Json(api.reads.public_rooms(request).await?))
}
