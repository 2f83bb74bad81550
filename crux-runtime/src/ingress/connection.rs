//! One connection's bytes, with the bounds that HTTP and WebSocket do not have by themselves: a
//! peer that does not read is cut off, what comes in and is not worked on yet counts against a
//! budget of all connections, and a peer that is still sending when the server hangs up can read
//! the last answer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

/// A peer has to take [`WRITE_BYTES_MIN`] bytes in this time, or all that there is for it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Less than a kilobyte a second: a peer that takes a few bytes now and then keeps a large answer
/// in memory.
const WRITE_BYTES_MIN: usize = 16 << 10;
/// Bytes of a connection that are not counted: an ordinary request always finds room.
const UNCOUNTED_BYTES: usize = 16 << 10;
/// The same for a request of HTTP/2, of which a connection has many.
const UNCOUNTED_STREAM_BYTES: usize = 1 << 10;
/// A peer that is still sending when the server hangs up gets this long, and this many bytes, to
/// read why.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 32 << 20;

/// Room for what has come and is not worked on yet, over all connections.
#[derive(Debug)]
pub(crate) struct Budget {
    free: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { free: AtomicUsize::new(bytes) }
    }

    fn take(&self, bytes: usize) -> bool {
        self.free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(bytes))
            .is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.free.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// A permit among the connections, free when the last who holds it is gone. A request carries it,
/// because a connection that becomes a WebSocket is out of the hands of HTTP, and still a
/// connection. It counts what has come: for the whole connection, or with HTTP/2, where requests
/// come concurrently, for one request.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionPermit(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    permit: Arc<OwnedSemaphorePermit>,
    budget: Arc<Budget>,
    /// What may come without being counted.
    uncounted: usize,
    /// Bytes that have come since the last [`ConnectionPermit::release`].
    unread: AtomicUsize,
    /// How many of them are taken from the budget.
    charged: AtomicUsize,
    is_overdrawn: AtomicBool,
    lingers: AtomicBool,
}

impl ConnectionPermit {
    pub(crate) fn new(permit: OwnedSemaphorePermit, budget: Arc<Budget>) -> Self {
        Self::counting(Arc::new(permit), budget, UNCOUNTED_BYTES)
    }

    /// For one request of an HTTP/2 connection.
    pub(crate) fn of_request(&self) -> Self {
        Self::counting(self.0.permit.clone(), self.0.budget.clone(), UNCOUNTED_STREAM_BYTES)
    }

    fn counting(permit: Arc<OwnedSemaphorePermit>, budget: Arc<Budget>, uncounted: usize) -> Self {
        let (unread, charged) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (is_overdrawn, lingers) = (AtomicBool::new(false), AtomicBool::new(false));
        let inner = Inner { permit, budget, uncounted, unread, charged, is_overdrawn, lingers };
        Self(Arc::new(inner))
    }

    /// The received bytes are processed or discarded: they no longer count for the connection.
    pub(crate) fn release(&self) {
        self.0.unread.store(0, Ordering::Relaxed);
        let charged = self.0.charged.swap(0, Ordering::Relaxed);
        if charged > 0 {
            self.0.budget.give_back(charged);
        }
    }

    /// Whether reading has failed because there was no room for more.
    pub(crate) fn is_overdrawn(&self) -> bool {
        self.0.is_overdrawn.load(Ordering::Relaxed)
    }

    /// The peer may still be sending when the connection is closed.
    pub(crate) fn linger(&self) {
        self.0.lingers.store(true, Ordering::Relaxed);
    }

    /// Only the task that reads calls it.
    fn received(&self, bytes: usize) -> io::Result<()> {
        let unread = self.0.unread.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let more = unread
            .saturating_sub(self.0.uncounted)
            .saturating_sub(self.0.charged.load(Ordering::Relaxed));
        if more == 0 {
            return Ok(());
        }
        if !self.0.budget.take(more) {
            self.0.is_overdrawn.store(true, Ordering::Relaxed);
            return Err(io::Error::other(
                "too much is being received from all connections together",
            ));
        }
        self.0.charged.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.budget.give_back(*self.charged.get_mut());
    }
}

/// The body of a request of HTTP/2, counted by its permit.
pub(crate) struct CountedBody<B> {
    body: B,
    permit: ConnectionPermit,
}

impl<B> CountedBody<B> {
    pub(crate) fn new(body: B, permit: ConnectionPermit) -> Self {
        Self { body, permit }
    }
}

impl<B> Body for CountedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(frame) = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
            return Poll::Ready(None);
        };
        let frame = frame.map_err(Into::into)?;
        if let Some(data) = frame.data_ref() {
            self.permit.received(data.len())?;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// See the module.
pub(crate) struct Stream {
    /// `None`: handed on when dropped.
    tcp: Option<TcpStream>,
    permit: ConnectionPermit,
    /// Whether what comes is counted here, and not request by request.
    counts: bool,
    slow: Option<Slow>,
}

/// Of a peer that did not take what there was for it.
struct Slow {
    deadline: Pin<Box<Sleep>>,
    taken: usize,
}

impl Stream {
    /// `counts`: whether what comes counts for the connection, and not for its requests.
    pub(crate) fn new(tcp: TcpStream, permit: ConnectionPermit, counts: bool) -> Self {
        Self { tcp: Some(tcp), permit, counts, slow: None }
    }

    fn tcp(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.tcp.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// The result of a write, considering how long it has taken.
    fn written(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                if let Some(slow) = &mut self.slow {
                    slow.taken += bytes;
                    if slow.taken >= WRITE_BYTES_MIN {
                        self.slow = None;
                    }
                }
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let new = || Slow {
                    deadline: Box::pin(tokio::time::sleep_until(Instant::now() + WRITE_TIMEOUT)),
                    taken: 0,
                };
                let slow = self.slow.get_or_insert_with(new);
                match slow.deadline.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        std::task::ready!(self.tcp()?.poll_read(cx, buffer))?;
        if !self.counts {
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(self.permit.received(buffer.filled().len() - before))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.tcp()?.poll_write(cx, bytes);
        self.written(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.tcp()?.poll_write_vectored(cx, pieces);
        self.written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Asked for when all is written: the peer keeps up.
        self.slow = None;
        self.tcp()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp()?.poll_shutdown(cx)
    }
}

impl Drop for Stream {
    /// Closing a socket of which not everything was read makes the system reset the connection, and
    /// a reset takes away what the peer has not read yet: the answer that says why.
    fn drop(&mut self) {
        let Some(tcp) = self.tcp.take() else { return };
        let is_sending = matches!(tcp.try_read(&mut [0]), Ok(1..));
        if !is_sending && !self.permit.0.lingers.load(Ordering::Relaxed) {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let permit = self.permit.clone();
            runtime.spawn(async move {
                // A peer that takes longer has been waited for.
                let _ = tokio::time::timeout(LINGER_TIMEOUT, linger(tcp)).await;
                drop(permit);
            });
        }
    }
}

async fn linger(mut tcp: TcpStream) -> io::Result<()> {
    tcp.shutdown().await?;
    let (mut buffer, mut read) = ([0; 4096], 0);
    while read < LINGER_BYTES_MAX {
        match tcp.read(&mut buffer).await? {
            0 => break,
            bytes => read += bytes,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::net::TcpListener;
    use tokio::sync::Semaphore;

    use super::*;

    async fn pair(budget: &Arc<Budget>) -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let permit = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        (
            Stream::new(
                listener.accept().await.unwrap().0,
                ConnectionPermit::new(permit, budget.clone()),
                true,
            ),
            peer,
        )
    }

    /// Lets the clock run while the write waits, and gives how it ended and when.
    async fn write_much(stream: &mut Stream) -> (io::ErrorKind, Duration) {
        let begun = Instant::now();
        let error = loop {
            if let Err(error) = stream.write_all(&[7; 1 << 20]).await {
                break error;
            }
        };
        (error.kind(), begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_is_cut_off() {
        let (mut stream, _peer) = pair(&Arc::new(Budget::new(0))).await;
        let (kind, after) = write_much(&mut stream).await;
        assert_eq!(kind, io::ErrorKind::TimedOut);
        assert!(after >= WRITE_TIMEOUT && after < 2 * WRITE_TIMEOUT, "after {after:?}");
    }

    #[tokio::test]
    async fn what_has_come_counts_beyond_what_is_free_until_it_is_worked_on() {
        let budget = Arc::new(Budget::new(100));
        let ((one, _), (other, _)) = (pair(&budget).await, pair(&budget).await);
        one.permit.received(UNCOUNTED_BYTES + 60).unwrap();
        other.permit.received(UNCOUNTED_BYTES).unwrap();
        assert!(other.permit.received(60).is_err() && other.permit.is_overdrawn());
        one.permit.release();
        one.permit.received(UNCOUNTED_BYTES).unwrap();
        other.permit.received(40).unwrap();
        drop(other);
        assert_eq!(budget.free.load(Ordering::Relaxed), 100);
    }

    #[tokio::test]
    async fn a_peer_that_is_still_sending_reads_the_last_response() {
        let (mut stream, mut peer) = pair(&Arc::new(Budget::new(0))).await;
        peer.write_all(&[1; 100_000]).await.unwrap();
        stream.write_all(b"enough").await.unwrap();
        drop(stream);
        peer.write_all(&[1; 100_000]).await.unwrap();
        let mut received = String::new();
        peer.read_to_string(&mut received).await.unwrap();
        assert_eq!(received, "enough");
    }
}
