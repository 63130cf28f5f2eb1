//! Reading: a snapshot of the store that knows its stream position.

use std::{ops::ControlFlow, sync::Arc};

use primitives::StreamPosition;

use crate::{
    CorruptValue, Direction, Key, KeyBytes, KeyRange, Table, Value,
    engine::{EngineError, Snapshot},
    large,
};

/// A read leaves the async threads alone after so many rows, on engines whose reads can block.
const INLINE_ROWS: usize = 512;

/// The most rows that one page has, whatever limit is asked for.
pub const MAX_PAGE_ROWS: usize = 16_384;
/// A page whose values have reached this many bytes takes no further row.
pub const MAX_PAGE_BYTES: usize = 16 << 20;

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A stored value makes no sense.
    #[error(transparent)]
    Corrupt(#[from] CorruptValue),
    /// The engine failed.
    #[error("the store cannot be read: {0}")]
    Engine(String),
}

impl From<EngineError> for ReadError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error.0)
    }
}

/// The rows of one page of a scan.
#[derive(Debug)]
pub struct Page<T: Table> {
    /// Keys and values in the order of the scan.
    pub rows: Vec<(T::Key, T::Value)>,
    /// What is left of the range; `None` if nothing is.
    pub rest: Option<KeyRange>,
}

/// The keys of one page of a scan.
#[derive(Debug)]
pub struct KeyPage<T: Table> {
    /// Keys in the order of the scan.
    pub keys: Vec<T::Key>,
    /// What is left of the range; `None` if nothing is.
    pub rest: Option<KeyRange>,
}

/// A snapshot of the store and the stream position that belongs to it. Cheap to clone. Lives seconds at most, never across a long poll.
#[derive(Clone)]
pub struct View(pub(crate) Arc<Seen>);

/// A snapshot together with its position. Made once a group, after the group is durable.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) snapshot: Snapshot,
    pub(crate) position: StreamPosition,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("View").field(&self.0.position).finish()
    }
}

impl View {
    /// The position of the newest batch in the view.
    pub fn position(&self) -> StreamPosition {
        self.0.position
    }

    /// One value.
    #[expect(clippy::unused_async, reason = "an engine behind a network waits here")]
    pub async fn get<T: Table>(&self, key: &T::Key) -> Result<Option<T::Value>, ReadError> {
        self.get_now::<T>(key)
    }

    /// The bytes of one value.
    #[expect(clippy::unused_async, reason = "an engine behind a network waits here")]
    pub async fn get_raw<T: Table>(&self, key: &T::Key) -> Result<Option<Vec<u8>>, ReadError> {
        self.read_now::<T, _>(key, <[u8]>::to_vec)
    }

    /// Whether there is a value.
    #[expect(clippy::unused_async, reason = "an engine behind a network waits here")]
    pub async fn contains<T: Table>(&self, key: &T::Key) -> Result<bool, ReadError> {
        let row = KeyBytes::of_row(T::ID, key);
        Ok(self.0.snapshot.get(&row, |_| ())?.is_some())
    }

    /// One value, outside async code: on a thread that may block, or where the row is known to be hot.
    pub fn get_now<T: Table>(&self, key: &T::Key) -> Result<Option<T::Value>, ReadError> {
        self.read_now::<T, _>(key, decode::<T>)?.transpose()
    }

    /// Looks at the bytes of one value where they lie, without copying them. As [`Self::get_now`].
    pub fn read_now<T: Table, R>(&self, key: &T::Key, read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, ReadError> {
        let row = KeyBytes::of_row(T::ID, key);
        if !T::LARGE {
            return Ok(self.0.snapshot.get(&row, read)?);
        }
        let snapshot = &self.0.snapshot;
        let value = snapshot.get(&row, |head| large::resolve(snapshot, &row, head))?.transpose()?;
        Ok(value.map(|value| read(&value)))
    }

    /// Several values, in the order of the keys.
    pub async fn multi_get<T: Table>(&self, keys: &[T::Key]) -> Result<Vec<Option<T::Value>>, ReadError> {
        let rows: Vec<_> = keys.iter().map(|key| KeyBytes::of_row(T::ID, key)).collect();
        if rows.len() <= INLINE_ROWS || !self.0.snapshot.may_block() {
            return self.0.multi_get::<T>(&rows);
        }
        let seen = Arc::clone(&self.0);
        blocking(move || seen.multi_get::<T>(&rows)).await
    }

    /// Up to `limit` rows of a range: at most [`MAX_PAGE_ROWS`], and none after the values have reached [`MAX_PAGE_BYTES`].
    pub async fn scan<T: Table>(
        &self,
        range: &KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Page<T>, ReadError> {
        let (rows, rest) = self.page::<T, _>(range, limit, direction, Seen::row::<T>).await?;
        Ok(Page { rows, rest })
    }

    /// As [`Self::scan`], outside async code: on a thread that may block.
    pub fn scan_now<T: Table>(
        &self,
        range: &KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Page<T>, ReadError> {
        let limit = limit.min(MAX_PAGE_ROWS);
        let (rows, rest) = self.0.page::<T, _>(range, limit, &mut 0, direction, Seen::row::<T>)?;
        Ok(Page { rows, rest })
    }

    /// The keys of up to `limit` rows of a range, as [`Self::scan`]; the values are not read.
    pub async fn scan_keys<T: Table>(
        &self,
        range: &KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<KeyPage<T>, ReadError> {
        let (keys, rest) = self.page::<T, _>(range, limit, direction, |_, row, _| decode_key::<T>(row)).await?;
        Ok(KeyPage { keys, rest })
    }

    /// The first rows of a page here, and if there are many, the others on a blocking thread.
    async fn page<T: Table, R: Send + 'static>(
        &self,
        range: &KeyRange,
        limit: usize,
        direction: Direction,
        decode: Decode<R>,
    ) -> Result<(Vec<R>, Option<KeyRange>), ReadError> {
        let limit = limit.min(MAX_PAGE_ROWS);
        let at_once = if self.0.snapshot.may_block() { limit.min(INLINE_ROWS) } else { limit };
        let mut bytes = 0;
        let (mut rows, rest) = self.0.page::<T, R>(range, at_once, &mut bytes, direction, decode)?;
        let (Some(range), true) = (&rest, rows.len() == at_once && at_once < limit) else { return Ok((rows, rest)) };
        let (seen, range, limit) = (Arc::clone(&self.0), range.clone(), limit - at_once);
        let (others, rest) = blocking(move || seen.page::<T, R>(&range, limit, &mut bytes, direction, decode)).await?;
        rows.extend(others);
        Ok((rows, rest))
    }
}

/// Reads on a thread that may block.
async fn blocking<R: Send + 'static>(
    read: impl FnOnce() -> Result<R, ReadError> + Send + 'static,
) -> Result<R, ReadError> {
    let done = tokio::task::spawn_blocking(read).await;
    done.map_err(|e| ReadError::Engine(e.to_string()))?
}

/// Makes something of a row key and its stored value.
type Decode<R> = fn(&Seen, &[u8], &[u8]) -> Result<R, ReadError>;

impl Seen {
    fn multi_get<T: Table>(&self, rows: &[Vec<u8>]) -> Result<Vec<Option<T::Value>>, ReadError> {
        let mut values: Vec<_> = std::iter::repeat_with(|| None).take(rows.len()).collect();
        self.snapshot.multi_get(rows, |index, value| {
            values[index] = value.map(|value| self.value::<T>(&rows[index], value));
        })?;
        values.into_iter().map(Option::transpose).collect()
    }

    /// Up to `limit` rows of a range, and what is left of it. `bytes` counts those of the page's values, this part's and earlier ones'.
    fn page<T: Table, R>(
        &self,
        range: &KeyRange,
        limit: usize,
        bytes: &mut usize,
        direction: Direction,
        decode: Decode<R>,
    ) -> Result<(Vec<R>, Option<KeyRange>), ReadError> {
        let (start, end) = range.rows(T::ID);
        let (mut rows, mut rest, mut wrong) = (Vec::new(), None, None);
        self.snapshot.scan(&start, &end, direction, &mut |row, value| {
            if rows.len() == limit || *bytes >= MAX_PAGE_BYTES {
                rest = Some(range.rest(&row[1..], direction));
                return ControlFlow::Break(());
            }
            *bytes += value.len();
            match decode(self, row, value) {
                Ok(decoded) => rows.push(decoded),
                Err(error) => wrong = Some(error),
            }
            if wrong.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        wrong.map_or(Ok((rows, rest)), Err)
    }

    fn row<T: Table>(&self, row: &[u8], value: &[u8]) -> Result<(T::Key, T::Value), ReadError> {
        Ok((decode_key::<T>(row)?, self.value::<T>(row, value)?))
    }

    /// Reads the value of a row, fetching its parts if it has any.
    fn value<T: Table>(&self, row: &[u8], value: &[u8]) -> Result<T::Value, ReadError> {
        if T::LARGE { decode::<T>(&large::resolve(&self.snapshot, row, value)?) } else { decode::<T>(value) }
    }
}

fn decode_key<T: Table>(row: &[u8]) -> Result<T::Key, ReadError> {
    let key = T::Key::from_bytes(&row[1..]);
    key.ok_or_else(|| CorruptValue { table: T::NAME, reason: "key has another form".to_owned() }.into())
}

fn decode<T: Table>(bytes: &[u8]) -> Result<T::Value, ReadError> {
    T::Value::decode(bytes).map_err(|reason| CorruptValue { table: T::NAME, reason }.into())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Direction, KeyRange, View};
    use crate::{
        Table,
        schema::{meta::Chunks, testing::Big},
    };

    /// The row keys of parts whose value is not there or has fewer parts.
    pub(crate) async fn orphans(view: &View) -> Vec<Vec<u8>> {
        let parts =
            view.scan_keys::<Chunks>(&KeyRange::prefix(&()), 10_000, Direction::Forward).await.expect("readable");
        let mut orphans = Vec::new();
        for (part,) in parts.keys {
            let [table, first, second, high, low] = part[..] else { panic!("a part of {}", Big::NAME) };
            assert_eq!(table, Big::ID.0);
            let length = view.get_raw::<Big>(&(first, second)).await.expect("readable").map_or(0, |v| v.len());
            if usize::from(u16::from_be_bytes([high, low])) >= length.div_ceil(crate::MAX_VALUE_BYTES) {
                orphans.push(part);
            }
        }
        orphans
    }
}
