//! One delivery: a request and its result. Comes in: a URL, headers, a body. Goes out: that it was accepted (any 2xx),
//! or why not. Only the head of an answer is read, and redirects are not followed. Deliberately absent: retries, which
//! `deliver` does.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{Request, StatusCode};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use lianmai_protocol::Appkey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::egress::{Egress, EgressError, Target};
use super::sign;
use crate::config::Secret;

/// Maximum size of an answer's head in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// Why a delivery was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PostError {
    /// There is no connection.
    #[error("{0}")]
    Egress(#[from] EgressError),
    /// TLS failed, or the certificate is not trusted.
    #[error("there is no TLS that can be trusted")]
    Tls,
    /// The answer is not HTTP.
    #[error("the answer is no HTTP")]
    Broken,
    /// It took too long.
    #[error("there was no answer in time")]
    Timeout,
    /// The status is not 2xx.
    #[error("it was answered {0}")]
    Status(u16),
}

/// A delivery.
pub(crate) struct Delivery<'a> {
    /// The app of the endpoint.
    pub(crate) appkey: &'a Appkey,
    pub(crate) url: &'a str,
    pub(crate) secrets: &'a [Secret],
    pub(crate) id: &'a str,
    /// The current time in Unix seconds.
    pub(crate) at_s: u64,
    pub(crate) body: Bytes,
}

/// Sends deliveries.
#[derive(Clone)]
pub(crate) struct Poster {
    pub(crate) egress: Arc<Egress>,
    pub(crate) tls: Arc<rustls::ClientConfig>,
    /// Limit for a whole delivery.
    pub(crate) timeout: Duration,
}

impl Poster {
    pub(crate) async fn post(&self, delivery: Delivery<'_>) -> Result<(), PostError> {
        match timeout(self.timeout, self.try_post(delivery)).await {
            Ok(done) => done,
            Err(_) => Err(PostError::Timeout),
        }
    }

    async fn try_post(&self, delivery: Delivery<'_>) -> Result<(), PostError> {
        let Delivery { appkey, url, secrets, id, at_s, body } = delivery;
        let target = Target::read(url)?;
        let signature = sign::signature(secrets, id, at_s, &body).unwrap_or_default();
        let request = Request::post(&target.path)
            .header(HOST, &target.authority)
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("lianmai/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", id)
            .header("webhook-timestamp", at_s)
            .header("webhook-signature", signature)
            .body(Body::from(body))
            .map_err(|_| EgressError::Url)?;
        let stream = self.egress.connect(appkey, &target, self.timeout).await?;
        let status = if target.tls {
            let name = rustls::pki_types::ServerName::try_from(target.host.clone());
            let name = name.map_err(|_| EgressError::Url)?;
            let connector = TlsConnector::from(self.tls.clone());
            let stream = connector.connect(name, stream).await.map_err(|_| PostError::Tls)?;
            send(stream, request).await?
        } else {
            send(stream, request).await?
        };
        if status.is_success() { Ok(()) } else { Err(PostError::Status(status.as_u16())) }
    }
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Body>,
) -> Result<StatusCode, PostError> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| PostError::Broken)?;
    let mut connection = std::pin::pin!(connection);
    let answer = sender.send_request(request);
    let mut answer = std::pin::pin!(answer);
    // Both end with this call, so that little of the answer is read after its head.
    let answer = tokio::select! {
        answer = &mut answer => answer,
        _ = &mut connection => answer.await,
    };
    answer.map(|answer| answer.status()).map_err(|_| PostError::Broken)
}

#[cfg(test)]
#[path = "post_tests.rs"]
mod tests;
