//! A relay that lets everyone publish and play, for experiments with ffmpeg.
//!
//! In: two addresses, for RTMP and for HTTP (`/{app}/{stream}.flv`). Out: media. Absent: authorization; HTTP beyond a
//! single `GET`.
//!
//! ```sh
//! cargo run --release -p lianmai-media-plane --example relay -- 127.0.0.1:1935 127.0.0.1:8080
//! ffmpeg -re -f lavfi -i testsrc -c:v libx264 -g 50 -f flv rtmp://127.0.0.1/live/a
//! ffplay http://127.0.0.1:8080/live/a.flv
//! ```
#![allow(clippy::print_stdout)]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lianmai_media_plane::{
    Authorizer, Direction, Hub, Kinds, Protocol, RelayConfig, RtmpServer, StreamRequest, Verdict,
    pull,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

struct Everybody;

impl Authorizer for Everybody {
    async fn authorize(&self, _request: StreamRequest) -> Verdict {
        Verdict::Allow { viewer: None, kinds: Kinds::BOTH, account: None }
    }
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let rtmp = arguments.next().unwrap_or_else(|| "127.0.0.1:1935".into());
    let http = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".into());
    let hub = Hub::new(RelayConfig::default());
    let http = TcpListener::bind(http).await?;
    tokio::spawn(serve_http(http, hub.clone()));
    tokio::spawn({
        let hub = hub.clone();
        async move {
            loop {
                tokio::time::sleep(Duration::from_secs(5)).await;
                println!("{:?}", hub.stats());
            }
        }
    });
    let server = RtmpServer::new(hub, Arc::new(Everybody));
    server.serve(TcpListener::bind(rtmp).await?, std::future::pending()).await;
    Ok(())
}

async fn serve_http(listener: TcpListener, hub: Hub) -> io::Result<()> {
    loop {
        let (stream, peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let hub = hub.clone();
        tokio::spawn(async move { pull(stream, peer, hub).await });
    }
}

async fn pull(mut stream: TcpStream, peer: SocketAddr, hub: Hub) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 8192 {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let target = head.split(' ').nth(1).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let name =
        path.trim_start_matches('/').strip_suffix(".flv").and_then(|path| path.split_once('/'));
    let Some((app, name)) = name else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
    };
    let request = StreamRequest::new(Direction::Play, app, name, query, Protocol::HttpFlv, peer);
    match pull::open(&hub, &Everybody, request).await {
        Ok(mut pull) => {
            stream
                .write_all(
                    b"HTTP/1.1 200 OK\r\ncontent-type: video/x-flv\r\nconnection: close\r\n\r\n",
                )
                .await?;
            while let Some(block) = pull.next().await {
                stream.write_all(&block).await?;
            }
            Ok(())
        }
        Err(denied) => {
            println!("refused: {denied}");
            stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await
        }
    }
}
