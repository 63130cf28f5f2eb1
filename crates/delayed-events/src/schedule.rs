//! Scheduling: what is checked at once, and the one batch that writes all of a request.

use std::{sync::Arc, time::Duration};

use primitives::{StreamPosition, UnixMillis, UserNid, canonical};
use ruma::{CanonicalJsonValue, EventId, OwnedEventId, canonical_json::CanonicalJsonObject};
use storage::{
    Batch, CommitError, Positioned,
    schema::{
        delayed::{
            Delayed, DelayedGroups, DelayedRow, DelayedTimers, DelayedTokens, Due, GroupRow, NewerState, TimerAction,
            TimerRow, TokenRow,
        },
        rooms::EventLocal,
    },
};

use crate::{
    Answered, DelayId, DelayedEvents, Event, Group, NewDelayed, Receipt, Schedule, ScheduleError, Scheduled,
    StoreError, TxnKey,
    engine::{Inner, TRIES, timer},
    meters::Meters,
    outside::{NotSent, Sending, pdu_size},
    recent::Seen,
    steps::Place,
    timeline::Era,
    timers::Key,
};

/// How many events one group may ever hold, and one request schedule.
pub const GROUP_MAX: usize = 100;
/// The largest event as a PDU (specification, "Size limits").
const PDU_MAX: usize = 65_536;
/// The longest type and state key.
const NAME_MAX: usize = 255;
/// In the content of a batch's events: the id of the event that is sent at once.
const NOW_ID: &str = "$m.send_now.event_id";
/// Random bytes in a delay id, a group id and a token.
const SECRET_BYTES: usize = 24;

/// What a transaction's result says if more than one event or a group came of it.
const GROUP_RESULT: &str = "group ";

/// The group that events are about to join, as it was read.
struct Joined {
    key: Key,
    id: String,
    before: Option<GroupRow>,
}

/// Everything that one request writes.
struct Plan {
    rows: Vec<(Key, DelayedRow, TimerRow, Option<Era>)>,
    group: Option<Joined>,
    txn: Option<TxnKey>,
}

/// Places taken of a user's limit, given back when dropped.
struct Reserved {
    inner: Arc<Inner>,
    user: UserNid,
    places: u32,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.inner.timing.lock().timers.release(self.user, self.places);
    }
}

impl DelayedEvents {
    /// Schedules the events of one request, all or none, and sends what it wants sent at once.
    ///
    /// A request whose transaction has been answered before gets the same answer again.
    pub async fn schedule(&self, request: Schedule) -> Result<Receipt, ScheduleError> {
        let inner = self.0.clone();
        self.whole(async move { inner.schedule(request).await }).await
    }

    /// What a transaction answered the first time, if it was there before. To be asked before a request's body is looked at.
    pub async fn answered(&self, txn: &TxnKey) -> Result<Option<Answered>, StoreError> {
        self.0.answered(txn).await
    }
}

fn check_shape(event: &Event, request: &Schedule) -> Result<(), ScheduleError> {
    let content = canonical::to_bytes(&event.content);
    let state_key = event.state_key.as_deref();
    let long = event.event_type.len() > NAME_MAX || state_key.is_some_and(|key| key.len() > NAME_MAX);
    let sticky = event.sticky_duration.is_some();
    let size = pdu_size(&request.user_id, &request.room_id, &event.event_type, state_key, &content, sticky);
    if long || size > PDU_MAX {
        return Err(ScheduleError::TooLarge);
    }
    Ok(())
}

impl Inner {
    async fn schedule(self: Arc<Self>, request: Schedule) -> Result<Receipt, ScheduleError> {
        if let Some(txn) = &request.txn
            && let Some(answer) = self.answered(txn).await?
        {
            return replay(answer);
        }
        self.check(&request)?;
        let user = self.outside.nid(&request.user_id).await?.ok_or(ScheduleError::UnknownUser)?;
        if self.outside.active(user).await?.is_none() {
            return Err(ScheduleError::Suspended);
        }
        if !self.outside.knows_room(&request.room_id).await? {
            return Err(ScheduleError::UnknownRoom);
        }
        let Some(same) = self.same_again(&request) else { return self.admit(&request, user).await };
        loop {
            let seen = self.recent.lock().look(same, self.now(), self.options.duplicate_window);
            match seen {
                Seen::Now(mut other) => {
                    let _closed = other.changed().await;
                }
                Seen::Before(id) if self.timing.lock().timers.get(&self.key_of(id.as_str())).is_some() => {
                    return Ok(self.receipt(id.into_string()).await?);
                }
                Seen::Before(_) => self.recent.lock().failed(&same),
                Seen::Never(_working) => {
                    let result = self.admit(&request, user).await;
                    match &result {
                        Ok(receipt) => self.recent.lock().done(same, receipt.events[0].delay_id.clone(), self.now()),
                        Err(_) => self.recent.lock().failed(&same),
                    }
                    return result;
                }
            }
        }
    }

    /// All that can be checked without asking anybody.
    fn check(&self, request: &Schedule) -> Result<(), ScheduleError> {
        let options = &self.options;
        if !options.enabled || (options.enforce && options.max_scheduled_per_user == 0) {
            return Err(ScheduleError::Disabled);
        }
        if request.events.is_empty() || request.events.len() > GROUP_MAX {
            return Err(ScheduleError::GroupSize { max: GROUP_MAX });
        }
        for new in &request.events {
            match new.delay {
                Some(delay) if delay < Duration::from_millis(1) => return Err(ScheduleError::NoDelay),
                Some(delay) if delay > options.max_delay => {
                    return Err(ScheduleError::DelayTooLarge { max: options.max_delay });
                }
                None if request.group == Group::None => return Err(ScheduleError::GroupWithoutTimer),
                _ => {}
            }
            check_shape(&new.event, request)?;
        }
        request.now.as_ref().map_or(Ok(()), |event| check_shape(event, request))
    }

    /// A hash of all that a request says, if only that can tell whether it is another's repetition.
    fn same_again(&self, request: &Schedule) -> Option<Key> {
        let [NewDelayed { event, delay: Some(delay), .. }] = &*request.events else { return None };
        let single = request.txn.is_none() && request.now.is_none() && !matches!(request.group, Group::Named(_));
        let state_key = event.state_key.as_ref().filter(|_| single)?;
        let device = request.device_id.as_ref().map_or("", |device| device.as_str());
        let content = canonical::to_bytes(&event.content);
        let delay = delay.as_millis().to_be_bytes();
        let texts = [request.user_id.as_str(), device, request.room_id.as_str(), &event.event_type, state_key]
            .map(str::as_bytes);
        let grouped = [u8::from(request.group != Group::None)];
        Some(self.storage.hash().hash16(&[&texts[..], &[&delay, &content, &grouped]].concat()))
    }

    /// Holds a request to the rate and the number, then writes it.
    async fn admit(self: &Arc<Self>, request: &Schedule, user: UserNid) -> Result<Receipt, ScheduleError> {
        let enforce = self.options.enforce;
        if enforce {
            let limited = self.paces.schedules.check(&user.0.to_be_bytes());
            limited.map_err(|limited| ScheduleError::TooFast { retry_after: limited.retry_after })?;
        }
        let places = u32::try_from(request.events.len()).expect("a group is small");
        let limit = enforce.then_some(self.options.max_scheduled_per_user);
        let take = || self.timing.lock().timers.reserve(user, places, limit);
        // What a newer state event has superseded holds its place until it is due, or until the place is needed.
        if !(take() || self.end_superseded(user).await? > 0 && take()) {
            let limit = self.options.max_scheduled_per_user;
            return Err(ScheduleError::TooMany { limit, retry_after: self.until_room(user, places, limit) });
        }
        let _reserved = Reserved { inner: self.clone(), user, places };
        for _ in 0..TRIES {
            let plan = Arc::new(self.plan(request, user).await?);
            self.steps.pass(Place::BeforeScheduling)?;
            if let Some((position, sent)) = self.write(&plan, request).await? {
                self.steps.pass(Place::AfterScheduling)?;
                return Ok(self.scheduled(&plan, position, sent));
            }
            // Somebody was faster: with the same transaction, or in the same group.
            if let Some(txn) = &request.txn
                && let Some(answer) = self.answered(txn).await?
            {
                return replay(answer);
            }
        }
        Err(StoreError::Contended.into())
    }

    /// How long until so many places are free, if nothing happens but what is due.
    fn until_room(&self, user: UserNid, places: u32, limit: u32) -> Duration {
        let timing = self.timing.lock();
        let now = timing.timeline.now(&*self.clock);
        let over = (timing.timers.count(user) + places as usize).saturating_sub(limit as usize);
        let due = timing.timers.of_user(user).filter_map(|timer| timer.due);
        let mut moments: Vec<_> = due.map(|(at, era)| timing.timeline.moment(at, era)).collect();
        moments.sort_unstable();
        let until = moments.get(over.saturating_sub(1)).or(moments.last());
        until.map_or(self.options.max_delay, |until| until.since(now))
    }

    /// The group that a request's events join, if they may.
    async fn join(&self, request: &Schedule, user: UserNid) -> Result<Option<Joined>, ScheduleError> {
        let id = match &request.group {
            Group::None => return Ok(None),
            Group::New => self.random.token::<SECRET_BYTES>(),
            Group::Named(id) => id.clone(),
        };
        let (key, view) = (self.key_of_group(&id), self.storage.view());
        let before = view.get::<DelayedGroups>(&(key,)).await?;
        let mut timed = request.events.iter().any(|new| new.delay.is_some());
        if let Some(row) = &before {
            if row.user != user {
                return Err(ScheduleError::GroupOfOther);
            }
            if !row.open {
                return Err(ScheduleError::GroupEnded);
            }
            if row.members.len() + request.events.len() > GROUP_MAX {
                return Err(ScheduleError::GroupSize { max: GROUP_MAX });
            }
            let members: Vec<_> = row.members.iter().map(|member| (*member,)).collect();
            let timers = view.multi_get::<DelayedTimers>(&members).await?;
            timed |= timers.iter().flatten().any(|timer| timer.value.due.is_some());
        }
        if !timed {
            return Err(ScheduleError::GroupWithoutTimer);
        }
        Ok(Some(Joined { key, id, before }))
    }

    /// Names the events of a request and sets their times.
    async fn plan(&self, request: &Schedule, user: UserNid) -> Result<Plan, ScheduleError> {
        let group = self.join(request, user).await?;
        let room = u32::from_be_bytes(
            *self.storage.hash().hash8(&[request.room_id.as_bytes()]).first_chunk().expect("8 bytes"),
        );
        let mut rows = Vec::with_capacity(request.events.len());
        for (place, new) in (0_u8..).zip(&request.events) {
            let (now, due) = {
                let timing = self.timing.lock();
                (timing.timeline.wall(&*self.clock), new.delay.map(|delay| timing.timeline.begin(&*self.clock, delay)))
            };
            let delay_ms =
                new.delay.map(|delay| u64::try_from(delay.as_millis()).expect("bounded by the longest delay"));
            let due = due.zip(delay_ms).map(|((at, era), delay_ms)| (Due { at, delay_ms }, era));
            let row = self.row(request, new, user, (place, now, delay_ms), group.as_ref());
            let group = group.as_ref().map(|group| group.key);
            let timer = TimerRow { user, room, place, generation: 0, due: due.map(|(due, _)| due), group };
            rows.push((self.key_of(&row.delay_id), row, timer, due.map(|(_, era)| era)));
        }
        Ok(Plan { rows, group, txn: request.txn.clone() })
    }

    fn row(
        &self,
        request: &Schedule,
        new: &NewDelayed,
        user: UserNid,
        (place, scheduled_at, delay_ms): (u8, UnixMillis, Option<u64>),
        group: Option<&Joined>,
    ) -> DelayedRow {
        let event = &new.event;
        let actions: &[_] = match (new.tokens, new.delay) {
            (false, _) => &[],
            (true, Some(_)) => &[TimerAction::Send, TimerAction::Cancel, TimerAction::Restart],
            (true, None) => &[TimerAction::Send, TimerAction::Cancel],
        };
        DelayedRow {
            delay_id: self.random.token::<SECRET_BYTES>(),
            user,
            device_id: request.device_id.as_ref().map(ToString::to_string),
            room_id: request.room_id.to_string(),
            event_type: event.event_type.clone(),
            state_key: event.state_key.clone(),
            content: canonical::to_bytes(&event.content),
            delay_ms,
            scheduled_at,
            place,
            transaction_id: request.txn.as_ref().map(|txn| txn.txn_id.clone()),
            sticky_duration_ms: event.sticky_duration.and_then(|span| u64::try_from(span.as_millis()).ok()),
            origin_server_ts: event.origin_server_ts,
            newer_state: if group.is_some() { NewerState::Cancels } else { self.options.newer_state },
            group_id: group.map(|group| group.id.clone()),
            name: new.name.clone(),
            tokens: actions.iter().map(|action| (*action, self.random.token::<SECRET_BYTES>())).collect(),
        }
    }

    /// Writes a plan, with the event that is sent at once if there is one. `None`: something had changed.
    async fn write(
        self: &Arc<Self>,
        plan: &Arc<Plan>,
        request: &Schedule,
    ) -> Result<Option<(StreamPosition, Option<OwnedEventId>)>, ScheduleError> {
        let Some(event) = &request.now else {
            return match self.storage.commit(plan.batch(self, None)).await {
                Ok(position) => Ok(Some((position, None))),
                Err(CommitError::Conflict(_)) => Ok(None),
                Err(error) => Err(StoreError::Commit(error).into()),
            };
        };
        let (inner, riding) = (self.clone(), plan.clone());
        let sending = Sending {
            sender: request.user_id.clone(),
            room_id: request.room_id.clone(),
            event_type: event.event_type.clone(),
            state_key: event.state_key.clone(),
            content: event.content.clone(),
            sticky_duration: event.sticky_duration,
            origin_server_ts: event.origin_server_ts,
            local: EventLocal {
                device_id: request.device_id.as_ref().map(ToString::to_string),
                transaction_id: request.txn.as_ref().map(|txn| txn.txn_id.clone()),
                delay_id: None,
            },
            gives_way: None,
            rider: Box::new(move |event_id| riding.batch(&inner, Some(event_id))),
        };
        match self.outside.send(sending).await {
            Ok(accepted) => Ok(Some((accepted.position, Some(accepted.event_id)))),
            Err(NotSent::Lost) => Ok(None),
            Err(NotSent::Refused(refusal)) => Err(ScheduleError::Refused(refusal)),
            Err(NotSent::NoRoom) => Err(ScheduleError::UnknownRoom),
            Err(NotSent::NewerState) => Err(StoreError::Contended.into()),
            Err(NotSent::Fault(fault)) => Err(StoreError::Outside(fault).into()),
        }
    }

    /// Memory learns of what was written.
    fn scheduled(&self, plan: &Plan, position: StreamPosition, sent: Option<OwnedEventId>) -> Receipt {
        self.learn(|timers, timeline| {
            for (key, _, row, era) in &plan.rows {
                let due = row.due.map(|due| due.at).zip(*era);
                timers.insert(&timer(*key, &Positioned { position, value: row.clone() }, due), timeline);
            }
        });
        Meters::scheduled(plan.rows.len());
        let events = plan.rows.iter().map(|(_, row, ..)| scheduled(row.clone())).collect();
        Receipt { events, group_id: plan.group.as_ref().map(|group| group.id.clone()), sent }
    }

    async fn answered(&self, txn: &TxnKey) -> Result<Option<Answered>, StoreError> {
        let Some(result) = self.outside.answered(txn).await? else { return Ok(None) };
        if let Some(group) = result.strip_prefix(GROUP_RESULT) {
            let (id, sent) = group.split_once(' ').unwrap_or((group, ""));
            return self
                .group_receipt(id, EventId::parse(sent).ok())
                .await
                .map(|receipt| Some(Answered::Scheduled(receipt)));
        }
        if let Ok(event_id) = EventId::parse(&result) {
            return Ok(Some(Answered::Sent(event_id)));
        }
        self.receipt(result).await.map(|receipt| Some(Answered::Scheduled(receipt)))
    }

    /// The receipt of the request that scheduled one event.
    async fn receipt(&self, delay_id: String) -> Result<Receipt, StoreError> {
        let row = self.storage.view().get::<Delayed>(&(self.key_of(&delay_id),)).await?;
        let group_id = row.as_ref().and_then(|row| row.value.group_id.clone());
        let forgotten = Scheduled { delay_id: DelayId::new(delay_id), name: None, tokens: Vec::new() };
        let event = row.map_or(forgotten, |row| scheduled(row.value));
        Ok(Receipt { events: vec![event], group_id, sent: None })
    }

    /// The receipt of the request that made a group.
    async fn group_receipt(&self, id: &str, sent: Option<OwnedEventId>) -> Result<Receipt, StoreError> {
        let view = self.storage.view();
        let members =
            view.get::<DelayedGroups>(&(self.key_of_group(id),)).await?.map(|row| row.members).unwrap_or_default();
        let keys: Vec<_> = members.into_iter().map(|key| (key,)).collect();
        let rows = view.multi_get::<Delayed>(&keys).await?;
        let first = rows.iter().flatten().map(|row| row.position).min();
        let of_request = rows.into_iter().flatten().filter(|row| Some(row.position) == first);
        Ok(Receipt {
            events: of_request.map(|row| scheduled(row.value)).collect(),
            group_id: Some(id.to_owned()),
            sent,
        })
    }
}

fn replay(answer: Answered) -> Result<Receipt, ScheduleError> {
    match answer {
        Answered::Scheduled(receipt) => Ok(receipt),
        Answered::Sent(event_id) => Err(ScheduleError::AlreadySent(event_id)),
    }
}

fn scheduled(row: DelayedRow) -> Scheduled {
    Scheduled { delay_id: DelayId::new(row.delay_id), name: row.name, tokens: row.tokens }
}

impl Plan {
    /// The batch that writes all of it. `sent`: the event that was sent at once, whose batch it joins.
    fn batch(&self, inner: &Inner, sent: Option<&EventId>) -> Batch {
        let mut batch = Batch::new();
        for (key, row, timer, _) in &self.rows {
            let mut row = row.clone();
            if let Some(event_id) = sent {
                row.content = with_event_id(&row.content, event_id);
            }
            for (action, token) in &row.tokens {
                batch.put::<DelayedTokens>(&(inner.key_of_token(token),), &TokenRow { event: *key, action: *action });
            }
            batch.assert_absent::<Delayed>(&(*key,));
            batch.put::<Delayed>(&(*key,), &Positioned::pending(row));
            batch.put::<DelayedTimers>(&(*key,), &Positioned::pending(timer.clone()));
        }
        if let Some(group) = &self.group {
            let user = self.rows[0].1.user;
            let mut row =
                group.before.clone().unwrap_or(GroupRow { user, open: true, changes: 0, members: Vec::new() });
            row.changes += 1;
            row.members.extend(self.rows.iter().map(|(key, ..)| *key));
            batch.assert_unchanged::<DelayedGroups>(&(group.key,), group.before.as_ref());
            batch.put::<DelayedGroups>(&(group.key,), &row);
        }
        if let Some(txn) = &self.txn {
            batch.merge(inner.outside.answer(txn, &self.result(sent)));
        }
        batch
    }

    /// What the transaction answers if it is asked again.
    fn result(&self, sent: Option<&EventId>) -> String {
        match &self.group {
            Some(group) if sent.is_some() || self.rows.len() > 1 => {
                format!("{GROUP_RESULT}{} {}", group.id, sent.map_or("", |id| id.as_str()))
            }
            _ => self.rows[0].1.delay_id.clone(),
        }
    }
}

/// Content with the id of the event that was sent at once wherever a string asks for it.
fn with_event_id(content: &[u8], event_id: &EventId) -> Vec<u8> {
    fn replace(value: &mut CanonicalJsonValue, event_id: &EventId) {
        match value {
            CanonicalJsonValue::String(text) if text == NOW_ID => *text = event_id.to_string(),
            CanonicalJsonValue::Array(values) => values.iter_mut().for_each(|value| replace(value, event_id)),
            CanonicalJsonValue::Object(object) => object.values_mut().for_each(|value| replace(value, event_id)),
            _ => {}
        }
    }
    let mut object: CanonicalJsonObject = canonical::parse_object(content).expect("content was canonical when it came");
    for value in object.values_mut() {
        replace(value, event_id);
    }
    canonical::to_bytes(&object)
}
