use super::*;

const VISIBILITIES: [HistoryVisibility; 4] = [
    HistoryVisibility::WorldReadable,
    HistoryVisibility::Shared,
    HistoryVisibility::Invited,
    HistoryVisibility::Joined,
];

fn still(visibility: HistoryVisibility, membership: Option<Membership>, joined_later: bool) -> bool {
    let moment = Moment { visibility, membership };
    allows(moment, moment, false, joined_later)
}

/// I9: the whole table of the specification.
#[test]
fn i9_the_rules_of_the_specification() {
    let rows = [
        // membership at the event, joined later → world_readable, shared, invited, joined
        (None, false, [true, false, false, false]),
        (None, true, [true, true, false, false]),
        (Some(Membership::Leave), false, [true, false, false, false]),
        (Some(Membership::Leave), true, [true, true, false, false]),
        (Some(Membership::Ban), true, [true, true, false, false]),
        (Some(Membership::Knock), false, [true, false, false, false]),
        (Some(Membership::Knock), true, [true, true, false, false]),
        (Some(Membership::Invite), false, [true, false, true, false]),
        (Some(Membership::Invite), true, [true, true, true, false]),
        (Some(Membership::Join), false, [true, true, true, true]),
    ];
    for (membership, joined_later, expected) in rows {
        let got = VISIBILITIES.map(|visibility| still(visibility, membership, joined_later));
        assert_eq!(got, expected, "{membership:?}, joined later: {joined_later}");
    }
}

#[test]
fn only_who_was_in_the_room_or_invited_where_that_is_enough_was_there() {
    let at = |visibility, membership| Moment { visibility, membership };
    for visibility in VISIBILITIES {
        let there = |membership| was_there(at(visibility, membership), at(visibility, membership));
        assert!(there(Some(Membership::Join)), "{visibility:?}");
        assert_eq!(there(Some(Membership::Invite)), visibility == HistoryVisibility::Invited);
        for membership in [None, Some(Membership::Leave), Some(Membership::Ban), Some(Membership::Knock)] {
            assert!(!there(membership), "{visibility:?} {membership:?}");
        }
        assert!(was_there(at(visibility, None), at(visibility, Some(Membership::Join))), "one's own join");
    }
}

#[test]
fn a_change_of_visibility_is_seen_by_whom_either_side_lets_see() {
    let moment = |visibility| Moment { visibility, membership: None };
    let open = moment(HistoryVisibility::WorldReadable);
    let closed = moment(HistoryVisibility::Joined);
    assert!(allows(open, closed, false, false));
    assert!(allows(closed, open, false, false));
    assert!(!allows(closed, closed, false, false));
}

#[test]
fn ones_own_membership_is_always_seen() {
    let moment = |membership| Moment { visibility: HistoryVisibility::Joined, membership };
    assert!(allows(moment(Some(Membership::Invite)), moment(Some(Membership::Leave)), true, false));
    assert!(!allows(moment(Some(Membership::Invite)), moment(Some(Membership::Leave)), false, false));
}

#[test]
fn what_is_not_understood_counts_as_shared() {
    for name in ["", "private", "WORLD_READABLE"] {
        assert_eq!(HistoryVisibility::parse(name), HistoryVisibility::Shared, "{name}");
    }
    assert_eq!(HistoryVisibility::parse("joined"), HistoryVisibility::Joined);
}
