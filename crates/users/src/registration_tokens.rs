//! Registration tokens: invitations to register, and the one of the first start.

use primitives::UnixMillis;
use storage::{
    Batch, Direction, KeyRange, Text, View,
    schema::{
        meta::Counters,
        users::{self as tables, FirstStartRow, RegistrationTokenRow},
    },
};
use subtle::ConstantTimeEq;

use crate::{
    error::{MAX_ATTEMPTS, Outcome, StoreError, outcome},
    ground::Ground,
    options::RegistrationMode,
};

/// The longest registration token, in bytes (specification, "Token-authenticated registration").
pub const MAX_TOKEN_BYTES: usize = 64;

/// The name of the counter of user numbers.
pub(crate) const USER_NUMBERS: &str = "user";

/// Why a registration token is not made.
#[derive(Debug, thiserror::Error)]
pub enum NewTokenError {
    /// It has other characters than the specification allows, or is empty or longer than [`MAX_TOKEN_BYTES`].
    #[error("a registration token has 1 to {MAX_TOKEN_BYTES} of the characters A-Z a-z 0-9 . _ ~ -")]
    Grammar,
    /// There is such a token.
    #[error("there is such a token already")]
    Exists,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A registration token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationToken {
    /// The token.
    pub token: String,
    /// How many accounts may be registered with it; none for any number.
    pub uses_allowed: Option<u32>,
    /// How many accounts were.
    pub used: u32,
    /// When it stops being valid.
    pub expires: Option<UnixMillis>,
}

/// A token that opens the door now.
pub(crate) enum Valid {
    /// The token of the first start.
    FirstStart(FirstStartRow),
    /// Another.
    Ordinary(RegistrationTokenRow),
}

/// The registration tokens.
#[derive(Debug)]
pub struct RegistrationTokens {
    ground: Ground,
    mode: RegistrationMode,
}

impl RegistrationTokens {
    pub(crate) fn new(ground: Ground, mode: RegistrationMode) -> Self {
        Self { ground, mode }
    }

    /// Who may register.
    pub(crate) fn mode(&self) -> RegistrationMode {
        self.mode
    }

    /// Makes the token of the first start, if the store has no account and none was made before.
    pub(crate) async fn prepare_first_start(&self) -> Result<(), StoreError> {
        let view = self.ground.storage.view();
        let users = view.get::<Counters>(&(Text::new(USER_NUMBERS),)).await?;
        if users.is_some() || view.get::<tables::FirstStart>(&()).await?.is_some() {
            return Ok(());
        }
        let mut batch = Batch::new();
        batch.assert_absent::<tables::FirstStart>(&());
        batch.put::<tables::FirstStart>(&(), &FirstStartRow { token: Some(self.ground.random.token::<24>()) });
        // Whoever came first has made one.
        outcome(self.ground.storage.commit(batch).await).map(drop)
    }

    /// The token of the first start, until somebody has used it.
    pub async fn first_start(&self) -> Result<Option<String>, StoreError> {
        Ok(self.ground.storage.view().get::<tables::FirstStart>(&()).await?.and_then(|row| row.token))
    }

    /// Whether an account could be registered with this token now.
    pub async fn is_valid(&self, token: &str) -> Result<bool, StoreError> {
        Ok(self.look_up(&self.ground.storage.view(), token).await?.is_some())
    }

    pub(crate) async fn look_up(&self, view: &View, token: &str) -> Result<Option<Valid>, StoreError> {
        if let Some(row) = view.get::<tables::FirstStart>(&()).await? {
            let matches = row.token.as_ref().is_some_and(|first| first.as_bytes().ct_eq(token.as_bytes()).into());
            if matches {
                return Ok(Some(Valid::FirstStart(row)));
            }
        }
        if self.mode == RegistrationMode::Closed || token.len() > MAX_TOKEN_BYTES {
            return Ok(None);
        }
        let now = self.ground.clock.now();
        let row = view.get::<tables::RegistrationTokens>(&(Text::new(token),)).await?;
        let row = row.filter(|row| row.uses_allowed.is_none_or(|allowed| row.used < allowed));
        Ok(row.filter(|row| row.expires.is_none_or(|at| now < at)).map(Valid::Ordinary))
    }

    /// Counts a use, in the batch of the account's creation.
    pub(crate) fn consume(batch: &mut Batch, token: &str, valid: &Valid) {
        match valid {
            Valid::FirstStart(row) => {
                batch.assert_equals::<tables::FirstStart>(&(), row);
                batch.put::<tables::FirstStart>(&(), &FirstStartRow { token: None });
            }
            Valid::Ordinary(row) => {
                let key = (Text::new(token),);
                let used = RegistrationTokenRow { used: row.used.saturating_add(1), ..row.clone() };
                batch
                    .assert_equals::<tables::RegistrationTokens>(&key, row)
                    .put::<tables::RegistrationTokens>(&key, &used);
            }
        }
    }

    /// Makes a token: the given one, or a random one.
    pub async fn create(
        &self,
        token: Option<&str>,
        uses_allowed: Option<u32>,
        expires: Option<UnixMillis>,
    ) -> Result<RegistrationToken, NewTokenError> {
        let token = token.map_or_else(|| self.ground.random.token::<12>(), str::to_owned);
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
        if token.is_empty() || token.len() > MAX_TOKEN_BYTES || !token.bytes().all(allowed) {
            return Err(NewTokenError::Grammar);
        }
        let key = (Text::new(&token),);
        let mut batch = Batch::new();
        batch.assert_absent::<tables::RegistrationTokens>(&key);
        batch.put::<tables::RegistrationTokens>(&key, &RegistrationTokenRow { uses_allowed, used: 0, expires });
        match outcome(self.ground.storage.commit(batch).await)? {
            Outcome::Done(_) => Ok(RegistrationToken { token, uses_allowed, used: 0, expires }),
            Outcome::Again => Err(NewTokenError::Exists),
        }
    }

    /// Up to `limit` tokens after the given one, in their order.
    pub async fn list(&self, after: Option<&str>, limit: usize) -> Result<Vec<RegistrationToken>, StoreError> {
        let range = match after {
            // The first key after that of the token itself.
            Some(token) => KeyRange::from(&(), &(Text::new(token), 0_u8)),
            None => KeyRange::prefix(&()),
        };
        let page =
            self.ground.storage.view().scan::<tables::RegistrationTokens>(&range, limit, Direction::Forward).await?;
        let token = |((Text(token),), row): ((Text,), RegistrationTokenRow)| RegistrationToken {
            token,
            uses_allowed: row.uses_allowed,
            used: row.used,
            expires: row.expires,
        };
        Ok(page.rows.into_iter().map(token).collect())
    }

    /// Withdraws a token. Answers whether there was one.
    pub async fn delete(&self, token: &str) -> Result<bool, StoreError> {
        let key = (Text::new(token),);
        for _ in 0..MAX_ATTEMPTS {
            let row = self.ground.storage.view().get::<tables::RegistrationTokens>(&key).await?;
            let Some(row) = row else { return Ok(false) };
            let mut batch = Batch::new();
            batch.assert_equals::<tables::RegistrationTokens>(&key, &row).delete::<tables::RegistrationTokens>(&key);
            if let Outcome::Done(_) = outcome(self.ground.storage.commit(batch).await)? {
                return Ok(true);
            }
        }
        Err(StoreError::Contended)
    }
}
