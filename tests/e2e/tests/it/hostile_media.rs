//! Hostile RTMP input of the relay. The result is the names and status codes in the server's commands, `closed`, and
//! the code that the server logged.
//! Proves no rule of the protocol: RTMP.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::BytesMut;
use lianmai_test_support::process::ServerProcess;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::hostile::{Row, custom, run_topic};

/// Length of C1, C2, S1 and S2.
const PACKET: usize = 1536;
const SET_CHUNK_SIZE: u8 = 1;
const AUDIO: u8 = 8;
const VIDEO: u8 = 9;
const COMMAND: u8 = 20;

/// C0, C1 and C2.
pub(crate) fn handshake() -> Vec<u8> {
    let mut bytes = vec![3];
    bytes.resize(1 + 2 * PACKET, 0);
    bytes
}

fn string(text: &str) -> Vec<u8> {
    let length = (text.len() as u16).to_be_bytes();
    [&[2][..], &length, text.as_bytes()].concat()
}

fn number(value: f64) -> Vec<u8> {
    [&[0][..], &value.to_be_bytes()].concat()
}

/// A full chunk header.
fn header(chunk_stream: u8, length: u32, type_id: u8, stream: u8) -> Vec<u8> {
    let [_, a, b, c] = length.to_be_bytes();
    vec![chunk_stream, 0, 0, 0, a, b, c, type_id, stream, 0, 0, 0]
}

/// A message in chunks of 128 bytes.
fn message(chunk_stream: u8, type_id: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(chunk_stream, payload.len() as u32, type_id, stream);
    for (at, chunk) in payload.chunks(128).enumerate() {
        if at > 0 {
            bytes.push(0xc0 | chunk_stream);
        }
        bytes.extend_from_slice(chunk);
    }
    bytes
}

fn command(name: &str, transaction: f64, rest: &[u8]) -> Vec<u8> {
    message(3, COMMAND, 1, &[&string(name)[..], &number(transaction), rest].concat())
}

pub(crate) fn connect(app: &str) -> Vec<u8> {
    // The object {app: …}.
    let object = [&[3, 0, 3][..], b"app", &string(app), &[0, 0, 9]].concat();
    command("connect", 1.0, &object)
}

fn create_stream() -> Vec<u8> {
    command("createStream", 2.0, &[5])
}

/// `publish` or `play` of a stream name with its query, to send after `connect`.
pub(crate) fn request(method: &str, name: &str) -> Vec<u8> {
    [create_stream(), command(method, 3.0, &[&[5][..], &string(name)].concat())].concat()
}

/// Names and codes in the server's commands, in order.
fn said(bytes: &[u8]) -> Vec<String> {
    let mut said = Vec::new();
    let mut rest = bytes.get(1 + 2 * PACKET..).unwrap_or_default();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let [a, b, tail @ ..] = tail else { break };
        let Some(text) = tail.get(..usize::from(u16::from_be_bytes([*a, *b]))) else { continue };
        let Ok(text) = std::str::from_utf8(text) else { continue };
        if *first == 2 && (text == "_result" || text.starts_with("Net")) {
            said.push(text.to_owned());
        }
        if let Some((code, _)) = text.strip_prefix("denied.").and_then(|text| text.split_once(':'))
        {
            said.push(format!("denied {code}"));
        }
    }
    said
}

/// Sends `first`, and `then` when `connect` was answered. Reads until there are `count` results or the connection ends;
/// then the code that the server logged for this peer is part of the result.
pub(crate) async fn talk(
    server: &ServerProcess,
    first: &[u8],
    then: &[u8],
    count: usize,
) -> Result<Vec<String>> {
    // Ports are reused: only log lines from here on concern this connection.
    let known = server.log_length();
    let mut stream = TcpStream::connect(server.rtmp).await?;
    let own: SocketAddr = stream.local_addr()?;
    // A connection that is closed during the write still gives the reason when it is read.
    let _ = stream.write_all(first).await;
    let mut read = BytesMut::new();
    let mut then = Some(then);
    loop {
        let mut heard = said(&read);
        // A reset discards answers that were not read yet, so the second part waits for them.
        if heard.len() >= WELCOME.len()
            && let Some(then) = then.take()
        {
            let _ = stream.write_all(then).await;
        }
        if heard.len() >= count {
            return Ok(heard);
        }
        if !matches!(stream.read_buf(&mut read).await, Ok(1..)) {
            heard = said(&read);
            heard.push("closed".to_owned());
            if heard.len() < count {
                heard.push(logged_code(server, known, own).await?);
            }
            return Ok(heard);
        }
    }
}

async fn logged_code(server: &ServerProcess, known: usize, peer: SocketAddr) -> Result<String> {
    let peer = format!("\"peer\":\"{peer}\"");
    let line = server.logged(known, |line| line.contains(&peer)).await?;
    let code = line.split_once("\"code\":\"").and_then(|(_, rest)| rest.split_once('"'));
    Ok(code.context("no code in the log line")?.0.to_owned())
}

fn rtmp(name: &'static str, bytes: Vec<u8>, expect: &[&'static str]) -> Row {
    let (bytes, count) = (Arc::new(bytes), expect.len());
    custom(
        name,
        move |fixture| {
            let bytes = bytes.clone();
            async move { talk(&fixture.server, &bytes, &[], count).await }
        },
        expect,
    )
}

/// A row after an answered `connect`; `expect` is what follows.
fn connected(name: &'static str, bytes: impl Into<Vec<u8>>, expect: &[&'static str]) -> Row {
    let (bytes, count) = (Arc::new(bytes.into()), WELCOME.len() + expect.len());
    custom(
        name,
        move |fixture| {
            let bytes = bytes.clone();
            async move {
                let first = [handshake(), connect("live")].concat();
                let heard = talk(&fixture.server, &first, &bytes, count).await?;
                ensure!(heard.starts_with(&WELCOME.map(str::to_owned)), "{heard:?}");
                Ok(heard[WELCOME.len()..].to_vec())
            }
        },
        expect,
    )
}

/// Pseudo-random bytes that are the same in each run.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

const WELCOME: [&str; 2] = ["_result", "NetConnection.Connect.Success"];

fn garbage() -> Vec<Row> {
    let nested = |unit: &[u8], depth| message(3, COMMAND, 1, &unit.repeat(depth));
    let size = |bytes: u32| message(2, SET_CHUNK_SIZE, 0, &bytes.to_be_bytes());
    // The peer gets the reason as a sentence before the connection ends.
    let ended = |code| ["NetConnection.Call.Failed", "closed", code];
    // A command that cannot be read or served is skipped: the next one is answered.
    let served = |bytes: Vec<u8>| [bytes, create_stream()].concat();
    // One message in two chunks with another message in between; both are commands that are answered.
    let release =
        [&string("releaseStream")[..], &number(2.0), &[5], &string(&"x".repeat(150))].concat();
    let (head, tail) = release.split_at(128);
    let interleaved = [
        &header(3, release.len() as u32, COMMAND, 1),
        head,
        &message(
            4,
            COMMAND,
            1,
            &[&string("FCPublish")[..], &number(3.0), &[5], &string("x")].concat(),
        ),
        &[0xc3],
        tail,
    ]
    .concat();
    let shrinking = [
        &header(4, 300, AUDIO, 1)[..],
        &[0; 128],
        // Type 1: another length within the message.
        &[0x44, 0, 0, 0, 0, 0, 200, AUDIO],
        &[0; 72],
    ]
    .concat();
    let mut small_chunks = message(2, SET_CHUNK_SIZE, 0, &1_u32.to_be_bytes());
    let create = [&string("createStream")[..], &number(2.0), &[5]].concat();
    small_chunks.extend(header(3, create.len() as u32, COMMAND, 0));
    for (at, byte) in create.iter().enumerate() {
        if at > 0 {
            small_chunks.push(0xc3);
        }
        small_chunks.push(*byte);
    }
    let streams: Vec<u8> = (2..=65)
        .flat_map(|id| match id {
            2..=63 => header(id, 4, AUDIO, 1)[..].iter().copied().chain([0; 4]).collect::<Vec<_>>(),
            id => [&[0, id - 64][..], &header(0, 4, AUDIO, 1)[1..], &[0; 4]].concat(),
        })
        .chain([&[0, 200][..], &header(0, 4, AUDIO, 1)[1..], &[0; 4]].concat())
        .collect();
    vec![
        rtmp("random bytes", noise(4096), &["closed", "handshakeVersion"]),
        rtmp(
            "random bytes behind a handshake",
            [handshake(), noise(4096)].concat(),
            &["NetConnection.Connect.Rejected", "closed", "chunkHeader"],
        ),
        rtmp(
            "HTTP to RTMP",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            &["closed", "handshakeVersion"],
        ),
        connected(
            "AMF0 objects 10000 deep",
            nested(&[3, 0, 1, b'a'], 10_000),
            &ended("unauthorizedBytes"),
        ),
        connected("AMF0 objects 2000 deep", served(nested(&[3, 0, 1, b'a'], 2_000)), &["_result"]),
        connected(
            "AMF0 arrays 10000 deep",
            nested(&[10, 0, 0, 0, 1], 10_000),
            &ended("unauthorizedBytes"),
        ),
        connected("AMF0 arrays 2000 deep", served(nested(&[10, 0, 0, 0, 1], 2_000)), &["_result"]),
        connected(
            "AMF0 array of 2^32-1",
            served(message(3, COMMAND, 1, &[10, 0xff, 0xff, 0xff, 0xff])),
            &["_result"],
        ),
        connected(
            "AMF0 string of 2^32-1",
            served(message(3, COMMAND, 1, &[12, 0xff, 0xff, 0xff, 0xff])),
            &["_result"],
        ),
        connected(
            "AMF0 with 2000 values",
            served(message(3, COMMAND, 1, &[5; 2000])),
            &["_result"],
        ),
        connected(
            "AMF0 with an unknown marker",
            served(message(3, COMMAND, 1, &[0x42])),
            &["_result"],
        ),
        connected("interleaved chunk streams", interleaved, &["_result", "_result"]),
        connected("length that shrinks", shrinking, &ended("messageChanged")),
        connected(
            "message of 16 MiB",
            [header(4, 0xff_ffff, VIDEO, 1), [&[0; 128][..], &[0xc4]].concat().repeat(200)]
                .concat(),
            &ended("unauthorizedBytes"),
        ),
        connected(
            "command of 64 KiB + 1",
            message(3, COMMAND, 1, &[0; 65_537]),
            &ended("unauthorizedBytes"),
        ),
        connected("chunk size 0", size(0), &ended("chunkSize")),
        connected("chunk size 1", small_chunks, &["_result"]),
        connected("chunk size 2^31-1", served(size(0x7fff_ffff)), &["_result"]),
        connected(
            "chunk size of 2 bytes",
            message(2, SET_CHUNK_SIZE, 0, &[0, 1]),
            &ended("controlMessage"),
        ),
        connected("65 chunk streams", streams, &ended("chunkStreams")),
        connected("compressed header first", [0xc9], &ended("chunkHeader")),
        connected(
            "flood before permission",
            message(4, VIDEO, 1, &[0; 60_000]),
            &ended("unauthorizedBytes"),
        ),
        rtmp(
            "publish without connect",
            [handshake(), command("publish", 1.0, &[&[5][..], &string("x")].concat())].concat(),
            &["NetConnection.Connect.Rejected", "closed", "commandOrder"],
        ),
        connected("connect twice", connect("live"), &ended("commandOrder")),
        rtmp(
            "app of 5000 bytes",
            [handshake(), connect(&"x".repeat(5000))].concat(),
            &["NetConnection.Connect.Rejected", "closed", "nameSize"],
        ),
        connected(
            "publish without a name",
            command("publish", 3.0, &[5]),
            &["NetStream.Publish.BadName"],
        ),
        connected(
            "publish of an unknown stream",
            request("publish", "x"),
            &["_result", "NetStream.Publish.Denied", "denied badUrl"],
        ),
        rtmp(
            "publish to another app",
            [
                &handshake()[..],
                &connect("other"),
                &create_stream(),
                &command("publish", 3.0, &[&[5][..], &string("x")].concat()),
            ]
            .concat(),
            &[WELCOME[0], WELCOME[1], "_result", "NetStream.Publish.Denied", "denied unknownApp"],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_rtmp_bytes_disturb_others() -> Result<()> {
    println!("{}", run_topic("RTMP", &garbage()).await?);
    Ok(())
}
