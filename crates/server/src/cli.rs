//! The command line.

mod alone;
mod backup;
mod check_store;
mod delayed;
mod federation;
mod keys;
mod output;
mod reports;
mod search;
mod user;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use ruma::OwnedServerName;

use crate::{config::Config, serve};

/// A Matrix homeserver.
#[derive(Debug, Parser)]
#[command(name = "sundial", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the server.
    Serve(ConfigFile),
    /// Reads a configuration and says what is wrong with it.
    CheckConfig(ConfigFile),
    /// Checks the stored data while no server runs: events, states and everything that follows from them.
    CheckStore(ConfigFile),
    /// Takes a consistent copy of the stored data and the signing keys, also while the server runs.
    Backup {
        #[command(flatten)]
        file: ConfigFile,
        /// The directory that is made for it.
        directory: PathBuf,
    },
    /// Puts a backup into a data directory without a store, while no server runs.
    Restore {
        #[command(flatten)]
        file: ConfigFile,
        /// The directory of the backup. It stays as it is.
        directory: PathBuf,
    },
    /// Prints a configuration to start from.
    GenerateConfig {
        /// The name that will end every user id; can't be changed later.
        #[arg(long)]
        server_name: OwnedServerName,
    },
    /// Manages the search index.
    #[command(subcommand)]
    Search(SearchCommand),
    /// Manages accounts.
    #[command(subcommand)]
    User(UserCommand),
    /// Shows and ends delayed events: through the server if it runs, otherwise in its store.
    #[command(subcommand)]
    Delayed(delayed::Delayed),
    /// Manages the keys that the server signs with.
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Shows and deletes what users have reported: through the server if it runs, otherwise in its store.
    #[command(subcommand)]
    Reports(reports::Reports),
    /// Shows the servers that can't be reached, and has them asked again: through the server if it runs, otherwise in its store.
    #[command(subcommand)]
    Federation(federation::Federation),
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration file.
    #[arg(long)]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum SearchCommand {
    /// Makes the index anew from the rooms, while no server runs.
    Rebuild(ConfigFile),
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Makes an account. Asks for its password.
    Create {
        #[command(flatten)]
        file: ConfigFile,
        /// Local part (`alice`) or full user id (`@alice:example.org`).
        name: String,
        /// Makes it an administrator of the server.
        #[arg(long)]
        admin: bool,
        /// Reads the password from the first line of standard input.
        #[arg(long)]
        password_stdin: bool,
    },
}

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(ConfigFile { config: file }) => {
            let config = load(&file)?;
            runtime()?.block_on(serve::serve(&config, &|| load(&file), &output::line))
        }
        Command::CheckConfig(ConfigFile { config: file }) => {
            load(&file)?;
            output::line("OK");
            Ok(())
        }
        Command::CheckStore(ConfigFile { config: file }) => {
            let config = load(&file)?;
            runtime()?.block_on(check_store::check(&config, output::line))
        }
        Command::Backup { file, directory } => {
            let config = load(&file.config)?;
            output::line(&runtime()?.block_on(backup::take(&config, &directory))?);
            Ok(())
        }
        Command::Restore { file, directory } => {
            let config = load(&file.config)?;
            output::line(&runtime()?.block_on(backup::restore(&config, &directory))?);
            Ok(())
        }
        Command::Search(SearchCommand::Rebuild(ConfigFile { config: file })) => {
            let config = load(&file)?;
            runtime()?.block_on(search::rebuild(&config, output::line))
        }
        Command::GenerateConfig { server_name } => {
            output::text(&generate(&server_name));
            Ok(())
        }
        Command::Delayed(delayed) => runtime()?.block_on(delayed.run(load)),
        Command::User(UserCommand::Create { file, name, admin, password_stdin }) => {
            let config = load(&file.config)?;
            let password = user::read_password(password_stdin)?;
            let user_id = runtime()?.block_on(user::create(&config, name, password, admin))?;
            output::line(&format!("created {user_id}"));
            Ok(())
        }
        Command::Keys(keys) => keys.run(),
        Command::Reports(reports) => runtime()?.block_on(reports.run(load)),
        Command::Federation(federation) => runtime()?.block_on(federation.run(load)),
    }
}

fn load(file: &Path) -> anyhow::Result<Config> {
    // A variable that is not UTF-8 can't be one of ours.
    let environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Ok(Config::load(file, environment)?)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// A configuration with what most people set; the rest is at its default.
fn generate(server_name: &OwnedServerName) -> String {
    include_str!("cli/generated.toml").replace("SERVER_NAME", server_name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_generated_configuration_is_accepted() {
        let name = OwnedServerName::try_from("example.org:8448").expect("valid");
        let config = Config::parse(&generate(&name), []).expect("accepted");
        assert_eq!(config.server_name, name);
    }
}
