//! A TCP connection that can fail: a proxy that stops to pass bytes on command and meanwhile keeps both sides open,
//! like a broken network.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Forward,
    Hold,
    Close,
}

/// A proxy to a server.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
}

impl Proxy {
    /// Starts a proxy to `server`.
    pub(crate) async fn to(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (mode, modes) = watch::channel(Mode::Forward);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(server) = TcpStream::connect(server).await {
                    let ((client_in, client_out), (server_in, server_out)) =
                        (client.into_split(), server.into_split());
                    tokio::spawn(forward(client_in, server_out, modes.clone()));
                    tokio::spawn(forward(server_in, client_out, modes.clone()));
                }
            }
        });
        Ok(Proxy { address, mode })
    }

    /// The same URL through the proxy.
    pub(crate) fn url(&self, url: &str) -> Result<String> {
        let (scheme, rest) = url.split_once("://").context("no scheme")?;
        let (_, path) = rest.split_once('/').context("no path")?;
        Ok(format!("{scheme}://{}/{path}", self.address))
    }

    /// From now on no byte passes and nothing is closed.
    pub(crate) fn hold(&self) {
        self.mode.send_replace(Mode::Hold);
    }

    /// Closes both sides.
    pub(crate) fn close(&self) {
        self.mode.send_replace(Mode::Close);
    }
}

/// Passes bytes in one direction. The end of one direction does not end the other.
async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut mode: watch::Receiver<Mode>) {
    let mut bytes = BytesMut::new();
    let mut open = true;
    loop {
        let now = *mode.borrow_and_update();
        if now == Mode::Close {
            return;
        }
        let pass = async {
            if now == Mode::Hold || !open {
                return std::future::pending().await;
            }
            from.read_buf(&mut bytes).await.is_ok_and(|read| read > 0)
                && to.write_all_buf(&mut bytes).await.is_ok()
        };
        tokio::select! {
            changed = mode.changed() => if changed.is_err() { return },
            passed = pass => open = passed,
        }
    }
}
