//! The front of the crate.

use std::{net::IpAddr, sync::Arc, time::Duration};

use primitives::{Random, SharedClock, UserNid};
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, ServerName, UserId};
use storage::{Batch, Storage, View};
use tokio_util::sync::CancellationToken;

use crate::{
    account_data::AccountData,
    accounts::{Account, Accounts},
    dehydrated::DehydratedDevices,
    devices::Devices,
    directory::UserDirectory,
    error::StoreError,
    filters::Filters,
    ground::Ground,
    key_backup::KeyBackups,
    keys::{DeviceLists, Keys},
    limits::RateLimits,
    login::{LoggedIn, Login, LoginError, Logins},
    openid::OpenIdTokens,
    options::Options,
    passwords::{BadCost, Passwords},
    presence::Presences,
    profiles::Profiles,
    push_rules::PushRules,
    register::{NewAccount, RegisterError, Registered, Registration},
    registration_tokens::RegistrationTokens,
    reports::Reports,
    shared_secret::SharedSecret,
    sightings::Sightings,
    status::{AccountChanges, Administration, DeactivateError, LogOut, ModerationError, PasswordChangeError},
    to_device::ToDevice,
    tokens::{AuthError, IssuedTokens, Lifetimes, Requester, Tokens},
    transactions::Transactions,
    turn::{Turn, TurnCredentials},
    uia::{Authorised, FallbackError, Interaction, OutOfBand, Stage, Uia, UiaError},
    wakeups::Wakeups,
};

/// How often the background work looks for something to do.
const TICK: Duration = Duration::from_secs(30);

/// Why the users cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The cost of password hashes cannot be worked with.
    #[error(transparent)]
    PasswordHash(#[from] BadCost),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Debug)]
struct Parts {
    account_data: AccountData,
    ground: Ground,
    accounts: Arc<Accounts>,
    changes: AccountChanges,
    devices: Arc<Devices>,
    directory: Arc<UserDirectory>,
    filters: Filters,
    key_backups: KeyBackups,
    keys: Keys,
    lists: DeviceLists,
    limits: Arc<RateLimits>,
    logins: Arc<Logins>,
    openid: OpenIdTokens,
    presence: Presences,
    profiles: Profiles,
    push_rules: PushRules,
    registration: Arc<Registration>,
    registration_tokens: Arc<RegistrationTokens>,
    reports: Reports,
    shared_secret: SharedSecret,
    sightings: Arc<Sightings>,
    dehydrated: DehydratedDevices,
    to_device: Arc<ToDevice>,
    tokens: Arc<Tokens>,
    transactions: Transactions,
    turn: Option<Turn>,
    uia: Uia,
    wakeups: Wakeups,
}

/// The users of this server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Users(Arc<Parts>);

impl Users {
    /// The users in this store. On an empty one, makes the token of the first start.
    pub async fn open(
        storage: Storage,
        clock: SharedClock,
        random: Random,
        options: Options,
    ) -> Result<Self, OpenError> {
        let passwords = Passwords::new(options.password_hash, random.clone())?;
        let limits = Arc::new(RateLimits::new(options.limits, &clock, &random));
        let accounts = Arc::new(Accounts::new(storage.clone(), options.server_name));
        accounts.prepare().await?;
        let ground = Ground { storage, clock, random };
        let lifetimes = Lifetimes { access: options.access_token_lifetime, refresh: options.refresh_token_lifetime };
        let tokens = Arc::new(Tokens::new(ground.clone(), accounts.clone(), lifetimes));
        let sightings = Arc::new(Sightings::new(ground.clone()));
        let transactions = Transactions::new(ground.clone());
        let wakeups = Wakeups::default();
        let account_data = AccountData::new(ground.storage.clone(), wakeups.clone(), options.account_data_sizes);
        let lists = DeviceLists::new(wakeups.clone());
        let devices =
            Devices::new(ground.clone(), tokens.clone(), sightings.clone(), transactions.clone(), lists.clone());
        let devices = Arc::new(devices);
        let names = options.device_names_for_servers;
        let keys = Keys::new(ground.clone(), accounts.clone(), lists.clone(), options.key_limits, names);
        let registration_tokens = Arc::new(RegistrationTokens::new(ground.clone(), options.registration));
        registration_tokens.prepare_first_start().await?;
        let home = (&ground, &accounts, &devices);
        let registration = registration(home, &registration_tokens, &passwords, options.allow_guests);
        let shared_secret = SharedSecret::new(options.shared_secret, ground.clone(), registration.clone());
        let logins = logins(home, &tokens, &limits, &passwords);
        let uia = Uia::new(ground.clone(), logins.clone(), registration_tokens.clone(), limits.clone());
        let directory = Arc::new(UserDirectory::new(ground.storage.clone(), accounts.clone()));
        let to_device = Arc::new(ToDevice::new(
            ground.clone(),
            accounts.clone(),
            transactions.clone(),
            wakeups.clone(),
            options.to_device_sizes,
        ));
        let store = ground.storage.clone();
        Ok(Self(Arc::new(Parts {
            changes: AccountChanges::new(store, accounts.clone(), devices.clone(), tokens.clone(), passwords),
            profiles: Profiles::new(ground.storage.clone(), accounts.clone(), directory.clone(), options.profile_sizes),
            filters: Filters::new(ground.storage.clone()),
            openid: OpenIdTokens::new(ground.clone(), accounts.clone(), limits.clone()),
            reports: Reports::new(ground.clone(), accounts.clone(), limits.clone(), options.report_sizes),
            dehydrated: DehydratedDevices::new(
                ground.clone(),
                devices.clone(),
                keys.clone(),
                to_device.clone(),
                options.key_backup_sizes.item_max_bytes,
            ),
            to_device,
            key_backups: KeyBackups::new(ground.storage.clone(), options.key_backup_sizes),
            turn: options.turn,
            presence: Presences::new(ground.storage.clone(), ground.clock.clone(), wakeups.clone(), options.presence),
            account_data,
            keys,
            lists,
            push_rules: PushRules::new(ground.storage.clone(), wakeups.clone(), options.push_rules_max),
            wakeups,
            ground,
            accounts,
            devices,
            directory,
            limits,
            logins,
            registration,
            registration_tokens,
            shared_secret,
            sightings,
            tokens,
            transactions,
            uia,
        })))
    }

    /// What is stored now.
    pub(crate) fn view(&self) -> View {
        self.0.ground.storage.view()
    }

    /// The name of this server.
    pub fn server_name(&self) -> &ServerName {
        self.0.accounts.server_name()
    }

    /// Whether a user is one of this server's, registered or not.
    pub fn is_local(&self, user_id: &UserId) -> bool {
        self.0.accounts.is_local(user_id)
    }

    /// The number of a local account. None for users of other servers and for names that nobody has registered.
    pub async fn nid(&self, user_id: &UserId) -> Result<Option<UserNid>, StoreError> {
        self.0.accounts.nid(user_id).await
    }

    /// The user id of an account's number.
    pub async fn user_id(&self, user: UserNid) -> Result<Option<OwnedUserId>, StoreError> {
        self.0.accounts.user_id(user).await
    }

    /// An account.
    pub async fn account(&self, user: UserNid) -> Result<Option<Account>, StoreError> {
        self.0.accounts.get(user).await
    }

    /// Whether an account is suspended, and neither locked nor deactivated besides.
    pub async fn is_suspended(&self, user: UserNid) -> Result<bool, StoreError> {
        self.0.accounts.is_suspended(user).await
    }

    /// Makes an account.
    pub async fn register(&self, new: NewAccount) -> Result<Registered, RegisterError> {
        self.0.registration.register(new).await
    }

    /// Registration: its flows, and which names are free.
    pub fn registration(&self) -> &Registration {
        &self.0.registration
    }

    /// Registration tokens.
    pub fn registration_tokens(&self) -> &RegistrationTokens {
        &self.0.registration_tokens
    }

    /// The token of the first start, until somebody has used it.
    pub async fn first_start_token(&self) -> Result<Option<String>, StoreError> {
        self.0.registration_tokens.first_start().await
    }

    /// Registration over the shared secret.
    pub fn shared_secret(&self) -> &SharedSecret {
        &self.0.shared_secret
    }

    /// Logs in by password. Counts towards the limits of the address and the account.
    pub async fn login(&self, login: Login<'_>) -> Result<LoggedIn, LoginError> {
        self.0.logins.log_in(login).await
    }

    /// Lets a request in by its access token; an empty one counts as missing.
    pub async fn authenticate(&self, token: &str) -> Result<Requester, AuthError> {
        self.0.tokens.authenticate(token).await
    }

    /// Whether a request that was let in a while ago still would be; the error is the one that it would get now.
    pub async fn check_still_in(&self, requester: &Requester) -> Result<(), AuthError> {
        self.0.tokens.check_still_in(requester).await
    }

    /// Lets a request in that logs out: a locked account may do that too.
    pub async fn authenticate_to_log_out(&self, token: &str) -> Result<Requester, AuthError> {
        self.0.tokens.authenticate_to_log_out(token).await
    }

    /// Renews the tokens of a session. The old ones stay valid until one of the new ones is used.
    pub async fn refresh(&self, refresh_token: &str) -> Result<IssuedTokens, AuthError> {
        self.0.tokens.refresh(refresh_token).await
    }

    /// Ends a session: the device goes with its tokens and all that hangs on it. Answers whether there was one.
    pub async fn logout(&self, user: UserNid, device: &DeviceId) -> Result<bool, StoreError> {
        Ok(!self.0.devices.delete(user, &[device.to_owned()]).await?.is_empty())
    }

    /// Ends all sessions of a user. Answers which devices there were.
    pub async fn logout_all(&self, user: UserNid) -> Result<Vec<OwnedDeviceId>, StoreError> {
        self.0.devices.delete_all(user, None).await
    }

    /// Takes a request through user-interactive authentication.
    pub async fn interact(&self, interaction: Interaction<'_>) -> Result<Authorised, UiaError> {
        self.0.uia.check(interaction).await
    }

    /// Completes a stage of user-interactive authentication on a page of its own, as clients let users do that don't know the stage.
    pub async fn complete_out_of_band(&self, stage: OutOfBand<'_>) -> Result<(), FallbackError> {
        self.0.uia.complete_out_of_band(stage).await
    }

    /// Whether a session of user-interactive authentication goes on with this stage.
    pub fn awaits(&self, session: &str, stage: Stage) -> bool {
        self.0.uia.awaits(session, stage)
    }

    /// Changes what an account may do. Answers whether there is such an account.
    pub async fn administer(&self, user: UserNid, change: Administration) -> Result<bool, StoreError> {
        self.0.changes.administer(user, change).await
    }

    /// An account that an administrator looks after: any of this server's that is in use and not another administrator's.
    pub async fn looked_after(&self, by: &Requester, user_id: &UserId) -> Result<Account, ModerationError> {
        self.0.changes.looked_after(by, user_id).await
    }

    /// Changes an account that an administrator looks after; never an administrator's.
    pub async fn moderate(
        &self,
        by: &Requester,
        user_id: &UserId,
        change: Administration,
    ) -> Result<(), ModerationError> {
        self.0.changes.moderate(by, user_id, change).await
    }

    /// Whether any user of this server may have asked to be erased. Costs nothing; while it is false, nobody has.
    pub fn any_erased(&self) -> bool {
        self.0.accounts.any_erased()
    }

    /// Whether a user of this server has asked for what they wrote to be hidden from those who have not seen it.
    pub async fn is_erased(&self, user_id: &UserId) -> Result<bool, StoreError> {
        self.0.accounts.is_erased(user_id).await
    }

    /// Gives an account another password. Answers which sessions have ended with it.
    pub async fn set_password(
        &self,
        user: UserNid,
        password: &str,
        log_out: LogOut<'_>,
    ) -> Result<Vec<OwnedDeviceId>, PasswordChangeError> {
        self.0.changes.set_password(user, password, log_out).await
    }

    /// Deactivates an account for ever, as far as this crate knows of it: its rooms are the caller's. The rider is written in the batch that
    /// does it, so that the rest can be taken up after a restart. Answers which devices there were.
    pub async fn deactivate(
        &self,
        user: UserNid,
        erase: bool,
        rider: &Batch,
    ) -> Result<Vec<OwnedDeviceId>, DeactivateError> {
        self.0.changes.deactivate(user, erase, rider).await
    }

    /// Devices.
    pub fn devices(&self) -> &Devices {
        &self.0.devices
    }

    /// Notes when and from where a device was seen. Costs next to nothing; written in the background.
    pub fn saw(&self, requester: &Requester, address: Option<IpAddr>, user_agent: Option<&str>) {
        self.0.sightings.note(requester, address, user_agent);
    }

    /// Profiles.
    pub fn profiles(&self) -> &Profiles {
        &self.0.profiles
    }

    /// `OpenID` tokens.
    pub fn openid(&self) -> &OpenIdTokens {
        &self.0.openid
    }

    /// Reports.
    pub fn reports(&self) -> &Reports {
        &self.0.reports
    }

    /// The TURN service that a user may use, and their credentials for it from now on; none if there is no service, or none for guests.
    pub fn turn(&self, requester: &Requester) -> Option<(&Turn, TurnCredentials)> {
        let turn = self.0.turn.as_ref().filter(|turn| turn.allow_guests || !requester.is_guest)?;
        Some((turn, turn.credentials(&requester.user_id, self.0.ground.clock.now())))
    }

    /// Account data.
    pub fn account_data(&self) -> &AccountData {
        &self.0.account_data
    }

    /// Finds users by name.
    pub fn directory(&self) -> &UserDirectory {
        &self.0.directory
    }

    /// Keys of devices and users.
    pub fn keys(&self) -> &Keys {
        &self.0.keys
    }

    /// The lists of users' devices.
    pub fn device_lists(&self) -> &DeviceLists {
        &self.0.lists
    }

    /// Presence.
    pub fn presence(&self) -> &Presences {
        &self.0.presence
    }

    /// Stored filters.
    pub fn filters(&self) -> &Filters {
        &self.0.filters
    }

    /// Messages to devices.
    pub fn to_device(&self) -> &ToDevice {
        &self.0.to_device
    }

    /// Dehydrated devices.
    pub fn dehydrated(&self) -> &DehydratedDevices {
        &self.0.dehydrated
    }

    /// Backups of room keys.
    pub fn key_backups(&self) -> &KeyBackups {
        &self.0.key_backups
    }

    /// Transaction ids.
    pub fn transactions(&self) -> &Transactions {
        &self.0.transactions
    }

    /// Rates.
    pub fn limits(&self) -> &RateLimits {
        &self.0.limits
    }

    /// Wake-ups of requests that wait.
    pub fn wakeups(&self) -> &Wakeups {
        &self.0.wakeups
    }

    /// Push rules.
    pub fn push_rules(&self) -> &PushRules {
        &self.0.push_rules
    }

    /// Sessions of user-interactive authentication that are held.
    pub fn uia_sessions(&self) -> usize {
        self.0.uia.held()
    }

    /// Does the background work that is due: writes sightings, drops what has expired. Idempotent.
    pub async fn run_due(&self) -> Result<(), StoreError> {
        self.0.limits.clean();
        self.0.uia.clean();
        metrics::gauge!("sundial_users_waited_for").set(count(self.0.wakeups.users_waited_for()));
        metrics::gauge!("sundial_uia_sessions").set(count(self.0.uia.held()));
        self.0.sightings.flush().await?;
        self.0.openid.sweep().await?;
        self.0.to_device.sweep().await?;
        self.0.transactions.sweep().await
    }

    /// Does the background work until it is cancelled, and once more then. The owner spawns it on its tracker.
    pub async fn run(&self, cancel: CancellationToken) {
        loop {
            let tick = self.0.ground.clock.sleep(TICK);
            let over = cancel.run_until_cancelled(tick).await.is_none();
            if let Err(error) = self.run_due().await {
                tracing::error!(%error, "background work of accounts failed");
            }
            if over {
                return;
            }
        }
    }
}

/// Where sessions begin: the ground, the accounts and their devices.
type Home<'a> = (&'a Ground, &'a Arc<Accounts>, &'a Arc<Devices>);

fn registration(
    (ground, accounts, devices): Home<'_>,
    tokens: &Arc<RegistrationTokens>,
    passwords: &Passwords,
    allow_guests: bool,
) -> Arc<Registration> {
    let (ground, accounts, devices) = (ground.clone(), accounts.clone(), devices.clone());
    Arc::new(Registration::new(ground, accounts, devices, tokens.clone(), passwords.clone(), allow_guests))
}

fn logins(
    (ground, accounts, devices): Home<'_>,
    tokens: &Arc<Tokens>,
    limits: &Arc<RateLimits>,
    passwords: &Passwords,
) -> Arc<Logins> {
    let (storage, accounts, devices) = (ground.storage.clone(), accounts.clone(), devices.clone());
    Arc::new(Logins::new(storage, accounts, devices, tokens.clone(), limits.clone(), passwords.clone()))
}

/// A number of things, as metrics take it.
fn count(things: usize) -> f64 {
    u32::try_from(things).map_or(f64::INFINITY, f64::from)
}
