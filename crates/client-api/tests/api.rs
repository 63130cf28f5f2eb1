//! The client API as a client sees it, on a server in memory.

#[path = "api/account_data.rs"]
mod account_data;
#[path = "api/accounts.rs"]
mod accounts;
#[path = "api/aliases.rs"]
mod aliases;
#[path = "api/bad_input.rs"]
mod bad_input;
#[path = "api/calls.rs"]
mod calls;
#[path = "api/counts.rs"]
mod counts;
#[path = "api/creation.rs"]
mod creation;
#[path = "api/creators.rs"]
mod creators;
#[path = "api/deactivation.rs"]
mod deactivation;
#[path = "api/dehydrated_device.rs"]
mod dehydrated_device;
#[path = "api/delayed.rs"]
mod delayed;
#[path = "api/device_lists.rs"]
mod device_lists;
#[path = "api/devices.rs"]
mod devices;
#[path = "api/directory.rs"]
mod directory;
#[path = "api/erasure.rs"]
mod erasure;
#[path = "api/guests.rs"]
mod guests;
#[path = "api/history.rs"]
mod history;
#[path = "api/ignoring.rs"]
mod ignoring;
#[path = "api/keys.rs"]
mod keys;
#[path = "api/limits.rs"]
mod limits;
#[path = "api/membership.rs"]
mod membership;
#[path = "api/moderation.rs"]
mod moderation;
#[path = "api/notifications.rs"]
mod notifications;
#[path = "api/old_sync.rs"]
mod old_sync;
#[path = "api/openid.rs"]
mod openid;
#[path = "api/pages.rs"]
mod pages;
#[path = "api/passwords.rs"]
mod passwords;
#[path = "api/presence.rs"]
mod presence;
#[path = "api/profile_policy.rs"]
mod profile_policy;
#[path = "api/profiles.rs"]
mod profiles;
#[path = "api/protocol.rs"]
mod protocol;
#[path = "api/push_rules.rs"]
mod push_rules;
#[path = "api/receipts.rs"]
mod receipts;
#[path = "api/registration.rs"]
mod registration;
#[path = "api/relations.rs"]
mod relations;
#[path = "api/relationships.rs"]
mod relationships;
#[path = "api/reports.rs"]
mod reports;
#[path = "api/room_keys.rs"]
mod room_keys;
#[path = "api/rooms.rs"]
mod rooms;
#[path = "api/search.rs"]
mod search;
#[path = "api/spaces.rs"]
mod spaces;
#[path = "api/subscriptions.rs"]
mod subscriptions;
#[path = "api/support.rs"]
mod support;
#[path = "api/suspension.rs"]
mod suspension;
#[path = "api/syncing.rs"]
mod syncing;
#[path = "api/to_device.rs"]
mod to_device;
#[path = "api/transactions.rs"]
mod transactions;
#[path = "api/typing.rs"]
mod typing;
#[path = "api/upgrades.rs"]
mod upgrades;
