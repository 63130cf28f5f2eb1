//! Who sees which event: the one function that every read path asks (specification, client-server API, "Room history visibility").
//!
//! The rules are pure: [`allows`] takes the state around an event and says yes or no. `Eyes` looks that state up for one reader and
//! remembers it by state root, so that a page of messages costs one look-up, not one a message. `ServerEyes` does the same for another
//! server, which sees what any of its users sees.

mod eyes;
mod server_eyes;

use std::future::Future;

use storage::{
    ReadError,
    schema::rooms::{EventHeader, Membership},
};

pub(crate) use eyes::{Eyes, Standing};
pub(crate) use server_eyes::{ServerEyes, ServerStanding};

/// `history_visibility` of `m.room.history_visibility`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HistoryVisibility {
    /// Everybody sees everything.
    WorldReadable,
    /// Members see everything, even what was before them. Also where nothing, or nothing known, is set.
    #[default]
    Shared,
    /// Members see what came after they were invited.
    Invited,
    /// Members see what came after they joined.
    Joined,
}

impl HistoryVisibility {
    /// The value of that name; the default for a name that doesn't exist.
    pub fn parse(name: &str) -> Self {
        match name {
            "world_readable" => Self::WorldReadable,
            "invited" => Self::Invited,
            "joined" => Self::Joined,
            _ => Self::Shared,
        }
    }
}

/// What decides at one state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// The room's history visibility.
    pub visibility: HistoryVisibility,
    /// The reader's membership; `None` if there is none.
    pub membership: Option<Membership>,
}

/// Whether a reader may see an event, given the state around it. `after` differs from `before` only for the events that change it: the
/// more permissive of the two counts. `joined_later` says whether the reader joined at any point after the event.
///
/// A reader's own `m.room.member` events are always theirs to see: the server tells them of it anyway, in an invite or as the end of one.
pub fn allows(before: Moment, after: Moment, own_member_event: bool, joined_later: bool) -> bool {
    let at = |moment: Moment| match (moment.visibility, moment.membership) {
        (HistoryVisibility::WorldReadable, _)
        | (_, Some(Membership::Join))
        | (HistoryVisibility::Invited, Some(Membership::Invite)) => true,
        (HistoryVisibility::Shared, _) => joined_later,
        // Both let members see what came after they were members; nobody else is left here.
        (HistoryVisibility::Invited | HistoryVisibility::Joined, _) => false,
    };
    own_member_event || at(before) || at(after)
}

/// Whether a reader who may see an event could already do so when it was sent: they were in the room, or invited where that is enough. Who
/// could not is shown what an erased user wrote as if it were redacted (client-server API, `POST /account/deactivate`, `erase`).
pub fn was_there(before: Moment, after: Moment) -> bool {
    let at = |moment: Moment| {
        matches!(
            (moment.visibility, moment.membership),
            (_, Some(Membership::Join)) | (HistoryVisibility::Invited, Some(Membership::Invite))
        )
    };
    at(before) || at(after)
}

/// Who sees some events of a room and not others.
pub(crate) trait Sight: Send {
    /// Whether they may see an event of the room.
    fn sees(&mut self, event: &EventHeader) -> impl Future<Output = Result<bool, ReadError>> + Send;
}

#[cfg(test)]
mod tests;
