//! Joins with a part of a room's state (MSC3902): the room is there at once, and whole later.

use std::time::Duration;

use http::{Request, Response, StatusCode};
use rooms::{
    Details, Incoming, Outgoing, Pdu, Preset, Reader, Received, filter::Filter, read::MembersRequest,
    sync::SyncRequest, tokens::SyncToken,
};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde_json::{Value, json};
use storage::{Storage, schema::rooms::Verdict};
use testkit::world::{Server, World};

use super::{asked, check, create, hand_in, join, member_pdu, told};
use crate::{
    ask_signed,
    far::{Far, object},
};

const LAZY: &str = r#"{"room":{"state":{"lazy_load_members":true}}}"#;
/// Longer than anything here takes that isn't waiting for something.
const SOON: Duration = Duration::from_millis(100);
/// Between two looks.
const TICK: Duration = Duration::from_millis(10);
/// Looks that are enough for anything here.
const TICKS: usize = 500;

async fn joining(world: &World) -> (Server, Storage) {
    let clock: primitives::SharedClock = world.clock.clone();
    let storage = Storage::memory(&clock, &primitives::Random::seeded(2));
    (world.partial_server(storage.clone(), "b.test", 2).await, storage)
}

async fn reader(server: &Server, user: &UserId) -> Reader {
    let nid = server.parts.users.nid(user).await.expect("readable").expect("an account");
    Reader { user_id: user.to_owned(), user_nid: nid, device_id: None }
}

/// What a sync tells of the room, and the token for the next.
async fn sync(
    server: &Server,
    user: &UserId,
    room: &RoomId,
    filter: &str,
    since: Option<SyncToken>,
) -> (Option<Value>, SyncToken) {
    let filter = Filter::parse(filter).expect("a filter");
    let request = SyncRequest { since, filter, ..SyncRequest::default() };
    let response = server.parts.reads.sync(&reader(server, user).await, request).await.expect("a response");
    let next = response.next_batch;
    let response = serde_json::to_value(response).expect("JSON");
    (response["rooms"]["join"].get(room.as_str()).cloned(), next)
}

/// The joined members, once they are all known.
async fn members(server: &Server, user: &UserId, room: &RoomId) -> Vec<String> {
    let reader = reader(server, user).await;
    let members = server.parts.reads.joined_members(&reader, room).await.expect("a member");
    members.joined.into_keys().collect()
}

async fn is_partial(server: &Server, user: &UserId, room: &RoomId) -> bool {
    tokio::time::timeout(SOON, members(server, user, room)).await.is_err()
}

/// Lets the jobs make the room whole.
async fn make_whole(server: &Server, user: &UserId, room: &RoomId) {
    let mut waiting = std::pin::pin!(members(server, user, room));
    for _ in 0..TICKS {
        if tokio::time::timeout(TICK, &mut waiting).await.is_ok() {
            return;
        }
        server.parts.jobs.run_due().await.expect("jobs run");
        server.parts.projections.catch_up_all().await.expect("caught up");
        server.parts.clock.advance(Duration::from_secs(1));
    }
    panic!("it does not become whole");
}

/// A room of some members of `a.test` that one of `b.test` joins with a part of its state.
async fn joined(world: &World) -> (Server, OwnedUserId, Server, OwnedUserId, OwnedRoomId) {
    let (a, (b, _)) = (world.server("a.test", 1).await, joining(world).await);
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let room = create(&a, &alice, "11", Preset::PublicChat).await;
    set(&a, &alice, &room, "m.room.name", &json!({ "name": "n" })).await;
    for name in ["carol", "dora"] {
        let user = a.user(name).await;
        join(&a, &user, &room, &[]).await.expect("joined");
    }
    join(&b, &bob, &room, &[&a]).await.expect("joined");
    (a, alice, b, bob, room)
}

async fn set(server: &Server, user: &UserId, room: &RoomId, kind: &str, content: &Value) {
    let event = Outgoing::state(user.to_owned(), kind, "", object(content));
    server.parts.rooms.room(room).await.expect("there").send(event).await.expect("sent");
}

#[tokio::test]
async fn the_room_is_there_at_once_and_whole_later() {
    let world = World::new();
    let (a, _, b, bob, room) = joined(&world).await;
    assert_eq!(asked(&world, &a, "omit_members=true"), 1);
    let (lazy, since_lazy) = sync(&b, &bob, &room, LAZY, None).await;
    assert_eq!(lazy.expect("shown")["summary"]["m.joined_member_count"], 1);
    let (eager, since) = sync(&b, &bob, &room, "{}", None).await;
    assert!(eager.is_none(), "members are lacking");
    assert!(is_partial(&b, &bob, &room).await);
    check(&b).await;

    let hello = Outgoing::message(bob.clone(), "m.room.message", object(&json!({ "body": "hello" })));
    b.parts.rooms.room(&room).await.expect("there").send(hello).await.expect("sent");
    let (eager, since) = sync(&b, &bob, &room, "{}", Some(since)).await;
    assert!(eager.is_none(), "members are lacking still");

    make_whole(&b, &bob, &room).await;
    check(&b).await;
    let everybody = ["@alice:a.test", "@bob:b.test", "@carol:a.test", "@dora:a.test"];
    assert_eq!(members(&b, &bob, &room).await, everybody);
    let (eager, _) = sync(&b, &bob, &room, "{}", Some(since)).await;
    let state = eager.expect("shown as new")["state"]["events"].clone();
    let shown: Vec<_> =
        state.as_array().expect("a list").iter().filter(|event| event["type"] == "m.room.member").collect();
    assert_eq!(shown.len(), 3, "all but the one that the timeline shows");
    let (lazy, _) = sync(&b, &bob, &room, LAZY, Some(since_lazy)).await;
    assert_eq!(lazy.expect("something new")["summary"]["m.joined_member_count"], 4);
    // As of the time when they were not known, they are known now.
    let at = MembersRequest { at: Some(rooms::tokens::PageToken::Stream(since_lazy)), ..MembersRequest::default() };
    let then = b.parts.reads.members(&reader(&b, &bob).await, &room, at).await.expect("a member");
    assert_eq!(then.len(), 4);
}

#[tokio::test]
async fn what_is_not_known_is_told_to_nobody() {
    let world = World::new();
    let (a, _, b, bob, room) = joined(&world).await;
    let c = world.server("c.test", 3).await;
    let id = room.as_str().replace('!', "%21").replace(':', "%3A");
    for call in ["make_join", "make_knock"] {
        let path = format!("/_matrix/federation/v1/{call}/{id}/%40eve%3Ac.test?ver=11");
        let (status, body) = ask_signed(&b, &c, "GET", &path, "").await;
        assert_eq!((status, &body["errcode"]), (StatusCode::NOT_FOUND, &json!("M_NOT_FOUND")), "{call}");
    }
    let event = b.parts.reads.state_event(&reader(&b, &bob).await, &room, "m.room.member", bob.as_str()).await;
    let event = event.expect("there").event.header.event_id.replace('$', "%24");
    let path = format!("/_matrix/federation/v1/state_ids/{id}?event_id={event}");
    assert_eq!(ask_signed(&b, &a, "GET", &path, "").await.0, StatusCode::FORBIDDEN);
    make_whole(&b, &bob, &room).await;
    assert_eq!(ask_signed(&b, &a, "GET", &path, "").await.0, StatusCode::OK);
    assert_eq!(ask_signed(&b, &c, "GET", &path, "").await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_restart_goes_on_where_it_was() {
    let world = World::new();
    let (a, (b, storage)) = (world.server("a.test", 1).await, joining(&world).await);
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let room = create(&a, &alice, "12", Preset::PublicChat).await;
    set(&a, &alice, &room, "m.room.name", &json!({ "name": "n" })).await;
    join(&b, &bob, &room, &[&a]).await.expect("joined");
    b.parts.rooms.close().await;
    let b = world.partial_server(storage, "b.test", 2).await;
    assert!(is_partial(&b, &bob, &room).await);
    make_whole(&b, &bob, &room).await;
    assert_eq!(members(&b, &bob, &room).await, ["@alice:a.test", "@bob:b.test"]);
    check(&b).await;
}

#[tokio::test]
async fn another_server_gives_the_state_where_the_first_does_not() {
    let world = World::new();
    let (a, (b, _)) = (world.server("a.test", 1).await, joining(&world).await);
    let c = world.server("c.test", 3).await;
    let (alice, bob, eve) = (a.user("alice").await, b.user("bob").await, c.user("eve").await);
    let room = create(&a, &alice, "11", Preset::PublicChat).await;
    set(&a, &alice, &room, "m.room.name", &json!({ "name": "n" })).await;
    join(&c, &eve, &room, &[&a]).await.expect("joined");
    let federation = a.federation.clone();
    world.servers.serve(a.name.clone(), move |request: Request<bytes::Bytes>| {
        let federation = federation.clone();
        async move {
            if request.uri().path().contains("/state_ids/") {
                return Response::new(bytes::Bytes::from_static(b"{}"));
            }
            testkit::world::serve(federation, request).await
        }
    });
    join(&b, &bob, &room, &[&a]).await.expect("joined");
    // The others hear of the join.
    let member = member_pdu(&a, &alice, &room, &bob).await;
    assert!(hand_in(&a, &c, &room, &member).await);
    make_whole(&b, &bob, &room).await;
    assert_eq!(members(&b, &bob, &room).await, ["@alice:a.test", "@bob:b.test", "@eve:c.test"]);
    assert!(asked(&world, &c, "/state_ids/") >= 1);
    check(&b).await;
}

/// The verdict on an event that a server sends.
async fn arrives(server: &Server, room: &RoomId, pdu: &Pdu) -> Verdict {
    let room = server.parts.rooms.room(room).await.expect("there");
    let remote = server.parts.rooms.remote().expect("federation");
    let received = room.receive(vec![Incoming::new(pdu.json())], remote).await.expect("received");
    match received.into_iter().next() {
        Some(Received::Stored(_, verdict)) => verdict,
        other => panic!("{other:?}"),
    }
}

/// Whether a user can read an event.
async fn reads(server: &Server, user: &UserId, room: &RoomId, event: &OwnedEventId) -> bool {
    server.parts.reads.event(&reader(server, user).await, room, event).await.is_ok()
}

#[tokio::test]
async fn what_arrived_meanwhile_is_judged_by_the_whole_state() {
    let world = World::new();
    let (a, c, (b, _)) = (world.server("a.test", 1).await, world.server("c.test", 3).await, joining(&world).await);
    // Bob, of c.test, has the power to kick, and has left. Erin has the power to set state, and is there.
    let mut far = Far::joined(&a, &c, "11", "shared").await;
    let (bob, erin, dan) = (far.bob.clone(), c.user("erin").await, b.user("dan").await);
    let bobs_join = far.last.clone();
    let levels = json!({ "users": { far.alice.as_str(): 100, bob.as_str(): 90, erin.as_str(): 50 } });
    far.set("m.room.power_levels", "", levels).await;
    far.member("leave").await;
    let erins_join = far.make(&erin, "m.room.member", Some(erin.as_str()), &json!({ "membership": "join" })).await;
    let erins_join = far.hand_in(erins_join).await;
    far.set("m.room.name", "", json!({ "name": "n" })).await;
    let room = far.id().to_owned();
    join(&b, &dan, &room, &[&a]).await.expect("joined");
    assert!(is_partial(&b, &dan, &room).await);
    let dans = super::state_pdu(&a, &far.alice, &room, "m.room.member", dan.as_str()).await;
    far.last = Pdu::parse(far.room.version(), dans.to_string().as_bytes()).expect("a PDU").event_id().clone();

    let id = |event: Option<OwnedEventId>| event.expect("there");
    let of_state = |kind: &'static str| {
        let (a, alice, room) = (&a, far.alice.clone(), room.clone());
        async move {
            let event = a.parts.reads.state_event(&reader(a, &alice).await, &room, kind, "").await.ok();
            id(event.and_then(|event| OwnedEventId::try_from(event.event.header.event_id.as_str()).ok()))
        }
    };
    let (create, levels) = (of_state("m.room.create").await, of_state("m.room.power_levels").await);
    // Bob says that he is still there, and kicks Erin: nobody knows better yet.
    let content = json!({ "membership": "leave" });
    let auth = [create.clone(), levels.clone(), bobs_join.clone(), erins_join.clone()];
    let kick = far.build(&bob, ("m.room.member", Some(erin.as_str()), &content), &auth);
    take_auth(&a, &b, &room, &[bobs_join.clone(), erins_join.clone()]).await;
    assert_eq!(arrives(&b, &room, &kick).await, Verdict::Accepted);
    // So Erin's state is refused.
    far.last = kick.event_id().clone();
    let topic = far.build(&erin, ("m.room.topic", Some(""), &json!({ "topic": "t" })), &[create, levels, erins_join]);
    assert!(matches!(arrives(&b, &room, &topic).await, Verdict::Rejected(_)));
    let (kick, topic) = (kick.event_id().clone(), topic.event_id().clone());
    assert!(reads(&b, &dan, &room, &kick).await && !reads(&b, &dan, &room, &topic).await);
    let (_, since) = sync(&b, &dan, &room, LAZY, None).await;
    check(&b).await;

    make_whole(&b, &dan, &room).await;
    check(&b).await;
    assert!(!reads(&b, &dan, &room, &kick).await, "Bob had left");
    assert!(reads(&b, &dan, &room, &topic).await, "Erin was there");
    let there = members(&b, &dan, &room).await;
    assert!(there.contains(&erin.to_string()) && !there.contains(&bob.to_string()), "{there:?}");
    let (news, _) = sync(&b, &dan, &room, LAZY, Some(since)).await;
    let news = news.expect("something new");
    let timeline: Vec<_> =
        news["timeline"]["events"].as_array().expect("a list").iter().map(|e| e["event_id"].clone()).collect();
    assert_eq!(timeline, [json!(topic)]);
}

/// Brings events of a room to a server for their place in auth chains.
async fn take_auth(from: &Server, to: &Server, room: &RoomId, ids: &[OwnedEventId]) {
    let handle = to.parts.rooms.room(room).await.expect("there");
    let remote = to.parts.rooms.remote().expect("federation");
    for id in ids {
        let event = to.client.event(&from.name, id).await.expect("given");
        let incoming = Incoming { outlier: true, ..Incoming::new(event.get()) };
        let received = handle.receive(vec![incoming], remote).await.expect("received");
        assert!(matches!(received[..], [Received::Stored(_, Verdict::Accepted)]), "{received:?}");
    }
}

#[tokio::test]
async fn who_leaves_and_comes_back_finds_the_room_and_so_do_others() {
    let world = World::new();
    let (a, _, b, bob, room) = joined(&world).await;
    // The second finds the room here, and is let in by who knows whether they may.
    let erin = b.user("erin").await;
    join(&b, &erin, &room, &[&a]).await.expect("joined");
    assert_eq!(asked(&world, &a, "omit_members=true"), 2);
    check(&b).await;
    for user in [&bob, &erin] {
        b.parts.rooms.leave(user, &room, Details::default()).await.expect("left");
    }
    // Nobody fetches the state for nobody.
    b.parts.jobs.run_due().await.expect("jobs run");
    assert_eq!(asked(&world, &a, "/state_ids/"), 0);
    check(&b).await;
    deliver(&b, &a, &room).await;
    join(&b, &erin, &room, &[&a]).await.expect("joined");
    join(&b, &bob, &room, &[&a]).await.expect("joined");
    assert_eq!(asked(&world, &a, "omit_members=true"), 3);
    check(&b).await;
    make_whole(&b, &erin, &room).await;
    let everybody = ["@alice:a.test", "@bob:b.test", "@carol:a.test", "@dora:a.test", "@erin:b.test"];
    assert_eq!(members(&b, &erin, &room).await, everybody);
    check(&b).await;
}

#[tokio::test]
async fn who_is_banned_from_a_partial_room_can_be_invited_again() {
    let world = World::new();
    let (a, alice, b, bob, room) = joined(&world).await;
    let handle = a.parts.rooms.room(&room).await.expect("there");
    handle.ban(&alice, &bob, Details::default()).await.expect("banned");
    let ban = member_pdu(&a, &alice, &room, &bob).await;
    assert!(hand_in(&a, &b, &room, &ban).await);
    assert!(told(&b, &bob, "leave", &room).await.is_some());
    handle.unban(&alice, &bob, Details::default()).await.expect("unbanned");
    let unban = member_pdu(&a, &alice, &room, &bob).await;
    handle.invite(&alice, &bob, Details::default()).await.expect("invited");
    // The invite has overtaken the end of the ban.
    assert!(!hand_in(&a, &b, &room, &unban).await);
    assert!(told(&b, &bob, "invite", &room).await.is_some());
    check(&b).await;
    join(&b, &bob, &room, &[&a]).await.expect("joined");
    assert_eq!(told(&b, &bob, "invite", &room).await, None);
    make_whole(&b, &bob, &room).await;
    assert_eq!(members(&b, &bob, &room).await.len(), 4);
    check(&b).await;
}

/// Has the events that one server sends of a room arrive at another.
async fn deliver(from: &Server, to: &Server, room: &RoomId) {
    let handle = from.parts.rooms.room(room).await.expect("there");
    let reads = &from.parts.reads;
    let view = reads.view();
    let page = reads.outbound(&view, handle.nid(), primitives::StreamPosition::ZERO).await.expect("readable");
    for news in page.news.iter().filter(|news| news.servers.contains(&to.name)) {
        let pdu = reads.pdu(&view, handle.nid(), news.rix).await.expect("readable").expect("there");
        assert!(hand_in(from, to, room, &serde_json::to_value(pdu).expect("JSON")).await);
    }
}

#[tokio::test]
async fn who_may_be_there_is_listened_to() {
    let world = World::new();
    let (a, _, b, bob, room) = joined(&world).await;
    let handle = b.parts.rooms.room(&room).await.expect("there");
    let carol = UserId::parse("@carol:a.test").expect("a user id");
    handle.keep_typing(&carol, true).await.expect("she may be there");
    assert!(handle.is_typing(&carol));
    let stranger = UserId::parse("@x:c.test").expect("a user id");
    handle.keep_typing(&stranger, true).await.expect_err("nobody of that server is there");
    assert!(handle.may_have_joined(&carol).await.expect("readable"));
    assert!(handle.has_server(&a.name).await.expect("readable"));
    // What is said here goes to everybody who is said to be there.
    let view = b.parts.reads.view();
    let servers = b.parts.reads.other_servers(&view, handle.nid()).await.expect("readable");
    assert_eq!(servers.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a.test"]);
    make_whole(&b, &bob, &room).await;
    assert!(!handle.may_have_joined(&UserId::parse("@nobody:a.test").expect("a user id")).await.expect("readable"));
}

#[tokio::test]
async fn a_state_that_does_not_allow_the_join_is_not_taken() {
    let world = World::new();
    let (a, alice, b, bob, room) = joined(&world).await;
    let federation = a.federation.clone();
    // The server says that the room had no rule by which anybody could have joined.
    let rules = super::state_pdu(&a, &alice, &room, "m.room.join_rules", "").await;
    let rules = Pdu::parse(rooms::RoomVersion::parse("11").expect("a version"), rules.to_string().as_bytes());
    let rules = rules.expect("a PDU").event_id().to_string();
    let honest = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let turns = honest.clone();
    world.servers.serve(a.name.clone(), move |request: Request<bytes::Bytes>| {
        let (federation, rules, honest) = (federation.clone(), rules.clone(), turns.clone());
        async move {
            let lies =
                request.uri().path().contains("/state_ids/") && !honest.load(std::sync::atomic::Ordering::SeqCst);
            let answer = testkit::world::serve(federation, request).await;
            if !lies {
                return answer;
            }
            let mut body: Value = serde_json::from_slice(answer.body()).expect("JSON");
            body["pdu_ids"].as_array_mut().expect("a list").retain(|id| *id != json!(rules));
            Response::new(body.to_string().into_bytes().into())
        }
    });
    b.parts.jobs.run_due().await.expect("jobs run");
    assert!(is_partial(&b, &bob, &room).await, "such a state is not taken");
    check(&b).await;
    honest.store(true, std::sync::atomic::Ordering::SeqCst);
    world.clock.advance(Duration::from_mins(1));
    make_whole(&b, &bob, &room).await;
    assert_eq!(members(&b, &bob, &room).await.len(), 4);
    check(&b).await;
}
