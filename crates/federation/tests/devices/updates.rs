//! Changes of devices travel from one whole server to another: as soon as a room is shared, through an outage, and no longer than that.

use std::time::Duration;

use rooms::{Details, Preset};
use ruma::OwnedRoomId;
use storage::schema::{federation::DeviceListMarks, remote_devices::RemoteLists};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::*;

/// Dispatchers at work.
struct Running {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Running {
    fn of(servers: [&Server; 2]) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        for server in servers {
            let (dispatcher, stopped) = (server.dispatcher.clone(), stop.clone());
            tasks.spawn(async move { dispatcher.run(stopped).await });
        }
        Self { tasks, stop }
    }

    async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Two servers whose users are in a room that begins on the first.
async fn joined(world: &World) -> (Server, Requester, Server, Requester, OwnedRoomId) {
    let (a, b) = (world.server("a.test", 1).await, world.server("b.test", 2).await);
    let (alice, bob) = (with_keys(&a, "alice", "A", 1).await, with_keys(&b, "bob", "B", 2).await);
    let request = CreateRoom { preset: Some(Preset::PublicChat), ..CreateRoom::new(alice.user_id.clone()) };
    let room = a.parts.rooms.create(request).await.expect("created");
    let via = [a.name.clone()];
    b.parts.rooms.join(&bob.user_id, &room, &via, Details::default()).await.expect("joined");
    (a, alice, b, bob, room)
}

/// What follows from what has happened: who shares rooms, whom to tell, what is told.
async fn follow(servers: [&Server; 2]) {
    for server in servers {
        server.parts.projections.catch_up_all().await.expect("caught up");
        work(server).await;
    }
}

/// Waits, in real time, until nobody is to be told of anybody's devices.
async fn told_all(server: &Server) {
    for _ in 0..2_000 {
        let view = server.parts.storage.view();
        let marks =
            view.scan_keys::<DeviceListMarks>(&KeyRange::prefix(&()), 1, Direction::Forward).await.expect("read");
        if marks.keys.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("somebody is not told");
}

async fn knows(server: &Server, user: &UserId) -> bool {
    let key = (Text::new(user.as_str()),);
    server.parts.storage.view().contains::<RemoteLists>(&key).await.expect("read")
}

#[tokio::test]
async fn a_list_follows_its_user_through_rooms_and_outages() {
    let world = World::new();
    let (a, alice, b, bob, room) = joined(&world).await;
    follow([&a, &b]).await;
    let running = Running::of([&a, &b]);
    told_all(&a).await;
    told_all(&b).await;
    assert!(knows(&b, &alice.user_id).await && knows(&a, &bob.user_id).await, "each is told of who has come");
    assert_eq!(devices(&b, &bob, &alice.user_id).await, ["A"]);
    assert_eq!(asked(&world.servers), ["devices/%40alice%3Aa.test"]);

    with_keys(&a, "alice", "A2", 3).await;
    follow([&a, &b]).await;
    told_all(&a).await;
    assert_eq!(devices(&b, &bob, &alice.user_id).await, ["A", "A2"]);

    // The other server can't be reached for a while.
    world.servers.remove(&b.name);
    with_keys(&a, "alice", "A3", 4).await;
    follow([&a, &b]).await;
    with_keys(&a, "alice", "A4", 5).await;
    a.parts.users.devices().delete(alice.user_nid, &["A2".into()]).await.expect("deleted");
    follow([&a, &b]).await;
    assert_eq!(devices(&b, &bob, &alice.user_id).await, ["A", "A2"]);
    let back = b.federation.clone();
    world.servers.serve(b.name.clone(), move |request| testkit::world::serve(back.clone(), request));
    world.clock.advance(Duration::from_mins(10));
    told_all(&a).await;
    assert_eq!(devices(&b, &bob, &alice.user_id).await, ["A", "A3", "A4"]);
    assert_eq!(asked(&world.servers), ["devices/%40alice%3Aa.test"], "nothing was missed, so nothing was fetched");

    let leaving = b.parts.rooms.room(&room).await.expect("there");
    assert_eq!(told(&b, leaving.nid(), &alice.user_id).await, 1, "the newest change has the only row");
    leaving.leave(&bob.user_id, Details::default()).await.expect("left");
    for _ in 0..2_000 {
        follow([&a, &b]).await;
        if !knows(&a, &bob.user_id).await && !knows(&b, &alice.user_id).await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!knows(&a, &bob.user_id).await, "who shares no room is forgotten");
    assert_eq!(told(&b, leaving.nid(), &alice.user_id).await, 0, "nobody is there to be told of anybody");
    assert_eq!(told(&a, a.parts.rooms.room(&room).await.expect("there").nid(), &bob.user_id).await, 0);
    running.end().await;
    with_keys(&a, "alice", "A5", 6).await;
    follow([&a, &b]).await;
    told_all(&a).await;
}

#[tokio::test]
async fn a_server_that_has_fetched_after_a_restore_knows_the_devices_that_came_back() {
    let world = World::new();
    let (a, alice, b, bob, _) = joined(&world).await;
    follow([&a, &b]).await;
    let running = Running::of([&a, &b]);
    told_all(&a).await;
    assert_eq!(devices(&b, &bob, &alice.user_id).await, ["A"]);
    // As if a device that the other server knows had been lost: nothing tells of it.
    let before = position(&a, &alice).await;
    users::restored::discard_what_may_be_stale(&a.parts.storage).await.expect("discarded");
    assert!(position(&a, &alice).await > before);
    follow([&a, &b]).await;
    told_all(&a).await;
    work(&b).await;
    assert_eq!(devices(&b, &bob, &alice.user_id).await, ["A"]);
    assert_eq!(asked(&world.servers).len(), 2, "the list is fetched again");
    with_keys(&a, "alice", "A2", 7).await;
    follow([&a, &b]).await;
    told_all(&a).await;
    assert_eq!(devices(&b, &bob, &alice.user_id).await, ["A", "A2"]);
    assert_eq!(asked(&world.servers).len(), 2);
    running.end().await;
}

/// Where a server's list of another's user stands; it moves with everything that is heard.
async fn heard(server: &Server, user: &UserId) -> Option<StreamPosition> {
    let key = (Text::new(user.as_str()),);
    server.parts.storage.view().get::<RemoteLists>(&key).await.expect("read").map(|row| row.position)
}

/// Waits, in real time, until a server hears of a user's devices after a position.
async fn hears(server: &Server, user: &UserId, after: Option<StreamPosition>) {
    for _ in 0..2_000 {
        if heard(server, user).await > after {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("nothing is heard of {user}");
}

#[tokio::test]
async fn joins_and_logins_are_told_at_once_and_not_when_somebody_happens_to_look() {
    let world = World::new();
    let (a, alice, b, _, _) = joined(&world).await;
    let running = Running::of([&a, &b]);
    for server in [&a, &b] {
        let (jobs, stopped) = (server.parts.jobs.clone(), running.stop.clone());
        running.tasks.spawn(async move { jobs.run(stopped).await });
        let (projections, stopped) = (server.parts.projections.clone(), running.stop.clone());
        running.tasks.spawn(async move { projections.run(stopped).await });
    }
    // The clock stands still: what nobody rings for does not happen.
    hears(&b, &alice.user_id, None).await;
    told_all(&a).await;
    let before = heard(&b, &alice.user_id).await;
    on_device(&a, "alice", "A2").await;
    hears(&b, &alice.user_id, before).await;
    running.end().await;
}

#[tokio::test]
async fn a_device_without_keys_is_told_of_too() {
    let world = World::new();
    let (a, b) = (world.server("a.test", 1).await, world.server("b.test", 2).await);
    let (alice, bob) = (on_device(&a, "alice", "A").await, on_device(&b, "bob", "B").await);
    let request = CreateRoom { preset: Some(Preset::PublicChat), ..CreateRoom::new(alice.user_id.clone()) };
    let room = a.parts.rooms.create(request).await.expect("created");
    b.parts.rooms.join(&bob.user_id, &room, std::slice::from_ref(&a.name), Details::default()).await.expect("joined");
    follow([&a, &b]).await;
    let edus = a.parts.users.keys().edus_since(&alice.user_id, StreamPosition::ZERO, 100).await.expect("read");
    let contents: Vec<Value> = edus.iter().map(|edu| serde_json::from_str(edu.content.get()).expect("JSON")).collect();
    assert_eq!(contents.len(), 1);
    assert_eq!((&contents[0]["device_id"], &contents[0]["deleted"]), (&json!("A"), &json!(false)));
    assert!(contents[0].get("keys").is_none());
    let view = a.parts.storage.view();
    let key = (Text::new("b.test"), Text::new(alice.user_id.as_str()));
    assert_eq!(
        view.get::<DeviceListMarks>(&key).await.expect("read").map(|mark| mark.since),
        Some(StreamPosition::ZERO)
    );
}
