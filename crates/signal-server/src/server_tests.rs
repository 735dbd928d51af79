//! Proves CON-6.

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::*;

/// A server in debug mode that ends with the test.
struct TestServer {
    addresses: Addresses,
    token: String,
    task: tokio::task::JoinHandle<bool>,
    directory: PathBuf,
}

impl TestServer {
    async fn start(name: &str) -> Self {
        Self::start_with(name, &[]).await
    }

    async fn start_with(name: &str, settings: &[(&'static str, String)]) -> Self {
        let directory = format!("lianmai-server-{}-{name}", std::process::id());
        let directory = std::env::temp_dir().join(directory);
        let listeners = ["server.listen", "server.admin_listen", "server.rtmp_listen"];
        let mut flags = Vec::from(listeners.map(|key| (key, "127.0.0.1:0".to_owned())));
        flags.push(("server.data_dir", directory.display().to_string()));
        flags.extend_from_slice(settings);
        let config = Config::load(None, std::iter::empty(), &flags).unwrap();
        let server = Server::bind(config).await.unwrap();
        let (addresses, token) = (server.addresses(), server.admin_token().to_owned());
        let task = tokio::spawn(server.run(std::future::pending()));
        TestServer { addresses, token, task, directory }
    }

    /// The answer to a request: status, head, body.
    async fn ask(&self, listener: Listener, request: &Request) -> (u16, String, String) {
        let address = match listener {
            Listener::Public => self.addresses.public,
            Listener::Admin => self.addresses.admin,
        };
        let Request { first, headers, body } = request;
        let mut text = format!("{first} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
        if listener == Listener::Admin && !headers.contains("Authorization") {
            text += &format!("Authorization: Bearer {}\r\n", self.token);
        }
        if !body.is_empty() {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        text += &format!("{headers}\r\n{body}");
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_ascii_lowercase(), body.to_owned())
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listener {
    Public,
    Admin,
}

/// A request without the headers that all requests have.
#[derive(Debug)]
struct Request {
    first: String,
    headers: &'static str,
    body: String,
}

/// A request, and the status and name of the expected error.
type ErrorCase = (Listener, Request, u16, &'static str);

const JSON: &str = "Content-Type: application/json\r\n";

fn row(
    listener: Listener,
    (first, headers, body): (impl Into<String>, &'static str, impl Into<String>),
    status: u16,
    name: &'static str,
) -> ErrorCase {
    (listener, Request { first: first.into(), headers, body: body.into() }, status, name)
}

fn rows() -> Vec<ErrorCase> {
    use Listener::{Admin, Public};
    let mut rows = Vec::new();
    // Unknown paths, and methods that a path does not have.
    for (listener, path) in [
        (Admin, "/"),
        (Admin, "/v1"),
        (Admin, "/v1/channels"),
        (Admin, "/v1/apps/demo/channels/"),
        (Admin, "/v1/apps/demo/channels/a/b"),
        (Admin, "/%FF"),
        (Public, "/page/none"),
        (Public, "/v1/apps/demo/channels"),
        (Public, "/live/"),
        (Public, "/live/name.mp4"),
        (Public, "/live/%FF.flv"),
        (Public, "/live/%FF"),
    ] {
        rows.push(row(listener, (format!("GET {path}"), "", ""), 404, "notFound"));
    }
    for (listener, first) in [
        (Admin, "POST /healthz"),
        (Admin, "DELETE /readyz"),
        (Admin, "POST /metrics"),
        (Admin, "DELETE /v1/apps/demo/channels"),
        (Admin, "PUT /v1/apps/demo/channels/a"),
        (Admin, "GET /v1/apps/demo/channels/a/members/7/kick"),
        (Admin, "GET /v1/apps/demo/channels/a/close"),
        (Public, "DELETE /v1/signal"),
        (Public, "POST /live/name.flv"),
    ] {
        rows.push(row(listener, (first, "", ""), 405, "methodNotAllowed"));
    }
    // Without the token, all paths give the same error.
    for first in ["GET /metrics", "GET /v1/apps/demo/channels", "POST /v1/keys", "GET /none"] {
        let headers = "Authorization: Bearer nonsense\r\n";
        rows.push(row(Admin, (first, headers, ""), 401, "unauthorized"));
    }
    // Errors that the routes of a channel have in common.
    for (method, rest, headers, body) in [
        ("GET", "", "", ""),
        ("POST", "/members/7/kick", JSON, "{}"),
        ("POST", "/close", JSON, "{}"),
    ] {
        let none = if rest.ends_with("kick") { "noSuchMember" } else { "noSuchChannel" };
        for (path, status, error) in [
            ("demo/channels/none", 404, none),
            ("other/channels/none", 404, "noSuchApp"),
            ("a%20b/channels/none", 404, "noSuchApp"),
            ("%FF/channels/none", 404, "noSuchApp"),
            ("demo/channels/a%2Fb", 400, "badChannelName"),
            ("demo/channels/%00", 400, "badChannelName"),
            ("demo/channels/%FF", 400, "badChannelName"),
            ("demo/channels/..", 400, "badChannelName"),
        ] {
            let first = format!("{method} /v1/apps/{path}{rest}");
            rows.push(row(Admin, (first, headers, body), status, error));
        }
    }
    let large = format!(r#"{{"reason": "{}"}}"#, "x".repeat(20_000));
    for path in ["members/7/kick", "close"] {
        let first = format!("POST /v1/apps/demo/channels/a/{path}");
        for (headers, body, status, error) in [
            ("", "", 415, "notJson"),
            ("", "{}", 415, "notJson"),
            ("Content-Type: text/plain\r\n", "{}", 415, "notJson"),
            ("Content-Type: application/x-www-form-urlencoded\r\n", "uid=7", 415, "notJson"),
            (JSON, "", 400, "invalidParams"),
            (JSON, "{", 400, "invalidParams"),
            (JSON, "7", 400, "invalidParams"),
            (JSON, r#"{"uid": "x", "holdS": "x"}"#, 400, "invalidParams"),
            (JSON, &large, 413, "bodyTooLarge"),
        ] {
            rows.push(row(Admin, (&first, headers, body), status, error));
        }
    }
    // Errors of the guard, before the routes. Then the routes without JSON: upgrade and media.
    rows.push(row(
        Admin,
        ("GET /healthz", "Origin: http://a.example\r\n", ""),
        403,
        "originNotAllowed",
    ));
    rows.push(row(
        Public,
        ("GET /v1/signal", "Origin: http://a.example\r\n", ""),
        403,
        "originNotAllowed",
    ));
    rows.push(row(Public, ("GET /v1/signal", "Host: localhost\r\n", ""), 400, "badRequest"));
    rows.push(row(Public, ("GET /v1/signal", "Via: 1.1 proxy\r\n", ""), 403, "debugLocalOnly"));
    rows.push(row(Public, ("GET /v1/signal", "", ""), 400, "badUpgrade"));
    rows.push(row(Public, ("GET /live/name.flv", "", ""), 403, "badUrl"));
    rows
}

#[tokio::test]
async fn every_error_of_http_is_json_and_has_one_name() {
    let server = TestServer::start("errors").await;
    for (listener, request, status, name) in rows() {
        let (got, head, body) = server.ask(listener, &request).await;
        let context = format!("{listener:?} {request:.200?}: {got} {body}");
        assert_eq!(got, status, "{context}");
        assert!(
            head.contains("\r\ncontent-type: application/problem+json\r\n"),
            "{context}\n{head}"
        );
        let error: Value = serde_json::from_str(&body).expect(&context);
        let error = error.as_object().expect(&context);
        assert_eq!(error["name"], name, "{context}");
        assert_eq!(error["status"], status, "{context}");
        for key in ["type", "title", "detail"] {
            assert!(error[key].as_str().is_some_and(|text| !text.is_empty()), "{context}");
        }
        assert!(error["type"].as_str().is_some_and(|kind| kind.ends_with(name)), "{context}");
        assert_eq!(status == 405, head.contains("\r\nallow: "), "{context}\n{head}");
    }
}

/// Proves no rule of the protocol: idle connections give way to new ones.
#[tokio::test]
async fn idle_connections_do_not_silence_the_admin_listener() {
    let server = TestServer::start("idle").await;
    let mut idle = Vec::new();
    for number in 0..200 {
        let mut socket = TcpStream::connect(server.addresses.admin).await.unwrap();
        // Every second one has begun a request.
        if number % 2 == 0 {
            socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n").await.unwrap();
        }
        idle.push(socket);
    }
    for first in ["GET /readyz", "GET /metrics", "GET /v1/apps/demo/channels"] {
        let request = Request { first: first.to_owned(), headers: "", body: String::new() };
        let (status, head, body) = server.ask(Listener::Admin, &request).await;
        assert_eq!(status, 200, "{first}: {head} {body}");
    }
}

/// Proves no rule of the protocol: a connection whose request has no body yet gives way, also with a valid token.
#[tokio::test]
async fn requests_without_their_bodies_do_not_silence_the_admin_listener() {
    let server = TestServer::start("bodies").await;
    let token = &server.token;
    let mut waiting = Vec::new();
    // More than the admin listener accepts at the same time.
    for number in 0..80 {
        let head = format!(
            "POST /v1/apps/demo/channels/a/close HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
             Idempotency-Key: {number}\r\n{JSON}Content-Length: 10\r\nExpect: 100-continue\r\n\r\n"
        );
        let mut socket = TcpStream::connect(server.addresses.admin).await.unwrap();
        socket.write_all(head.as_bytes()).await.unwrap();
        // The server reads the body from now on.
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 100", "number {number}");
        waiting.push(socket);
    }
    for first in ["GET /readyz", "GET /v1/apps/demo/channels"] {
        let request = Request { first: first.to_owned(), headers: "", body: String::new() };
        let (status, head, body) = server.ask(Listener::Admin, &request).await;
        assert_eq!(status, 200, "{first}: {head} {body}");
    }
}

/// Proves no rule of the protocol: the scheme of a token is case-insensitive, and content types are not guessed.
#[tokio::test]
async fn the_bearer_scheme_is_case_insensitive_and_content_types_are_not_guessed() {
    let server = TestServer::start("bearer").await;
    let token = server.token.clone();
    for (scheme, status) in
        [("Bearer ", 200), ("bearer ", 200), ("BEARER  ", 200), ("Basic ", 401), ("Bearer", 401)]
    {
        let headers = format!("Authorization: {scheme}{token}\r\n");
        let headers: &'static str = Box::leak(headers.into_boxed_str());
        let request = Request {
            first: "GET /v1/apps/demo/channels".to_owned(),
            headers,
            body: String::new(),
        };
        let (got, head, _) = server.ask(Listener::Admin, &request).await;
        assert_eq!(got, status, "{scheme}");
        assert!(head.contains("\r\nx-content-type-options: nosniff"), "{head}");
    }
    for (listener, first) in [
        (Listener::Admin, "GET /healthz"),
        (Listener::Admin, "GET /metrics"),
        (Listener::Admin, "GET /none"),
        (Listener::Public, "GET /"),
        (Listener::Public, "GET /live/name.flv"),
    ] {
        let request = Request { first: first.to_owned(), headers: "", body: String::new() };
        let (_, head, _) = server.ask(listener, &request).await;
        assert!(head.contains("\r\nx-content-type-options: nosniff"), "{first}: {head}");
    }
}

/// Proves CON-3.
#[tokio::test]
async fn a_target_may_be_absolute() {
    let server = TestServer::start("absolute").await;
    let Addresses { public, admin, .. } = server.addresses;
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: lianmai.v0\r\n";
    for (listener, target, headers, expected) in [
        (Listener::Admin, format!("http://{admin}/healthz"), "", (200, "ok\n")),
        (
            Listener::Admin,
            format!("http://{admin}/v1/apps/demo/channels"),
            "",
            (200, r#"{"channels":[]}"#),
        ),
        (Listener::Admin, "http://evil.example/healthz".to_owned(), "", (421, "hostNotAllowed")),
        // Accepted up to the error in the handshake.
        (
            Listener::Public,
            format!("http://{public}/v1/signal"),
            upgrade,
            (400, "Protocol must offer"),
        ),
        (Listener::Public, format!("http://{public}/live/name.flv?a"), "", (403, "badUrl")),
    ] {
        let request = Request { first: format!("GET {target}"), headers, body: String::new() };
        let (status, _, body) = server.ask(listener, &request).await;
        assert!(status == expected.0 && body.contains(expected.1), "{target}: {status} {body}");
    }
}

/// Proves URL-15.
#[tokio::test]
async fn every_answer_has_cors_headers_for_an_allowed_origin() {
    let server = TestServer::start("cors").await;
    let own: &'static str =
        Box::leak(format!("Origin: http://{}\r\n", server.addresses.public).into_boxed_str());
    let allowed =
        format!("\r\naccess-control-allow-origin: http://{}\r\n", server.addresses.public);
    for (first, status) in [
        ("GET /live/name.flv", 403),
        ("HEAD /live/name.flv", 403),
        ("GET /live/name.mp4", 404),
        ("POST /live/name.flv", 405),
        ("GET /v1/signal", 400),
        ("GET /none", 404),
        ("OPTIONS /live/name.flv?a", 204),
    ] {
        let request = |headers| Request { first: first.to_owned(), headers, body: String::new() };
        let (got, head, body) = server.ask(Listener::Public, &request(own)).await;
        let head = format!("{head}\r\n");
        assert_eq!(got, status, "{first}");
        assert!(head.contains(&allowed) && head.contains("\r\nvary: origin\r\n"), "{first} {head}");
        assert_eq!(body.is_empty(), first.starts_with("HEAD") || status == 204, "{first} {body}");
        let evil = request("Origin: http://evil.example\r\n");
        let (got, head, _) = server.ask(Listener::Public, &evil).await;
        assert!(got == 403 && !head.contains("access-control"), "{first} {head}");
        let (_, head, _) = server.ask(Listener::Public, &request("")).await;
        assert!(!head.contains("access-control-allow-origin"), "{first} {head}");
    }
    let headers: &'static str = Box::leak(
        format!("{own}Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: range, x-a\r\n")
            .into_boxed_str(),
    );
    let request =
        Request { first: "OPTIONS /live/name.flv".to_owned(), headers, body: String::new() };
    let (_, head, _) = server.ask(Listener::Public, &request).await;
    assert!(head.contains("\r\naccess-control-allow-headers: range, x-a"), "{head}");
    assert!(head.contains("\r\naccess-control-allow-methods: get, head, options"), "{head}");
    // Without an Origin nothing is allowed, and the header names are not sent back.
    let headers = "Access-Control-Request-Headers: range, x-a\r\n";
    let (got, head, _) = server.ask(Listener::Public, &Request { headers, ..request }).await;
    assert!(got == 204 && !head.contains("access-control-allow-headers"), "{head}");
}

/// Performs the handshake, and closes at once.
async fn comes_and_goes(mut socket: impl AsyncRead + AsyncWrite + Unpin) {
    let head = "GET /v1/signal HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
                Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                Sec-WebSocket-Protocol: lianmai.v1\r\n\r\n";
    let close = [0x88, 0x80, 0, 0, 0, 0];
    socket.write_all(&[head.as_bytes(), &close].concat()).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    let text = String::from_utf8_lossy(&answer);
    assert!(text.starts_with("HTTP/1.1 101") && answer.ends_with(&[0x88, 0]), "{text}");
}

/// Proves CON-10.
#[tokio::test]
async fn an_upgrade_returns_the_socket_with_and_without_tls() {
    let server = TestServer::start("upgrade").await;
    comes_and_goes(TcpStream::connect(server.addresses.public).await.unwrap()).await;

    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let files = std::env::temp_dir().join(format!("lianmai-server-{}-pem", std::process::id()));
    let _ = std::fs::remove_dir_all(&files);
    std::fs::create_dir(&files).unwrap();
    let file = |name, text: String| {
        let path = files.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let tls = [
        ("tls.cert", file("cert.pem", made.cert.pem())),
        ("tls.key", file("key.pem", made.signing_key.serialize_pem())),
    ];
    let server = TestServer::start_with("upgrade-tls", &tls).await;
    std::fs::remove_dir_all(&files).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = TcpStream::connect(server.addresses.public).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let socket = TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap();
    comes_and_goes(socket).await;
}
