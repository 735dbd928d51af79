//! TLS on the public listener: a client joins over `wss`, a new certificate is used without a restart, and clients that
//! do not speak TLS are disconnected.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lianmai_test_support::process::ServerProcess;
use lianmai_test_support::raw_ws::{CLOSE, PING, RawWs, Received, TEXT};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::server::{Scratch, TEST_TIMEOUT, programs};

pub(crate) type Wss = RawWs<TlsStream<TcpStream>>;

/// Writes a new certificate for this machine and its key to the directory.
pub(crate) fn certify(directory: &Path) -> Result<CertificateDer<'static>> {
    let made = rcgen::generate_simple_self_signed(["localhost", "127.0.0.1"].map(str::to_owned))?;
    std::fs::write(directory.join("key.pem"), made.signing_key.serialize_pem())?;
    std::fs::write(directory.join("cert.pem"), made.cert.pem())?;
    Ok(made.cert.der().clone())
}

/// A TLS connection to `localhost` that trusts one certificate only.
async fn connect(address: SocketAddr, trusted: &CertificateDer<'static>) -> Result<Wss> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost")?;
    let stream = TcpStream::connect(address).await?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream);
    Ok(RawWs::over(timeout(TEST_TIMEOUT, stream).await.context("no handshake")??))
}

pub(crate) async fn join(
    address: SocketAddr,
    trusted: &CertificateDer<'static>,
    uid: &str,
) -> Result<(Wss, u64)> {
    let mut socket = connect(address, trusted).await?;
    socket.upgrade(format!("localhost:{}", address.port())).await?;
    let params = json!({"appkey": "demo", "channelName": "room", "uid": uid});
    let joined =
        timeout(TEST_TIMEOUT, socket.call("join", params)).await.context("no answer")??;
    Ok((socket, joined["seq"].as_u64().context("no seq")?))
}

/// Reads events until a message with this text; their numbers must be contiguous.
async fn hear_until(socket: &mut Wss, seq: &mut u64, last: &str) -> Result<Vec<String>> {
    let mut heard = Vec::new();
    while heard.last().is_none_or(|text| text != last) {
        for message in timeout(TEST_TIMEOUT, socket.messages()).await.context("nothing comes")?? {
            let params: &Value = &message["params"];
            let Some(next) = params["seq"].as_u64() else { continue };
            ensure!(next == *seq + 1, "event {next} after {seq}");
            *seq = next;
            if message["method"] == "message" {
                heard.push(params["data"].as_str().unwrap_or_default().to_owned());
            }
        }
    }
    Ok(heard)
}

/// Starts a server with TLS. Returns its certificate as well.
async fn serve(scratch: &Scratch) -> Result<(ServerProcess, CertificateDer<'static>)> {
    serve_with(scratch, "").await
}

/// The same, with further settings of the table `server`.
async fn serve_with(
    scratch: &Scratch,
    server: &str,
) -> Result<(ServerProcess, CertificateDer<'static>)> {
    let certificate = certify(&scratch.0)?;
    let config = scratch.0.join("config.toml");
    let file = |name: &str| scratch.0.join(name).display().to_string();
    let text = format!(
        "[server]\n{server}\n[tls]\ncert = {:?}\nkey = {:?}\n[limits]\ncommand_burst = 100\n",
        file("cert.pem"),
        file("key.pem")
    );
    std::fs::write(&config, text)?;
    let env = [("LIANMAI_CONFIG", config.to_str().context("a path that is text")?)];
    let program = programs()?.join("signal-server");
    let data = scratch.0.join("data");
    let server = timeout(TEST_TIMEOUT, ServerProcess::start(&program, &data, &env)).await??;
    Ok((server, certificate))
}

/// Proves no rule of the protocol: the transport of the admin API's token.
#[tokio::test]
async fn the_admin_listener_speaks_tls_where_it_is_asked_to() -> Result<()> {
    let scratch = Scratch::new()?;
    let (server, certificate) = serve_with(&scratch, "admin_tls = true").await?;
    let token = server.admin_token()?;
    for (path, status) in [("/readyz", 200), ("/v1/apps/demo/channels", 200), ("/none", 404)] {
        let mut socket = connect(server.admin, &certificate).await?;
        let get = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        socket.write(get.as_bytes()).await?;
        let head = socket.http_head().await?;
        ensure!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
    }
    let mut plain = RawWs::open(server.admin).await?;
    plain.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
    let answer = timeout(TEST_TIMEOUT, plain.read_to_end()).await.context("it hangs")?;
    ensure!(!answer.starts_with(b"HTTP"), "plain HTTP is answered: {answer:?}");
    // Connections that stop in the middle of a handshake are closed to make room.
    let mut half = Vec::new();
    for _ in 0..200 {
        let mut socket = RawWs::open(server.admin).await?;
        socket.write(&[0x16, 3, 1, 2, 0]).await?;
        half.push(socket);
    }
    let mut socket = connect(server.admin, &certificate).await?;
    socket.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
    ensure!(socket.http_head().await?.starts_with("HTTP/1.1 200 "), "silenced");
    Ok(())
}

/// Proves CON-1.
#[tokio::test]
async fn clients_come_by_tls_and_certificates_are_replaced() -> Result<()> {
    let scratch = Scratch::new()?;
    let (server, old) = serve(&scratch).await?;
    let address = server.public;

    let (mut speaker, _) = join(address, &old, "1").await?;
    let (mut listener, mut seq) = join(address, &old, "2").await?;
    for number in 0..50 {
        speaker.request("sendMessage", json!({"data": number.to_string()})).await?;
    }
    let heard = hear_until(&mut listener, &mut seq, "49").await?;
    let expected: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    ensure!(heard == expected, "{heard:?}");

    // URLs have the right scheme, and HTTP-FLV is served over it.
    speaker.call("publish", json!({})).await?;
    let pull = listener.call("subscribe", json!({"uid": "1", "mediaType": "video"})).await?;
    seq = pull["seq"].as_u64().context("no seq")?;
    let flv = pull["urls"]["flv"].as_str().context("no FLV URL")?;
    ensure!(flv.starts_with(&format!("https://{address}/live/")), "{flv}");
    let path = flv.splitn(4, '/').nth(3).context("no path")?;
    let mut pulled = connect(address, &old).await?;
    let get = format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    pulled.write(get.replace("t=", "t=1").as_bytes()).await?;
    ensure!(pulled.http_head().await?.starts_with("HTTP/1.1 403"), "a forged URL");

    // A client that does not speak TLS, or does not finish the handshake, is disconnected and delays nothing.
    let mut plain = RawWs::open(address).await?;
    plain.write(b"GET /v1/signal HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
    let answer = timeout(TEST_TIMEOUT, plain.read_to_end()).await.context("it hangs")?;
    ensure!(!answer.starts_with(b"HTTP"), "plain HTTP is answered: {answer:?}");
    let mut half = RawWs::open(address).await?;
    half.write(&[0x16, 3, 1, 2, 0]).await?;

    // A key that does not fit its certificate changes nothing.
    let known = server.log_length();
    std::fs::write(scratch.0.join("key.pem"), "no key")?;
    server.signal("HUP").await?;
    server.logged(known, |line| line.contains("certificate not reloaded")).await?;
    let (mut third, _) = join(address, &old, "3").await?;

    // New connections see a new pair; existing ones continue.
    let known = server.log_length();
    let new = certify(&scratch.0)?;
    server.signal("HUP").await?;
    server.logged(known, |line| line.contains("certificate reloaded")).await?;
    ensure!(connect(address, &old).await.is_err(), "the old certificate is still shown");
    let (mut fourth, _) = join(address, &new, "4").await?;
    let (_, certificates) = fourth.stream().get_ref();
    ensure!(certificates.peer_certificates().is_some_and(|all| all == [new]), "another one");
    third.call("sendMessage", json!({"data": "by the old one"})).await?;
    fourth.call("sendMessage", json!({"data": "by the new one"})).await?;
    let heard = hear_until(&mut listener, &mut seq, "by the new one").await?;
    ensure!(heard == ["by the old one", "by the new one"], "{heard:?}");

    let over = timeout(TEST_TIMEOUT, half.read_to_end());
    ensure!(server.bugs().is_empty(), "{:?}", server.bugs());
    let (stopped, _) = tokio::join!(server.terminate(), over);
    ensure!(stopped? == 0, "no clean stop");
    Ok(())
}

/// A connection that the server closes ends soon, even if its peer keeps the socket open and continues to send.
/// Proves CON-10.
#[tokio::test]
async fn a_close_ends_the_connection_of_who_stays() -> Result<()> {
    let scratch = Scratch::new()?;
    let (server, certificate) = serve(&scratch).await?;
    let address = server.public;
    let descriptors = || -> Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", server.pid()?))?.count())
    };
    let before = descriptors()?;
    let mut staying = Vec::new();
    let (mut creator, _) = join(address, &certificate, "0").await?;
    for uid in 1..=20 {
        let (socket, _) = join(address, &certificate, &uid.to_string()).await?;
        staying.push(socket);
    }
    for (uid, socket) in (1..).zip(&mut staying) {
        if uid % 2 == 0 {
            creator.call("kick", json!({"uid": uid.to_string()})).await?;
        } else {
            socket.request("leave", json!({})).await?;
        }
    }
    // Also connections that never join: text that is not JSON, then more of it, and a close frame.
    for first in [&b"nonsense"[..], b""] {
        let mut socket = connect(address, &certificate).await?;
        socket.upgrade(format!("localhost:{}", address.port())).await?;
        socket.send_frame(if first.is_empty() { CLOSE } else { TEXT }, first).await?;
        staying.push(socket);
    }
    ensure!(descriptors()? > before, "nothing was opened");
    creator.request("leave", json!({})).await?;
    staying.push(creator);
    let told = Instant::now();
    while descriptors()? > before {
        ensure!(told.elapsed() < TEST_TIMEOUT, "{} of {before}", descriptors()?);
        // Further input is not read; a socket that is gone gives an error.
        for socket in &mut staying {
            let _ = socket.send_frame(PING, b"still here").await;
        }
        sleep(Duration::from_millis(100)).await;
    }
    // They were closed properly before.
    for socket in &mut staying {
        let end = loop {
            match timeout(TEST_TIMEOUT, socket.receive()).await.context("no end")?? {
                Received::Text(_) | Received::Pong(_) => {}
                end => break end,
            }
        };
        ensure!(matches!(end, Received::Close(..)), "{end:?}");
    }
    ensure!(server.bugs().is_empty(), "{:?}", server.bugs());
    ensure!(server.terminate().await? == 0, "no clean stop");
    Ok(())
}
