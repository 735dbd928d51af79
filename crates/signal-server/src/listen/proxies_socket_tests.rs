//! Proves CON-6.
//!
//! A server behind a reverse proxy, which is the test.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::{Config, Server};

const PATIENCE: Duration = Duration::from_secs(60);
const APPS: &str = "[{ appkey = \"live\", jwt = [{ kid = \"a\", \
                    secret = \"0123456789abcdef0123456789abcdef\" }] }]";
const FORGED: &str = "{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"reconnect\", \"params\": \
                      {\"ticket\": \"AWFiYw\", \"attempt\": 1, \"epoch\": \"ujzdegxdncf32epf3dha\", \
                      \"seq\": 1, \"n\": 0}}";

/// A server in safe mode that ends with the test.
struct TestServer {
    public: SocketAddr,
    task: JoinHandle<bool>,
    dir: PathBuf,
}

impl TestServer {
    async fn start(name: &str, settings: &[(&str, &str)]) -> TestServer {
        let dir = format!("lianmai-proxies-{}-{name}", std::process::id());
        let dir = std::env::temp_dir().join(dir);
        let mut flags = vec![("apps", APPS.to_owned())];
        for listener in ["server.listen", "server.admin_listen", "server.rtmp_listen"] {
            flags.push((listener, "127.0.0.1:0".to_owned()));
        }
        flags.push(("server.data_dir", dir.display().to_string()));
        flags.extend(settings.iter().map(|(path, value)| (*path, (*value).to_owned())));
        let config = Config::load(None, std::iter::empty(), &flags).unwrap();
        let server = Server::bind(config).await.unwrap();
        let public = server.addresses().public;
        TestServer { public, task: tokio::spawn(server.run(std::future::pending())), dir }
    }

    /// Passes a handshake on like a proxy. Gives the answer of the server, and the socket.
    async fn connect(&self, forwarded_for: &str) -> (String, TcpStream) {
        let mut socket = TcpStream::connect(self.public).await.unwrap();
        let head = format!(
            "GET /v1/signal HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: lianmai.v1\r\nX-Forwarded-For: {forwarded_for}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let answer = read_until(&mut socket, "\r\n\r\n").await;
        (answer.to_ascii_lowercase(), socket)
    }

    async fn lets_in(&self, forwarded_for: &str) -> bool {
        let (answer, _) = self.connect(forwarded_for).await;
        let is_in = answer.starts_with("http/1.1 101");
        let is_told = answer.starts_with("http/1.1 503") && answer.contains("\nretry-after: ");
        assert!(is_in || is_told, "{answer}");
        is_in
    }

    async fn present_forged_tickets(&self, forwarded_for: &str, times: u32) {
        for _ in 0..times {
            let (answer, mut socket) = self.connect(forwarded_for).await;
            assert!(answer.starts_with("http/1.1 101"), "{answer}");
            let mut frame = vec![0x81, 0xfe];
            frame.extend_from_slice(&u16::try_from(FORGED.len()).unwrap().to_be_bytes());
            frame.extend_from_slice(&[0; 4]);
            frame.extend_from_slice(FORGED.as_bytes());
            socket.write_all(&frame).await.unwrap();
            read_until(&mut socket, "closing").await;
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

async fn read_until(socket: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    while !text.contains(end) {
        let mut bytes = [0; 1024];
        let read = timeout(PATIENCE, socket.read(&mut bytes)).await.expect(end).unwrap();
        assert!(read > 0, "ended: {text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    text
}

/// Invalid tickets block no address: many clients share one, tickets cannot be guessed, and a server that has lost its
/// keys refuses each ticket once.
#[tokio::test]
async fn an_invalid_ticket_blocks_nobody() {
    let server =
        TestServer::start("forged", &[("server.trusted_proxies", "[\"127.0.0.0/8\"]")]).await;
    for client in ["192.0.2.1", "unknown"] {
        server.present_forged_tickets(client, 20).await;
        assert!(server.lets_in(client).await, "{client}");
    }
}

#[tokio::test]
async fn a_trusted_proxy_names_the_client() {
    let settings = [
        ("server.trusted_proxies", "[\"127.0.0.0/8\"]"),
        ("limits.max_connections_per_address", "2"),
    ];
    let server = TestServer::start("named", &settings).await;
    let one = server.connect("203.0.113.9, 192.0.2.1").await;
    let two = server.connect("192.0.2.1").await;
    assert!(one.0.starts_with("http/1.1 101") && two.0.starts_with("http/1.1 101"));
    assert!(!server.lets_in("192.0.2.1").await);
    assert!(!server.lets_in("203.0.113.10, 192.0.2.1").await, "the claimed address is ignored");
    for other in ["203.0.113.9", "192.0.2.2", "192.0.2.1, 203.0.113.9", "", "unknown"] {
        assert!(server.lets_in(other).await, "{other}");
    }
}

#[tokio::test]
async fn an_untrusted_peer_counts_for_itself() {
    let settings = [
        ("server.trusted_proxies", "[\"10.0.0.1\"]"),
        ("limits.connections_per_second", "1"),
        ("limits.connection_burst", "3"),
    ];
    let server = TestServer::start("untrusted", &settings).await;
    let mut let_in = 0;
    // Each handshake names another client, but all count for the address of the proxy.
    while server.lets_in(&format!("192.0.2.{let_in}")).await {
        let_in += 1;
        assert!(let_in < 100, "no rate");
    }
    assert!(let_in >= 3, "{let_in}");
}

#[tokio::test]
async fn each_client_has_its_own_rate_and_connection_limit() {
    let settings = [
        ("server.trusted_proxies", "[\"127.0.0.1\"]"),
        ("limits.connections_per_second", "1"),
        ("limits.connection_burst", "3"),
        ("limits.max_connections_per_address", "2"),
    ];
    let server = TestServer::start("rate", &settings).await;
    // More than the burst of one address.
    let mut held = Vec::new();
    for client in 1..=10 {
        let (answer, socket) = server.connect(&format!("192.0.2.{client}")).await;
        assert!(answer.starts_with("http/1.1 101"), "{client}: {answer}");
        held.push(socket);
    }
    let (answer, _second) = server.connect("192.0.2.1").await;
    assert!(answer.starts_with("http/1.1 101"), "{answer}");
    assert!(!server.lets_in("192.0.2.1").await, "the client holds two connections");

    // One client connects repeatedly: the burst is accepted, then hardly any.
    let settings = [settings[0], settings[1], settings[2]];
    let server = TestServer::start("burst", &settings).await;
    let mut let_in = 0;
    while server.lets_in("192.0.2.1").await {
        let_in += 1;
        assert!(let_in < 100, "no rate");
    }
    assert!(let_in >= 3 && server.lets_in("192.0.2.2").await, "{let_in}");
}

/// Proves CON-5.
#[tokio::test]
async fn debug_mode_refuses_requests_of_a_trusted_proxy() {
    let apps = "[{ appkey = \"demo\", mode = \"debug\" }]";
    let settings = [("apps", apps), ("server.trusted_proxies", "[\"127.0.0.1\"]")];
    let server = TestServer::start("debug", &settings).await;
    for client in ["192.0.2.1", "127.0.0.1", ""] {
        let (answer, _) = server.connect(client).await;
        assert!(answer.starts_with("http/1.1 403"), "{client}: {answer}");
    }
}
