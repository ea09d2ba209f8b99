//! Sockets as the WebRTC library sees them, with a gate in front.
//!
//! A ClientHello that overtakes the browser's would take the handshake (the race of 2024), and after that foreign
//! datagrams would at least cost work. So only STUN is let in from anywhere; everything else only from a source that passed
//! an ICE check, which shows in that a success response leaves for it: the library answers no check whose integrity is
//! wrong.
//!
//! Whoever can write a browser's address as its own passes that, and the library (0.21.1) believes records in clear even
//! after the handshake: one alert would end the call. So of what is in clear only the handshake is let in.
//!
//! That the browser closed the connection the library tells nobody (0.21.1); its answering alert shows it.

use std::{
    fmt,
    future::Future,
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use rtc::shared::tcp_framing::{FRAMING_HEADER_LEN, TcpFrameDecoder, frame_packet};
use tokio::{
    io::ReadBuf,
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime, TokioRuntime,
    Transmit,
};

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Sources of one call that passed a check at most: a browser has some addresses, not many.
const MAX_SOURCES: usize = 64;
/// Datagrams turned away in a row before other tasks get a turn.
const BURST: usize = 64;
/// TCP connections of one call at most.
const MAX_STREAMS: usize = 16;
/// How long a TCP connection may go without having passed a check.
const UNCHECKED: Duration = Duration::from_secs(5);
/// How long to wait after a failed accept: it fails when the process has no file descriptor left, and would at once again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Which sources passed an ICE check of this call, and whether it is over.
#[derive(Debug, Default)]
struct Gate {
    sources: Mutex<Vec<SocketAddr>>,
    stopped: Arc<Notify>,
}

impl Gate {
    /// Notes a check that is being answered, and the last word of an association.
    fn leaves(&self, datagram: &[u8], to: SocketAddr) {
        self.hears_end(datagram);
        if !is_success_response(datagram) {
            return;
        }
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if !sources.contains(&to) && sources.len() < MAX_SOURCES {
            sources.push(to);
        }
    }

    fn admits(&self, datagram: &[u8], from: SocketAddr) -> bool {
        is_stun(datagram)
            || self.sources.lock().unwrap_or_else(PoisonError::into_inner).contains(&from) && !is_forgeable(datagram)
    }

    /// An alert under the keys of the association ends it: the library sends none but to close, and in reply to the
    /// browser's closing.
    fn hears_end(&self, datagram: &[u8]) {
        if matches!(records(datagram).next(), Some(Ok(Record { kind: ALERT, clear: false, .. }))) {
            self.stopped.notify_one();
        }
    }
}

/// Types of DTLS records (RFC 5246, section 6.2.1).
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;

/// A DTLS record (RFC 6347, section 4.1).
struct Record<'a> {
    kind: u8,
    /// Of the first epoch, which has no keys.
    clear: bool,
    body: &'a [u8],
}

/// The records of a datagram, and an error where it is cut off; none when it is no DTLS (RFC 7983, section 7).
fn records(datagram: &[u8]) -> impl Iterator<Item = Result<Record<'_>, ()>> {
    let mut rest = if datagram.first().is_some_and(|byte| (20..=63).contains(byte)) { datagram } else { &[] };
    std::iter::from_fn(move || {
        let whole = std::mem::take(&mut rest);
        if whole.is_empty() {
            return None;
        }
        let Some([kind, _, _, epoch @ .., _, _, _, _, _, _, high, low]) = whole.first_chunk::<13>() else {
            return Some(Err(()));
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((body, after)) = whole.get(13..).and_then(|body| body.split_at_checked(length)) else {
            return Some(Err(()));
        };
        rest = after;
        Some(Ok(Record { kind: *kind, clear: *epoch == [0, 0], body }))
    })
}

/// Whether a datagram holds what anybody could have written and no handshake needs.
fn is_forgeable(datagram: &[u8]) -> bool {
    records(datagram).any(|record| match record {
        Ok(Record { clear: false, .. } | Record { kind: HANDSHAKE, .. }) => false,
        Ok(Record { kind: CHANGE_CIPHER_SPEC, body, .. }) => body != [1],
        Ok(_) | Err(()) => true,
    })
}

/// STUN has a first byte of its own among what shares the port (RFC 7983, section 7).
fn is_stun(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|byte| *byte <= 3)
}

/// A Binding success response (RFC 8489, section 5).
fn is_success_response(datagram: &[u8]) -> bool {
    datagram.starts_with(&[0x01, 0x01]) && datagram.get(4..8) == Some(&[0x21, 0x12, 0xa4, 0x42])
}

/// Tokio, with the gate in front of every socket. One for each call.
#[derive(Debug, Default)]
pub(super) struct Net {
    gate: Arc<Gate>,
}

impl Net {
    /// Wakes whoever waits once the browser closed the connection, or the library's task has ended for whatever reason.
    pub(super) fn stopped(&self) -> Arc<Notify> {
        self.gate.stopped.clone()
    }
}

/// Tells of the end of a task, by itself or not, when dropped.
struct Stopped(Arc<Notify>);

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Runtime for Net {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) -> Box<dyn JoinHandle> {
        let stopped = Stopped(self.gate.stopped.clone());
        let task = async move {
            future.await;
            drop(stopped);
        };
        TokioRuntime.spawn(Box::pin(task))
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let io = tokio::net::UdpSocket::from_std(socket)?;
        Ok(Arc::new(Udp { io, gate: self.gate.clone() }))
    }

    fn wrap_tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        let io = tokio::net::TcpListener::from_std(listener)?;
        Ok(Arc::new(Listener { io, free: Arc::new(Semaphore::new(MAX_STREAMS)), gate: self.gate.clone() }))
    }

    /// Never done: remote candidates are left out of offers.
    fn connect_tcp<'a>(&'a self, _: SocketAddr) -> Boxed<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    /// Never done either.
    fn resolve_host<'a>(&'a self, _: &'a str) -> Boxed<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn sleep(&self, duration: Duration) -> Boxed<'static, ()> {
        TokioRuntime.sleep(duration)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        TokioRuntime.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        TokioRuntime.block_on(future);
    }
}

/// A UDP socket, one datagram at a time: audio has nothing to batch, and buffers for batches would be most of a call's
/// memory.
#[derive(Debug)]
struct Udp {
    io: tokio::net::UdpSocket,
    gate: Arc<Gate>,
}

impl AsyncUdpSocket for Udp {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        self.gate.leaves(transmit.contents, transmit.destination);
        self.io.poll_send_to(cx, transmit.contents, transmit.destination)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let (Some(buffer), Some(meta)) = (buffers.first_mut(), meta.first_mut()) else { return Poll::Ready(Ok(0)) };
        for _ in 0..BURST {
            let mut read = ReadBuf::new(buffer);
            let from = std::task::ready!(self.io.poll_recv_from(cx, &mut read))?;
            let datagram = read.filled();
            if self.gate.admits(datagram, from) {
                (meta.addr, meta.len, meta.stride) = (from, datagram.len(), datagram.len().max(1));
                return Poll::Ready(Ok(1));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Accepts the connections of browsers that cannot use UDP.
#[derive(Debug)]
struct Listener {
    io: tokio::net::TcpListener,
    free: Arc<Semaphore>,
    gate: Arc<Gate>,
}

impl AsyncTcpListener for Listener {
    fn accept(&self) -> Boxed<'_, io::Result<(Arc<dyn AsyncTcpStream>, SocketAddr)>> {
        Box::pin(async move {
            loop {
                let (stream, peer) = match self.io.accept().await {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                        return Err(error);
                    }
                };
                // Over the limit, the connection ends here.
                if let Ok(permit) = self.free.clone().try_acquire_owned() {
                    let stream = Stream::new(stream, peer, permit, self.gate.clone())?;
                    return Ok((Arc::new(stream) as Arc<dyn AsyncTcpStream>, peer));
                }
            }
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }
}

/// A TCP connection with packets in frames (RFC 4571).
struct Stream {
    local: SocketAddr,
    peer: SocketAddr,
    opened: Instant,
    checked: AtomicBool,
    reader: tokio::sync::Mutex<Reader>,
    writer: Mutex<Writer>,
    gate: Arc<Gate>,
    _permit: OwnedSemaphorePermit,
}

struct Reader {
    half: OwnedReadHalf,
    frames: TcpFrameDecoder,
    /// What was let in and is not yet fetched.
    ready: Vec<u8>,
}

struct Writer {
    half: OwnedWriteHalf,
    /// The rest of a frame that was begun.
    rest: Vec<u8>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

impl Stream {
    fn new(
        stream: tokio::net::TcpStream,
        peer: SocketAddr,
        permit: OwnedSemaphorePermit,
        gate: Arc<Gate>,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        let (read, write) = stream.into_split();
        Ok(Self {
            local,
            peer,
            opened: Instant::now(),
            checked: AtomicBool::new(false),
            reader: tokio::sync::Mutex::new(Reader { half: read, frames: TcpFrameDecoder::new(), ready: Vec::new() }),
            writer: Mutex::new(Writer { half: write, rest: Vec::new() }),
            gate,
            _permit: permit,
        })
    }

    fn is_checked(&self) -> bool {
        self.checked.load(Ordering::Relaxed)
    }

    async fn readable(&self, half: &OwnedReadHalf) -> io::Result<()> {
        if self.is_checked() {
            return half.readable().await;
        }
        let in_time = tokio::time::timeout_at(self.opened + UNCHECKED, half.readable()).await;
        in_time.unwrap_or_else(|_| Err(io::ErrorKind::ConnectionAborted.into()))
    }

    async fn read_some(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut reader = self.reader.lock().await;
        let Reader { half, frames, ready } = &mut *reader;
        while ready.is_empty() {
            self.readable(half).await?;
            let mut bytes = [0; 2_048];
            match half.try_read(&mut bytes) {
                Ok(0) => return Ok(0),
                Ok(read) => frames.extend_from_slice(bytes.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            }
            while let Some(packet) = frames.next_packet() {
                if self.is_checked() || is_stun(&packet) {
                    ready.extend_from_slice(&frame_packet(&packet));
                }
            }
        }
        let fetched = ready.len().min(buffer.len());
        buffer.iter_mut().zip(ready.drain(..fetched)).for_each(|(to, byte)| *to = byte);
        Ok(fetched)
    }

    /// Writes the frame, or leaves it out when the peer does not take it: as with UDP, and the library's one task does not
    /// wait for a peer that stopped reading.
    fn write_or_drop(&self, frame: &[u8]) -> io::Result<()> {
        let datagram = frame.get(FRAMING_HEADER_LEN..).unwrap_or_default();
        self.gate.hears_end(datagram);
        if is_success_response(datagram) {
            self.checked.store(true, Ordering::Relaxed);
        }
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let Writer { half, rest } = &mut *writer;
        if !rest.is_empty() {
            let written = try_write(half, rest)?;
            rest.drain(..written);
        }
        if rest.is_empty() {
            let written = try_write(half, frame)?;
            if written > 0 {
                rest.extend_from_slice(frame.get(written..).unwrap_or_default());
            }
        }
        Ok(())
    }
}

/// Bytes written without waiting.
fn try_write(half: &OwnedWriteHalf, bytes: &[u8]) -> io::Result<usize> {
    match half.try_write(bytes) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        written => written,
    }
}

impl AsyncTcpStream for Stream {
    fn read<'a, 'b>(&'a self, buffer: &'b mut [u8]) -> Boxed<'b, io::Result<usize>>
    where
        'a: 'b,
    {
        Box::pin(self.read_some(buffer))
    }

    fn write_all<'a, 'b>(&'a self, frame: &'b [u8]) -> Boxed<'b, io::Result<()>>
    where
        'a: 'b,
    {
        Box::pin(async move { self.write_or_drop(frame) })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpStream, UdpSocket},
    };

    use super::*;

    const STUN_SUCCESS: [u8; 20] = {
        let mut message = [0; 20];
        (message[0], message[1]) = (1, 1);
        (message[4], message[5], message[6], message[7]) = (0x21, 0x12, 0xa4, 0x42);
        message
    };
    /// A Binding request.
    const STUN: [u8; 20] = {
        let mut message = STUN_SUCCESS;
        message[0] = 0;
        message
    };
    const HELLO: [u8; 13] = [22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    async fn bound() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0").await.expect("a socket")
    }

    #[tokio::test]
    async fn only_a_checked_source_is_heard_beyond_stun() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_nonblocking(true).expect("a socket");
        let server = Net::default().wrap_udp_socket(socket).expect("a socket");
        let to = server.local_addr().expect("an address");
        let (browser, stranger) = (bound().await, bound().await);
        let mut buffer = [0; 64];

        for (socket, datagram) in [(&stranger, &HELLO[..]), (&browser, &HELLO), (&browser, &STUN)] {
            socket.send_to(datagram, to).await.expect("sent");
        }
        let (length, from) = server.recv_from(&mut buffer).await.expect("the check");
        assert_eq!((buffer.get(..length), from), (Some(&STUN[..]), browser.local_addr().expect("an address")));

        server.send_to(&STUN_SUCCESS, from).await.expect("the check is answered");
        for (socket, datagram) in [(&stranger, &HELLO[..]), (&browser, &HELLO)] {
            socket.send_to(datagram, to).await.expect("sent");
        }
        let (length, heard) = server.recv_from(&mut buffer).await.expect("the handshake");
        assert_eq!((buffer.get(..length), heard), (Some(&HELLO[..]), from), "the stranger's is left out");
    }

    #[test]
    fn an_error_response_checks_nobody() {
        let gate = Gate::default();
        let from = "192.0.2.1:4000".parse().expect("an address");
        let mut refusal = STUN_SUCCESS;
        refusal[1] = 0x11;
        for datagram in [&refusal[..], &STUN, &HELLO, &[], &STUN_SUCCESS[..7]] {
            gate.leaves(datagram, from);
            assert!(!gate.admits(&HELLO, from));
        }
        gate.leaves(&STUN_SUCCESS, from);
        assert!(gate.admits(&HELLO, from));
    }

    /// A record of this type and epoch, with this body.
    fn record(kind: u8, epoch: u8, body: &[u8]) -> Vec<u8> {
        let head = [kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 9, 0, body.len() as u8];
        [&head[..], body].concat()
    }

    #[test]
    fn in_clear_there_is_only_the_handshake() {
        const APPLICATION_DATA: u8 = 23;
        let both = |one: Vec<u8>, other: Vec<u8>| [one, other].concat();
        for (datagram, admitted) in [
            (record(HANDSHAKE, 0, b"hello"), true),
            (record(CHANGE_CIPHER_SPEC, 0, &[1]), true),
            (both(record(CHANGE_CIPHER_SPEC, 0, &[1]), record(HANDSHAKE, 1, b"finished")), true),
            (record(APPLICATION_DATA, 1, b"sealed"), true),
            (record(ALERT, 1, b"sealed"), true),
            (vec![0x80, 0, 1, 2], true),
            (record(ALERT, 0, &[1, 0]), false),
            (record(APPLICATION_DATA, 0, b"clear"), false),
            (record(CHANGE_CIPHER_SPEC, 0, &[2]), false),
            (record(24, 0, b"heartbeat"), false),
            (both(record(HANDSHAKE, 0, b"hello"), record(ALERT, 0, &[2, 40])), false),
            (both(record(HANDSHAKE, 0, b"hello"), vec![ALERT]), false),
            (record(HANDSHAKE, 0, b"hello")[..15].to_vec(), false),
        ] {
            let (gate, from) = (Gate::default(), "192.0.2.1:4000".parse().expect("an address"));
            assert!(!gate.admits(&datagram, from), "not of a stranger");
            gate.leaves(&STUN_SUCCESS, from);
            assert_eq!(gate.admits(&datagram, from), admitted, "{datagram:x?}");
        }
    }

    #[tokio::test]
    async fn an_alert_of_ours_under_keys_is_the_end() {
        let (gate, to) = (Gate::default(), "192.0.2.1:4000".parse().expect("an address"));
        let stopped = || tokio::time::timeout(Duration::from_millis(1), gate.stopped.notified());
        for datagram in [&HELLO[..], &record(ALERT, 0, &[2, 40]), &record(23, 1, b"sealed"), &STUN_SUCCESS] {
            gate.leaves(datagram, to);
        }
        assert!(stopped().await.is_err(), "a handshake that fails is no goodbye");
        gate.leaves(&record(ALERT, 1, b"sealed"), to);
        assert!(stopped().await.is_ok());
    }

    async fn tcp() -> (TcpStream, Arc<dyn AsyncTcpStream>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        listener.set_nonblocking(true).expect("a listener");
        let listener = Net::default().wrap_tcp_listener(listener).expect("a listener");
        let browser = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("a connection");
        let (server, _) = listener.accept().await.expect("a connection");
        (browser, server)
    }

    #[tokio::test]
    async fn over_tcp_it_is_the_same() {
        let (mut browser, server) = tcp().await;
        let mut buffer = [0; 64];
        let frames: Vec<u8> = [&HELLO[..], &STUN].into_iter().flat_map(frame_packet).collect();
        for byte in frames {
            browser.write_all(&[byte]).await.expect("sent byte by byte");
        }
        let length = server.read(&mut buffer).await.expect("the check");
        assert_eq!(buffer.get(..length), Some(&frame_packet(&STUN)[..]));
        server.write_all(&frame_packet(&STUN_SUCCESS)).await.expect("the check is answered");
        browser.write_all(&frame_packet(&HELLO)).await.expect("sent");
        let length = server.read(&mut buffer).await.expect("the handshake");
        assert_eq!(buffer.get(..length), Some(&frame_packet(&HELLO)[..]));
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_stops_nobody() {
        let (mut browser, server) = tcp().await;
        let frame = frame_packet(&[7; 1_000]);
        for _ in 0..20_000 {
            server.write_all(&frame).await.expect("written or left out");
        }
        // What arrives is whole frames, fewer than were sent.
        drop(server);
        let mut arrived = Vec::new();
        browser.read_to_end(&mut arrived).await.expect("what was written");
        assert!(arrived.len() < 20_000 * frame.len() && !arrived.is_empty(), "{}", arrived.len());
        let mut frames = TcpFrameDecoder::new();
        frames.extend_from_slice(&arrived);
        while let Some(packet) = frames.next_packet() {
            assert_eq!(packet, [7; 1_000]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_passes_no_check_ends() {
        let (_browser, server) = tcp().await;
        let began = Instant::now();
        let error = server.read(&mut [0; 64]).await.expect_err("nothing came");
        assert_eq!((error.kind(), began.elapsed()), (io::ErrorKind::ConnectionAborted, UNCHECKED));
    }
}
