//! The keys of other servers' users are asked for.

use std::{collections::BTreeMap, time::Duration};

use federation_client::{FederationClient, RemoteError, calls::devices::QueriedKeys};
use futures_util::{StreamExt, TryStreamExt, stream};
use ruma::{OwnedDeviceId, OwnedServerName, OwnedUserId, ServerName, UserId};
use storage::{
    Direction, KeyRange, ReadError, View,
    schema::remote_devices::{RemoteDeviceRow, RemoteDevices, RemoteListRow},
};

use super::{
    Deadline, FetchError, Fetched, LISTS_AT_ONCE, SERVERS_AT_ONCE, Unanswered, answers, key_of, lists::current,
};
use crate::{
    keys::{
        Keys, KeysError, Query,
        query::{UserKeys, raw, with_name, with_signatures_of},
    },
    tokens::Requester,
};

/// Lists that are fetched from one server for one request; of the users beyond that only the keys are asked for.
const LISTS_A_SERVER: usize = 40;
/// Rows that one page of a scan reads.
const PAGE: usize = 500;

impl Keys {
    /// The keys of other servers' users, from the store where their list is current, else of their servers: all servers at once, within a time that
    /// the configuration bounds. What a server tells that was not asked for is passed over.
    pub async fn query_remote(
        &self,
        client: &FederationClient,
        who: &Requester,
        query: BTreeMap<OwnedServerName, Query>,
        timeout: Duration,
    ) -> Result<(UserKeys, Unanswered), KeysError> {
        let max = self.limits.query_max_users;
        if query.values().map(BTreeMap::len).sum::<usize>() > max {
            return Err(KeysError::TooMuch(max));
        }
        let asking = Asking { keys: self, client, who, deadline: self.deadline(timeout) };
        let asked = stream::iter(query).map(async |(server, users)| {
            let (keys, error) = asking.of_server(&server, users).await?;
            Ok::<_, KeysError>((server, keys, error))
        });
        let mut answers = asked.buffer_unordered(SERVERS_AT_ONCE);
        let (mut all, mut unanswered) = (UserKeys::default(), Unanswered::new());
        while let Some((server, keys, error)) = answers.try_next().await? {
            all.extend(keys);
            unanswered.extend(error.map(|error| (server, error)));
        }
        Ok((all, unanswered))
    }
}

/// A question to other servers.
struct Asking<'a> {
    keys: &'a Keys,
    client: &'a FederationClient,
    who: &'a Requester,
    deadline: Deadline,
}

impl Asking<'_> {
    /// The keys of users of one server, as far as they can be had, and why the rest can't.
    async fn of_server(&self, server: &ServerName, users: Query) -> Result<(UserKeys, Option<RemoteError>), KeysError> {
        let view = self.keys.ground.storage.view();
        let (mut found, mut failed) = (UserKeys::default(), None);
        let (mut wanted, mut direct) = (Vec::new(), Query::new());
        for (user, devices) in users {
            if !self.keys.shares_a_room(&view, &user).await? {
                direct.insert(user, devices);
            } else if let Some(list) = current(&view, &user).await? {
                self.show_list(&view, &user, &devices, list, &mut found).await?;
            } else if wanted.len() < LISTS_A_SERVER {
                wanted.push((user, devices));
            } else {
                direct.insert(user, devices);
            }
        }
        let fetched = stream::iter(wanted).map(async |(user, devices)| {
            let fetched = match self.deadline.left(self.keys.ground.clock.monotonic()) {
                Ok(left) => self.keys.fetch_list(self.client, &user, left).await,
                Err(late) => Err(late.into()),
            };
            (user, devices, fetched)
        });
        let mut fetched = fetched.buffer_unordered(LISTS_AT_ONCE);
        while let Some((user, devices, fetched)) = fetched.next().await {
            match fetched {
                Ok(Fetched::Current) => {
                    let view = self.keys.ground.storage.view();
                    match current(&view, &user).await? {
                        Some(list) => self.show_list(&view, &user, &devices, list, &mut found).await?,
                        // Something has been heard of it since.
                        None => drop(direct.insert(user, devices)),
                    }
                }
                // A server that knows no lists may know the keys.
                Ok(Fetched::Unshared | Fetched::Restless) | Err(FetchError::Remote(RemoteError::Refused { .. })) => {
                    direct.insert(user, devices);
                }
                Err(FetchError::Remote(error)) => {
                    self.keys.miss_list(&user).await?;
                    failed = Some(error);
                }
                Err(FetchError::Store(error)) => return Err(error.into()),
            }
        }
        if !direct.is_empty() {
            match self.of_server_directly(server, &direct).await {
                Ok(answer) => self.show_answer(&direct, answer, &mut found).await?,
                Err(error) => failed = Some(error),
            }
        }
        Ok((found, failed))
    }

    async fn of_server_directly(&self, server: &ServerName, users: &Query) -> Result<QueriedKeys, RemoteError> {
        let left = self.deadline.left(self.keys.ground.clock.monotonic())?;
        self.client.query_keys(server, users, left).await
    }

    /// Adds what is stored of a user.
    async fn show_list(
        &self,
        view: &View,
        user: &UserId,
        wanted: &[OwnedDeviceId],
        list: RemoteListRow,
        found: &mut UserKeys,
    ) -> Result<(), ReadError> {
        let mut devices = BTreeMap::new();
        let mut rest = Some(KeyRange::prefix(&key_of(user)));
        while let Some(range) = rest {
            let page = view.scan::<RemoteDevices>(&range, PAGE, Direction::Forward).await?;
            for ((_, id), row) in page.rows {
                if wanted.is_empty() || wanted.iter().any(|wanted| wanted.as_str() == id.0) {
                    devices.insert(id.0, with_name(row.json, row.display_name.as_deref())?);
                }
            }
            rest = page.rest;
        }
        found.device_keys.insert(user.to_owned(), devices);
        self.show_cross_signing(view, user, list.master, list.self_signing, found).await
    }

    async fn show_cross_signing(
        &self,
        view: &View,
        user: &UserId,
        master: Option<String>,
        self_signing: Option<String>,
        found: &mut UserKeys,
    ) -> Result<(), ReadError> {
        if let Some(master) = master {
            let master = with_signatures_of(view, self.who, user, master).await?;
            found.master_keys.insert(user.to_owned(), raw(master)?);
        }
        if let Some(key) = self_signing {
            found.self_signing_keys.insert(user.to_owned(), raw(key)?);
        }
        Ok(())
    }

    /// Adds what a server has answered of these users.
    async fn show_answer(
        &self,
        wanted: &Query,
        mut answer: QueriedKeys,
        found: &mut UserKeys,
    ) -> Result<(), ReadError> {
        let (view, max) = (self.keys.ground.storage.view(), self.keys.limits.key_max_bytes);
        for (user, devices) in wanted {
            let told = answer.device_keys.remove(user.as_str());
            let mut shown = BTreeMap::new();
            for (id, keys) in told.into_iter().flatten().take(self.keys.limits.remote_devices_max) {
                let is_wanted = devices.is_empty() || devices.iter().any(|wanted| wanted.as_str() == id);
                if let Some(row) = answers::device(user, &id, keys, None, max).filter(|_| is_wanted) {
                    let RemoteDeviceRow { json, display_name } = row;
                    shown.insert(id, with_name(json, display_name.as_deref())?);
                }
            }
            if !shown.is_empty() {
                found.device_keys.insert(OwnedUserId::clone(user), shown);
            }
            let master = answers::cross_signing_key(user, "master", answer.master_keys.remove(user.as_str()), max);
            let own = answer.self_signing_keys.remove(user.as_str());
            let self_signing = answers::cross_signing_key(user, "self_signing", own, max);
            self.show_cross_signing(&view, user, master, self_signing, found).await?;
        }
        Ok(())
    }
}
