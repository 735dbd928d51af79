//! The WebSocket handshake (RFC 6455 §4.2) on `/v1/signal`. A client that may be told why it is refused
//! is let through and refused by a close code, since browsers do not see HTTP statuses (CON-6).

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

use super::accept::Peer;
use super::lobby::LobbyServer;
use crate::api::error::ApiError;
use crate::socket::halves;
use crate::socket::places::Place;
use crate::socket::reader::Reader;

/// Answers a handshake and, when it is good, starts the lobby of the connection.
pub(crate) fn upgrade(
    lobby: &LobbyServer,
    mut request: Request<Body>,
) -> Result<Response<Body>, ApiError> {
    let bad = |text| ApiError::new(StatusCode::BAD_REQUEST, "badUpgrade", text);
    let accept = check(request.method(), request.headers()).map_err(bad)?;
    let extensions = request.extensions_mut();
    let (Some(upgrade), Some(place), Some(Peer(peer))) = (
        extensions.remove::<OnUpgrade>(),
        extensions.remove::<Place>(),
        extensions.remove::<Peer>(),
    ) else {
        return Err(bad("The connection cannot be upgraded."));
    };
    lobby.is_open_to(peer.ip())?;
    let lobby = lobby.clone();
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let Some((reader, sink)) = take_apart(upgraded, place) else { return };
        lobby.serve(peer.ip(), reader, sink).await;
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    Ok(response)
}

/// Takes the socket back from hyper. Bytes that came early are copied, since they pin hyper's buffer.
fn take_apart(upgraded: Upgraded, place: Place) -> Option<(Reader, halves::Sink)> {
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => {
            let (source, sink) = halves::split_tcp(parts.io.into_inner(), place);
            Some((Reader::new(source, &parts.read_buf), sink))
        }
        Err(upgraded) => {
            let parts = upgraded.downcast::<TokioIo<TlsStream<TcpStream>>>().ok()?;
            let (source, sink) = halves::split_tls(parts.io.into_inner(), place);
            Some((Reader::new(source, &parts.read_buf), sink))
        }
    }
}

fn check(method: &Method, headers: &HeaderMap) -> Result<HeaderValue, &'static str> {
    if method != Method::GET || !has_token(headers, &UPGRADE, "websocket") {
        return Err("This path speaks WebSocket only.");
    }
    if !has_token(headers, &CONNECTION, "upgrade") {
        return Err("The header Connection must hold `upgrade`.");
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err("The header Sec-WebSocket-Version must be 13.");
    }
    if !has_token(headers, &SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        return Err("The header Sec-WebSocket-Protocol must offer `lianmai.v1`.");
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24);
    let key = key.ok_or("The header Sec-WebSocket-Key must be 16 bytes in base64.")?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| "Bad Sec-WebSocket-Key.")
}

/// Whether a comma separated header holds a token, in any case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
}
