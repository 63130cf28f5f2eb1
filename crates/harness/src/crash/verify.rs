//! The judgement on a crash run.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    process::Command,
};

use super::{
    User,
    counts::miscounted,
    follower::{Followers, Heard},
    ledger::{Delayed, Fate, Group, Ledger, Making, Message, Note},
    lists, neighbour, worker,
};
use crate::{
    client::text,
    process::{Server, binary},
};

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Requests that were acknowledged.
    pub acknowledged: u64,
    /// Events in the rooms at the end.
    pub events: usize,
    /// One-time keys that were given out.
    pub claimed: usize,
    /// Messages to devices that were acknowledged.
    pub notes: usize,
    /// Acknowledged, and not there.
    pub lost: Vec<String>,
    /// There more than once.
    pub twice: Vec<String>,
    /// There although it was acknowledged that they never would be, or two of a group; messages to a device out of order; streams that went backwards.
    pub torn: Vec<String>,
    /// There although nobody asked for them, or still scheduled long after they were due.
    pub orphans: Vec<String>,
    /// In a room's timeline and never in a sync stream; lists of devices of whose changes a sync stream did not tell.
    pub gaps: Vec<String>,
    /// Unread counts that are not what the timeline says.
    pub miscounted: Vec<String>,
}

impl Outcome {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        let wrong = [&self.lost, &self.twice, &self.torn, &self.orphans, &self.gaps, &self.miscounted];
        wrong.into_iter().all(Vec::is_empty)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, events, claimed, notes, .. } = self;
        let counts = [
            ("lost", &self.lost),
            ("twice", &self.twice),
            ("torn", &self.torn),
            ("orphans", &self.orphans),
            ("sync gaps", &self.gaps),
            ("miscounted", &self.miscounted),
        ];
        write!(f, "{acknowledged} acknowledged, {events} events, {claimed} keys claimed, {notes} messages to devices")?;
        for (name, list) in counts {
            write!(f, ", {} {name}", list.len())?;
            if !list.is_empty() {
                write!(f, " ({})", list.iter().take(5).cloned().collect::<Vec<_>>().join(" "))?;
            }
        }
        Ok(())
    }
}

/// After a start: asks again for what had no answer, under the same transaction ids, so that each becomes exactly one event.
pub(super) async fn settle_open(ledger: &Ledger, users: &[User], base: &str) -> anyhow::Result<()> {
    let mut messages = ledger.messages.lock().await;
    for (marker, entry) in messages.iter_mut().filter(|(_, entry)| entry.state == Message::Open) {
        let user = &users[entry.user];
        let event_id = user.client.at(base).send(&user.room, &entry.txn, marker).await?;
        entry.state = Message::Sent(event_id);
        ledger.count();
    }
    drop(messages);
    let mut notes = ledger.notes.lock().await;
    for (marker, entry) in notes.iter_mut().filter(|(_, entry)| entry.state == Note::Open) {
        let to = &neighbour(users, entry.user).client.user_id;
        users[entry.user].client.at(base).send_to_devices(to, &entry.txn, marker).await?;
        entry.state = Note::Sent;
        ledger.count();
    }
    drop(notes);
    let mut delayed = ledger.delayed.lock().await;
    for (marker, entry) in delayed.iter_mut().filter(|(_, entry)| entry.state == Delayed::Open) {
        let user = &users[entry.user];
        let delay_id = user.client.at(base).schedule(&user.room, &entry.txn, marker, worker::SHORT).await?;
        entry.state = Delayed::Scheduled(delay_id);
        ledger.count();
    }
    drop(delayed);
    settle_groups(ledger, users, base).await
}

async fn settle_groups(ledger: &Ledger, users: &[User], base: &str) -> anyhow::Result<()> {
    let mut groups = ledger.groups.lock().await;
    for (marker, group) in groups.iter_mut().filter(|(_, group)| group.fate == Fate::Open) {
        let user = &users[group.user];
        let client = user.client.at(base);
        match group.making {
            Making::Pair => drop(worker::timeout_future(&client, &user.room, marker, worker::SHORT).await?),
            Making::Batch => {
                let answer = worker::batch(&client, &user.room, marker, worker::SHORT).await?;
                ledger.note_now(group.user, marker, &answer).await;
            }
        }
        group.fate = Fate::One;
        ledger.count();
    }
    Ok(())
}

/// Judges the groups: how many of each have arrived, and which. Answers the markers that may be there.
async fn judge_groups(
    ledger: &Ledger,
    events: &BTreeMap<String, Vec<String>>,
    outcome: &mut Outcome,
) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for (marker, group) in ledger.groups.lock().await.iter() {
        let members = [Group::timeout(marker), Group::action(marker)];
        let there: Vec<_> = members.iter().filter(|member| events.contains_key(*member)).collect();
        match (&group.fate, &*there) {
            (_, [_, _]) | (Fate::None, [_]) => outcome.torn.push(marker.clone()),
            (Fate::Sent(sent), [one]) if *one != sent => outcome.torn.push(marker.clone()),
            (Fate::One | Fate::Sent(_), []) => outcome.lost.push(marker.clone()),
            _ => {}
        }
        known.extend(members);
    }
    known
}

/// Judges the messages to devices: all that were acknowledged have come, each once and in the order in which they were sent.
async fn judge_notes(ledger: &Ledger, heard: &[Heard], outcome: &mut Outcome) {
    let notes = ledger.notes.lock().await;
    for (marker, entry) in notes.iter().filter(|(_, entry)| entry.state == Note::Sent) {
        outcome.notes += 1;
        let times = heard[(entry.user + 1) % heard.len()].notes.iter().filter(|note| *note == marker).count();
        match times {
            0 => outcome.lost.push(marker.clone()),
            1 => {}
            _ => outcome.twice.push(marker.clone()),
        }
    }
    for heard in heard {
        outcome.orphans.extend(heard.notes.iter().filter(|note| !notes.contains_key(*note)).cloned());
        // A marker says its round and its number in that; one user sends to a device, one message after the other.
        let order =
            |note: &String| note.split(['r', 'u', 'n']).map(|part| part.parse::<u64>().ok()).collect::<Vec<_>>();
        let late = heard.notes.windows(2).filter(|pair| order(&pair[1]) < order(&pair[0]));
        outcome.torn.extend(late.map(|pair| pair[1].clone()));
    }
}

/// Compares the ledger with the rooms, the followers and the store itself.
pub(super) async fn verify(
    ledger: &Ledger,
    users: &[User],
    followers: &mut Followers,
    server: &Server,
) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome { acknowledged: ledger.acknowledged(), ..Outcome::default() };
    let mut events: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut by_room: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for user in users {
        if by_room.contains_key(user.room.as_str()) {
            continue;
        }
        let mut markers = BTreeSet::new();
        for event in user.client.at(&server.base).history(&user.room).await? {
            outcome.events += 1;
            if event["type"] == "m.room.message" {
                let marker = text(&event["content"]["body"]).to_owned();
                markers.insert(marker.clone());
                events.entry(marker).or_default().push(text(&event["event_id"]).to_owned());
            }
        }
        by_room.insert(&user.room, markers);
    }
    outcome.twice.extend(events.iter().filter(|(_, ids)| ids.len() > 1).map(|(marker, _)| marker.clone()));
    for (marker, entry) in ledger.messages.lock().await.iter() {
        if let Message::Sent(event_id) = &entry.state
            && !events.get(marker).is_some_and(|ids| ids.contains(event_id))
        {
            outcome.lost.push(marker.clone());
        }
    }
    for (marker, entry) in ledger.delayed.lock().await.iter() {
        let there = events.contains_key(marker);
        match entry.state {
            Delayed::Scheduled(_) if !there => outcome.lost.push(marker.clone()),
            Delayed::Cancelled if there => outcome.torn.push(marker.clone()),
            _ => {}
        }
    }
    let known = judge_groups(ledger, &events, &mut outcome).await;
    let (messages, delayed) = (ledger.messages.lock().await, ledger.delayed.lock().await);
    let asked =
        |marker: &String| messages.contains_key(marker) || delayed.contains_key(marker) || known.contains(marker);
    outcome.orphans.extend(events.keys().filter(|marker| !asked(marker)).cloned());
    drop((messages, delayed));
    let heard = followers.finish(&server.base).await?;
    for (user, heard) in users.iter().zip(&heard) {
        outcome.gaps.extend(by_room[user.room.as_str()].difference(&heard.markers).cloned());
        lists::judge(user, &server.base, &heard.names, &mut outcome).await?;
    }
    judge_notes(ledger, &heard, &mut outcome).await;
    ledger.keys.judge(users, &server.base, &mut outcome).await?;
    for user in users {
        outcome.miscounted.extend(miscounted(user, &server.base).await?);
        let left = user.client.at(&server.base).scheduled().await?;
        outcome.orphans.extend(left.iter().map(|_| format!("scheduled-by-{}", user.client.user_id)));
    }
    Ok(outcome)
}

/// Lets the server's own check compare the stored state with the state that folding the DAG gives.
pub fn check_store(config: &std::path::Path) -> anyhow::Result<()> {
    let output = Command::new(binary()?).arg("check-store").arg("--config").arg(config).output()?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    anyhow::ensure!(output.status.success(), "the store is not whole: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
