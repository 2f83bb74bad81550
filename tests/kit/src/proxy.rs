//! A TCP proxy that does to connections what networks do: it cuts them at a chosen place, refuses
//! them, lets them hang, loses what they carry, or leads them elsewhere. It runs in a separate
//! thread, so that a test that blocks does not stop it. Needs nothing of the rest of the kit, so
//! that a test file can take it alone.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

/// How long after a message of which the answer is to be lost the connection is cut: the peer has
/// done by then what it was asked to.
const LOSES_FOR: Duration = Duration::from_millis(150);

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Toward {
    Server,
    Client,
}

/// What happens when a trap springs, always ending with the connection being reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// What was found does not go through.
    Before,
    /// The first half of it does.
    Within,
    /// All of it goes through, and nothing that comes back: it is done, and its sender gets no
    /// answer.
    Unanswered,
}

/// A proxy before one server. Dropped: all its connections end.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    /// Ends the thread when it is dropped.
    _end: oneshot::Sender<()>,
}

struct Shared {
    state: watch::Sender<State>,
    traps: Mutex<Traps>,
}

#[derive(Debug, Clone)]
struct State {
    target: u16,
    refuses: bool,
    flow: Flow,
    delay: Duration,
    /// Connections that are older than the last cut end.
    cuts: u64,
    half_closes: u64,
    half_closed: Toward,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Open,
    /// Bytes wait.
    Held,
    /// Bytes are lost, and so is the end of a connection.
    Lost,
}

#[derive(Default)]
struct Traps {
    set: Vec<Trap>,
    sprung: u32,
}

struct Trap {
    toward: Toward,
    at: At,
    cut: Cut,
    times: u32,
}

enum At {
    Pattern(Vec<u8>),
    /// So many bytes on, whichever connections carry them.
    Byte(usize),
}

impl Proxy {
    /// Before `127.0.0.1:target`.
    pub fn to(target: u16) -> Self {
        let state = State {
            target,
            refuses: false,
            flow: Flow::Open,
            delay: Duration::ZERO,
            cuts: 0,
            half_closes: 0,
            half_closed: Toward::Server,
        };
        let shared = Arc::new(Shared { state: watch::channel(state).0, traps: Mutex::default() });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let port = listener.local_addr().expect("it has an address").port();
        let (end, ended) = oneshot::channel::<()>();
        let serving = shared.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    () = accept(listener, serving) => {}
                    _ = ended => {}
                }
            });
        });
        Self { port, shared, _end: end }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// New connections go there; those that there are stay where they are until they are
    /// [`cut`](Self::cut).
    pub fn lead_to(&self, target: u16) {
        self.change(|state| state.target = target);
    }

    /// Resets all connections that there are.
    pub fn cut(&self) {
        self.change(|state| state.cuts += 1);
    }

    /// New connections are reset immediately, and existing ones too: the server is gone. Or it is
    /// back.
    pub fn refuse(&self, refuses: bool) {
        self.change(|state| {
            state.refuses = refuses;
            state.cuts += u64::from(refuses);
        });
    }

    /// Connections are there and may be made, and nothing comes through, not even their end. What
    /// is lost is lost: afterwards they are reset.
    pub fn black_hole(&self, is_one: bool) {
        self.change(|state| {
            state.flow = if is_one { Flow::Lost } else { Flow::Open };
            state.cuts += u64::from(!is_one);
        });
    }

    /// Nothing comes through for a while, and then everything does.
    pub fn hold(&self, holds: bool) {
        self.change(|state| state.flow = if holds { Flow::Held } else { Flow::Open });
    }

    /// Whatever is read is passed on after this delay.
    pub fn delay(&self, delay: Duration) {
        self.change(|state| state.delay = delay);
    }

    /// One end learns that the other has no more to say; the other way stays open.
    pub fn half_close(&self, toward: Toward) {
        self.change(|state| {
            state.half_closed = toward;
            state.half_closes += 1;
        });
    }

    /// Cuts so many times the connection by which these bytes pass.
    pub fn cut_at(&self, toward: Toward, pattern: &[u8], cut: Cut, times: u32) {
        self.traps().set.push(Trap { toward, at: At::Pattern(pattern.to_vec()), cut, times });
    }

    /// Cuts the connection that carries the `n`th byte from now on.
    pub fn cut_after(&self, toward: Toward, n: usize, cut: Cut) {
        self.traps().set.push(Trap { toward, at: At::Byte(n), cut, times: 1 });
    }

    /// How often a place to cut was found.
    pub fn cuts(&self) -> u32 {
        self.traps().sprung
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        self.shared.state.send_modify(change);
    }

    fn traps(&self) -> std::sync::MutexGuard<'_, Traps> {
        self.shared.traps()
    }
}

impl Shared {
    fn traps(&self) -> std::sync::MutexGuard<'_, Traps> {
        // Nothing panics under the lock.
        self.traps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether to cut here, and after how many of these bytes. `seen` is the end of what went
    /// before, which was passed on.
    fn look(&self, toward: Toward, seen: &[u8], bytes: &[u8]) -> Option<(Cut, usize)> {
        let mut traps = self.traps();
        let found =
            traps.set.iter_mut().enumerate().filter(|(_, trap)| trap.toward == toward).find_map(
                |(n, trap)| match &mut trap.at {
                    At::Pattern(pattern) => {
                        let whole = [seen, bytes].concat();
                        let end = (seen.len() + 1..=whole.len())
                            .find(|end| whole[..*end].ends_with(pattern))?
                            - seen.len();
                        let passes = match trap.cut {
                            Cut::Before => end.saturating_sub(pattern.len()),
                            Cut::Within => end.saturating_sub(pattern.len() / 2),
                            Cut::Unanswered => bytes.len(),
                        };
                        Some((n, trap.cut, passes))
                    }
                    At::Byte(left) if *left <= bytes.len() => Some((
                        n,
                        trap.cut,
                        if trap.cut == Cut::Unanswered { bytes.len() } else { *left },
                    )),
                    At::Byte(left) => {
                        *left -= bytes.len();
                        None
                    }
                },
            );
        let (n, cut, passes) = found?;
        traps.sprung += 1;
        traps.set[n].times -= 1;
        if traps.set[n].times == 0 {
            traps.set.remove(n);
        }
        Some((cut, passes))
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let shared = shared.clone();
                tokio::spawn(async move {
                    // An error is the end of a connection, which its two ends notice.
                    let _ = carry(client, &shared).await;
                });
            }
            // Out of file descriptors, or the client has gone already.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn carry(mut client: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut state = shared.state.subscribe();
    let State { target, refuses, cuts, .. } = state.borrow_and_update().clone();
    if refuses {
        return client.set_zero_linger();
    }
    let mut server = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], target))).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let is_muted = watch::channel(false).0;
    let passing = async {
        tokio::try_join!(
            pass(from_client, to_server, Toward::Server, shared, &is_muted),
            pass(from_server, to_client, Toward::Client, shared, &is_muted)
        )
    };
    let ended_in_order = tokio::select! {
        passed = passing => passed.is_ok(),
        () = happens(&mut state, |state| state.cuts != cuts) => false,
    };
    if !ended_in_order {
        client.set_zero_linger()?;
        server.set_zero_linger()?;
    }
    Ok(())
}

/// Also when the proxy has gone.
async fn happens(state: &mut watch::Receiver<State>, what: impl FnMut(&State) -> bool) {
    let _ = state.wait_for(what).await;
}

/// One way of a connection, to its end. An error: the connection is to be reset.
async fn pass(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    toward: Toward,
    shared: &Shared,
    is_muted: &watch::Sender<bool>,
) -> io::Result<()> {
    let mut state = shared.state.subscribe();
    let half_closes = state.borrow_and_update().half_closes;
    let mut buffer = vec![0; 64 << 10];
    let mut seen = Vec::new();
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read?,
            () = happens(&mut state, |state| state.half_closes != half_closes && state.half_closed == toward) => {
                to.shutdown().await?;
                return Ok(());
            }
        };
        happens(&mut state, |state| state.flow != Flow::Held).await;
        let delay = state.borrow().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if *is_muted.borrow() || state.borrow().flow == Flow::Lost {
            if read == 0 {
                // Until the connection is cut.
                std::future::pending::<()>().await;
            }
            continue;
        }
        if read == 0 {
            to.shutdown().await?;
            return Ok(());
        }
        let bytes = &buffer[..read];
        if let Some((cut, passes)) = shared.look(toward, &seen, bytes) {
            is_muted.send_replace(cut == Cut::Unanswered);
            to.write_all(&bytes[..passes]).await?;
            to.flush().await?;
            if cut == Cut::Unanswered {
                tokio::time::sleep(LOSES_FOR).await;
            }
            return Err(io::Error::other("cut"));
        }
        to.write_all(bytes).await?;
        seen.extend_from_slice(bytes);
        // Longer than any pattern.
        seen.drain(..seen.len().saturating_sub(256));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Instant;

    use super::*;
    use crate::PATIENCE;

    /// A proxy before a server that answers each message in capitals, and a connection to it.
    fn shouting() -> (Proxy, Arc<Mutex<String>>, TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::to(listener.local_addr().unwrap().port());
        let received = Arc::new(Mutex::new(String::new()));
        let receiver = received.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, receiver) = (stream.unwrap(), receiver.clone());
                std::thread::spawn(move || {
                    let mut buffer = [0; 1000];
                    while let Ok(1..) = stream.read(&mut buffer).inspect(|read| {
                        let text = String::from_utf8_lossy(&buffer[..*read]).into_owned();
                        receiver.lock().unwrap().push_str(&text);
                    }) {
                        let said =
                            String::from_utf8_lossy(&buffer).trim_end_matches('\0').to_uppercase();
                        buffer.fill(0);
                        if stream.write_all(said.as_bytes()).is_err() {
                            return;
                        }
                    }
                    let _ = stream.write_all(b"BYE");
                });
            }
        });
        let stream = connect(&proxy);
        (proxy, received, stream)
    }

    fn connect(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Whether nothing answers, for a while.
    fn is_silent(stream: &mut TcpStream, text: &str) -> bool {
        stream.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
        let said = say(stream, text);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        said.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    fn say(stream: &mut TcpStream, text: &str) -> io::Result<String> {
        stream.write_all(text.as_bytes())?;
        let mut buffer = [0; 1000];
        let read = stream.read(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..read]).into_owned())
    }

    fn kind(result: io::Result<String>) -> io::ErrorKind {
        result.expect_err("it is cut").kind()
    }

    #[test]
    fn passes_on_cuts_and_refuses() {
        let (proxy, _, mut stream) = shouting();
        assert_eq!(say(&mut stream, "one").unwrap(), "ONE");
        proxy.cut();
        assert_eq!(kind(say(&mut stream, "two")), io::ErrorKind::ConnectionReset);
        stream = connect(&proxy);
        assert_eq!(say(&mut stream, "three").unwrap(), "THREE");
        proxy.refuse(true);
        assert!(say(&mut stream, "four").is_err());
        assert!(say(&mut connect(&proxy), "five").is_err());
        proxy.refuse(false);
        assert_eq!(say(&mut connect(&proxy), "six").unwrap(), "SIX");
    }

    #[test]
    fn holds_delays_and_loses() {
        let (proxy, received, mut stream) = shouting();
        proxy.hold(true);
        assert!(is_silent(&mut stream, "one"));
        proxy.hold(false);
        assert_eq!(say(&mut stream, "").unwrap(), "ONE");
        proxy.delay(Duration::from_millis(100));
        let begun = Instant::now();
        assert_eq!(say(&mut stream, "two").unwrap(), "TWO");
        assert!(begun.elapsed() >= Duration::from_millis(200));
        proxy.black_hole(true);
        assert!(is_silent(&mut stream, "three"));
        proxy.black_hole(false);
        assert_eq!(kind(say(&mut stream, "")), io::ErrorKind::ConnectionReset);
        assert_eq!(*received.lock().unwrap(), "onetwo");
    }

    #[test]
    fn cuts_before_within_and_after_what_it_is_to_find() {
        for (cut, arrives) in
            [(Cut::Before, "1 a "), (Cut::Within, "1 a mar"), (Cut::Unanswered, "1 a marker 2")]
        {
            let (proxy, received, mut stream) = shouting();
            proxy.cut_at(Toward::Server, b"marker", cut, 1);
            assert_eq!(say(&mut stream, "1 a ").unwrap(), "1 A ");
            assert_eq!(
                kind(say(&mut stream, "marker 2")),
                io::ErrorKind::ConnectionReset,
                "{cut:?}"
            );
            assert_eq!(proxy.cuts(), 1);
            let until = Instant::now() + PATIENCE;
            while *received.lock().unwrap() != arrives && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
            assert_eq!(*received.lock().unwrap(), arrives, "{cut:?}");
            assert_eq!(say(&mut connect(&proxy), "marker").unwrap(), "MARKER");
        }
    }

    #[test]
    fn cuts_after_so_many_bytes_and_closes_one_way() {
        let (proxy, _, mut stream) = shouting();
        proxy.cut_after(Toward::Client, 7, Cut::Within);
        assert_eq!(say(&mut stream, "12345").unwrap(), "12345");
        // The second of these is the last that passes.
        let rest = say(&mut stream, "67890");
        assert!(rest.is_err() || rest.is_ok_and(|rest| rest == "67"));
        let mut stream = connect(&proxy);
        assert_eq!(say(&mut stream, "again").unwrap(), "AGAIN");
        proxy.half_close(Toward::Server);
        assert_eq!(say(&mut stream, "").unwrap(), "BYE");
    }
}
