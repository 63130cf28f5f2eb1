use super::*;

fn facts<'a>(event_type: &'a str, sender: &'a str) -> EventFacts<'a> {
    EventFacts { event_type, sender, has_url: false, rel_type: None }
}

#[test]
fn what_is_no_filter_is_refused() {
    let bad = [
        r#"{"presence":"not_an_object"}"#,
        r#"{"room":{"timeline":"not_an_object"}}"#,
        r#"{"room":{"state":"not_an_object"}}"#,
        r#"{"room":{"ephemeral":1}}"#,
        r#"{"room":{"account_data":false}}"#,
        r#"{"room":{"timeline":{"rooms":"not_a_list"}}}"#,
        r#"{"room":{"timeline":{"not_rooms":"not_a_list"}}}"#,
        r#"{"room":{"timeline":{"senders":"not_a_list"}}}"#,
        r#"{"room":{"timeline":{"not_senders":{}}}}"#,
        r#"{"room":{"timeline":{"types":"not_a_list"}}}"#,
        r#"{"room":{"timeline":{"not_types":"not_a_list"}}}"#,
        r#"{"room":{"timeline":{"types":[1]}}}"#,
        r#"{"room":{"timeline":{"rooms":["not_a_room_id"]}}}"#,
        r#"{"room":{"timeline":{"senders":["not_a_sender_id"]}}}"#,
        r#"{"room":{"timeline":{"limit":-1}}}"#,
        r#"{"room":{"timeline":{"limit":1.5}}}"#,
        r#"{"room":{"include_leave":"yes"}}"#,
        r#"{"event_format":"xml"}"#,
        r#"{"room":[]}"#,
        r#"{"room":{"timeline":[]}}"#,
        r#"{"room":"#,
        "[]",
        "null",
        "\"0\"",
        "",
    ];
    for json in bad {
        assert!(Filter::parse(json).is_err(), "{json}");
    }
    for json in ["[]", r#"{"types":1}"#, r#"{"contains_url":"x"}"#, "null"] {
        assert!(RoomEventFilter::parse(json).is_err(), "{json}");
    }
    assert!(Filter::parse(r#" {"room":{"timeline":{"limit":0}},"org.example":1}"#).is_ok());
}

#[test]
fn an_empty_filter_selects_everything_and_an_empty_list_nothing() {
    let everything = RoomEventFilter::parse("{}").expect("a filter");
    assert!(everything.selects_everything());
    assert!(everything.selects(&facts("m.x", "@a:x")));
    assert_eq!(everything.limit(), DEFAULT_LIMIT);
    let nothing = RoomEventFilter::parse(r#"{"types":[],"limit":99999999}"#).expect("a filter");
    assert!(!nothing.selects_everything());
    assert!(!nothing.selects(&facts("m.x", "@a:x")));
    assert_eq!(nothing.limit(), MAX_LIMIT);
}

#[test]
fn exclusion_wins_over_inclusion() {
    let json =
        r#"{"types":["m.room.*"],"not_types":["m.room.member"],"senders":["@a:x","@b:x"],"not_senders":["@b:x"]}"#;
    let filter = RoomEventFilter::parse(json).expect("a filter");
    assert!(filter.selects(&facts("m.room.message", "@a:x")));
    assert!(!filter.selects(&facts("m.room.member", "@a:x")));
    assert!(!filter.selects(&facts("m.room.message", "@b:x")));
    assert!(!filter.selects(&facts("m.room.message", "@c:x")));
    assert!(!filter.selects(&facts("m.sticker", "@a:x")));
}

#[test]
fn rooms_are_selected_by_both_lists() {
    let filter = Filter::parse(r#"{"room":{"rooms":["!a:x","!b:x"],"not_rooms":["!b:x"]}}"#).expect("a filter").room;
    let selected = |room: &str| filter.selects(room.try_into().expect("a room id"));
    assert_eq!([selected("!a:x"), selected("!b:x"), selected("!c:x")], [true, false, false]);
}

#[test]
fn urls_and_relations_decide() {
    let with_url = RoomEventFilter::parse(r#"{"contains_url":true}"#).expect("a filter");
    assert!(!with_url.selects(&facts("m.x", "@a:x")));
    assert!(with_url.selects(&EventFacts { has_url: true, ..facts("m.x", "@a:x") }));
    let threads = RoomEventFilter::parse(r#"{"org.matrix.msc3874.rel_types":["m.thread"]}"#).expect("a filter");
    assert!(!threads.selects(&facts("m.x", "@a:x")));
    assert!(threads.selects(&EventFacts { rel_type: Some("m.thread"), ..facts("m.x", "@a:x") }));
    let not_edits = RoomEventFilter::parse(r#"{"not_rel_types":["m.replace"]}"#).expect("a filter");
    assert!(not_edits.selects(&facts("m.x", "@a:x")));
    assert!(!not_edits.selects(&EventFacts { rel_type: Some("m.replace"), ..facts("m.x", "@a:x") }));
}

#[test]
fn one_relating_event_must_meet_both_conditions() {
    let json = r#"{"related_by_senders":["@a:x"],"related_by_rel_types":["m.thread"]}"#;
    let filter = RoomEventFilter::parse(json).expect("a filter");
    let row = |sender: &str, rel_type: &str| RelationRow {
        rel_type: rel_type.to_owned(),
        event_type: "m.room.message".to_owned(),
        sender: sender.to_owned(),
        target: "$e".to_owned(),
        own_hash: [0; 16],
    };
    assert!(filter.needs_relations());
    assert!(!filter.selects_related(&[]));
    assert!(!filter.selects_related(&[row("@a:x", "m.annotation"), row("@b:x", "m.thread")]));
    assert!(filter.selects_related(&[row("@b:x", "m.thread"), row("@a:x", "m.thread")]));
}

#[test]
fn global_filters_see_type_and_sender() {
    let filter = Filter::parse(r#"{"presence":{"not_types":["*"]},"account_data":{"types":["m.push_rules"]}}"#)
        .expect("a filter");
    assert!(!filter.presence.selects("m.presence", Some("@a:x")));
    assert!(filter.account_data.selects("m.push_rules", None));
    assert!(!filter.account_data.selects("m.direct", None));
}
