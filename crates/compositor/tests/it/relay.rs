//! A relay in this process: pushes arrive by RTMP and are played by RTMP and HTTP-FLV. It authorises everything.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use lianmai_media_plane::{
    Authorizer, Direction, FactState, Hub, Kinds, Protocol, RelayConfig, RtmpServer, StreamFact,
    StreamName, StreamRequest, Verdict, pull,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

struct Everybody;

impl Authorizer for Everybody {
    async fn authorize(&self, _request: StreamRequest) -> Verdict {
        Verdict::Allow { viewer: None, kinds: Kinds::BOTH, account: None }
    }
}

/// A relay; dropping it closes its listeners.
pub(crate) struct Relay {
    pub(crate) rtmp: SocketAddr,
    pub(crate) http: SocketAddr,
    facts: mpsc::Receiver<StreamFact>,
    _tasks: JoinSet<()>,
}

impl Relay {
    pub(crate) async fn start() -> Self {
        let (sink, facts) = mpsc::channel(1024);
        let hub = Hub::with_facts(RelayConfig::default(), sink);
        let (rtmp, http) = (
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        );
        let addresses = (rtmp.local_addr().unwrap(), http.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        let server = RtmpServer::new(hub.clone(), Arc::new(Everybody));
        tasks.spawn(async move { server.serve(rtmp, std::future::pending()).await });
        let served = hub.clone();
        tasks.spawn(async move {
            loop {
                let Ok((stream, peer)) = http.accept().await else { return };
                let hub = served.clone();
                // A viewer that disconnects is no failure.
                tokio::spawn(async move { drop(play(stream, peer, hub).await) });
            }
        });
        Self { rtmp: addresses.0, http: addresses.1, facts, _tasks: tasks }
    }

    /// Waits until a publish of this stream has ended. Earlier facts of the hub are discarded.
    pub(crate) async fn ended(&mut self, name: &str) {
        while let Some(fact) = self.facts.recv().await {
            if fact.stream == StreamName::new("live", name) && fact.state == FactState::Ended {
                return;
            }
        }
    }

    pub(crate) fn push_url(&self, name: &str) -> String {
        format!("rtmp://{}/live/{name}", self.rtmp)
    }

    pub(crate) fn pull_url(&self, name: &str) -> String {
        format!("http://{}/live/{name}.flv", self.http)
    }
}

async fn play(mut stream: TcpStream, peer: SocketAddr, hub: Hub) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 8192 {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let name = path.trim_start_matches("/live/").trim_end_matches(".flv");
    let request = StreamRequest::new(Direction::Play, "live", name, "", Protocol::HttpFlv, peer);
    let Ok(mut pull) = pull::open(&hub, &Everybody, request).await else {
        return stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await;
    };
    stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await?;
    while let Some(block) = pull.next().await {
        stream.write_all(&block).await?;
    }
    Ok(())
}
