//! What a crash in the middle of a commit leaves: an account, a login or a logout whole, or not at all (invariants I2 and I11).

use primitives::{ManualClock, Random, SharedClock, UnixMillis};
use ruma::user_id;
use storage::{Fault, Faults, MemoryDisk, Step, Storage};

use crate::{
    AuthError, Authority, Identifier, Login, LoginError, NewAccount, NewSession, RegisterError, StoreError, TxnKey,
    Users,
    testing::{account, device, options, token},
    uia::{AuthData, Interaction, Operation},
};

/// A server on a pretended disk.
struct Machine {
    disk: MemoryDisk,
    clock: SharedClock,
    starts: u64,
}

impl Machine {
    fn new() -> Self {
        let clock: SharedClock = ManualClock::new(UnixMillis(1_700_000_000_000));
        Self { disk: MemoryDisk::default(), clock, starts: 0 }
    }

    async fn start(&mut self, faults: &Faults) -> (Storage, Users) {
        self.starts += 1;
        let random = Random::seeded(self.starts);
        let place = storage::Options { faults: faults.clone(), ..storage::Options::memory(&self.disk, "hs1") };
        let storage = Storage::open(place, &self.clock, &random).expect("opens");
        let users = Users::open(storage.clone(), self.clock.clone(), random, options()).await.expect("opens");
        (storage, users)
    }
}

/// Whether what a crash left must be there: the step comes after the sync.
fn is_durable(crashed_at: Step) -> bool {
    crashed_at > Step::Sync
}

#[tokio::test]
async fn an_account_and_the_token_that_let_it_in_share_their_fate() {
    for step in Step::ALL {
        let mut machine = Machine::new();
        let faults = Faults::new();
        let (storage, users) = machine.start(&faults).await;
        let first = users.first_start_token().await.expect("read").expect("there");
        let auth = AuthData {
            stage: Some("m.login.registration_token".to_owned()),
            token: Some(first.clone()),
            ..AuthData::default()
        };
        let flows = users.registration().flows().await.expect("open");
        let operation = Operation::new("register", &[]);
        let interaction = Interaction { requester: None, operation, flows, auth: Some(&auth), address: None };
        let authority = Authority::Interactive(users.interact(interaction).await.expect("authorised"));
        faults.at(step, 1, Fault::Stop);
        let refused = users.register(NewAccount { authority, ..account("bob") }).await;
        assert!(matches!(refused, Err(RegisterError::Store(StoreError::Commit(_)))), "{step:?}: never acknowledged");
        drop((storage, users));

        let (_storage, users) = machine.start(&Faults::none()).await;
        let there = users.nid(user_id!("@bob:hs1")).await.expect("read");
        assert_eq!(there.is_some(), is_durable(step), "{step:?}");
        assert_eq!(users.first_start_token().await.expect("read"), Some(first).filter(|_| there.is_none()), "{step:?}");
        match there {
            Some(user) => assert!(users.account(user).await.expect("read").expect("there").is_admin),
            None => assert!(users.register(account("bob")).await.is_ok(), "the name is free"),
        }
    }
}

#[tokio::test]
async fn a_login_that_was_not_acknowledged_ends_no_session_unless_it_happened() {
    for step in Step::ALL {
        let mut machine = Machine::new();
        let faults = Faults::new();
        let (storage, users) = machine.start(&faults).await;
        let first = NewAccount { session: Some(device("A")), ..account("bob") };
        let before = token(&users.register(first).await.expect("registered"));
        let identifier = Identifier::User("bob".to_owned());
        let login = || Login { identifier: &identifier, password: "secret", session: device("A"), address: None };
        faults.at(step, 1, Fault::Stop);
        let refused = users.login(login()).await;
        assert!(matches!(refused, Err(LoginError::Store(StoreError::Commit(_)))), "{step:?}");
        drop((storage, users));

        let (_storage, users) = machine.start(&Faults::none()).await;
        let old = users.authenticate(&before).await;
        assert_eq!(matches!(old, Err(AuthError::Unknown { .. })), is_durable(step), "{step:?}");
        let tokens = users.login(login()).await.expect("logged in").session.tokens;
        assert!(users.authenticate(&tokens.access_token).await.is_ok());
        assert!(users.authenticate(&before).await.is_err());
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let mut machine = Machine::new();
    let faults = Faults::new();
    let (storage, users) = machine.start(&faults).await;
    let session = NewSession { refresh_token: true, ..device("A") };
    let bob = users.register(NewAccount { session: Some(session), ..account("bob") }).await.expect("registered");
    let gone = users.register(account("gone")).await.expect("registered");
    users.logout_all(gone.user_nid).await.expect("logged out");
    let key = TxnKey {
        user_nid: bob.user_nid,
        device_id: Some("A".into()),
        path: "send/!a/m".to_owned(),
        txn_id: "1".to_owned(),
    };
    storage.commit(users.transactions().record(&key, "$event")).await.expect("written");
    let filter = users.filters().store(bob.user_nid, &ruma::CanonicalJsonObject::new()).await.expect("stored");
    faults.at_any(1, Fault::Stop);
    assert!(users.register(account("never")).await.is_err());
    drop((storage, users));

    let (_storage, users) = machine.start(&Faults::none()).await;
    assert_eq!(users.authenticate(&token(&bob)).await.expect("let in").user_id, bob.user_id);
    assert!(users.authenticate(&token(&gone)).await.is_err());
    assert_eq!(users.transactions().lookup(&key).await.expect("read").as_deref(), Some("$event"));
    assert_eq!(users.filters().get(bob.user_nid, &filter).await.expect("read").as_deref(), Some("{}"));
    let refresh = bob.session.expect("a session").tokens.refresh_token.expect("asked for");
    assert!(users.refresh(&refresh).await.is_ok());
}
