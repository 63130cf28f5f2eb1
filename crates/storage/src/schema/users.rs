//! Accounts and all that belongs to them. Table numbers 50–89. Written by the `users` crate only.

use primitives::{UnixMillis, UserNid};
use serde::{Deserialize, Serialize};

use crate::{Raw, Text};

use super::{tables, version_one};

tables! {
    /// The accounts of this server's users.
    Accounts = 50, "account", (UserNid,) => AccountRow;
    /// A local user's number by the local part of the user id, exactly as it is spelt.
    AccountNames = 51, "account_name", (Text,) => UserNid;
    /// A user's devices by device id. Whoever changes a device's tokens asserts this row.
    Devices = 52, "device", (UserNid, Text) => DeviceRow;
    /// When and from where a device was last seen. Written in the background, apart from [`Devices`] so that it never conflicts.
    DeviceSightings = 53, "device_sighting", (UserNid, Text) => DeviceSightingRow;
    /// Access tokens by their SHA-256.
    AccessTokens = 54, "access_token", ([u8; 32],) => AccessTokenRow;
    /// Refresh tokens by their SHA-256.
    RefreshTokens = 55, "refresh_token", ([u8; 32],) => RefreshTokenRow;
    /// Registration tokens. An invitation rather than a credential: kept readable, so that it can be listed.
    RegistrationTokens = 56, "registration_token", (Text,) => RegistrationTokenRow;
    /// The token of the first start, under the empty key: valid once, in every registration mode. Its user becomes admin.
    FirstStart = 57, "first_start", () => FirstStartRow;
    /// A user's profile: one canonical JSON object of all fields, at most 64 KiB.
    Profiles = 58, "profile", (UserNid,) => Raw;
    /// A user's filters, canonical JSON, by the front of its SHA-256.
    Filters = 59, "filter", (UserNid, [u8; 12]) => Raw;
    /// Transaction ids that a device has used: day of use (since 1970), user, device, keyed hash of path and transaction id. The day comes
    /// first, so that what has expired is one range.
    Transactions = 60, "transaction", (u32, UserNid, Text, [u8; 16]) => TransactionRow;
}

/// What kind of account it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AccountKind {
    /// A user with a password or another way to log in.
    User,
    /// A guest: limited to the endpoints that the specification opens to guests.
    Guest,
}

/// How far an account's life has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Life {
    /// In use.
    Active,
    /// Gone for good; its name is never given away again.
    Deactivated,
    /// Gone, and what the user wrote is hidden from those who have not seen it.
    Erased,
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRow {
    /// The local part of the user id.
    pub localpart: String,
    /// What kind of account it is.
    pub kind: AccountKind,
    /// May use the administration API.
    pub admin: bool,
    /// When it was registered.
    pub created: UnixMillis,
    /// Argon2id in PHC format; none if there is no way to log in by password.
    pub password_hash: Option<String>,
    /// How far its life has gone.
    pub life: Life,
    /// All but logging out is refused (specification, "Account locking").
    pub locked: bool,
    /// May read but not write (specification, "Account suspension").
    pub suspended: bool,
    /// A label that the registration over the shared secret may give (`bot`, `support`).
    pub user_type: Option<String>,
}

/// The hashes of an access token and the refresh token that was issued with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenPair {
    /// SHA-256 of the access token.
    pub access: [u8; 32],
    /// SHA-256 of the refresh token, if the client can refresh.
    pub refresh: Option<[u8; 32]>,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRow {
    /// The name the user gave it.
    pub display_name: Option<String>,
    /// When it was first logged in.
    pub created: UnixMillis,
    /// The tokens that were issued last.
    pub current: Option<TokenPair>,
    /// The tokens before a refresh: valid until one of `current` is used.
    pub previous: Option<TokenPair>,
}

/// When and from where a device was last seen; kept coarse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSightingRow {
    /// When.
    pub seen: UnixMillis,
    /// The client's address.
    pub address: Option<String>,
    /// The client's `User-Agent`.
    pub user_agent: Option<String>,
}

/// An access token. Never changes; its place in the device's row says whether it is current.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessTokenRow {
    /// Whose it is.
    pub user: UserNid,
    /// The device it was issued to.
    pub device: String,
    /// A random number that stands for the token in memory and in logs.
    pub id: u64,
    /// When it stops being valid.
    pub expires: Option<UnixMillis>,
}

/// A refresh token. Never changes; its place in the device's row says whether it is current.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshTokenRow {
    /// Whose it is.
    pub user: UserNid,
    /// The device it was issued to.
    pub device: String,
    /// When it stops being valid.
    pub expires: Option<UnixMillis>,
}

/// A registration token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationTokenRow {
    /// How many accounts may be registered with it; none for any number.
    pub uses_allowed: Option<u32>,
    /// How many accounts were.
    pub used: u32,
    /// When it stops being valid.
    pub expires: Option<UnixMillis>,
}

/// The token of the first start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstStartRow {
    /// The token; readable until it is used, so that every start until then can print it. None once it has been used.
    pub token: Option<String>,
}

/// A transaction id's outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionRow {
    /// What the request answered: an event id or another id.
    pub result: String,
}

version_one!(
    UserNid,
    AccountRow,
    DeviceRow,
    DeviceSightingRow,
    AccessTokenRow,
    RefreshTokenRow,
    RegistrationTokenRow,
    FirstStartRow,
    TransactionRow
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::golden::golden;

    const USER: UserNid = UserNid(7);
    const TIME: UnixMillis = UnixMillis(1_700_000_000_000);

    #[test]
    fn accounts_keep_their_bytes() {
        let row = AccountRow {
            localpart: "bob".to_owned(),
            kind: AccountKind::Guest,
            admin: true,
            created: TIME,
            password_hash: Some("$a".to_owned()),
            life: Life::Erased,
            locked: false,
            suspended: true,
            user_type: Some("bot".to_owned()),
        };
        insta::assert_snapshot!(golden::<Accounts>(&(USER,), &row), @"account 00000007 = 0103626f62010180d095ffbc31010224610200010103626f74");
        insta::assert_snapshot!(golden::<AccountNames>(&(Text::new("bob"),), &USER), @"account_name 626f620000 = 0107");
    }

    #[test]
    fn devices_keep_their_bytes() {
        let pair = |byte| TokenPair { access: [byte; 32], refresh: Some([byte + 1; 32]) };
        let row = DeviceRow {
            display_name: Some("phone".to_owned()),
            created: TIME,
            current: Some(pair(3)),
            previous: Some(TokenPair { refresh: None, ..pair(1) }),
        };
        let key = (USER, Text::new("DEV"));
        insta::assert_snapshot!(golden::<Devices>(&key, &row), @"device 000000074445560000 = 01010570686f6e6580d095ffbc3101030303030303030303030303030303030303030303030303030303030303030301040404040404040404040404040404040404040404040404040404040404040401010101010101010101010101010101010101010101010101010101010101010100");
        let seen = DeviceSightingRow { seen: TIME, address: Some("::1".to_owned()), user_agent: None };
        insta::assert_snapshot!(golden::<DeviceSightings>(&key, &seen), @"device_sighting 000000074445560000 = 0180d095ffbc3101033a3a3100");
    }

    #[test]
    fn tokens_keep_their_bytes() {
        let access = AccessTokenRow { user: USER, device: "DEV".to_owned(), id: 9, expires: Some(TIME) };
        insta::assert_snapshot!(golden::<AccessTokens>(&([1; 32],), &access), @"access_token 0101010101010101010101010101010101010101010101010101010101010101 = 010703444556090180d095ffbc31");
        let refresh = RefreshTokenRow { user: USER, device: "DEV".to_owned(), expires: None };
        insta::assert_snapshot!(golden::<RefreshTokens>(&([2; 32],), &refresh), @"refresh_token 0202020202020202020202020202020202020202020202020202020202020202 = 01070344455600");
        let registration = RegistrationTokenRow { uses_allowed: Some(3), used: 1, expires: Some(TIME) };
        insta::assert_snapshot!(golden::<RegistrationTokens>(&(Text::new("abc"),), &registration), @"registration_token 6162630000 = 010103010180d095ffbc31");
        insta::assert_snapshot!(golden::<FirstStart>(&(), &FirstStartRow { token: Some("t".to_owned()) }), @"first_start  = 01010174");
    }

    #[test]
    fn what_users_store_keeps_its_bytes() {
        insta::assert_snapshot!(golden::<Profiles>(&(USER,), &Raw(b"{}".to_vec())), @"profile 00000007 = 7b7d");
        insta::assert_snapshot!(golden::<Filters>(&(USER, [5; 12]), &Raw(b"{}".to_vec())), @"filter 00000007050505050505050505050505 = 7b7d");
        let key = (19_675, USER, Text::new("DEV"), [6; 16]);
        insta::assert_snapshot!(golden::<Transactions>(&key, &TransactionRow { result: "$x".to_owned() }), @"transaction 00004cdb00000007444556000006060606060606060606060606060606 = 01022478");
    }
}
