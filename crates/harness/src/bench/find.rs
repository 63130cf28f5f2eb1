//! Finding rooms, at the crate's API: the tree of a space with 500 rooms, and a directory of 500 published ones.

use std::path::Path;

use ::rooms::{
    CreateRoom, InitialState, Reader, Reads, Rooms,
    find::{DirectoryRequest, HierarchyRequest},
};
use anyhow::Context as _;
use primitives::SharedClock;
use ruma::{OwnedRoomId, canonical_json::CanonicalJsonObject};

use super::{
    site::Site,
    table::{Figure, Goal, Latencies},
};

const ROOMS: usize = 500;
const TIMES: u32 = 50;

/// The figures of finding rooms without a server around it.
pub(super) async fn figures(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let site = Site::open(folder).await?;
    let user_nid = site.users.nid(&site.alice).await?.context("Alice has an account")?;
    let reader = Reader { user_id: site.alice.clone(), user_nid, device_id: None };
    let space = plant(&site.rooms, &reader).await?;
    let site = reopen(site, folder).await?;
    let (rooms, clock) = (&site.rooms, &site.clock);
    let mut figures = vec![tree(rooms, &reader, &space, 1, clock, "the first time").await?];
    figures.push(tree(rooms, &reader, &space, TIMES, clock, "p50").await?);
    let site = reopen(site, folder).await?;
    let (reads, clock) = (site.rooms.reads(), &site.clock);
    figures.push(directory(reads, 1, clock, "the first time").await?);
    figures.push(directory(reads, TIMES, clock, "p50").await?);
    Ok(figures)
}

/// The same server with nothing in its memory.
async fn reopen(site: Site, folder: &Path) -> anyhow::Result<Site> {
    site.close().await?;
    Site::open(folder).await
}

/// A space with many rooms, all of them published.
async fn plant(rooms: &Rooms, reader: &Reader) -> anyhow::Result<OwnedRoomId> {
    let mut children = Vec::with_capacity(ROOMS);
    for index in 1..ROOMS {
        let name = Some(format!("Room {index}"));
        let room = CreateRoom { name, published: true, ..CreateRoom::new(reader.user_id.clone()) };
        let content = CanonicalJsonObject::from([("via".to_owned(), vec!["hs.test".into()].into())]);
        let state_key = rooms.create(room).await?.to_string();
        children.push(InitialState { event_type: "m.space.child".to_owned(), state_key, content });
    }
    let creation_content = CanonicalJsonObject::from([("type".to_owned(), "m.space".into())]);
    let space = CreateRoom { creation_content, initial_state: children, ..CreateRoom::new(reader.user_id.clone()) };
    Ok(rooms.create(space).await?)
}

async fn tree(
    rooms: &Rooms,
    reader: &Reader,
    space: &OwnedRoomId,
    times: u32,
    clock: &SharedClock,
    which: &str,
) -> anyhow::Result<Figure> {
    let request = HierarchyRequest { limit: Some(ROOMS as u64), ..HierarchyRequest::default() };
    let mut latencies = Latencies::default();
    for _ in 0..times {
        let start = clock.monotonic();
        let page = rooms.hierarchy(reader, space, request).await?;
        latencies.add(clock.monotonic().saturating_sub(start));
        anyhow::ensure!(page.rooms.len() == ROOMS, "{} rooms in the tree", page.rooms.len());
    }
    Ok(Figure::new(format!("hierarchy of 500 rooms, {which}"), latencies.ms(0.5), "ms", Goal::AtMost(50.0)))
}

async fn directory(reads: &Reads, times: u32, clock: &SharedClock, which: &str) -> anyhow::Result<Figure> {
    let mut latencies = Latencies::default();
    for _ in 0..times {
        let start = clock.monotonic();
        let page = reads.public_rooms(&DirectoryRequest::default()).await?;
        latencies.add(clock.monotonic().saturating_sub(start));
        anyhow::ensure!(page.chunk.len() == ROOMS - 1, "{} rooms in the directory", page.chunk.len());
    }
    Ok(Figure::new(format!("directory of 499 rooms, {which}"), latencies.ms(0.5), "ms", Goal::None))
}
