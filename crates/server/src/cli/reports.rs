//! `sundial reports`: through the server if it runs, otherwise on the store itself.

use std::{fmt::Write as _, path::Path, time::Duration};

use anyhow::bail;
use clap::Subcommand;
use primitives::{Clock, SystemClock, UnixMillis};

use super::{ConfigFile, alone::alone, output};
use crate::{
    admin::{
        self, Answer, Request,
        reports::{Ask, ShownReport, ShownSubject, Told},
    },
    config::Config,
};

#[derive(Debug, Subcommand)]
pub(super) enum Reports {
    /// Lists reports, oldest first.
    List {
        #[command(flatten)]
        file: ConfigFile,
        /// Begins after the report of this number.
        #[arg(long)]
        after: Option<u64>,
        /// How many; 50 at most.
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Shows a report, and the event that it is about as it was received.
    Show {
        #[command(flatten)]
        file: ConfigFile,
        /// The report's number.
        id: u64,
    },
    /// Deletes a report.
    Delete {
        #[command(flatten)]
        file: ConfigFile,
        /// The report's number.
        id: u64,
    },
}

impl Reports {
    fn ask(self) -> (ConfigFile, Ask) {
        match self {
            Self::List { file, after, limit } => (file, Ask::List { after, limit }),
            Self::Show { file, id } => (file, Ask::Show { id }),
            Self::Delete { file, id } => (file, Ask::Delete { id }),
        }
    }

    /// Asks, and prints the answer.
    ///
    /// # Errors
    /// What the server says, or a store that can't be opened.
    pub(super) async fn run(self, load: impl Fn(&Path) -> anyhow::Result<Config>) -> anyhow::Result<()> {
        let (file, ask) = self.ask();
        let config = load(&file.config)?;
        let told = match admin::ask(&config.data_dir, &Request::Reports { ask: ask.clone() }, |_| ()).await? {
            Some(Answer::Reports { told }) => told,
            Some(Answer::Failed { error }) => bail!(error),
            Some(_) => bail!("the server gave the answer to another question"),
            None => alone(&config, async |stack| stack.report_desk().answer(&ask).await).await?,
        };
        output::text(&words(&told, SystemClock::new().now()));
        Ok(())
    }
}

fn words(told: &Told, now: UnixMillis) -> String {
    match told {
        Told::List { reports } if reports.is_empty() => "no reports\n".to_owned(),
        Told::List { reports } => reports.iter().map(|report| entry(report, now)).collect(),
        Told::Report { report, event } => {
            let event = event.iter().flat_map(|event| format!("{event:#}").lines().map(plain).collect::<Vec<_>>());
            event.fold(entry(report, now), |text, line| text + &line + "\n")
        }
        Told::Deleted => "deleted\n".to_owned(),
    }
}

/// A report in a line, and its reason in another.
fn entry(report: &ShownReport, now: UnixMillis) -> String {
    let what = match &report.subject {
        ShownSubject::Event { room_id, event_id, sender } => format!("event {event_id} of {sender} in {room_id}"),
        ShownSubject::Room { room_id } => format!("room {room_id}"),
        ShownSubject::User { user_id } => format!("user {user_id}"),
    };
    let age = age(now.since(UnixMillis(report.made_ms)));
    let mut text = plain(&format!("{}  {age} ago  {} reports {what}", report.id, report.reporter)) + "\n";
    if !report.reason.is_empty() {
        let _ = writeln!(text, "    {}", plain(&report.reason));
    }
    text
}

/// A span in the largest unit that it has one of.
pub(super) fn age(span: Duration) -> String {
    let seconds = span.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let unit = units.into_iter().find(|(length, _)| seconds >= *length);
    let (length, name) = unit.unwrap_or((1, "s"));
    format!("{}{name}", seconds / length)
}

/// A stranger's text for a terminal: what could steer it, or turn text around, is spelt out.
fn plain(text: &str) -> String {
    let steers = |c: char| {
        c.is_control() || matches!(c, '\u{200E}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
    };
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) { plain.extend(c.escape_default()) } else { plain.push(c) }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_two_lines_whatever_its_reason_holds() {
        let subject = ShownSubject::Room { room_id: "!r:hs".to_owned() };
        let reason = "bad\n\u{1b}[2Jroom\u{202E}".to_owned();
        let report = ShownReport { id: 7, made_ms: 1_000, reporter: "@a:hs".to_owned(), subject, reason };
        let text = entry(&report, UnixMillis(1_000 + 3 * 3_600_000));
        assert_eq!(text, "7  3h ago  @a:hs reports room !r:hs\n    bad\\n\\u{1b}[2Jroom\\u{202e}\n");
    }

    #[test]
    fn an_age_is_in_its_largest_unit() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (60, "1m"), (7_199, "1h"), (86_400 * 40, "40d")] {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
    }
}
