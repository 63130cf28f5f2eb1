//! Users: accounts, devices, tokens, profiles, account data, push rules, filters, transaction ids, reports, rates and wake-ups.
//!
//! [`Users`] is the crate's whole front. Each concern is a file with its own error; none of them knows HTTP or rooms.

pub mod account_data;
pub mod accounts;
pub mod dehydrated;
pub mod devices;
pub mod directory;
pub mod error;
pub mod filters;
mod ground;
pub mod ignoring;
pub mod key_backup;
pub mod keys;
pub mod limits;
pub mod login;
pub mod names;
pub mod openid;
pub mod options;
pub mod passwords;
pub mod presence;
pub mod profiles;
pub mod push_rules;
pub mod register;
pub mod registration_tokens;
pub mod reports;
pub mod restored;
pub mod shared_secret;
mod sightings;
mod status;
#[cfg(test)]
mod testing;
pub mod to_device;
pub mod tokens;
pub mod transactions;
pub mod turn;
pub mod uia;
mod users;
pub mod verify;
pub mod wakeups;

pub use account_data::{AccountData, AccountDataError, DataKey};
pub use accounts::{Account, Restrictions, Status};
pub use dehydrated::{DehydratedDevices, DehydratedError};
pub use devices::{Device, NewSession, Session};
pub use directory::UserDirectory;
pub use error::StoreError;
pub use key_backup::{KeyBackupError, KeyBackups};
pub use keys::{DeviceLists, Keys, KeysError, KeysLeft};
pub use limits::{KeyedLimit, Limit, LimitExceeded, Limits, Rate, RateLimits};
pub use login::{Identifier, LoggedIn, Login, LoginError};
pub use openid::OpenIdError;
pub use options::{
    AccountDataSizes, KeyBackupSizes, KeyLimits, Options, PasswordHashCost, ProfileSizes, RegistrationMode,
    ReportSizes, ToDeviceSizes,
};
pub use profiles::{Profile, ProfileChange, ProfileError};
pub use push_rules::{PushRules, PushRulesError};
pub use register::{Authority, NewAccount, RegisterError, Registered};
pub use reports::{Report, ReportError, ReportSubject};
pub use sightings::Sighting;
pub use status::{Administration, DeactivateError, LogOut, ModerationError, PasswordChangeError};
pub use storage::schema::users::AccountKind;
pub use to_device::{SendToDeviceError, ToDevice};
pub use tokens::{AuthError, IssuedTokens, Requester};
pub use transactions::TxnKey;
pub use turn::{Turn, TurnAccess, TurnCredentials};
pub use users::{OpenError, Users};
pub use wakeups::{News, Waiter, Wakeups};
