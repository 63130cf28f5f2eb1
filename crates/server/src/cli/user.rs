//! `sundial user`: through the server if it runs, otherwise on the store itself.

use std::io::{BufRead, IsTerminal};

use anyhow::{Context, bail};
use primitives::{Random, SystemClock};
use ruma::OwnedUserId;

use crate::{
    admin::{self, Answer, CreateUser, Request},
    config::Config,
    lock::DirectoryLock,
    wiring::Accounts,
};

/// The password, from standard input or asked for at the terminal.
pub(super) fn read_password(from_stdin: bool) -> anyhow::Result<String> {
    let password = if from_stdin {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).context("can't read the password")?;
        line.trim_end_matches(['\r', '\n']).to_owned()
    } else {
        if !std::io::stdin().is_terminal() {
            bail!("standard input is no terminal; use --password-stdin");
        }
        let password = rpassword::prompt_password("Password: ")?;
        if password != rpassword::prompt_password("Again: ")? {
            bail!("the passwords differ");
        }
        password
    };
    if password.is_empty() {
        bail!("the password is empty");
    }
    Ok(password)
}

/// Makes the account: the running server does it, if one runs; otherwise this process opens the store itself.
pub(super) async fn create(
    config: &Config,
    name: String,
    password: String,
    admin: bool,
) -> anyhow::Result<OwnedUserId> {
    let new = CreateUser { name, password, admin };
    match admin::ask(&config.data_dir, &Request::CreateUser(new.clone()), |_| ()).await? {
        Some(Answer::UserCreated { user_id }) => return Ok(OwnedUserId::try_from(user_id)?),
        Some(Answer::Failed { error }) => bail!(error),
        Some(_) => bail!("the server gave the answer to another question"),
        None => {}
    }
    let _lock = DirectoryLock::acquire(&config.data_dir)?;
    let accounts = Accounts::open(config, &SystemClock::shared(), &Random::os()).await?;
    let created = accounts.create_user(new).await;
    accounts.close().await;
    created
}
