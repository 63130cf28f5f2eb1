//! `harness crash N`, `harness power-cut N`, `harness bench SUITE`.
#![allow(clippy::print_stdout, reason = "a command-line tool talks on its standard output")]

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use harness::{
    bench,
    crash::{self, Plan},
};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
#[command(about = "Crash runs and benchmarks of a Sundial server that this program starts itself")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, ValueEnum)]
enum Only {
    Delayed,
}

#[derive(Clone, Copy, ValueEnum)]
enum Durability {
    Sync,
    Os,
}

#[derive(Subcommand)]
enum Command {
    /// Kills the server N times under load; nothing acknowledged may be lost, nothing may be there twice.
    Crash {
        /// How many times.
        kills: usize,
        /// Write nothing but this.
        #[arg(long)]
        only: Option<Only>,
        /// Clients that write at the same time.
        #[arg(long, default_value_t = 8)]
        clients: usize,
    },
    /// The same, and each time every file is cut back to its length at its last completed sync.
    PowerCut {
        /// How many times.
        cuts: usize,
        /// The server's `storage.durability`. With `os` the run must fail: that shows that it can.
        #[arg(long, value_enum, default_value = "sync")]
        durability: Durability,
        /// Clients that write at the same time.
        #[arg(long, default_value_t = 8)]
        clients: usize,
    },
    /// Measures a suite and prints a table of figures and goals.
    Bench {
        /// The suite.
        suite: bench::Suite,
        /// Only the figures whose name contains this.
        #[arg(long)]
        only: Option<String>,
    },
}

fn plan(command: &Command) -> Option<Plan> {
    match *command {
        Command::Crash { kills, only, clients } => {
            Some(Plan { kills, clients, only_delayed: only.is_some(), power_cut: false, durability: "sync" })
        }
        Command::PowerCut { cuts, durability, clients } => {
            let durability = match durability {
                Durability::Sync => "sync",
                Durability::Os => "os",
            };
            Some(Plan { kills: cuts, clients, only_delayed: false, power_cut: true, durability })
        }
        Command::Bench { .. } => None,
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    // Only one provider is compiled in; a second installation would be a second call of main.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let Command::Bench { suite, only } = &arguments.command {
        bench::run(*suite, only.as_deref()).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let plan = plan(&arguments.command).expect("every other command has a plan");
    let folder = tempfile::tempdir()?;
    let outcome = crash::run(&plan, folder.path()).await?;
    println!("{} ends: {outcome}", plan.kills);
    if outcome.is_clean() {
        match crash::check_store(&folder.path().join("sundial.toml")) {
            Ok(()) => return Ok(ExitCode::SUCCESS),
            Err(error) => println!("{error:#}"),
        }
    }
    println!("the data directory is kept in {}", folder.keep().display());
    Ok(ExitCode::FAILURE)
}
