//! Detects that a peer hangs up while nothing is read from it.
//!
//! In: a socket whose owner waits for something else. Out: the moment when the peer closes the connection or its
//! sending half. Absent: reading; received bytes stay in the socket.

use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;

/// While unread bytes are in the socket, the end behind them wakes no task. So it is polled at this interval.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Completes when the peer has hung up. Cancel safe.
pub(super) async fn hung_up(stream: &TcpStream) {
    while let Ok(1..) = stream.peek(&mut [0]).await {
        match stream.ready(Interest::READABLE).await {
            Ok(ready) if !ready.is_read_closed() => tokio::time::sleep(CHECK_INTERVAL).await,
            _ => return,
        }
    }
}
