//! Checking that the rows of projections are those of the states that they reflect, reading only.

use std::{collections::BTreeMap, sync::Arc};

use primitives::{NodeId, RoomNid};
use rooms::{state, tree::StoredTrees};
use ruma::{OwnedServerName, OwnedUserId};
use storage::{
    Direction, KeyRange, ReadError, Text, View,
    schema::{
        jobs::{Projected, RemoteMembers},
        rooms::{SlotKey, SlotKeys},
    },
};

use super::{Members, Projections, members::member, missing};
use crate::verify::Report;

/// Rows that one page of a scan reads.
const PAGE: usize = 1_000;

/// Who should be in a room.
type Expected = (BTreeMap<OwnedServerName, u32>, Vec<OwnedUserId>);

impl Projections {
    /// Checks what is stored. Writes nothing. For a store that is not being written. What is on its way from one state to another is
    /// counted and not compared.
    pub async fn verify(&self, report: &mut Report) -> Result<(), ReadError> {
        let view = self.0.storage.view();
        let (mut settled, mut remote) = (true, 0);
        let mut rest = Some(KeyRange::prefix(&(Members::NUMBER,)));
        while let Some(range) = rest {
            let page = match view.scan::<Projected>(&range, PAGE, Direction::Forward).await {
                Err(ReadError::Corrupt(error)) => {
                    report.fault(error.to_string());
                    return Ok(());
                }
                page => page?,
            };
            for ((_, room), row) in page.rows {
                report.projected += 1;
                if row.towards.is_some() {
                    settled = false;
                    continue;
                }
                match self.verify_members(&view, room, row.root).await {
                    Ok(Ok(members)) => remote += members,
                    Ok(Err(fault)) => report.fault(fault),
                    Err(ReadError::Corrupt(error)) => report.fault(format!("members of room {room}: {error}")),
                    Err(error) => return Err(error),
                }
            }
            rest = page.rest;
        }
        let stored = count::<RemoteMembers>(&view).await?;
        if settled && report.is_whole() && stored != remote {
            report.fault(format!("members of other servers: {stored} are stored, {remote} are in the rooms"));
        }
        Ok(())
    }

    /// Compares the rows of a room with the state that they reflect. Answers how many remote members there are, or what is wrong.
    async fn verify_members(&self, view: &View, room: RoomNid, root: NodeId) -> Result<Result<u64, String>, ReadError> {
        let (expected, remote) = self.expected(view, room, root).await?;
        let stored: BTreeMap<_, _> = self.servers_in(view, room).await?.into_iter().collect();
        if stored != expected {
            return Ok(Err(format!("servers in room {room}: {stored:?} are stored, {expected:?} have members")));
        }
        for user in &remote {
            if !view.contains::<RemoteMembers>(&(Text::new(user.as_str()), room)).await? {
                return Ok(Err(format!("{user} has joined room {room}, which is not stored")));
            }
        }
        Ok(Ok(remote.len() as u64))
    }

    async fn expected(&self, view: &View, room: RoomNid, root: NodeId) -> Result<Expected, ReadError> {
        let trees = StoredTrees::new(view.clone(), room, Arc::clone(self.0.rooms.nodes()));
        let joined = trees.run(|source| state::members(&source, root, |entry| super::members::is_joined(Some(entry))));
        let (mut servers, mut remote) = (BTreeMap::new(), Vec::new());
        for (slot, _) in joined.await? {
            let key = view.get::<SlotKeys>(&(room, slot)).await?;
            let SlotKey { event_type, state_key } =
                key.ok_or_else(|| missing::<SlotKeys>(&format!("slot {slot} of room {room}")))?;
            let Some(user) = member(&event_type, &state_key) else { continue };
            *servers.entry(user.server_name().to_owned()).or_default() += 1;
            if user.server_name() != self.0.rooms.options().server_name {
                remote.push(user.to_owned());
            }
        }
        Ok((servers, remote))
    }
}

async fn count<T: storage::Table>(view: &View) -> Result<u64, ReadError> {
    let (mut count, mut rest) = (0, Some(KeyRange::prefix(&())));
    while let Some(range) = rest {
        let page = view.scan_keys::<T>(&range, PAGE, Direction::Forward).await?;
        count += page.keys.len() as u64;
        rest = page.rest;
    }
    Ok(count)
}
