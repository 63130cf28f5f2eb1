//! A member's relation to a room.

use serde::{Deserialize, Serialize};

/// What `membership` a member event sets. The numbers are stored: three bits in a leaf of the state tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Membership {
    /// Not a member event, or one whose membership doesn't exist.
    #[default]
    #[serde(skip)]
    None = 0,
    /// `join`
    Join = 1,
    /// `invite`
    Invite = 2,
    /// `leave`: left, kicked, unbanned or invitation refused.
    Leave = 3,
    /// `ban`
    Ban = 4,
    /// `knock`
    Knock = 5,
}

impl Membership {
    /// Every value, in the order of their numbers.
    pub const ALL: [Self; 6] = [Self::None, Self::Join, Self::Invite, Self::Leave, Self::Ban, Self::Knock];

    /// The value of that number, if there is one.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The word of the specification; empty for [`Membership::None`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Join => "join",
            Self::Invite => "invite",
            Self::Leave => "leave",
            Self::Ban => "ban",
            Self::Knock => "knock",
        }
    }
}
