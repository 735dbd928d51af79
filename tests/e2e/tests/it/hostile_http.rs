//! Hostile HTTP: requests that two parsers could split differently, and heads without a bound. Each row is one request,
//! in many rows with another one hidden in it or behind it. The result is the status codes of all answers until the
//! connection ends, which it must.
//! Proves no rule of the protocol: HTTP.

use anyhow::{Context, Result, ensure};
use lianmai_test_support::raw_ws::RawWs;

use crate::hostile::{HostileFixture, Row, custom, run_topic};

/// The listener that gets the request.
#[derive(Clone, Copy)]
enum Listener {
    Public,
    Admin,
}

/// Sends bytes and reads every answer; `$HOST` and `$TOKEN` are replaced.
async fn ask(fixture: &HostileFixture, listener: Listener, text: &str) -> Result<Vec<String>> {
    let address = match listener {
        Listener::Public => fixture.server.public,
        Listener::Admin => fixture.server.admin,
    };
    let text = text.replace("$HOST", &address.to_string()).replace("$TOKEN", &fixture.admin_token);
    let mut socket = RawWs::open(address).await?;
    // A connection that is closed during the write still gives the reason when it is read.
    let _ = socket.write(text.as_bytes()).await;
    let bytes = socket.read_to_end().await;
    let mut heard = Vec::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let end = rest.windows(4).position(|four| four == b"\r\n\r\n").context("no head")? + 4;
        let head = std::str::from_utf8(&rest[..end])?.to_ascii_lowercase();
        let status = head.strip_prefix("http/1.1 ").context("no HTTP/1.1")?;
        heard.push(status.get(..3).context("no status")?.to_owned());
        let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map(str::parse).transpose()?.unwrap_or(0);
        ensure!(rest.len() >= end + length, "the answer is cut short: {head}");
        rest = &rest[end + length..];
    }
    Ok(heard)
}

fn row(
    name: &'static str,
    listener: Listener,
    text: impl Into<String>,
    expect: &[&'static str],
) -> Row {
    let text: std::sync::Arc<str> = text.into().into();
    custom(
        name,
        move |fixture| {
            let text = text.clone();
            async move { ask(&fixture, listener, &text).await }
        },
        expect,
    )
}

/// A GET with more header lines, followed by another request.
fn get(more: &str) -> String {
    format!("GET /none HTTP/1.1\r\nHost: $HOST\r\n{more}\r\n{HIDDEN}")
}

/// A POST that is allowed to have a body.
fn post(more: &str, body: &str) -> String {
    format!(
        "POST /v1/apps/demo/channels/none/close HTTP/1.1\r\nHost: $HOST\r\n\
         Authorization: Bearer $TOKEN\r\nContent-Type: application/json\r\n{more}\r\n{body}"
    )
}

/// This gets 200 if it is read as a request, and then the connection ends.
const HIDDEN: &str = "GET /healthz HTTP/1.1\r\nHost: $HOST\r\nConnection: close\r\n\r\n";

fn rows() -> Vec<Row> {
    use Listener::{Admin, Public};
    let hidden = HIDDEN;
    let chunked = format!("2\r\n{{}}\r\n0\r\n\r\n{hidden}");
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: lianmai.v1\r\n";
    let signal = |more: &str, body: &str| {
        format!("GET /v1/signal HTTP/1.1\r\nHost: $HOST\r\n{upgrade}{more}\r\n{body}")
    };
    let many: String = (0..200).map(|n| format!("X-{n}: x\r\n")).collect();
    let extension = format!("2;{}\r\n{{}}\r\n0\r\n\r\n{hidden}", "x".repeat(20_000));
    let extensions = format!("{}0\r\n\r\n{hidden}", "1;x=y\r\n \r\n".repeat(20_000));
    vec![
        // Well-formed requests are answered, and so is a request behind them.
        row("two good requests", Public, get(""), &["404", "404"]),
        row(
            "good body",
            Admin,
            post("Content-Length: 2\r\n", &format!("{{}}{hidden}")),
            &["404", "200"],
        ),
        row("GET with a length", Public, get("Content-Length: 5\r\n"), &["400"]),
        row("GET with chunks", Public, get("Transfer-Encoding: chunked\r\n"), &["400"]),
        row(
            "length, then chunks",
            Admin,
            post("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", &chunked),
            &["400"],
        ),
        row(
            "chunks, then length",
            Admin,
            post("Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", &chunked),
            &["400"],
        ),
        row(
            "two lengths",
            Admin,
            post("Content-Length: 2\r\nContent-Length: 60\r\n", &format!("{{}}{hidden}")),
            &["400"],
        ),
        row(
            "two lengths in a line",
            Admin,
            post("Content-Length: 2, 60\r\n", &format!("{{}}{hidden}")),
            &["400"],
        ),
        row(
            "length with a sign",
            Admin,
            post("Content-Length: +2\r\n", &format!("{{}}{hidden}")),
            &["400"],
        ),
        row(
            "length in hexadecimal",
            Admin,
            post("Content-Length: 0x2\r\n", &format!("{{}}{hidden}")),
            &["400"],
        ),
        row(
            "length of 2^64",
            Admin,
            post("Content-Length: 18446744073709551616\r\n", &format!("{{}}{hidden}")),
            &["400"],
        ),
        row("coding xchunked", Admin, post("Transfer-Encoding: xchunked\r\n", &chunked), &["400"]),
        row(
            "coding chunked, identity",
            Admin,
            post("Transfer-Encoding: chunked, identity\r\n", &chunked),
            &["400"],
        ),
        row(
            "coding behind a tab",
            Admin,
            post("Transfer-Encoding:\tchunked\r\nContent-Length: 2\r\n", &chunked),
            &["400"],
        ),
        row(
            "coding with a space before the colon",
            Admin,
            post("Transfer-Encoding : chunked\r\nContent-Length: 2\r\n", &chunked),
            &["400"],
        ),
        row(
            "chunk size that is none",
            Admin,
            post("Transfer-Encoding: chunked\r\n", &format!("zz\r\n{{}}\r\n{hidden}")),
            &["400"],
        ),
        row(
            "chunk extension of 20 KB",
            Admin,
            post("Transfer-Encoding: chunked\r\n", &extension),
            &["400"],
        ),
        row(
            "20000 chunk extensions",
            Admin,
            post("Transfer-Encoding: chunked\r\n", &extensions),
            &["400"],
        )
        .once(),
        row("folded header", Public, get("X-A: b\r\n c\r\n"), &["400"]),
        row("NUL in a header", Public, get("X-A: b\0c\r\n"), &["400"]),
        row("bare CR in a header", Public, get("X-A: b\rX-B: c\r\n"), &["400"]),
        // RFC 9112, section 2.2, permits a bare LF as the end of a line; there is only one answer all the same.
        row("bare LF", Public, "GET /none HTTP/1.1\nHost: $HOST\nConnection: close\n\n", &["404"]),
        row("bare LF hides a header", Public, get("X-A: b\nContent-Length: 5\r\n"), &["400"]),
        row("header without a colon", Public, get("nonsense\r\n"), &["400"]),
        row(
            "space before the first header",
            Public,
            "GET /none HTTP/1.1\r\n X: y\r\nHost: $HOST\r\n\r\n",
            &["400"],
        ),
        row(
            "absolute target",
            Public,
            format!("GET http://$HOST/none HTTP/1.1\r\nHost: $HOST\r\n\r\n{hidden}"),
            &["404", "404"],
        ),
        row(
            "absolute target elsewhere",
            Public,
            format!("GET http://evil.example/none HTTP/1.1\r\nHost: $HOST\r\n\r\n{hidden}"),
            &["421"],
        ),
        row(
            "CONNECT",
            Public,
            format!("CONNECT evil.example:443 HTTP/1.1\r\nHost: $HOST\r\n\r\n{hidden}"),
            &["400"],
        ),
        row(
            "target *",
            Public,
            format!("OPTIONS * HTTP/1.1\r\nHost: $HOST\r\n\r\n{hidden}"),
            &["404", "404"],
        ),
        row("200 headers", Public, get(&many), &["431"]),
        row("header of 64 KiB", Public, get(&format!("X: {}\r\n", "x".repeat(65_536))), &["431"]),
        row(
            "target of 64 KiB",
            Public,
            format!("GET /{} HTTP/1.1\r\nHost: $HOST\r\n\r\n", "x".repeat(65_536)),
            &["431"],
        ),
        row("two Hosts", Public, get("Host: evil.example\r\n"), &["400"]),
        row("no Host", Public, format!("GET /none HTTP/1.1\r\n\r\n{hidden}"), &["400"]),
        row(
            "Host with a path",
            Public,
            format!("GET /none HTTP/1.1\r\nHost: localhost/x\r\n\r\n{hidden}"),
            &["400"],
        ),
        row(
            "Host with a user",
            Public,
            format!("GET /none HTTP/1.1\r\nHost: x@localhost\r\n\r\n{hidden}"),
            &["400"],
        ),
        row("upgrade with a length", Public, signal("Content-Length: 5\r\n", "hello"), &["400"]),
        row(
            "upgrade with chunks",
            Public,
            signal("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            &["400"],
        ),
        row("HTTP/2 preface", Public, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[]),
        row("HTTP/0.9", Public, "GET /none\r\n\r\n", &["400"]),
        row("TLS to plain HTTP", Public, "\x16\x03\x01\x02\0\x01\0\x01\u{7f}\x03\x03", &["400"]),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_read_twice() -> Result<()> {
    println!("{}", run_topic("HTTP", &rows()).await?);
    Ok(())
}
