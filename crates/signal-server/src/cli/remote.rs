//! Calls the API of a running server, like any client with a key. Comes in: the server, the key, and the request. Goes
//! out: the answer, or a sentence about the failure. Deliberately absent: the meaning of answers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use clap::Args;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, Uri};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::without_brackets;
use crate::relay::client_tls;

/// Timeout of a request. A kick waits for the disk.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum size of an answer in bytes; lists come in pages.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// The characters that are encoded in a path segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~');

/// The server, and the key for it.
#[derive(Args, Clone, Debug)]
pub(super) struct Remote {
    /// The app.
    #[arg(long, value_name = "APPKEY", env = "LIANMAI_APP", default_value = "demo")]
    pub(super) app: String,
    /// URL of the admin listener, without a path.
    #[arg(
        long,
        value_name = "URL",
        env = "LIANMAI_ADMIN",
        default_value = "http://127.0.0.1:8601"
    )]
    pub(super) server: String,
    /// File with a key of the API, or with the token of the deployment. The variable LIANMAI_KEY holds a key itself.
    #[arg(
        long,
        value_name = "FILE",
        env = "LIANMAI_KEY_FILE",
        default_value = "./lianmai-data/admin.token"
    )]
    pub(super) key_file: PathBuf,
    /// PEM file with the certificate authorities to trust; those that browsers trust when absent.
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(super) json: bool,
}

/// A percent-encoded path segment.
pub(super) fn path_segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

impl Remote {
    /// The path of an object of the app.
    pub(super) fn path(&self, rest: &str) -> String {
        format!("/v1/apps/{}/{rest}", path_segment(&self.app))
    }

    /// Sends a request, and waits for the answer.
    pub(super) fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, String> {
        let key = key(&self.key_file)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start: {error}"))?;
        let unanswered = unanswered(&self.server, &method);
        let asked = async { timeout(REQUEST_TIMEOUT, self.send(method, path, body, &key)).await };
        let answered = runtime.block_on(asked);
        answered.map_err(|_| unanswered)?
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        key: &str,
    ) -> Result<Value, String> {
        let bad = || format!("`{}` is no URL of a server, as http://127.0.0.1:8601", self.server);
        let uri: Uri = self.server.parse().map_err(|_| bad())?;
        let authority = uri.authority().ok_or_else(bad)?;
        // Paths of the API begin at the root.
        if uri.path_and_query().is_some_and(|rest| rest.as_str() != "/") {
            return Err(bad());
        }
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad()),
        };
        let host = without_brackets(authority.host()).to_owned();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, authority.as_str())
            .header(ACCEPT, "application/json")
            .header(AUTHORIZATION, format!("Bearer {key}"));
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let text = body.map(ToString::to_string).unwrap_or_default();
        let request = request.body(Body::from(text)).map_err(|_| "the request cannot be sent")?;
        let connected = TcpStream::connect((host.as_str(), port)).await;
        let stream = connected.map_err(|error| format!("cannot reach {}: {error}", self.server))?;
        if !tls {
            return exchange(stream, request).await;
        }
        let config =
            client_tls::client_config(self.ca.as_deref()).map_err(|error| error.to_string())?;
        let name = rustls::pki_types::ServerName::try_from(host).map_err(|_| bad())?;
        let connected = TlsConnector::from(config).connect(name, stream).await;
        exchange(connected.map_err(|error| format!("no TLS: {error}"))?, request).await
    }
}

/// The error when no answer came in time.
pub(super) fn unanswered(server: &str, method: &Method) -> String {
    match *method {
        Method::GET => format!("{server} does not answer"),
        _ => format!("{server} does not answer: look whether the request took effect"),
    }
}

/// `LIANMAI_KEY`, or the content of a file.
fn key(file: &Path) -> Result<String, String> {
    if let Ok(key) = std::env::var("LIANMAI_KEY") {
        return Ok(key.trim().to_owned());
    }
    let text = std::fs::read_to_string(file).map_err(|error| {
        format!("`{}` cannot be read: {error}; name a file with --key-file", file.display())
    })?;
    Ok(text.trim().to_owned())
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Body>,
) -> Result<Value, String> {
    let broken = |error| format!("no answer: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    let body = to_bytes(Body::new(response.into_body()), MAX_ANSWER).await;
    let body = body.map_err(|error| format!("no answer: {error}"))?;
    let value: Value =
        serde_json::from_slice(&body).map_err(|_| format!("{status}: the answer is no JSON"))?;
    if status.is_success() {
        return Ok(value);
    }
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    Err(format!("{} ({}): {}", text("name"), status.as_u16(), text("detail")))
}
