//! Aliases and directories of other servers.

use federation_client::calls::directory::AliasTarget;
use ruma::{OwnedServerName, RoomAliasId, ServerName};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{NotAsked, as_object};
use crate::{
    alias::AliasError,
    find::{DirectoryQuery, Published},
    registry::{RoomError, Rooms},
};

/// Servers in a room that are told with an alias of it.
const TOLD_SERVERS: usize = 50;
/// Rooms of another server's directory that are passed on in one page.
const MAX_PAGE: usize = 500;
/// The longest token of another server's directory that is passed on, in bytes.
const MAX_TOKEN: usize = 4_096;

/// A page of another server's directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RemoteDirectory {
    /// The rooms. Those that the server describes wrongly are left out.
    pub chunk: Vec<Published>,
    /// Where the next page begins, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_batch: Option<String>,
    /// Where the page before ends, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev_batch: Option<String>,
    /// How many rooms there are on all pages, as the server says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_room_count_estimate: Option<u64>,
}

impl Rooms {
    /// Where an alias leads, and by which servers one comes there: one of this server by what is stored, another by asking its server.
    ///
    /// # Errors
    /// There is no such alias, or its server can't be asked.
    pub async fn find_alias(&self, alias: &RoomAliasId) -> Result<AliasTarget, AliasError> {
        if alias.server_name() == self.options().server_name {
            let room_id = self.resolve_alias(alias).await?;
            let mut servers = vec![self.options().server_name.clone()];
            match self.room(&room_id).await {
                Ok(room) => servers.extend(room.other_servers(TOLD_SERVERS).await?),
                Err(RoomError::Unknown) => {}
                Err(RoomError::Storage(error)) => return Err(error.into()),
            }
            return Ok(AliasTarget { room_id, servers });
        }
        let remote = self.remote().ok_or(NotAsked::NoFederation)?;
        let mut target = remote.client.alias(alias).await.map_err(NotAsked::from)?;
        // Who knows the alias is likely to be in the room; the way there never leads by this server itself.
        let own: &OwnedServerName = &self.options().server_name;
        target.servers.retain(|server| server != own);
        if !target.servers.iter().any(|server| server == alias.server_name()) {
            target.servers.push(alias.server_name().to_owned());
        }
        Ok(target)
    }

    /// A page of another server's directory.
    ///
    /// # Errors
    /// The server can't be asked, or its answer makes no sense.
    pub async fn remote_directory(
        &self,
        server: &ServerName,
        query: &DirectoryQuery,
    ) -> Result<RemoteDirectory, NotAsked> {
        #[derive(Deserialize)]
        struct Answer {
            chunk: Vec<Value>,
            next_batch: Option<String>,
            prev_batch: Option<String>,
            total_room_count_estimate: Option<u64>,
        }
        let remote = self.remote().ok_or(NotAsked::NoFederation)?;
        let answer = remote.client.public_rooms(server, &as_object(query)?).await?;
        let answer: Answer = super::shape(answer)?;
        let chunk = answer.chunk.into_iter().filter_map(|room| Published::deserialize(room).ok()).take(MAX_PAGE);
        let token = |token: Option<String>| token.filter(|token| token.len() <= MAX_TOKEN);
        Ok(RemoteDirectory {
            chunk: chunk.collect(),
            next_batch: token(answer.next_batch),
            prev_batch: token(answer.prev_batch),
            total_room_count_estimate: answer.total_room_count_estimate,
        })
    }
}
