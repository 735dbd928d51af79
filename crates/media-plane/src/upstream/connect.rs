//! Connecting to an upstream.
//!
//! In: an [`UpstreamUrl`]. Out: a connection, with TLS if the URL requires it. Absent: RTMP.
//!
//! This server would refuse a publish to itself, because the URL is not signed. But a forward would try again for
//! ever. Therefore a listener of this process is refused as upstream, whatever name leads to it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, TlsStream};

use super::{UpstreamError, UpstreamOptions, UpstreamUrl};
use crate::address::is_public;
use crate::wire::{Wire, cap_send_buffer, prepare};

/// Size of the kernel's send buffer, bytes: enough for 10 Mbit/s with a round trip of 400 ms.
const SEND_BUFFER: usize = 512 << 10;
/// Addresses of a host name that are tried.
const MAX_ADDRESSES: usize = 4;
/// Time to connect to each address but the last.
const PER_ADDRESS: Duration = Duration::from_secs(3);

/// Connects, with the TLS handshake. The caller limits the total time.
pub(super) async fn connect(
    url: &UpstreamUrl,
    options: &UpstreamOptions,
) -> Result<Wire, UpstreamError> {
    let addresses = lookup_host((url.host(), url.port())).await.map_err(UpstreamError::Resolve)?;
    let addresses: Vec<SocketAddr> = addresses.take(MAX_ADDRESSES).collect();
    if options.public_only && !addresses.iter().all(|address| is_public(address.ip())) {
        return Err(UpstreamError::NotPublic);
    }
    let mut error = UpstreamError::Resolve(io::ErrorKind::NotFound.into());
    for (index, address) in addresses.iter().enumerate() {
        let is_last = index + 1 == addresses.len();
        let limit = if is_last { options.connect_timeout } else { PER_ADDRESS };
        let stream = match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(failure)) => {
                error = UpstreamError::Connect(failure);
                continue;
            }
            Err(_) => {
                error = UpstreamError::Connect(io::ErrorKind::TimedOut.into());
                continue;
            }
        };
        let from = stream.local_addr().map_err(UpstreamError::Connect)?;
        // The address that was reached: the unspecified address leads to this machine.
        let to = stream.peer_addr().map_err(UpstreamError::Connect)?;
        if is_own(to, from.ip(), &options.own) {
            return Err(UpstreamError::OwnListener);
        }
        prepare(&stream);
        cap_send_buffer(&stream, SEND_BUFFER);
        return if url.is_tls() {
            tls(url, options, stream).await
        } else {
            Ok(Wire::Plain(stream))
        };
    }
    Err(error)
}

async fn tls(
    url: &UpstreamUrl,
    options: &UpstreamOptions,
    stream: TcpStream,
) -> Result<Wire, UpstreamError> {
    let name = ServerName::try_from(url.host().to_owned())
        .map_err(|error| UpstreamError::Tls(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    let connector = TlsConnector::from(options.tls.clone());
    let stream = connector.connect(name, stream).await.map_err(UpstreamError::Tls)?;
    Ok(Wire::Tls(Box::new(TlsStream::Client(stream))))
}

/// Whether a connection from `from` reached a listener of this process. Between two sockets of one machine, both ends
/// have the same address or a loopback address.
fn is_own(to: SocketAddr, from: IpAddr, own: &[SocketAddr]) -> bool {
    let ip = to.ip().to_canonical();
    let is_here = ip.is_loopback() || ip.is_unspecified() || ip == from.to_canonical();
    own.iter().any(|own| {
        let listens = own.ip().to_canonical();
        own.port() == to.port() && (listens == ip || is_here && listens.is_unspecified())
    })
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: a forward does not come back to its own server.

    use super::*;

    #[test]
    fn own_listeners_are_recognized_by_address() {
        let case = |to: &str, from: &str, own: &str| {
            is_own(to.parse().unwrap(), from.parse().unwrap(), &[own.parse().unwrap()])
        };
        assert!(case("127.0.0.1:1935", "127.0.0.1", "127.0.0.1:1935"));
        assert!(case("[::ffff:127.0.0.1]:1935", "::ffff:127.0.0.1", "127.0.0.1:1935"));
        assert!(case("127.0.0.2:1935", "127.0.0.1", "0.0.0.0:1935"));
        assert!(case("10.0.0.7:1935", "10.0.0.7", "0.0.0.0:1935"));
        assert!(case("10.0.0.7:1935", "10.0.0.7", "[::]:1935"));
        assert!(!case("127.0.0.1:1936", "127.0.0.1", "127.0.0.1:1935"), "another port");
        assert!(!case("127.0.0.2:1935", "127.0.0.1", "127.0.0.1:1935"), "another server here");
        assert!(!case("10.0.0.8:1935", "10.0.0.7", "0.0.0.0:1935"), "another machine");
    }
}
