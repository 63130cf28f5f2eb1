//! The kinds of rules.

use serde::{Deserialize, Serialize};

/// A kind of push rule. In the order of their priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleKind {
    /// Conditions that come before everything else.
    Override,
    /// A pattern in the text of a message.
    Content,
    /// One room.
    Room,
    /// One sender.
    Sender,
    /// Conditions that come after everything else.
    Underride,
}

impl RuleKind {
    /// Every kind, the most important one first.
    pub const ALL: [Self; 5] = [Self::Override, Self::Content, Self::Room, Self::Sender, Self::Underride];

    /// The kind of that name, if there is one.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The specification's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Override => "override",
            Self::Content => "content",
            Self::Room => "room",
            Self::Sender => "sender",
            Self::Underride => "underride",
        }
    }

    /// Whether rules of this kind have conditions.
    pub(super) fn has_conditions(self) -> bool {
        matches!(self, Self::Override | Self::Underride)
    }
}
