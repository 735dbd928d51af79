//! Peers that hang up while the authorizer decides about them.
//! Proves no rule of the protocol: a decision that nobody waits for is not waited for.

use std::sync::Mutex;
use std::time::Duration;

use lianmai_media_plane::{Authorizer, RelayConfig, StreamRequest, Verdict};
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::sockets::{Server, within};
use crate::support::*;

/// An authorizer that never decides. It reports each question, and when the question is dropped.
struct Undecided {
    asked: Mutex<mpsc::Sender<()>>,
    dropped: mpsc::Sender<()>,
}

struct Told(mpsc::Sender<()>);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

impl Authorizer for Undecided {
    async fn authorize(&self, _: StreamRequest) -> Verdict {
        let _told = Told(self.dropped.clone());
        let _ = self.asked.lock().unwrap().try_send(());
        std::future::pending().await
    }
}

#[tokio::test]
async fn hanging_up_cancels_the_authorization() {
    let (asked, mut questions) = mpsc::channel(8);
    let (dropped, mut ends) = mpsc::channel(8);
    // With this timeout, only the hang-up can end a question.
    let patient = Duration::from_secs(3600);
    let config = RelayConfig { auth_timeout: patient, ..RelayConfig::default() };
    let server = Server::start(config, Undecided { asked: Mutex::new(asked), dropped }).await;
    for bytes in [play_bytes("a"), publish_bytes("a")] {
        for (unread, reset) in [(0, false), (0, true), (100_000, false), (100_000, true)] {
            let mut peer = TcpStream::connect(server.address).await.unwrap();
            peer.write_all(&bytes).await.unwrap();
            within(questions.recv()).await.unwrap();
            // The server does not read these bytes before the decision.
            peer.write_all(&vec![0; unread]).await.unwrap();
            let kept = if reset {
                SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
                drop(peer);
                None
            } else {
                peer.shutdown().await.unwrap();
                Some(peer)
            };
            within(ends.recv()).await.unwrap();
            drop(kept);
        }
    }
    server.stop().await;
}
