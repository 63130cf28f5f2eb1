//! Actions: what a holder does to an event, by its id or by a token.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use primitives::UserNid;
use ruma::UserId;
use storage::{
    CommitError,
    schema::delayed::{CancelReason, DelayedTimers, DelayedTokens, Due, Outcome, TimerAction},
};

use crate::{
    ActError, DelayId, DelayedEvents, StoreError,
    end::{Found, Live},
    engine::{Inner, TRIES},
    fire::Attempt,
    life::{self, AfterRefusal, Cause, State, Step},
    meters::Meters,
    steps::Place,
    timeline::Moment,
    timers::Key,
};

/// After so many unknown tokens in a row a client has to wait,
const GUESSES: u32 = 5;
/// for so long.
const GUESSED_OUT: Duration = Duration::from_secs(10);
/// Clients whose guesses are remembered.
const GUESSERS: usize = 10_000;

/// Unknown tokens in a row, by client.
#[derive(Debug, Default)]
pub(crate) struct Guesses(HashMap<IpAddr, (u32, Moment)>);

impl Guesses {
    fn wait(&self, client: IpAddr, now: Moment) -> Option<Duration> {
        let (count, latest) = self.0.get(&client)?;
        let waited = now.since(*latest);
        (*count >= GUESSES && waited < GUESSED_OUT).then(|| GUESSED_OUT.saturating_sub(waited))
    }

    fn wrong(&mut self, client: IpAddr, now: Moment) {
        if self.0.len() >= GUESSERS {
            self.0.retain(|_, (_, latest)| now.since(*latest) < GUESSED_OUT);
        }
        if self.0.len() < GUESSERS || self.0.contains_key(&client) {
            let (count, latest) = self.0.entry(client).or_insert((0, now));
            // Whoever has waited starts again.
            *count = if *count >= GUESSES { 1 } else { *count + 1 };
            *latest = now;
        }
    }

    fn right(&mut self, client: IpAddr) {
        self.0.remove(&client);
    }
}

impl DelayedEvents {
    /// Does an action on an event. `by`: its owner must be this user; `None`: to know the id is enough.
    ///
    /// What has happened already is `Ok`. An event of another user is as good as unknown.
    pub async fn act(&self, by: Option<&UserId>, delay_id: &DelayId, action: TimerAction) -> Result<(), ActError> {
        let (inner, key, by) = (self.0.clone(), self.0.key_of(delay_id.as_str()), by.map(ToOwned::to_owned));
        self.whole(async move {
            let by = match by {
                // Somebody who is not known here owns nothing.
                Some(user) => Some(inner.outside.nid(&user).await?.ok_or(ActError::NotFound)?),
                None => None,
            };
            inner.act(by, &key, action).await
        })
        .await
    }

    /// Does the one action that a token stands for. A token of an event that has ended is as good as unknown; a client that keeps on
    /// bringing such tokens has to wait.
    pub async fn act_by_token(&self, client: IpAddr, token: &str) -> Result<(), ActError> {
        let (inner, hash) = (self.0.clone(), self.0.key_of_token(token));
        self.whole(async move {
            if let Some(retry_after) = inner.guesses.lock().wait(client, inner.now()) {
                return Err(ActError::TooManyGuesses { retry_after });
            }
            let view = inner.storage.view();
            let token = view.get::<DelayedTokens>(&(hash,)).await?;
            let live = match token {
                Some(token) => view.get::<DelayedTimers>(&(token.event,)).await?.and(Some(token)),
                None => None,
            };
            let Some(token) = live else {
                let now = inner.now();
                inner.guesses.lock().wrong(client, now);
                return Err(ActError::NotFound);
            };
            inner.guesses.lock().right(client);
            inner.act(None, &token.event, token.action).await
        })
        .await
    }

    /// Cancels an event for a reason of the server's own. Answers whether it was scheduled. Idempotent.
    pub async fn cancel(&self, delay_id: &DelayId, reason: CancelReason) -> Result<bool, StoreError> {
        let (inner, key) = (self.0.clone(), self.0.key_of(delay_id.as_str()));
        let ended = self.whole(async move { inner.end(&key, Outcome::Cancelled(reason)).await }).await?;
        Ok(ended > 0)
    }
}

impl Inner {
    pub(crate) async fn act(&self, by: Option<UserNid>, key: &Key, action: TimerAction) -> Result<(), ActError> {
        let mut paced = false;
        for _ in 0..TRIES {
            let (state, live) = match Live::read_for(&self.storage.view(), key, by).await? {
                Found::Nothing => return Err(ActError::NotFound),
                Found::Ended(row) => (State::of(&row.outcome), None),
                Found::Live(live) => (State::Scheduled { timed: live.timer.value.due.is_some() }, Some(live)),
            };
            if let Some(live) = &live
                && self.is_superseded(live).await?
            {
                self.end_live(live, Outcome::Cancelled(CancelReason::NewerState)).await?;
                continue;
            }
            let step = life::step(state, Cause::Holder(action));
            let (Some(live), Step::Attempt | Step::Rearm | Step::Cancel(_)) = (live, step) else {
                return if step == Step::Done { Ok(()) } else { Err(ActError::Conflict(state)) };
            };
            let done = match step {
                Step::Rearm => {
                    if !std::mem::replace(&mut paced, true) {
                        self.pace_restart(live.timer.value.user, key)?;
                    }
                    self.rearm(&live).await?
                }
                Step::Cancel(reason) => self.end_live(&live, Outcome::Cancelled(reason)).await?,
                _ => self.send_now(&live).await?,
            };
            if done {
                return Ok(());
            }
        }
        Err(StoreError::Contended.into())
    }

    /// Holds a restart to the rates of its event and its owner.
    fn pace_restart(&self, owner: UserNid, key: &Key) -> Result<(), ActError> {
        if !self.options.enforce {
            return Ok(());
        }
        let now = self.now();
        if let Some(pace) = self.timing.lock().timers.pace(key) {
            self.paces.event.take(pace, now).map_err(|retry_after| ActError::TooFast { retry_after })?;
        }
        let limited = self.paces.restarts.check(&owner.0.to_be_bytes());
        limited.map_err(|limited| ActError::TooFast { retry_after: limited.retry_after })
    }

    /// Writes a timer that begins now. `false`: the row had changed.
    async fn rearm(&self, live: &Live) -> Result<bool, StoreError> {
        let Some(Due { delay_ms, .. }) = live.timer.value.due else { return Ok(true) };
        let (at, era) = {
            let timing = self.timing.lock();
            timing.timeline.begin(&*self.clock, Duration::from_millis(delay_ms))
        };
        let mut timer = live.timer.clone();
        timer.value.generation += 1;
        timer.value.due = Some(Due { at, delay_ms });
        let mut batch = storage::Batch::new();
        batch.assert_equals::<DelayedTimers>(&(live.key,), &live.timer).put::<DelayedTimers>(&(live.key,), &timer);
        self.steps.pass(Place::BeforeRestart)?;
        match self.storage.commit(batch).await {
            Ok(_) => {}
            Err(CommitError::Conflict(_)) => return Ok(false),
            Err(error) => return Err(StoreError::Commit(error)),
        }
        self.steps.pass(Place::AfterRestart)?;
        self.learn(|timers, timeline| timers.rearm(&live.key, timer.value.generation, Some((at, era)), timeline));
        Meters::restarted();
        Ok(true)
    }

    /// Sends an event before it is due. `false`: its row had changed.
    async fn send_now(&self, live: &Live) -> Result<bool, ActError> {
        match self.attempt(live, true).await? {
            Attempt::Sent => Ok(true),
            // What ended it meanwhile, or ends it because of this, is found when the row is read again.
            Attempt::Lost => Ok(false),
            Attempt::Ends(reason) => {
                self.end_live(live, Outcome::Cancelled(reason)).await?;
                Ok(false)
            }
            Attempt::Refused(refusal) => {
                debug_assert_eq!(life::after_refusal(Cause::Holder(TimerAction::Send)), AfterRefusal::Stays);
                Err(ActError::Refused(refusal))
            }
            Attempt::Fault(fault) => Err(StoreError::Outside(fault).into()),
        }
    }

    /// Ends an event if it is scheduled. Answers how many have ended: none, or it and those of its group that go with it.
    pub(crate) async fn end(&self, key: &Key, outcome: Outcome) -> Result<usize, StoreError> {
        for _ in 0..TRIES {
            let Found::Live(live) = Live::read(&self.storage.view(), key).await? else { return Ok(0) };
            if self.end_live(&live, outcome.clone()).await? {
                return Ok(live.ends(outcome).len());
            }
        }
        Err(StoreError::Contended)
    }

    /// Ends an event without sending it. `false`: something had changed.
    pub(crate) async fn end_live(&self, live: &Live, outcome: Outcome) -> Result<bool, StoreError> {
        self.steps.pass(Place::BeforeEnding)?;
        match self.storage.commit(live.batch(&outcome, self.wall())).await {
            Ok(_) => {}
            Err(CommitError::Conflict(_)) => return Ok(false),
            Err(error) => return Err(StoreError::Commit(error)),
        }
        self.steps.pass(Place::AfterEnding)?;
        self.settle(&live.ends(outcome));
        Ok(true)
    }
}
