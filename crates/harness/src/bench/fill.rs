//! What a server holds before something is measured: people with sessions, rooms with many members, messages.

use std::sync::Arc;

use ::rooms::{CreateRoom, Details, Outgoing, Preset, Room};
use ruma::{OwnedUserId, canonical_json::CanonicalJsonObject};
use tokio_util::task::TaskTracker;
use users::{Authority, NewAccount, NewSession};

use super::site::Site;

/// Things that are done at the same time.
const AT_ONCE: usize = 64;

/// Somebody who is logged in.
#[derive(Clone, Debug)]
pub(super) struct Person {
    pub(super) user_id: OwnedUserId,
    pub(super) token: String,
}

/// Does something for every number below `count`, many at once; the outcomes in no order.
pub(super) async fn for_all<T, W, F>(count: usize, work: F) -> anyhow::Result<Vec<T>>
where
    T: Send + 'static,
    W: Future<Output = anyhow::Result<T>> + Send,
    F: Fn(usize) -> W + Clone + Send + Sync + 'static,
{
    let tasks = TaskTracker::new();
    let workers: Vec<_> = (0..AT_ONCE)
        .map(|first| {
            let work = work.clone();
            tasks.spawn(async move {
                let mut done = Vec::new();
                for number in (first..count).step_by(AT_ONCE) {
                    done.push(work(number).await?);
                }
                anyhow::Ok(done)
            })
        })
        .collect();
    let mut all = Vec::with_capacity(count);
    for worker in workers {
        all.extend(worker.await??);
    }
    Ok(all)
}

/// New users, each with a display name and a session.
pub(super) async fn people(site: &Site, count: usize) -> anyhow::Result<Arc<[Person]>> {
    let users = site.users.clone();
    let register = move |number: usize| {
        let users = users.clone();
        async move {
            let session = NewSession { device_id: None, initial_device_display_name: None, refresh_token: false };
            let account = NewAccount {
                authority: Authority::Administrator { admin: false, user_type: None },
                username: Some(format!("person{number}")),
                password: None,
                display_name: Some(format!("Person {number}")),
                session: Some(session),
            };
            let registered = users.register(account).await?;
            let session = registered.session.expect("a session was asked for");
            Ok(Person { user_id: registered.user_id, token: session.tokens.access_token })
        }
    };
    Ok(for_all(count, register).await?.into())
}

/// New public rooms, each with these members.
pub(super) async fn rooms(site: &Site, count: usize, people: &Arc<[Person]>) -> anyhow::Result<Arc<[Room]>> {
    let (handle, creator) = (site.rooms.clone(), site.alice.clone());
    let create = move |number: usize| {
        let (handle, creator) = (handle.clone(), creator.clone());
        async move {
            let (preset, name) = (Some(Preset::PublicChat), Some(format!("Room {number}")));
            let id = handle.create(CreateRoom { preset, name, ..CreateRoom::new(creator) }).await?;
            Ok(handle.room(&id).await?)
        }
    };
    let rooms: Arc<[Room]> = for_all(count, create).await?.into();
    let (joined, members) = (Arc::clone(&rooms), Arc::clone(people));
    // Neighbours join different rooms, which do not wait for one another.
    let join = move |number: usize| {
        let (room, person) = (joined[number % joined.len()].clone(), members[number / joined.len()].user_id.clone());
        async move { Ok(room.join(&person, Details::default()).await.map(drop)?) }
    };
    for_all(count * people.len(), join).await?;
    Ok(rooms)
}

/// What most messages are like.
pub(super) fn ordinary(number: usize) -> String {
    format!("message {number} of ordinary length, as people write them all day")
}

/// Messages of one sender, spread over rooms; `body` says what the one of a number says.
pub(super) async fn messages(
    site: &Site,
    rooms: &Arc<[Room]>,
    count: usize,
    body: fn(usize) -> String,
) -> anyhow::Result<()> {
    let (rooms, sender) = (Arc::clone(rooms), site.alice.clone());
    let send = move |number: usize| {
        let (room, sender) = (rooms[number % rooms.len()].clone(), sender.clone());
        async move {
            let content = CanonicalJsonObject::from([
                ("body".to_owned(), body(number).into()),
                ("msgtype".to_owned(), "m.text".into()),
            ]);
            let message = Outgoing { rate_limited: false, ..Outgoing::message(sender, "m.room.message", content) };
            Ok(room.send(message).await.map(drop)?)
        }
    };
    for_all(count, send).await.map(drop)
}
