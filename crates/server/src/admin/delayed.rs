//! What an administrator asks of delayed events, and how it is answered: by the running server, or by a command that has opened the store.

use anyhow::bail;
use delayed_events::{
    CancelReason, DelayedEvent, DelayedEvents, Drain, Drained, FailureKind, Found, GroupSeen, ListQuery,
    OperatorCancel, Outcome, Status, TimerAction, life::State,
};
use ruma::UserId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc;

use super::Answer;

/// A drain says how far it is after this many events.
const TOLD_EVERY: usize = 256;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// What is scheduled: a page of it.
    List {
        /// Only this user's.
        user: Option<String>,
        /// What has ended instead. Needs a user.
        #[serde(default)]
        ended: bool,
        /// Where the page before ended.
        from: Option<String>,
        /// How many on a page.
        limit: Option<usize>,
    },
    /// One event.
    Show {
        /// Its number or its delay id.
        event: String,
        /// Whether its content, its id and its tokens are to be shown too.
        #[serde(default)]
        content: bool,
    },
    /// Cancels one event.
    Cancel {
        /// Its number or its delay id.
        event: String,
    },
    /// Cancels all that a user has scheduled.
    CancelOf {
        /// The user.
        user: String,
    },
    /// Sends or cancels everything that is scheduled.
    Drain {
        /// Whether it is sent. Only a running server can.
        send: bool,
    },
}

/// The answer to an [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "told", rename_all = "snake_case")]
pub enum Told {
    /// A page of a list.
    Page {
        /// The events.
        events: Vec<Record>,
        /// Where the next page begins.
        next: Option<String>,
        /// How many events are scheduled.
        pending: usize,
        /// Of how many users; none: the number is one user's.
        users: Option<usize>,
    },
    /// One event.
    Event {
        /// It.
        event: Box<Record>,
        /// The events of its group.
        group: Option<Group>,
    },
    /// So many events have been cancelled.
    Cancelled {
        /// How many.
        count: usize,
    },
    /// The event had ended before.
    EndedBefore {
        /// How: `sent`, `cancelled` or `failed`.
        status: String,
    },
    /// How far a drain is; last, what it came to.
    Drained {
        /// How many events were scheduled when it began.
        total: usize,
        /// How many were sent.
        sent: usize,
        /// How many have ended otherwise.
        cancelled: usize,
        /// How many are refused and still scheduled.
        refused: usize,
        /// Why the last of these was refused.
        last_refusal: Option<String>,
    },
}

/// A delayed event without what is its owner's alone. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What it is called by: the hash that it is stored under.
    pub number: String,
    /// The owner.
    pub user_id: String,
    /// The room.
    pub room_id: String,
    /// The event's type.
    pub event_type: String,
    /// The state key, for a state event.
    pub state_key: Option<String>,
    /// `scheduled`, `sent`, `cancelled` or `failed`.
    pub status: String,
    /// The delay; none: only an action sends it.
    pub delay_ms: Option<u64>,
    /// When it was scheduled.
    pub scheduled_at: u64,
    /// When its delay last began.
    pub running_since: u64,
    /// When it is due.
    pub due: Option<u64>,
    /// When it ended.
    pub ended_at: Option<u64>,
    /// Why it ended: by a timer, an action, a refusal.
    pub reason: Option<String>,
    /// The event that it became.
    pub event_id: Option<String>,
    /// The sticky duration that the event carries.
    pub sticky_ms: Option<u64>,
    /// The number of its group.
    pub group: Option<String>,
    /// The name that its batch gives it.
    pub name: Option<String>,
    /// Only where it was asked for.
    pub secrets: Option<Secrets>,
}

/// What is the owner's alone: who knows the id or a token can act on the event.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// The delay id.
    pub delay_id: String,
    /// The content.
    pub content: Value,
    /// The tokens, each with its action.
    pub tokens: Vec<(String, String)>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets")
    }
}

/// A group: of its events at most one is ever sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Whether its events may still be sent.
    pub open: bool,
    /// Its events by number, and the state of each.
    pub members: Vec<(String, String)>,
}

/// Answers what is asked. A drain says on `progress` how far it is; whoever no longer listens there stops it. `serving`: whether a server
/// runs, so that something can be sent.
pub async fn administer(delayed: &DelayedEvents, ask: Ask, progress: mpsc::Sender<Answer>, serving: bool) -> Answer {
    match answer(delayed, ask, progress, serving).await {
        Ok(told) => Answer::Delayed { told },
        Err(error) => Answer::Failed { error: format!("{error:#}") },
    }
}

async fn answer(
    delayed: &DelayedEvents,
    ask: Ask,
    progress: mpsc::Sender<Answer>,
    serving: bool,
) -> anyhow::Result<Told> {
    match ask {
        Ask::List { user: None, ended: true, .. } => bail!("what has ended is listed for one user: name the user"),
        Ask::List { user: None, ended: false, from, limit } => list_all(delayed, from, limit).await,
        Ask::List { user: Some(user), ended, from, limit } => list_of(delayed, &user, ended, from, limit).await,
        Ask::Show { event, content } => show(delayed, &event, content).await,
        Ask::Cancel { event } => cancel(delayed, &event).await,
        Ask::CancelOf { user } => {
            let user = UserId::parse(&user)?;
            if delayed.pending_of(&user).await?.is_none() {
                bail!("there is no user {user}");
            }
            Ok(Told::Cancelled { count: delayed.cancel_all(&user, CancelReason::Operator).await? })
        }
        Ask::Drain { send: true } if !serving => {
            bail!("no server runs, and only a running server can send: start it, or drain with --cancel")
        }
        Ask::Drain { send } => drain(delayed, if send { Drain::Send } else { Drain::Cancel }, progress).await,
    }
}

async fn list_all(delayed: &DelayedEvents, from: Option<String>, limit: Option<usize>) -> anyhow::Result<Told> {
    let page = delayed.list_all(from.as_deref(), limit).await?;
    let events = page.events.iter().map(|found| record(delayed, found)).collect();
    Ok(Told::Page { events, next: page.next_batch, pending: page.pending, users: Some(page.users) })
}

async fn list_of(
    delayed: &DelayedEvents,
    user: &str,
    ended: bool,
    from: Option<String>,
    limit: Option<usize>,
) -> anyhow::Result<Told> {
    let user = UserId::parse(user)?;
    let Some(pending) = delayed.pending_of(&user).await? else { bail!("there is no user {user}") };
    let status = if ended { vec![Status::Sent, Status::Cancelled, Status::Failed] } else { vec![Status::Scheduled] };
    let page = delayed.list(&user, &ListQuery { status, from, limit, ..ListQuery::default() }).await?;
    let found =
        |event: DelayedEvent| Found { number: delayed.number_of(&event.delay_id), user_id: user.clone(), event };
    let events = page.events.into_iter().map(|event| record(delayed, &found(event))).collect();
    Ok(Told::Page { events, next: page.next_batch, pending, users: None })
}

async fn show(delayed: &DelayedEvents, event: &str, content: bool) -> anyhow::Result<Told> {
    let Some((found, group)) = delayed.inspect(delayed.number(event)).await? else {
        bail!("there is no such delayed event, or it ended too long ago");
    };
    let secrets = content.then(|| Secrets {
        delay_id: found.event.delay_id.as_str().to_owned(),
        content: serde_json::to_value(&found.event.content).unwrap_or_default(),
        tokens: found.event.tokens.iter().map(|(action, token)| (action_name(*action), token.clone())).collect(),
    });
    let event = Box::new(Record { secrets, ..record(delayed, &found) });
    Ok(Told::Event { event, group: group.map(self::group) })
}

async fn cancel(delayed: &DelayedEvents, event: &str) -> anyhow::Result<Told> {
    match delayed.cancel_number(delayed.number(event)).await? {
        OperatorCancel::Cancelled(count) => Ok(Told::Cancelled { count }),
        OperatorCancel::Before(state) => Ok(Told::EndedBefore { status: status(state) }),
        OperatorCancel::Unknown => bail!("there is no such delayed event, or it ended too long ago"),
    }
}

async fn drain(delayed: &DelayedEvents, how: Drain, progress: mpsc::Sender<Answer>) -> anyhow::Result<Told> {
    let mut said = 0;
    let drained = delayed.drain(how, |drained| {
        if drained.done() >= said + TOLD_EVERY {
            said = drained.done();
            // Who reads slowly misses a line; the last one says all.
            let _ = progress.try_send(Answer::Progress { told: told(drained) });
        }
    });
    Ok(told(&drained.await?))
}

fn told(drained: &Drained) -> Told {
    let Drained { total, sent, cancelled, refused, last_refusal } = drained.clone();
    Told::Drained { total, sent, cancelled, refused, last_refusal }
}

fn millis(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn record(delayed: &DelayedEvents, found: &Found) -> Record {
    let event = &found.event;
    let ended = event.finalised.as_ref();
    let outcome = ended.map(|(_, outcome)| outcome);
    Record {
        number: found.number.to_string(),
        user_id: found.user_id.to_string(),
        room_id: event.room_id.to_string(),
        event_type: event.event_type.clone(),
        state_key: event.state_key.clone(),
        status: outcome.map_or_else(|| "scheduled".to_owned(), |outcome| status(State::of(outcome))),
        delay_ms: event.delay.map(millis),
        scheduled_at: event.scheduled_at.0,
        running_since: event.running_since.0,
        due: event.due().map(|due| due.0),
        ended_at: ended.map(|(at, _)| at.0),
        reason: outcome.map(reason),
        event_id: outcome.and_then(|outcome| match outcome {
            Outcome::Sent { event_id, .. } => Some(event_id.clone()),
            Outcome::Cancelled(_) | Outcome::Failed(_) => None,
        }),
        sticky_ms: event.sticky_duration.map(millis),
        group: event.group_id.as_deref().map(|id| delayed.group_number(id).to_string()),
        name: event.name.clone(),
        secrets: None,
    }
}

fn group(group: GroupSeen) -> Group {
    let members = group.members.into_iter().map(|(number, state)| (number.to_string(), status(state)));
    Group { open: group.open, members: members.collect() }
}

fn status(state: State) -> String {
    match state {
        State::Scheduled { .. } => "scheduled",
        State::Sent => "sent",
        State::Cancelled => "cancelled",
        State::Failed => "failed",
    }
    .to_owned()
}

fn action_name(action: TimerAction) -> String {
    match action {
        TimerAction::Send => "send",
        TimerAction::Cancel => "cancel",
        TimerAction::Restart => "restart",
    }
    .to_owned()
}

/// Why an event ended, in words.
fn reason(outcome: &Outcome) -> String {
    let reason = match outcome {
        Outcome::Sent { early: false, .. } => "when it was due",
        Outcome::Sent { early: true, .. } | Outcome::Cancelled(CancelReason::Action) => "by an action",
        Outcome::Cancelled(CancelReason::Group) => "another of its group was sent, or the group's last timer went",
        Outcome::Cancelled(CancelReason::NewerState) => "a newer state event took its place",
        Outcome::Cancelled(CancelReason::Account) => "the account was deactivated, locked or suspended",
        Outcome::Cancelled(CancelReason::Room) => "the room is gone",
        Outcome::Cancelled(CancelReason::Operator) => "by an operator",
        Outcome::Failed(failure) => return format!("{}: {}", kind(failure.kind), failure.message),
    };
    reason.to_owned()
}

fn kind(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Forbidden => "forbidden",
        FailureKind::LimitExceeded => "over the sender's rate",
        FailureKind::TooLarge => "too large",
        FailureKind::BadContent => "bad content",
        FailureKind::Other => "refused",
    }
}
