//! Finding rooms and people: what somebody who is not in a room may know of it (specification, client-server API, "Published room directory",
//! "Spaces", "Room previews", "User directory", "Mutual rooms").
//!
//! All of it reads, and all of it shows one [`Summary`], which `about.rs` makes of a room's state and keeps until the room changes.

mod about;
mod accessible;
mod directory;
mod elsewhere;
mod hierarchy;
mod mutual;
mod people;
mod published;
mod summary;

pub(crate) use about::AboutCache;
pub use about::{Published, Summary};
pub use directory::{BadQuery, DirectoryFilter, DirectoryQuery, DirectoryRequest, DirectoryResponse, Network};
pub(crate) use elsewhere::Descriptions;
pub use hierarchy::{Hierarchy, HierarchyRequest, ServedHierarchy, SpaceRoom};
pub use mutual::{MutualError, MutualRooms};
pub use people::{FoundPeople, Person, Searched};
pub use published::{MayPublish, PublishError};
pub use summary::SummaryFor;

#[cfg(test)]
mod tests;
