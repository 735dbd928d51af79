//! Downloading of image files.
//!
//! In: a URL. Out: the body of the response. Deliberately absent: cookies, credentials, compression, caches.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{ImageError, ImageOptions};

/// Maximum length of a URL, in bytes.
const MAX_URL: usize = 2048;
/// Maximum size of a file, in bytes.
const MAX_BYTES: usize = 4 << 20;
/// Maximum number of redirects.
const MAX_REDIRECTS: usize = 3;
/// Time limit for a TCP connection.
const CONNECTING: Duration = Duration::from_secs(5);

enum Answer {
    Bytes(Bytes),
    Elsewhere(Uri),
}

pub(super) async fn fetch(url: &str, options: &ImageOptions) -> Result<Bytes, ImageError> {
    let mut uri = parse(url)?;
    for _ in 0..=MAX_REDIRECTS {
        match get(&uri, options).await? {
            Answer::Bytes(bytes) => return Ok(bytes),
            Answer::Elsewhere(next) => uri = next,
        }
    }
    Err(ImageError::Answer)
}

fn parse(text: &str) -> Result<Uri, ImageError> {
    if text.len() > MAX_URL {
        return Err(ImageError::Url);
    }
    let uri: Uri = text.parse().map_err(|_| ImageError::Url)?;
    let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
    let has_host = uri.host().is_some_and(|host| !host.is_empty());
    let has_user = uri.authority().is_some_and(|it| it.as_str().contains('@'));
    if is_web && has_host && !has_user { Ok(uri) } else { Err(ImageError::Url) }
}

/// Resolves the URL reference of a redirect against the requested URL.
fn resolve(base: &Uri, to: &str) -> Result<Uri, ImageError> {
    let scheme = base.scheme_str().unwrap_or("https");
    let authority = base.authority().map_or("", http::uri::Authority::as_str);
    let to = to.split('#').next().unwrap_or_default();
    if to.starts_with("//") {
        parse(&format!("{scheme}:{to}"))
    } else if to.starts_with('/') {
        parse(&format!("{scheme}://{authority}{to}"))
    } else {
        parse(to)
    }
}

async fn get(uri: &Uri, options: &ImageOptions) -> Result<Answer, ImageError> {
    let is_tls = uri.scheme_str() == Some("https");
    let host = uri.host().unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let address = address(host, port, options).await?;
    let stream = timeout(CONNECTING, TcpStream::connect(address));
    let stream = stream.await.map_err(|_| ImageError::Timeout)?;
    let stream = stream.map_err(|_| ImageError::Connection)?;
    if !is_tls {
        return ask(uri, stream).await;
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|_| ImageError::Url)?;
    let connector = TlsConnector::from(options.tls.clone());
    let stream = connector.connect(name, stream).await.map_err(|_| ImageError::Connection)?;
    ask(uri, stream).await
}

/// The address to connect to. If any address of a name is forbidden, all of them are refused.
async fn address(host: &str, port: u16, options: &ImageOptions) -> Result<SocketAddr, ImageError> {
    let all = lookup_host((host, port)).await.map_err(|_| ImageError::Address)?;
    let all: Vec<SocketAddr> = all.collect();
    if !all.iter().all(|address| (options.may_reach)(address.ip())) {
        return Err(ImageError::Address);
    }
    // Prefers IPv4: names may have IPv6 addresses on a machine without IPv6.
    let first = all.iter().find(|address| address.is_ipv4()).or(all.first());
    first.copied().ok_or(ImageError::Address)
}

async fn ask<S>(uri: &Uri, stream: S) -> Result<Answer, ImageError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let failed = |_: hyper::Error| ImageError::Connection;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(32 << 10);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let authority = uri.authority().map_or("", http::uri::Authority::as_str);
    let request = Request::get(path)
        .header(header::HOST, authority)
        .header(header::ACCEPT, "image/png, image/jpeg")
        .header(header::USER_AGENT, concat!("lianmai/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|_| ImageError::Url)?;
    let answered = async {
        let answer = sender.send_request(request).await.map_err(failed)?;
        read(uri, answer).await
    };
    let mut connection = std::pin::pin!(connection);
    let mut answered = std::pin::pin!(answered);
    tokio::select! {
        answer = &mut answered => answer,
        // The end of the connection may be the end of the response.
        _ = &mut connection => answered.await,
    }
}

async fn read(uri: &Uri, answer: Response<Incoming>) -> Result<Answer, ImageError> {
    if answer.status().is_redirection() {
        let to = answer.headers().get(header::LOCATION).and_then(|to| to.to_str().ok());
        return resolve(uri, to.ok_or(ImageError::Answer)?).map(Answer::Elsewhere);
    }
    if answer.status() != http::StatusCode::OK {
        return Err(ImageError::Answer);
    }
    let mut body = answer.into_body();
    if body.size_hint().lower() > MAX_BYTES as u64 {
        return Err(ImageError::Size);
    }
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ImageError::Connection)?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > MAX_BYTES {
            return Err(ImageError::Size);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Answer::Bytes(bytes.into()))
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: where redirects lead.

    use super::*;

    #[test]
    fn relative_references_are_resolved() {
        let base = parse("https://a.example:444/b/c?d").unwrap();
        let to = |text: &str| resolve(&base, text).map(|uri| uri.to_string());
        assert_eq!(to("/x?y#z").unwrap(), "https://a.example:444/x?y");
        assert_eq!(to("//b.example/x").unwrap(), "https://b.example/x");
        assert_eq!(to("http://127.0.0.1/x").unwrap(), "http://127.0.0.1/x");
        for text in ["", "x", "file:///etc/passwd", "ftp://a/b", "https://u@a/b", "https:///a"] {
            assert!(to(text).is_err(), "{text}");
        }
    }
}
