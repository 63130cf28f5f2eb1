//! The `auth` of a request that needs user-interactive authentication (client-server API, "User-interactive authentication API").

use std::net::IpAddr;

use serde::Deserialize;
use users::{
    Identifier, Requester,
    uia::{AuthData, Authorised, Flow, Interaction, Operation},
};

use crate::{Api, error::ApiResult};

/// Whom a client says it is.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type")]
pub(crate) enum IdentifierBody {
    #[serde(rename = "m.id.user")]
    User { user: String },
    #[serde(rename = "m.id.thirdparty")]
    ThirdParty { medium: String, address: String },
    #[serde(rename = "m.id.phone")]
    Phone {
        country: String,
        #[serde(alias = "number")]
        phone: String,
    },
    #[serde(other)]
    Unknown,
}

impl IdentifierBody {
    /// The identifier, if it is of a kind that this server knows.
    pub(crate) fn known(self) -> Option<Identifier> {
        match self {
            Self::User { user } => Some(Identifier::User(user)),
            Self::ThirdParty { medium, address } => Some(Identifier::ThirdParty { medium, address }),
            Self::Phone { country, phone } => Some(Identifier::Phone { country, phone }),
            Self::Unknown => None,
        }
    }
}

/// The `auth` object.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Auth {
    #[serde(rename = "type")]
    stage: Option<String>,
    session: Option<String>,
    identifier: Option<IdentifierBody>,
    /// From before there were identifiers.
    user: Option<String>,
    password: Option<String>,
    token: Option<String>,
}

impl From<Auth> for AuthData {
    fn from(auth: Auth) -> Self {
        let identifier = auth.identifier.and_then(IdentifierBody::known).or_else(|| auth.user.map(Identifier::User));
        Self { stage: auth.stage, session: auth.session, identifier, password: auth.password, token: auth.token }
    }
}

/// Takes a request through authentication; the error is the 401 that says what is left to do.
pub(crate) async fn interact(
    api: &Api,
    requester: Option<&Requester>,
    operation: Operation,
    flows: Vec<Flow>,
    auth: Option<Auth>,
    address: IpAddr,
) -> ApiResult<Authorised> {
    let auth = auth.map(AuthData::from);
    let interaction = Interaction { requester, operation, flows, auth: auth.as_ref(), address: Some(address) };
    Ok(api.users.interact(interaction).await?)
}
