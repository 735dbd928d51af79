//! The WebSocket handshake (RFC 6455 §4.2) of `/v1/signal` and of FLV. A signaling client that may learn why it is
//! refused gets its WebSocket and then a close code, because browsers do not show HTTP statuses (CON-6).

use std::net::SocketAddr;

use axum::body::Body;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use lianmai_protocol::SUBPROTOCOL;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tungstenite::handshake::derive_accept_key;

use super::accept::ClientAddr;
use super::lobby::LobbyServer;
use super::stall_timeout::StallTimeout;
use crate::api::error::ApiError;
use crate::socket::connection_limit::ConnectionPermit;
use crate::socket::halves;
use crate::socket::reader::Reader;

/// Answers a handshake. If it is valid, starts the lobby of the connection.
pub(crate) fn upgrade(
    lobby: &LobbyServer,
    mut request: Request<Body>,
) -> Result<Response<Body>, ApiError> {
    let handshake = Handshake::new(&mut request, Some(SUBPROTOCOL))?;
    let peer = handshake.peer;
    lobby.check_open()?;
    let lobby = lobby.clone();
    let (response, socket) = handshake.accept();
    tokio::spawn(async move {
        let Some((reader, sink)) = socket.await else { return };
        lobby.serve(peer.ip(), reader, sink).await;
    });
    Ok(response)
}

/// Whether a request asks for a WebSocket.
pub(crate) fn is_websocket(headers: &HeaderMap) -> bool {
    has_token(headers, &UPGRADE, "websocket")
}

/// A valid handshake.
pub(crate) struct Handshake {
    upgrade: OnUpgrade,
    permit: ConnectionPermit,
    pub(crate) peer: SocketAddr,
    accept: HeaderValue,
    subprotocol: Option<&'static str>,
}

impl Handshake {
    /// Checks a handshake. If there is a subprotocol, the client must offer it.
    pub(crate) fn new(
        request: &mut Request<Body>,
        subprotocol: Option<&'static str>,
    ) -> Result<Self, ApiError> {
        let bad = |text| ApiError::new(StatusCode::BAD_REQUEST, "badUpgrade", text);
        let accept = check(request.method(), request.headers(), subprotocol).map_err(bad)?;
        let extensions = request.extensions_mut();
        let (Some(upgrade), Some(permit), Some(ClientAddr(peer))) = (
            extensions.remove::<OnUpgrade>(),
            extensions.remove::<ConnectionPermit>(),
            extensions.remove::<ClientAddr>(),
        ) else {
            return Err(bad("The connection cannot be upgraded."));
        };
        Ok(Handshake { upgrade, permit, peer, accept, subprotocol })
    }

    /// The answer, and a future of the socket, which resolves after the answer is written.
    pub(crate) fn accept(
        self,
    ) -> (Response<Body>, impl Future<Output = Option<(Reader, halves::Sink)>> + Send) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept);
        if let Some(subprotocol) = self.subprotocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
        }
        let (upgrade, permit) = (self.upgrade, self.permit);
        (response, async move { take_apart(upgrade.await.ok()?, permit) })
    }
}

/// Takes the socket back from hyper. Bytes that arrived early are copied, because they keep hyper's buffer alive.
fn take_apart(upgraded: Upgraded, permit: ConnectionPermit) -> Option<(Reader, halves::Sink)> {
    match upgraded.downcast::<StallTimeout<TokioIo<TcpStream>>>() {
        Ok(parts) => {
            let (source, sink) = halves::split_tcp(parts.io.into_inner().into_inner(), permit);
            Some((Reader::new(source, &parts.read_buf), sink))
        }
        Err(upgraded) => {
            let parts = upgraded.downcast::<StallTimeout<TokioIo<TlsStream<TcpStream>>>>().ok()?;
            let (source, sink) = halves::split_tls(parts.io.into_inner().into_inner(), permit);
            Some((Reader::new(source, &parts.read_buf), sink))
        }
    }
}

fn check(
    method: &Method,
    headers: &HeaderMap,
    subprotocol: Option<&str>,
) -> Result<HeaderValue, &'static str> {
    if method != Method::GET || !is_websocket(headers) {
        return Err("This path speaks WebSocket only.");
    }
    if !has_token(headers, &CONNECTION, "upgrade") {
        return Err("The header Connection must hold `upgrade`.");
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err("The header Sec-WebSocket-Version must be 13.");
    }
    if subprotocol.is_some_and(|name| !has_token(headers, &SEC_WEBSOCKET_PROTOCOL, name)) {
        return Err("The header Sec-WebSocket-Protocol must offer `lianmai.v1`.");
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24);
    let key = key.ok_or("The header Sec-WebSocket-Key must be 16 bytes in base64.")?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| "Bad Sec-WebSocket-Key.")
}

/// Whether a comma-separated header holds a token; case is ignored.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
}
