//! `sundial federation`: through the server if it runs, otherwise on the store itself.

use std::path::Path;

use anyhow::bail;
use clap::Subcommand;
use primitives::{Clock, SystemClock, UnixMillis};
use ruma::OwnedServerName;

use super::{ConfigFile, alone::alone, output, reports::age};
use crate::{
    admin::{
        self, Answer, Request,
        federation::{Ask, Failing, Told},
    },
    config::Config,
};

#[derive(Debug, Subcommand)]
pub(super) enum Federation {
    /// Lists the servers that failed last time, how often in a row, and when they are asked again.
    Destinations {
        #[command(flatten)]
        file: ConfigFile,
        /// How many; 1,000 at most.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Has a server asked again at once.
    Retry {
        #[command(flatten)]
        file: ConfigFile,
        /// The server's name.
        server: OwnedServerName,
    },
}

impl Federation {
    fn ask(self) -> (ConfigFile, Ask) {
        match self {
            Self::Destinations { file, limit } => (file, Ask::Destinations { limit }),
            Self::Retry { file, server } => (file, Ask::Retry { server }),
        }
    }

    /// Asks, and prints the answer.
    ///
    /// # Errors
    /// What the server says, or a store that can't be opened.
    pub(super) async fn run(self, load: impl Fn(&Path) -> anyhow::Result<Config>) -> anyhow::Result<()> {
        let (file, ask) = self.ask();
        let config = load(&file.config)?;
        let told = match admin::ask(&config.data_dir, &Request::Federation { ask: ask.clone() }, |_| ()).await? {
            Some(Answer::Federation { told }) => told,
            Some(Answer::Failed { error }) => bail!(error),
            Some(_) => bail!("the server gave the answer to another question"),
            None => alone(&config, async |stack| stack.federation_desk().answer(&ask).await).await?,
        };
        output::text(&words(&told, SystemClock::new().now()));
        Ok(())
    }
}

fn words(told: &Told, now: UnixMillis) -> String {
    match told {
        Told::Destinations { failing } if failing.is_empty() => "no server failed last time\n".to_owned(),
        Told::Destinations { failing } => failing.iter().map(|one| line(one, now)).collect(),
        Told::Retried => "it is asked again\n".to_owned(),
    }
}

fn line(failing: &Failing, now: UnixMillis) -> String {
    let Failing { server, failures, retry_ms } = failing;
    let left = UnixMillis(*retry_ms).since(now);
    let when = if left.is_zero() { "now".to_owned() } else { format!("in {}", age(left)) };
    format!("{server}  {failures} failures  asked again {when}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_line() {
        let failing = Failing { server: "x.test".to_owned(), failures: 3, retry_ms: 7_201_000 };
        assert_eq!(line(&failing, UnixMillis(1_000)), "x.test  3 failures  asked again in 2h\n");
        assert_eq!(line(&failing, UnixMillis(9_000_000)), "x.test  3 failures  asked again now\n");
    }
}
