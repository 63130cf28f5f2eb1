//! What a user wants to hear of, in whatever room: read once for all rooms of a request.

use std::sync::Arc;

use primitives::StreamPosition;
use storage::{ReadError, View};
use users::{
    ignoring::IgnoredUsers,
    push_rules::{Owner, UserRules},
};

use super::{Reader, Reads};

/// A user's push rules and whom they ignore, as one view shows them.
#[derive(Clone, Debug)]
pub(crate) struct Wishes {
    /// The push rules.
    pub(crate) rules: Arc<UserRules>,
    /// Whom the user ignores, if anybody.
    pub(crate) ignored: Option<Arc<IgnoredUsers>>,
}

impl Wishes {
    /// When either of them changed last.
    pub(crate) fn changed(&self) -> StreamPosition {
        let ignored = self.ignored.as_ref().map_or(StreamPosition::ZERO, |ignored| ignored.changed());
        self.rules.changed.max(ignored)
    }
}

impl Reads {
    /// What a user wants to hear of.
    pub(crate) async fn wishes(&self, view: &View, reader: &Reader) -> Result<Wishes, ReadError> {
        let owner = Owner { user: reader.user_nid, user_id: &reader.user_id };
        let rules = self.0.users.push_rules().in_view(view, owner).await?;
        let ignored = self.0.caches.ignored(view, reader.user_nid).await?;
        Ok(Wishes { rules, ignored })
    }
}
