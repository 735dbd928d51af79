//! Accepts connections and serves HTTP/1.1 on them with hyper. All buffers and timeouts are set here; `axum::serve`
//! would hide them.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use bytes::Bytes;
use http::header::{CONNECTION, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use lianmai_media_plane::LogLimiter;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tower::ServiceExt;
use tracing::{debug, warn};

use super::connect_limiter::ConnectLimiter;
use super::guard::Guard;
use super::proxies::Proxies;
use super::refusals::{UNAVAILABLE, unavailable};
use super::stall_timeout::StallTimeout;
use crate::ops::drain::{Phase, wait_for_stop};
use crate::socket::connection_limit::{ConnectionLimit, ConnectionPermit, address_group};
use crate::socket::idle_connections::{IdleConnections, TrackedConnection};
use crate::socket::tls::TlsReloader;

/// Send buffer of the kernel for each connection, in bytes (the kernel doubles it). By default it would grow to
/// megabytes, which no limit of the server counts.
const SEND_BUFFER: usize = 128 * 1024;
/// Silence after which the kernel probes a connection, and the interval of its probes.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));
/// Maximum time from accept to the end of the request's head, and between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time of a TLS handshake.
const TLS_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of a request's head in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Maximum number of header fields of a request.
const MAX_HEADERS: usize = 64;
/// Maximum number of peers of one listener that are being refused at the same time.
pub(crate) const MAX_REFUSALS: usize = 16;
/// Time for a refused peer to read the refusal.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Time for answers and close frames in progress when the server stops. Some peers never read or answer them, and the
/// others were told when to come back.
const LAST_ANSWERS_TIMEOUT: Duration = Duration::from_millis(250);
/// Pause after a failed accept, because the process may have no free descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Time to stay away for a client that finds no room.
const UNAVAILABLE_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Address of the client, as an extension of each request: the peer, or the client behind a trusted proxy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientAddr(pub(crate) SocketAddr);

/// Ends the connection of a request, as an extension of the request: for answers of unknown length, whose peer may have
/// stopped reading.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hangup(Arc<Notify>);

impl Hangup {
    pub(crate) fn close(&self) {
        self.0.notify_one();
    }

    /// Bytes of an answer. The connection ends if it has not written all of them within `limit`.
    pub(crate) fn unless_written(self, bytes: Bytes, limit: Duration) -> Bytes {
        let (guard, written) = oneshot::channel();
        tokio::spawn(async move {
            if timeout(limit, written).await.is_err() {
                self.close();
            }
        });
        Bytes::from_owner(UnwrittenBytes { bytes, _guard: guard })
    }
}

/// Bytes that the connection has not written yet.
struct UnwrittenBytes {
    bytes: Bytes,
    _guard: oneshot::Sender<()>,
}

impl AsRef<[u8]> for UnwrittenBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// One HTTP listener.
pub(crate) struct HttpListener {
    pub(crate) name: &'static str,
    pub(crate) listener: TcpListener,
    pub(crate) router: Router,
    pub(crate) guard: Arc<Guard>,
    pub(crate) tls: Option<Arc<TlsReloader>>,
    pub(crate) limit: ConnectionLimit,
    /// Closes idle connections to make room; `None` where addresses have shares.
    pub(crate) idle_connections: Option<IdleConnections>,
    /// Connection rate of each address; `None` for no limit.
    pub(crate) connect_limiter: Option<Arc<ConnectLimiter>>,
    /// Trusted proxies, whose requests count for their clients.
    pub(crate) proxies: Arc<Proxies>,
    /// A connection ends when its peer reads nothing of an answer for this time.
    pub(crate) stall_timeout: Duration,
    pub(crate) lines: LogLimiter,
}

impl HttpListener {
    /// Serves until the server stops. Then it accepts no connection, and idle ones end. Answers in progress and
    /// connections that other tasks end get a short time.
    pub(crate) async fn serve(self, mut stop: watch::Receiver<Phase>) {
        let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = wait_for_stop(&mut stop) => break,
                Some(_) = connections.join_next() => continue,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Errors of one connection are harmless, but a lack of descriptors needs a pause.
                    if self.lines.allow_any() {
                        warn!(listener = self.name, %error, "accept failed");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let permit = tokio::select! {
                permit = self.admit_peer(peer) => permit,
                () = wait_for_stop(&mut stop) => break,
            };
            let Some(permit) = permit else {
                debug!(listener = self.name, %peer, "connection limit reached");
                if let Ok(refusal) = refusals.clone().try_acquire_owned() {
                    connections.spawn(async move {
                        refuse(stream).await;
                        drop(refusal);
                    });
                } else {
                    let _ = stream.try_write(UNAVAILABLE);
                }
                continue;
            };
            let _ = stream.set_nodelay(true);
            let socket = SockRef::from(&stream);
            let _ = socket.set_send_buffer_size(SEND_BUFFER);
            // Without keepalive, a client that vanished while its play waits would keep its permit.
            let _ = socket.set_tcp_keepalive(
                &TcpKeepalive::new().with_time(KEEP_ALIVE.0).with_interval(KEEP_ALIVE.1),
            );
            let hangup = Hangup::default();
            let service = HttpConnection {
                router: self.router.clone(),
                guard: self.guard.clone(),
                connect_limiter: self.connect_limiter.clone(),
                proxies: self.proxies.clone(),
                stall_timeout: self.stall_timeout,
                client: Mutex::default(),
                permit,
                tracked: self
                    .idle_connections
                    .as_ref()
                    .map(|all| all.track(peer.ip(), hangup.0.clone())),
                hangup,
                peer,
            };
            // Two kinds of tasks, so that a connection without TLS does not need the memory of one with TLS.
            match self.tls.clone() {
                None => connections.spawn(service.serve(TokioIo::new(stream), stop.clone())),
                Some(tls) => connections.spawn(service.serve_tls(stream, tls, stop.clone())),
            };
        }
        drop(self.listener);
        let _ = timeout(LAST_ANSWERS_TIMEOUT, async {
            while connections.join_next().await.is_some() {}
            // WebSockets have their own tasks.
            self.limit.wait_until_unused().await;
        })
        .await;
        connections.shutdown().await;
    }

    /// A permit for a peer that has connected, or `None` when it gets none.
    async fn admit_peer(&self, peer: SocketAddr) -> Option<ConnectionPermit> {
        if self.proxies.is_trusted(peer.ip()) {
            // Each request of the proxy counts for its client.
            return self.limit.try_acquire_unassigned();
        }
        if !allow_connect(self.connect_limiter.as_deref(), peer) {
            return None;
        }
        let permit = self.limit.try_acquire(peer.ip());
        if permit.is_none()
            && self.idle_connections.as_ref().is_some_and(IdleConnections::make_room)
        {
            return self.limit.acquire(peer.ip()).await;
        }
        permit
    }
}

/// Sends the refusal and reads what the peer sends: closing with unread bytes would reset the connection, and the peer
/// might lose the answer.
async fn refuse(mut stream: TcpStream) {
    let _ = timeout(REFUSAL_TIMEOUT, async {
        stream.write_all(UNAVAILABLE).await?;
        stream.shutdown().await?;
        let mut bytes = [0; 1024];
        while stream.read(&mut bytes).await? > 0 {}
        io::Result::Ok(())
    })
    .await;
}

/// Counts a connection of this address; `false` if that exceeds its rate.
fn allow_connect(connect_limiter: Option<&ConnectLimiter>, address: SocketAddr) -> bool {
    connect_limiter
        .is_none_or(|connect_limiter| connect_limiter.allow(address.ip(), Instant::now()))
}

struct HttpConnection {
    router: Router,
    guard: Arc<Guard>,
    connect_limiter: Option<Arc<ConnectLimiter>>,
    proxies: Arc<Proxies>,
    stall_timeout: Duration,
    /// The client that a connection of a trusted proxy counts for now.
    client: Mutex<Option<IpAddr>>,
    permit: ConnectionPermit,
    tracked: Option<TrackedConnection>,
    hangup: Hangup,
    peer: SocketAddr,
}

impl HttpConnection {
    /// Performs the TLS handshake, then serves the connection.
    async fn serve_tls(
        self,
        stream: TcpStream,
        tls: Arc<TlsReloader>,
        stop: watch::Receiver<Phase>,
    ) {
        let handshake = timeout(TLS_TIMEOUT, tls.acceptor().accept(stream));
        let shaken = tokio::select! {
            shaken = handshake => shaken,
            () = self.hangup.0.notified() => return,
        };
        match shaken {
            Ok(Ok(stream)) => self.serve(TokioIo::new(stream), stop).await,
            Ok(Err(error)) => debug!(%error, "TLS handshake failed"),
            Err(_) => debug!("TLS handshake timed out"),
        }
    }

    /// Serves the requests of a connection. Each play keeps this future, so it is kept small.
    fn serve<I>(
        self,
        io: I,
        mut stop: watch::Receiver<Phase>,
    ) -> impl Future<Output = ()> + Send + use<I>
    where
        I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let peer = self.peer;
        let io = StallTimeout::new(io, self.stall_timeout);
        let hung_up = self.hangup.0.clone();
        let service = Arc::new(self);
        // Boxed, so that its memory is freed with the answer.
        let service = service_fn(move |request| Box::pin(service.clone().respond(request)));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .half_close(false)
            .serve_connection(io, service)
            .with_upgrades();
        // Pinned inside the async block, the connection would take its space twice.
        let mut connection = Box::pin(connection);
        async move {
            let served = tokio::select! {
                served = connection.as_mut() => served,
                () = hung_up.notified() => return,
                () = wait_for_stop(&mut stop) => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = served {
                debug!(%peer, %error, "HTTP connection ended");
            }
        }
    }

    async fn respond(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        let mut response = self.answer(request).await;
        // Browsers must not guess another content type.
        let headers = response.headers_mut();
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Ok(response)
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        let client = self.proxies.client(self.peer, &parts.headers);
        // Checks the address of the socket: debug mode trusts no header.
        if let Err(error) = self.guard.check(self.peer.ip(), &parts) {
            debug!(peer = %client, name = error.name(), "request refused");
            // The bytes after such a head on the connection are not trusted.
            let error = error.with(CONNECTION, HeaderValue::from_static("close"));
            return error.into_response();
        }
        if self.proxies.is_trusted(self.peer.ip()) && !self.admit_client(client) {
            debug!(peer = %client, "connection limit reached");
            return unavailable(UNAVAILABLE_RETRY_AFTER).into_response();
        }
        parts.extensions.insert(self.hangup.clone());
        parts.extensions.insert(self.permit.clone());
        if let Some(tracked) = &self.tracked {
            parts.extensions.insert(tracked.clone());
        }
        parts.extensions.insert(ClientAddr(client));
        let request = Request::from_parts(parts, Body::new(body));
        let Ok(response) = self.router.clone().oneshot(request).await;
        response
    }

    /// Admits a client of a trusted proxy, or returns `false`: the checks that were skipped when the proxy connected. A
    /// connection counts once for a client, until it carries a request of another client.
    fn admit_client(&self, client: SocketAddr) -> bool {
        let address = address_group(client.ip().to_canonical());
        let mut last = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if *last == Some(address) {
            return true;
        }
        let admitted = allow_connect(self.connect_limiter.as_deref(), client)
            && self.permit.try_assign(client.ip());
        *last = admitted.then_some(address);
        admitted
    }
}

/// Binds a listener and returns its actual address.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: how long an answer may take, and which client a connection counts for.

    use axum::routing::get;
    use tokio::io::duplex;

    use super::*;
    use crate::config::{Config, ConnectionRate};
    use crate::socket::halves::WRITE_STALL;

    /// A connection from this machine.
    fn service(router: Router, connect_limiter: Option<ConnectLimiter>) -> HttpConnection {
        let config = Config::load(None, std::iter::empty(), &[]).unwrap();
        HttpConnection {
            router,
            guard: Arc::new(Guard::public(&config, config.listen)),
            connect_limiter: connect_limiter.map(Arc::new),
            proxies: Arc::default(),
            stall_timeout: WRITE_STALL,
            client: Mutex::default(),
            permit: ConnectionLimit::new(100, 1).try_acquire_unassigned().unwrap(),
            tracked: None,
            hangup: Hangup::default(),
            peer: ([127, 0, 0, 1], 9).into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_of_an_answer_is_disconnected() {
        let router = Router::new().route("/", get(async || vec![b' '; 1 << 20]));
        let (near, mut far) = duplex(1024);
        let (_phase, stop) = watch::channel(Phase::Serving);
        let served = service(router, None).serve(TokioIo::new(near), stop);
        far.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        // The far end stays open until the end, and reads nothing.
        assert!(timeout(WRITE_STALL * 2, served).await.is_ok());
        drop(far);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_counts_once_for_each_client_it_serves() {
        let rate = ConnectionRate { per_second: 1, burst: 2 };
        let proxied = service(Router::new(), Some(ConnectLimiter::new(Some(rate), false)));
        let admit_client =
            |address: &str| proxied.admit_client(SocketAddr::new(address.parse().unwrap(), 0));
        for _ in 0..10 {
            assert!(admit_client("192.0.2.1") && admit_client("::ffff:192.0.2.1"));
        }
        assert!(
            admit_client("192.0.2.2") && admit_client("192.0.2.1") && admit_client("192.0.2.2")
        );
        assert!(!admit_client("192.0.2.1") && !admit_client("192.0.2.1"), "the rate is exceeded");
        assert!(!admit_client("192.0.2.2"), "the refused request came from another client");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(admit_client("192.0.2.1") && admit_client("192.0.2.1"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_an_answer_is_disconnected() {
        const LIMIT: Duration = Duration::from_secs(30);
        let hangup = Hangup::default();
        let hung_up = async |hangup: &Hangup| timeout(LIMIT * 2, hangup.0.notified()).await.is_ok();
        let mut written = hangup.clone().unless_written(Bytes::from_static(b"abc"), LIMIT);
        assert_eq!(written.split_to(2), "ab");
        drop(written);
        assert!(!hung_up(&hangup).await, "the whole answer was written");
        let held = hangup.clone().unless_written(Bytes::from_static(b"abc"), LIMIT);
        let rest = held.slice(2..);
        drop(held);
        assert!(hung_up(&hangup).await, "a part of the answer is unwritten");
        drop(rest);
    }
}
