//! `sundial delayed`: through the server if it runs, otherwise on the store itself. Sending needs a running server.

use std::path::Path;

use anyhow::{bail, ensure};
use clap::{Args, Subcommand};
use primitives::{Clock, SystemClock};
use tokio::sync::mpsc;

use super::{ConfigFile, alone::alone, output};
use crate::{
    admin::{
        self, Answer, Request,
        delayed::{Ask, Group, Record, Told, administer},
    },
    config::Config,
};

/// What every command takes.
#[derive(Debug, Args)]
pub(super) struct Common {
    #[command(flatten)]
    file: ConfigFile,
    /// Prints each answer as a line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Delayed {
    /// Lists what is scheduled, what is due first coming first.
    List {
        #[command(flatten)]
        common: Common,
        /// Only this user's (`@alice:example.org`).
        #[arg(long)]
        user: Option<String>,
        /// What has ended instead, by the times of the ends.
        #[arg(long, requires = "user")]
        ended: bool,
        /// Goes on where the page before ended.
        #[arg(long)]
        from: Option<String>,
        /// How many on a page, 1000 at most.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Shows one event with its state, its outcome and its group.
    Show {
        #[command(flatten)]
        common: Common,
        /// Its number, as `list` shows it, or its delay id.
        event: String,
        /// Its content, its delay id and its tokens too. Who knows these can act on the event.
        #[arg(long)]
        content: bool,
    },
    /// Cancels one event, or all that a user has scheduled.
    Cancel {
        #[command(flatten)]
        common: Common,
        /// Its number, as `list` shows it, or its delay id.
        #[arg(required_unless_present = "user", conflicts_with = "user")]
        event: Option<String>,
        /// All of this user's.
        #[arg(long)]
        user: Option<String>,
    },
    /// Sends or cancels everything that is scheduled, for example before a server is taken down for good.
    Drain {
        #[command(flatten)]
        common: Common,
        /// Sends it, in the order in which it is due. What rooms refuse stays scheduled.
        #[arg(long, required_unless_present = "cancel", conflicts_with = "cancel")]
        send: bool,
        /// Cancels it.
        #[arg(long)]
        cancel: bool,
    },
}

impl Delayed {
    fn ask(self) -> (Common, Ask) {
        match self {
            Self::List { common, user, ended, from, limit } => {
                (common, Ask::List { user, ended, from, limit: Some(limit) })
            }
            Self::Show { common, event, content } => (common, Ask::Show { event, content }),
            Self::Cancel { common, event: Some(event), .. } => (common, Ask::Cancel { event }),
            Self::Cancel { common, user, .. } => (common, Ask::CancelOf { user: user.unwrap_or_default() }),
            Self::Drain { common, send, .. } => (common, Ask::Drain { send }),
        }
    }

    /// Asks, and prints the answer.
    ///
    /// # Errors
    /// What the server says, or a store that can't be opened.
    pub(super) async fn run(self, load: impl Fn(&Path) -> anyhow::Result<Config>) -> anyhow::Result<()> {
        let (Common { file, json }, ask) = self.ask();
        let config = load(&file.config)?;
        let now = SystemClock::new().now().0;
        let say = |told: &Told| {
            let text = if json { serde_json::to_string(told).unwrap_or_default() } else { words(told, now) };
            output::line(&text);
        };
        let answer = match admin::ask(&config.data_dir, &Request::Delayed { ask: ask.clone() }, say).await? {
            Some(answer) => answer,
            None => without_server(&config, ask, say).await?,
        };
        match answer {
            Answer::Delayed { told } => say(&told),
            Answer::Failed { error } => bail!(error),
            _ => bail!("the server gave the answer to another question"),
        }
        Ok(())
    }
}

/// Opens the store itself, asks, and closes it. Nothing is sent, also not what is overdue.
async fn without_server(config: &Config, ask: Ask, mut say: impl FnMut(&Told)) -> anyhow::Result<Answer> {
    let directory = crate::wiring::options::storage_directory(config);
    ensure!(directory.is_dir(), "there is no store in {}", config.data_dir.display());
    alone(config, async |stack| {
        let (progress, mut heard) = mpsc::channel(8);
        let asked = administer(stack.delayed(), ask, progress, false);
        let listen = async {
            while let Some(answer) = heard.recv().await {
                if let Answer::Progress { told } = answer {
                    say(&told);
                }
            }
        };
        let (answer, ()) = tokio::join!(asked, listen);
        Ok(answer)
    })
    .await
}

/// An answer for people.
fn words(told: &Told, now: u64) -> String {
    match told {
        Told::Page { events, next, pending, users } => {
            let mut lines: Vec<_> = events.iter().map(|event| line(event, now)).collect();
            lines.push(match users {
                Some(users) => format!("{pending} scheduled, of {users} users; {} shown", events.len()),
                None => format!("{pending} scheduled; {} shown", events.len()),
            });
            lines.extend(next.as_ref().map(|next| format!("more: --from {next}")));
            lines.join("\n")
        }
        Told::Event { event, group } => details(event, group.as_ref(), now),
        Told::Cancelled { count } => format!("{count} cancelled"),
        Told::EndedBefore { status } => format!("nothing to cancel: it is {status}"),
        Told::Drained { total, sent, cancelled, refused, last_refusal } => {
            let why = last_refusal.as_ref().map(|why| format!("; last refusal: {why}")).unwrap_or_default();
            format!("{total} in all: {sent} sent, {cancelled} cancelled, {refused} refused and still scheduled{why}")
        }
    }
}

/// One event in one line: number, when, who, where, what.
fn line(event: &Record, now: u64) -> String {
    let Record { number, user_id, room_id, event_type, state_key, .. } = event;
    let key = state_key.as_ref().map(|key| format!(" {key:?}")).unwrap_or_default();
    format!("{number}  {:<22}  {user_id}  {room_id}  {event_type}{key}", when(event, now))
}

fn when(event: &Record, now: u64) -> String {
    match (event.ended_at, event.due) {
        (Some(at), _) => format!("{} {} ago", event.status, span(now.saturating_sub(at))),
        (None, Some(due)) if due > now => format!("due in {}", span(due - now)),
        (None, Some(due)) => format!("overdue for {}", span(now - due)),
        (None, None) => "waits for an action".to_owned(),
    }
}

fn details(event: &Record, group: Option<&Group>, now: u64) -> String {
    let mut lines = Vec::new();
    let mut add = |name: &str, value: Option<String>| {
        lines.extend(value.map(|value| format!("{name:<14}{value}")));
    };
    let time = |at: u64| format!("{at} ({} ago)", span(now.saturating_sub(at)));
    add("number", Some(event.number.clone()));
    add("state", Some(when(event, now)));
    add("outcome", event.reason.as_ref().map(|reason| format!("{}: {reason}", event.status)));
    add("event", event.event_id.clone());
    add("user", Some(event.user_id.clone()));
    add("room", Some(event.room_id.clone()));
    add("type", Some(event.event_type.clone()));
    add("state key", event.state_key.as_ref().map(|key| format!("{key:?}")));
    add("delay", event.delay_ms.map(span));
    add("scheduled", Some(time(event.scheduled_at)));
    add("running since", Some(time(event.running_since)));
    add("sticky for", event.sticky_ms.map(span));
    add("name", event.name.clone());
    add("group", event.group.clone());
    if let Some(Group { open, members }) = group {
        add("group is", Some(if *open { "open" } else { "closed: none of it is sent any more" }.to_owned()));
        for (number, status) in members {
            add("", Some(format!("{number} {status}")));
        }
    }
    if let Some(secrets) = &event.secrets {
        add("delay id", Some(secrets.delay_id.clone()));
        for (action, token) in &secrets.tokens {
            add("token", Some(format!("{token} ({action})")));
        }
        add("content", Some(secrets.content.to_string()));
    }
    lines.join("\n")
}

/// A span of time in its two greatest units.
fn span(millis: u64) -> String {
    let seconds = millis / 1_000;
    match seconds {
        0 => format!("{millis} ms"),
        1..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short_words() {
        let minute = 60_000;
        let spans = [999, 59_999, minute + 1_000, 90 * minute, 3 * 1_440 * minute + 60 * minute].map(span);
        assert_eq!(spans, ["999 ms", "59 s", "1 min 1 s", "1 h 30 min", "3 d 1 h"]);
    }

    #[test]
    fn a_page_says_where_to_go_on_and_how_much_there_is() {
        let page = Told::Page { events: Vec::new(), next: Some("s1_2".to_owned()), pending: 7, users: Some(2) };
        assert_eq!(words(&page, 0), "7 scheduled, of 2 users; 0 shown\nmore: --from s1_2");
    }
}
