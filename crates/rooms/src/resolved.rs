//! The state that several states make together.

use primitives::NodeId;
use storage::ReadError;

use crate::change::Change;

impl Change {
    /// The state that the states after some events make together.
    pub(crate) async fn resolved(&mut self, roots: &[NodeId]) -> Result<NodeId, ReadError> {
        match roots {
            [] => Ok(NodeId(0)),
            [first, rest @ ..] if rest.iter().all(|root| root == first) => Ok(*first),
            _ => Err(ReadError::Engine("forks are not resolved yet".to_owned())),
        }
    }
}
