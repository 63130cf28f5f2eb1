//! Auth chains, read from the pages of auth edges.

use std::collections::BTreeMap;

use primitives::Rix;
use ruma::EventId;
use storage::{ReadError, schema::rooms::AuthPages};

use super::{EventSeries, ServeError, ServedRoom};
use crate::{
    load::corrupt,
    read::RoomView,
    resolve::{AuthPage, PAGE},
};

/// Which events of one page are reached: to follow their edges, and as part of the chain.
struct Reached {
    open: [bool; PAGE as usize],
    in_chain: [bool; PAGE as usize],
}

/// Event numbers are topological for auth: one pass from high numbers to low meets each event after all that cite it, and reads each page once.
#[derive(Default)]
struct Pass(BTreeMap<u32, Box<Reached>>);

impl Pass {
    fn reach(&mut self, rix: Rix, in_chain: bool) {
        let new = || Box::new(Reached { open: [false; PAGE as usize], in_chain: [false; PAGE as usize] });
        let page = self.0.entry(AuthPage::of(rix)).or_insert_with(new);
        let place = (rix.0 % PAGE) as usize;
        page.open[place] = true;
        page.in_chain[place] |= in_chain;
    }
}

impl RoomView<'_> {
    /// The events in the auth chains of state events, ascending. Those themselves are among them only if another's chain holds them.
    pub(crate) async fn auth_chain(&self, of: impl IntoIterator<Item = Rix>) -> Result<Vec<Rix>, ReadError> {
        let mut pass = Pass::default();
        of.into_iter().for_each(|rix| pass.reach(rix, false));
        self.finish(pass).await
    }

    /// Events that are in an auth chain, and all of their own chains, ascending.
    pub(super) async fn auth_chain_with(&self, auth: &[Rix]) -> Result<Vec<Rix>, ReadError> {
        let mut pass = Pass::default();
        for rix in auth {
            pass.reach(*rix, true);
        }
        self.finish(pass).await
    }

    async fn finish(&self, mut pass: Pass) -> Result<Vec<Rix>, ReadError> {
        let mut chain = Vec::new();
        while let Some((number, mut reached)) = pass.0.pop_last() {
            let edges = self.auth_page(number).await?;
            for place in (0..PAGE).rev() {
                let rix = Rix(number * PAGE + place);
                if reached.in_chain[place as usize] {
                    chain.push(rix);
                }
                if !reached.open[place as usize] {
                    continue;
                }
                for auth in edges.get(rix) {
                    if AuthPage::of(*auth) == number {
                        let place = (auth.0 % PAGE) as usize;
                        (reached.open[place], reached.in_chain[place]) = (true, true);
                    } else {
                        pass.reach(*auth, true);
                    }
                }
            }
        }
        chain.reverse();
        Ok(chain)
    }

    async fn auth_page(&self, number: u32) -> Result<AuthPage, ReadError> {
        let Some(row) = self.view.get::<AuthPages>(&(self.nid, number)).await? else { return Ok(AuthPage::default()) };
        AuthPage::decode(number, &row.0).map_err(|error| corrupt::<AuthPages>(error.to_string()))
    }
}

impl ServedRoom {
    /// The auth chain of an event (`GET /event_auth/{roomId}/{eventId}`), oldest first.
    ///
    /// # Errors
    /// Not found: also an event that was rejected.
    pub async fn event_auth(&self, event_id: &EventId) -> Result<EventSeries, ServeError> {
        let room = self.room_view().await?;
        let anchor = self.anchor(&room, event_id).await?;
        let chain = room.auth_chain_with(&anchor.header.auth).await?;
        Ok(EventSeries::new(self.reads.clone(), self.room, chain))
    }
}
