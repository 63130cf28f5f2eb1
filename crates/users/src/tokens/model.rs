//! The rotation of tokens against a model: whatever a client does, exactly the pairs that the specification says are valid.

use proptest::prelude::*;

use crate::{IssuedTokens, NewSession, testing::World};

#[derive(Clone, Debug)]
enum Step {
    Login,
    Logout,
    /// Use of the access token that was issued this many before the last.
    Use(usize),
    /// Use of the refresh token that was issued this many before the last.
    Refresh(usize),
    /// Forget what is in memory.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::Login),
        1 => Just(Step::Logout),
        6 => (0_usize..4).prop_map(Step::Use),
        6 => (0_usize..4).prop_map(Step::Refresh),
        1 => Just(Step::Restart),
    ]
}

/// The pairs that are valid, by the order in which they were issued.
#[derive(Debug, Default)]
struct Model {
    current: Option<usize>,
    previous: Option<usize>,
}

async fn agrees(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut world = World::new().await;
    let bob = world.user("bob").await;
    let mut issued: Vec<IssuedTokens> = Vec::new();
    let mut model = Model::default();
    for step in steps {
        let nth = |back: usize| issued.len().checked_sub(back + 1);
        match step {
            Step::Login => {
                let session = NewSession { device_id: Some("A".into()), refresh_token: true, ..NewSession::default() };
                issued.push(world.login("bob", "secret", session).await.expect("logged in").session.tokens);
                model = Model { current: Some(issued.len() - 1), previous: None };
            }
            Step::Logout => {
                world.users.logout(bob.user_nid, "A".into()).await.expect("logged out");
                model = Model::default();
            }
            Step::Use(back) => {
                let Some(n) = nth(back) else { continue };
                let let_in = world.users.authenticate(&issued[n].access_token).await.is_ok();
                prop_assert_eq!(let_in, model.current == Some(n) || model.previous == Some(n));
                if model.current == Some(n) {
                    model.previous = None;
                }
            }
            Step::Refresh(back) => {
                let Some(n) = nth(back) else { continue };
                let token = issued[n].refresh_token.clone().expect("asked for");
                let refreshed = world.users.refresh(&token).await.ok();
                prop_assert_eq!(refreshed.is_some(), model.current == Some(n) || model.previous == Some(n));
                if let Some(tokens) = refreshed {
                    issued.push(tokens);
                    // Whichever pair was refreshed is kept beside the new one.
                    model = Model { current: Some(issued.len() - 1), previous: Some(n) };
                }
            }
            Step::Restart => world.users = world.reopened().await,
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn tokens_are_valid_exactly_when_the_model_says_so(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(agrees(steps))?;
    }
}
