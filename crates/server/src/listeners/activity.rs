//! What a connection is doing, so that one that does nothing, or that sends its headers drop by drop, is closed.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use primitives::SharedClock;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// No time: no byte of a next request has come yet.
const NONE: u64 = u64::MAX;

/// The state of one connection, shared by its stream, its requests and its watchdog. Times are milliseconds of the monotonic clock.
pub(super) struct Activity {
    clock: SharedClock,
    running: AtomicUsize,
    multiplexed: AtomicBool,
    last_byte_ms: AtomicU64,
    headers_since_ms: AtomicU64,
}

/// A request that runs; its end is the end of this value.
pub(super) struct Running(Arc<Activity>);

impl Activity {
    /// A connection that was just opened. Its first request is waited for no longer than its headers may take.
    pub(super) fn new(clock: SharedClock) -> Arc<Self> {
        let now = now_ms(&clock);
        Arc::new(Self {
            clock,
            running: AtomicUsize::new(0),
            multiplexed: AtomicBool::new(false),
            last_byte_ms: AtomicU64::new(now),
            headers_since_ms: AtomicU64::new(now),
        })
    }

    /// Notes that the headers of a request are complete. On HTTP/2 bytes between requests need not be headers.
    pub(super) fn request(self: &Arc<Self>, multiplexed: bool) -> Running {
        self.running.fetch_add(1, Ordering::Relaxed);
        self.headers_since_ms.store(NONE, Ordering::Relaxed);
        if multiplexed {
            self.multiplexed.store(true, Ordering::Relaxed);
        }
        Running(self.clone())
    }

    /// Waits until the connection has been idle, or has been sending headers, for too long. Says which.
    pub(super) async fn until_useless(&self, header_timeout: Duration, idle_timeout: Duration) -> &'static str {
        let period = (header_timeout.min(idle_timeout) / 4).clamp(Duration::from_millis(50), Duration::from_secs(5));
        loop {
            self.clock.sleep(period).await;
            if self.running.load(Ordering::Relaxed) > 0 {
                continue;
            }
            let now = now_ms(&self.clock);
            let passed = |since: &AtomicU64| Duration::from_millis(now.saturating_sub(since.load(Ordering::Relaxed)));
            let awaits_headers = self.headers_since_ms.load(Ordering::Relaxed) != NONE;
            if awaits_headers
                && !self.multiplexed.load(Ordering::Relaxed)
                && passed(&self.headers_since_ms) >= header_timeout
            {
                return "the headers of a request took too long";
            }
            if passed(&self.last_byte_ms) >= idle_timeout {
                return "idle";
            }
        }
    }

    fn moved(&self, bytes: usize) {
        if bytes > 0 {
            self.last_byte_ms.store(now_ms(&self.clock), Ordering::Relaxed);
        }
    }

    fn received(&self, bytes: usize) {
        self.moved(bytes);
        if bytes > 0 && self.running.load(Ordering::Relaxed) == 0 {
            let now = now_ms(&self.clock);
            let _ = self.headers_since_ms.compare_exchange(NONE, now, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.moved(1);
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

fn now_ms(clock: &SharedClock) -> u64 {
    u64::try_from(clock.monotonic().as_millis()).unwrap_or(NONE - 1)
}

/// A stream that notes each byte that moves.
pub(super) struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.activity.received(buf.filled().len() - before);
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(bytes)) = &poll {
            self.activity.moved(*bytes);
        }
        poll
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(bytes)) = &poll {
            self.activity.moved(*bytes);
        }
        poll
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
