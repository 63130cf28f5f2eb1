//! Crashes under the real rooms: whatever step of whatever commit the store stops at, after the next start each delayed event is scheduled
//! and in no room, or has ended, and is in its room exactly once if it was sent (invariant I8). What was acknowledged holds.

use std::{sync::Arc, time::Duration};

use delayed_events::{ActError, DelayId, Event, Group, NewDelayed, Outcome, Schedule, ScheduleError, TimerAction};
use primitives::{ManualClock, Random, SharedClock, UnixMillis};
use rooms::CreateRoom;
use ruma::{CanonicalJsonValue, OwnedRoomId, OwnedUserId};
use storage::{
    Direction, Fault, Faults, KeyRange, MemoryDisk, Options, Step, Storage,
    schema::rooms::{EventJson, EventLocals},
};
use testkit::Parts;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use users::{Authority, NewAccount};

/// A server that sends what is due, for as long as it lives.
struct Server {
    parts: Parts,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    async fn on(disk: &MemoryDisk, faults: &Faults, clock: Arc<ManualClock>) -> Self {
        let shared: SharedClock = clock.clone();
        let options = Options { faults: faults.clone(), ..Options::memory(disk, "hs.test") };
        let storage = Storage::open(options, &shared, &Random::seeded(1)).expect("opens");
        let parts = Parts::on(storage, clock).await;
        let (delayed, stop, tasks) = (parts.delayed.clone(), CancellationToken::new(), TaskTracker::new());
        let stopped = stop.clone();
        tasks.spawn(async move { delayed.run(stopped).await });
        Self { parts, stop, tasks }
    }

    /// Lets time pass, a little of it for real.
    async fn pass(&self, millis: u64) {
        self.parts.clock.advance(Duration::from_millis(millis));
        tokio::time::sleep(Duration::from_millis(15)).await;
    }

    async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// What was asked for and what was answered.
#[derive(Default)]
struct Told {
    /// Events whose scheduling was acknowledged.
    scheduled: Vec<DelayId>,
    cancelled: Vec<DelayId>,
    sent: Vec<DelayId>,
    /// Of these at most one may be sent.
    group: Vec<DelayId>,
}

struct Scene {
    alice: OwnedUserId,
    room: OwnedRoomId,
}

impl Scene {
    fn request(&self, delays: &[Option<u64>], group: Group) -> Schedule {
        let new = |delay: &Option<u64>| {
            let body = CanonicalJsonValue::String("later".to_owned());
            let content = [("body".to_owned(), body)].into_iter().collect();
            let event = Event { event_type: "m.room.message".to_owned(), content, ..Event::default() };
            NewDelayed { event, delay: delay.map(Duration::from_millis), name: None, tokens: false }
        };
        Schedule {
            user_id: self.alice.clone(),
            device_id: None,
            room_id: self.room.clone(),
            events: delays.iter().map(new).collect(),
            group,
            now: None,
            txn: None,
        }
    }

    async fn schedule(&self, server: &Server, delay: u64) -> Result<DelayId, ScheduleError> {
        let mut receipt = server.parts.delayed.schedule(self.request(&[Some(delay)], Group::None)).await?;
        Ok(receipt.events.remove(0).delay_id)
    }

    async fn act(&self, server: &Server, id: &DelayId, action: TimerAction) -> Result<(), ActError> {
        server.parts.delayed.act(Some(&self.alice), id, action).await
    }

    /// Everything that can be done, with the store failing somewhere on the way.
    async fn play(&self, server: &Server, faults: &Faults, order: (Step, u32, Fault)) -> Told {
        let mut told = Told::default();
        let (one, two) = (self.schedule(server, 5_000).await, self.schedule(server, 5_000).await);
        let (one, two) = (one.expect("scheduled"), two.expect("scheduled"));
        let group = server.parts.delayed.schedule(self.request(&[Some(6_000), None], Group::New)).await;
        told.group = group.expect("scheduled").events.into_iter().map(|event| event.delay_id).collect();
        told.scheduled = [vec![one.clone(), two.clone()], told.group.clone()].concat();
        faults.at(order.0, order.1, order.2);
        told.scheduled.extend(self.schedule(server, 4_000).await.ok());
        // Whether it was restarted or not, it is sent once.
        drop(self.act(server, &one, TimerAction::Restart).await);
        if self.act(server, &two, TimerAction::Cancel).await.is_ok() {
            told.cancelled.push(two);
        }
        let action = told.group[1].clone();
        if self.act(server, &action, TimerAction::Send).await.is_ok() {
            told.sent.push(action);
        }
        server.pass(4_001).await;
        server.pass(10_000).await;
        told
    }

    async fn check(&self, server: &Server, told: &Told, what: &str) {
        let view = server.parts.storage.view();
        let all = KeyRange::prefix(&());
        let locals = view.scan::<EventLocals>(&all, 1_000, Direction::Forward).await.expect("readable").rows;
        let events = view.scan::<EventJson>(&all, 1_000, Direction::Forward).await.expect("readable").rows;
        let in_room = |id: &DelayId| {
            let of = |(place, local): &&((_, _), storage::schema::rooms::EventLocal)| {
                let there = events.iter().any(|(event, _)| event == place);
                local.delay_id.as_deref() == Some(id.as_str()) && there
            };
            locals.iter().filter(of).count()
        };
        for id in &told.scheduled {
            let event = server.parts.delayed.get(&self.alice, id).await.expect("readable");
            let (_, outcome) = event.expect("what was acknowledged is there").finalised.expect("it was due long ago");
            let sent = matches!(outcome, Outcome::Sent { .. });
            assert_eq!(in_room(id), usize::from(sent), "{what}: {outcome:?}");
        }
        assert!(told.cancelled.iter().all(|id| in_room(id) == 0), "{what}: cancelled and sent");
        assert!(told.sent.iter().all(|id| in_room(id) == 1), "{what}: acknowledged and not sent");
        assert_eq!(told.group.iter().map(in_room).sum::<usize>(), 1, "{what}: one of a group");
        let delayed = locals.iter().filter(|(_, local)| local.delay_id.is_some()).count();
        assert!(delayed <= told.scheduled.len() + 1, "{what}: more than was asked for");
    }
}

#[tokio::test]
async fn i8_case_23_a_crash_at_any_step_of_any_commit_loses_nothing_and_sends_nothing_twice() {
    for step in Step::ALL {
        for fault in [Fault::Fail, Fault::Stop] {
            for nth in 1..=6 {
                let (disk, faults) = (MemoryDisk::new(), Faults::new());
                let clock = ManualClock::new(UnixMillis(1_700_000_000_000));
                let server = Server::on(&disk, &faults, clock.clone()).await;
                let account = NewAccount {
                    authority: Authority::Administrator { admin: false, user_type: None },
                    username: Some("alice".to_owned()),
                    password: None,
                    display_name: None,
                    session: None,
                };
                let alice = server.parts.users.register(account).await.expect("registered").user_id;
                let room = server.parts.rooms.create(CreateRoom::new(alice.clone())).await.expect("created");
                let scene = Scene { alice, room };
                let told = scene.play(&server, &faults, (step, nth, fault)).await;
                server.end().await;

                let server = Server::on(&disk, &Faults::none(), clock).await;
                for _ in 0..200 {
                    if server.parts.delayed.pending() == 0 {
                        break;
                    }
                    server.pass(2_000).await;
                }
                scene.check(&server, &told, &format!("{fault:?} at {step:?}, time {nth}")).await;
                server.end().await;
            }
        }
    }
}
