//! Auth edges in pages of consecutive event numbers, as they are stored (table `auth_page`) and kept in memory.
//!
//! Only state events have edges that resolution follows; an event that isn't in its page has none. Stored form, version 1: the byte
//! `10`, then for each event in ascending order its place in the page, the count of its auth events (bytes), and for each of those
//! how much lower its number is (varint, LEB128).

use primitives::Rix;

use crate::varint;

/// How many event numbers a page covers.
pub const PAGE: u32 = 256;

const VERSION: u8 = 0x10;

/// Bytes that are no page of auth edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a page of auth edges of a known version")]
pub struct AuthPageError;

/// The auth events of the state events in one page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthPage {
    /// Place in the page, and where the event's edges end in `edges`. In ascending order of places.
    events: Vec<(u8, u32)>,
    edges: Vec<Rix>,
}

impl AuthPage {
    /// The page that an event number belongs to.
    pub fn of(rix: Rix) -> u32 {
        rix.0 / PAGE
    }

    /// Notes an event's auth events, all of lower numbers. Events are noted once, in the order of their numbers.
    ///
    /// # Panics
    /// If the page holds the event or one after it already, or an auth event's number isn't lower.
    pub fn push(&mut self, rix: Rix, auth: &[Rix]) {
        let place = place(rix);
        assert!(self.events.last().is_none_or(|(last, _)| *last < place), "events come in the order of their numbers");
        assert!(auth.iter().all(|auth| *auth < rix), "auth events have lower numbers");
        self.edges.extend(auth);
        self.events.push((place, u32::try_from(self.edges.len()).expect("an event has few auth events")));
    }

    /// An event's auth events; empty if the event isn't here.
    pub fn get(&self, rix: Rix) -> &[Rix] {
        let Ok(at) = self.events.binary_search_by_key(&place(rix), |(place, _)| *place) else { return &[] };
        let start = if at == 0 { 0 } else { self.events[at - 1].1 };
        &self.edges[start as usize..self.events[at].1 as usize]
    }

    /// The bytes that are stored for page `page`.
    pub fn encode(&self, page: u32) -> Vec<u8> {
        let mut out = vec![VERSION];
        for (place, _) in &self.events {
            let rix = Rix(page * PAGE + u32::from(*place));
            let auth = self.get(rix);
            out.extend([*place, u8::try_from(auth.len()).expect("an event has few auth events")]);
            for auth in auth {
                varint::put(&mut out, rix.0 - auth.0);
            }
        }
        out
    }

    /// Reads the bytes that [`AuthPage::encode`] wrote for page `page`.
    pub fn decode(page: u32, bytes: &[u8]) -> Result<Self, AuthPageError> {
        let (VERSION, mut rest) = bytes.split_first().map(|(first, rest)| (*first, rest)).ok_or(AuthPageError)? else {
            return Err(AuthPageError);
        };
        let mut decoded = Self::default();
        while let [place, count, tail @ ..] = rest {
            rest = tail;
            let rix =
                page.checked_mul(PAGE).and_then(|first| first.checked_add(u32::from(*place))).ok_or(AuthPageError)?;
            if decoded.events.last().is_some_and(|(last, _)| last >= place) {
                return Err(AuthPageError);
            }
            let auth: Vec<_> = (0..*count)
                .map(|_| {
                    varint::take(&mut rest)
                        .and_then(|lower| rix.checked_sub(lower.max(1)))
                        .map(Rix)
                        .ok_or(AuthPageError)
                })
                .collect::<Result<_, _>>()?;
            decoded.push(Rix(rix), &auth);
        }
        if rest.is_empty() { Ok(decoded) } else { Err(AuthPageError) }
    }
}

fn place(rix: Rix) -> u8 {
    u8::try_from(rix.0 % PAGE).expect("a page has 256 places")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_keep_what_they_are_told_and_these_bytes() {
        let mut page = AuthPage::default();
        page.push(Rix(513), &[Rix(1), Rix(512)]);
        page.push(Rix(600), &[]);
        page.push(Rix(767), &[Rix(600), Rix(513), Rix(1)]);
        assert_eq!(page.get(Rix(513)), [Rix(1), Rix(512)]);
        assert_eq!(page.get(Rix(600)), []);
        assert_eq!(page.get(Rix(601)), []);
        assert_eq!(page.get(Rix(767)), [Rix(600), Rix(513), Rix(1)]);
        let bytes = page.encode(2);
        assert_eq!(bytes, [0x10, 1, 2, 0x80, 4, 1, 88, 0, 255, 3, 0xa7, 1, 0xfe, 1, 0xfe, 5]);
        assert_eq!(AuthPage::decode(2, &bytes), Ok(page));
        for bad in [
            &[][..],
            &[0x20],
            &[0x10, 1],
            &[0x10, 1, 1],
            &[0x10, 1, 1, 0x80],
            &[0x10, 5, 0, 5, 0],
            &[0x10, 1, 1, 0xff, 0xff, 0xff, 0x7f],
        ] {
            assert_eq!(AuthPage::decode(2, bad), Err(AuthPageError), "{bad:?}");
        }
    }
}
