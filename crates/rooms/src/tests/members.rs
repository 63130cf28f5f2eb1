//! Membership.

use std::sync::Arc;

use serde_json::json;
use storage::schema::rooms::{LocalMembers, Membership, Memberships};

use super::{ALICE, BOB, Server, current, object, say, set, uid, user};
use crate::{CreateRoom, Details, ForgetError, Reader, Room, SendError};

const CAROL: &str = "@carol:x";

async fn private(server: &Server) -> Room {
    let id = server.rooms.create(CreateRoom::new(user(ALICE))).await.expect("creates");
    server.rooms.room(&id).await.expect("known")
}

fn plain() -> Details {
    Details::default()
}

fn forbidden<T: std::fmt::Debug>(outcome: &Result<T, SendError>) {
    assert!(matches!(outcome, Err(SendError::Forbidden { .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_private_room_is_entered_by_invitation_only() {
    let server = Server::new().await;
    let room = private(&server).await;
    forbidden(&room.join(uid(BOB), plain()).await);
    forbidden(&room.invite(uid(ALICE), uid(ALICE), plain()).await);
    room.invite(uid(ALICE), uid(BOB), plain()).await.expect("invites");
    let joined = room.join(uid(BOB), plain()).await.expect("joins");
    forbidden(&room.invite(uid(ALICE), uid(BOB), plain()).await);
    let again = room.join(uid(BOB), plain()).await.expect("is there");
    assert_eq!(again, joined);
    let bob = Reader { user_id: user(BOB), user_nid: server.nid(BOB).await, device_id: None };
    assert_eq!(server.rooms.reads().joined_rooms(&bob).await.expect("readable"), [room.id().to_owned()]);
    let refused = room.invite(uid(ALICE), uid("@far:away"), plain()).await;
    assert!(matches!(refused, Err(SendError::RemoteUser)));
}

#[tokio::test]
async fn an_invitation_can_be_refused_even_when_the_inviter_has_gone() {
    let server = Server::new().await;
    let room = private(&server).await;
    room.invite(uid(ALICE), uid(BOB), plain()).await.expect("invites");
    room.leave(uid(ALICE), plain()).await.expect("leaves");
    let left = room.leave(uid(BOB), plain()).await.expect("refuses");
    assert_eq!(room.leave(uid(BOB), plain()).await.expect("has left"), left);
    forbidden(&room.leave(uid(CAROL), plain()).await);
}

#[tokio::test]
async fn kick_ban_and_unban_mind_who_is_there() {
    let server = Server::new().await;
    let room = server.public("12").await;
    forbidden(&room.kick(uid(ALICE), uid(BOB), plain()).await);
    forbidden(&room.unban(uid(ALICE), uid(BOB), plain()).await);
    forbidden(&room.ban(uid(BOB), uid(CAROL), plain()).await);
    room.join(uid(BOB), plain()).await.expect("joins");
    forbidden(&room.kick(uid(BOB), uid(ALICE), plain()).await);
    let details = Details { reason: Some("spam".to_owned()), ..plain() };
    room.kick(uid(ALICE), uid(BOB), details).await.expect("kicks");
    let kicked = current(&room, "m.room.member", BOB).await.expect("there");
    assert_eq!(kicked.content().get(), r#"{"membership":"leave","reason":"spam"}"#);
    forbidden(&room.kick(uid(ALICE), uid(BOB), plain()).await);
    room.ban(uid(ALICE), uid(BOB), plain()).await.expect("bans");
    forbidden(&room.join(uid(BOB), plain()).await);
    forbidden(&room.invite(uid(ALICE), uid(BOB), plain()).await);
    room.unban(uid(ALICE), uid(BOB), plain()).await.expect("unbans");
    room.join(uid(BOB), plain()).await.expect("joins");
    say(&room, BOB, "back").await.expect("sends");
}

#[tokio::test]
async fn a_member_event_shows_the_profile() {
    let server = Server::new().await;
    let bob = server.nid(BOB).await;
    let none = storage::Batch::new();
    server.users.profiles().set(bob, "displayname", "Bob".into(), &none).await.expect("sets");
    let room = server.public("12").await;
    let content = object(&json!({ "membership": "ban", "displayname": "Eve", "org.example": 1 }));
    room.join(uid(BOB), Details { content, ..plain() }).await.expect("joins");
    let member = current(&room, "m.room.member", BOB).await.expect("there");
    assert_eq!(member.content().get(), r#"{"displayname":"Bob","membership":"join","org.example":1}"#);
}

#[tokio::test]
async fn knocking_needs_a_rule_that_asks_for_it() {
    let server = Server::new().await;
    let room = private(&server).await;
    forbidden(&room.knock(uid(BOB), plain()).await);
    set(&room, ALICE, "m.room.join_rules", "", json!({ "join_rule": "knock" })).await.expect("sends");
    room.knock(uid(BOB), plain()).await.expect("knocks");
    forbidden(&room.join(uid(BOB), plain()).await);
    room.invite(uid(ALICE), uid(BOB), plain()).await.expect("lets in");
    forbidden(&room.knock(uid(BOB), plain()).await);
    room.join(uid(BOB), plain()).await.expect("joins");
}

#[tokio::test]
async fn a_restricted_room_lets_in_members_of_another_by_a_members_word() {
    let server = Server::new().await;
    for rule in ["restricted", "knock_restricted"] {
        let space = server.public("11").await;
        let room = private(&server).await;
        let allow = json!([{ "type": "m.room_membership", "room_id": space.id() }, { "type": "other" }, 5]);
        set(&room, ALICE, "m.room.join_rules", "", json!({ "join_rule": rule, "allow": allow })).await.expect("sends");
        forbidden(&room.join(uid(BOB), plain()).await);
        space.join(uid(BOB), plain()).await.expect("joins");
        room.join(uid(BOB), plain()).await.expect("joins");
        let member = current(&room, "m.room.member", BOB).await.expect("there");
        assert!(member.content().get().contains(r#""join_authorised_via_users_server":"@alice:x""#));
        room.leave(uid(BOB), plain()).await.expect("leaves");
        space.leave(uid(BOB), plain()).await.expect("leaves");
        forbidden(&room.join(uid(BOB), plain()).await);
        room.invite(uid(ALICE), uid(BOB), plain()).await.expect("invites");
        room.join(uid(BOB), plain()).await.expect("joins by invitation");
    }
}

#[tokio::test]
async fn nobody_vouches_for_themselves_in_anothers_name() {
    let server = Server::new().await;
    let (space, room) = (server.public("11").await, private(&server).await);
    let allow = json!([{ "type": "m.room_membership", "room_id": space.id() }]);
    let rule = json!({ "join_rule": "restricted", "allow": allow });
    set(&room, ALICE, "m.room.join_rules", "", rule).await.expect("sends");
    let join = |authoriser: &str| json!({ "membership": "join", "join_authorised_via_users_server": authoriser });
    forbidden(&set(&room, BOB, "m.room.member", BOB, join(ALICE)).await);
    space.join(uid(BOB), plain()).await.expect("joins");
    set(&room, BOB, "m.room.member", BOB, join("@nobody:x")).await.expect("Alice vouches");
    let content = || async { current(&room, "m.room.member", BOB).await.expect("there").content().get().to_owned() };
    assert!(content().await.contains(r#""join_authorised_via_users_server":"@alice:x""#));
    // One who has joined needs nobody any more.
    set(&room, BOB, "m.room.member", BOB, join("no user id")).await.expect("sends");
    assert_eq!(content().await, r#"{"membership":"join"}"#);
}

#[tokio::test]
async fn only_a_room_that_was_left_is_forgotten() {
    let server = Server::new().await;
    let room = server.public("12").await;
    assert!(matches!(room.forget(uid(BOB)).await, Err(ForgetError::NeverThere)));
    room.join(uid(BOB), plain()).await.expect("joins");
    assert!(matches!(room.forget(uid(BOB)).await, Err(ForgetError::StillThere)));
    room.leave(uid(BOB), plain()).await.expect("leaves");
    let bob = server.nid(BOB).await;
    let row = || async {
        let view = server.storage.view();
        view.get::<Memberships>(&(bob, room.nid())).await.expect("readable").expect("there")
    };
    let left = row().await;
    room.forget(uid(BOB)).await.expect("forgets");
    room.forget(uid(BOB)).await.expect("again");
    let forgotten = row().await;
    assert!(forgotten.value.forgotten);
    assert_eq!(forgotten.position, left.position);
    room.join(uid(BOB), plain()).await.expect("joins");
    assert!(!row().await.value.forgotten);
    let local = server.storage.view().get::<LocalMembers>(&(room.nid(), bob)).await.expect("readable");
    assert_eq!(local, Some(Membership::Join));
}

#[tokio::test]
async fn guests_come_only_where_they_are_welcome() {
    let server = Server::new().await;
    let guest = users::NewAccount {
        authority: users::Authority::Guest,
        username: None,
        password: None,
        display_name: None,
        session: None,
    };
    let guest = server.users.register(guest).await.expect("registers").user_id;
    let room = server.public("12").await;
    let refused = room.join(&guest, plain()).await;
    assert!(matches!(refused, Err(SendError::GuestForbidden)), "{refused:?}");
    set(&room, ALICE, "m.room.guest_access", "", json!({ "guest_access": "can_join" })).await.expect("sends");
    room.join(&guest, plain()).await.expect("joins");
}

#[tokio::test]
async fn member_events_that_another_server_would_have_to_sign_are_not_sent_whatever_the_way() {
    let server = Server::new().await;
    let room = server.public("12").await;
    let refused = set(&room, ALICE, "m.room.member", "@far:away", json!({ "membership": "invite" })).await;
    assert!(matches!(refused, Err(SendError::RemoteUser)), "{refused:?}");
    let vouched = json!({ "membership": "join", "join_authorised_via_users_server": "@far:away" });
    set(&room, BOB, "m.room.member", BOB, vouched).await.expect("joins a public room, where nobody vouches");
    let member = current(&room, "m.room.member", BOB).await.expect("there");
    assert_eq!(member.content().get(), r#"{"membership":"join"}"#);
}

#[tokio::test]
async fn who_is_where_is_read_anew_only_when_somebody_comes_or_goes() {
    let server = Server::new().await;
    let room = server.public("11").await;
    let (alice, bob) = (server.nid(ALICE).await, server.nid(BOB).await);
    let memory = &server.rooms.reads().0.sync;
    let known = async || {
        let view = server.rooms.context().storage.view();
        let rooms = memory.joined_rooms(&view, alice).await.expect("readable");
        (rooms, memory.local_members(&view, room.nid()).await.expect("readable"))
    };
    let before = known().await;
    assert_eq!((&**before.0, &**before.1), (&[room.nid()][..], &[alice][..]));
    say(&room, ALICE, "hello").await.expect("sends");
    let after = known().await;
    assert!(Arc::ptr_eq(&before.0, &after.0) && Arc::ptr_eq(&before.1, &after.1), "nothing was read");
    room.join(uid(BOB), plain()).await.expect("joins");
    let joined = known().await;
    assert!(Arc::ptr_eq(&before.0, &joined.0), "Alice has stayed");
    let mut both = vec![alice, bob];
    both.sort_unstable();
    assert_eq!(*joined.1, both);
    room.leave(uid(ALICE), plain()).await.expect("leaves");
    let left = known().await;
    assert_eq!((&**left.0, &**left.1), (&[][..], &[bob][..]));
}
