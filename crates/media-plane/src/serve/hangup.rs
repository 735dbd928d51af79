//! Whether a peer hangs up while nothing is read from it.
//!
//! In: a socket whose owner waits for something else. Out: the moment at which the peer has closed it or its sending half.
//! Absent: reading; what the peer has sent stays where it is.

use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;

/// An end behind bytes that are not read wakes nobody, so it is looked for this often.
const LOOK: Duration = Duration::from_millis(100);

/// Completes when the peer has hung up. Cancel safe.
pub(super) async fn hung_up(stream: &TcpStream) {
    while let Ok(1..) = stream.peek(&mut [0]).await {
        match stream.ready(Interest::READABLE).await {
            Ok(ready) if !ready.is_read_closed() => tokio::time::sleep(LOOK).await,
            _ => return,
        }
    }
}
