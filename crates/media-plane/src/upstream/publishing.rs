//! One publish to an upstream.
//!
//! In: packets. Out: their bytes on the socket, and why the publish ended. Absent: the source of the packets; another
//! attempt.
//!
//! The bytes that wait for the socket are bounded in size and in time. A publish that exceeds a bound ends.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::connect::connect;
use super::{UpstreamError, UpstreamOptions, UpstreamUrl};
use crate::media::Packet;
use crate::rtmp::{Answer, Client, ClientEvent, ClientOutput};
use crate::shares::{BytesAccount, Charge};
use crate::wire::{Exchanged, Wire, WriteQueue};

/// Bytes read at once. An upstream sends little.
const READ_BYTES: usize = 1 << 10;
/// Reads while bytes wait to be written. More would let an upstream that does not read pile up answers.
const READS_WHILE_WRITING: usize = 16;
/// Memory of a queued buffer in addition to its bytes.
const BLOCK_BYTES: usize = 128;
/// Time for the upstream to read the last messages before the connection is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A publish that an upstream has accepted. Dropping it resets the connection: what the kernel holds is not delivered.
/// The same holds if the process is killed.
#[derive(Debug)]
pub struct Upstream {
    wire: Wire,
    client: Client,
    out: WriteQueue,
    buffer: Vec<u8>,
    reads: usize,
    write_timeout: Duration,
    queue: SendQueue,
    /// The charge for what waits, if an account pays for it.
    charge: Option<Charge>,
}

impl Upstream {
    /// Connects and publishes.
    ///
    /// # Errors
    /// [`UpstreamError`], at the latest after [`UpstreamOptions::connect_timeout`].
    pub async fn publish(
        url: &UpstreamUrl,
        options: &UpstreamOptions,
    ) -> Result<Self, UpstreamError> {
        timeout(options.connect_timeout, Self::accepted(url, options))
            .await
            .unwrap_or(Err(UpstreamError::Timeout))
    }

    async fn accepted(url: &UpstreamUrl, options: &UpstreamOptions) -> Result<Self, UpstreamError> {
        let mut upstream = Self {
            wire: connect(url, options).await?,
            client: Client::new(url.target().clone(), seed()),
            out: WriteQueue::default(),
            buffer: vec![0; READ_BYTES],
            reads: 0,
            write_timeout: options.write_timeout,
            queue: SendQueue::new(options),
            charge: None,
        };
        // It stays so. A close after a good-bye that the upstream has answered has nothing to reset.
        upstream.wire.reset();
        upstream.pump()?;
        while !upstream.client.is_publishing() {
            upstream.exchange().await?;
        }
        Ok(upstream)
    }

    /// Charges the waiting bytes to an account from now on.
    pub(crate) fn charge_to(&mut self, account: &BytesAccount) {
        self.charge = Some(account.empty());
    }

    /// Queues a packet that the publish begins with. Until all such packets are written, they count for no bound
    /// except that of the account.
    ///
    /// # Errors
    /// [`UpstreamError::NoRoom`] if the account has no room for it. The caller must then drop the publish.
    pub fn send_first(&mut self, packet: &Packet) -> Result<(), UpstreamError> {
        let bytes = self.push(packet);
        self.queue.allow(bytes);
        self.update_charge()
    }

    /// Queues a packet.
    ///
    /// # Errors
    /// [`UpstreamError::TooSlow`] or [`UpstreamError::NoRoom`] if more waits than is allowed. The caller must then
    /// drop the publish.
    pub fn send(&mut self, packet: &Packet) -> Result<(), UpstreamError> {
        let now = Instant::now();
        let bytes = self.push(packet);
        self.queue.push(bytes, self.out.written(), now)?;
        self.update_charge()
    }

    /// Adjusts the charge to what waits now.
    fn update_charge(&mut self) -> Result<(), UpstreamError> {
        let Some(charge) = &mut self.charge else { return Ok(()) };
        let waiting = self.out.len() + self.out.blocks() * BLOCK_BYTES;
        charge.resize(waiting).map_err(|_| UpstreamError::NoRoom)
    }

    /// Bytes that wait for the socket.
    #[must_use]
    pub fn waiting_bytes(&self) -> u64 {
        self.queue.pushed - self.out.written().min(self.queue.pushed)
    }

    /// Bytes that the socket took since the connection began.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.out.written()
    }

    /// Writes what is queued, and answers the upstream, until the publish ends. Cancel safe.
    pub async fn serve(&mut self) -> UpstreamError {
        loop {
            if let Err(error) = self.exchange().await {
                return error;
            }
        }
    }

    /// Ends the publish: writes what is queued, says that it is over, and waits until the upstream closes. What the
    /// upstream has not taken within a second is not delivered.
    pub async fn finish(mut self) {
        self.client.finish();
        // The only error that can come here is the close, which is wanted.
        let _ = self.pump();
        let wire = &mut self.wire;
        let out = &mut self.out;
        let buffer = &mut self.buffer;
        let close = async {
            out.flush(wire, CLOSE_TIMEOUT).await?;
            wire.shutdown().await?;
            while wire.read(buffer).await? > 0 {}
            io::Result::Ok(())
        };
        let _ = timeout(CLOSE_TIMEOUT, close).await;
    }

    /// Queues a packet. Returns its length on the wire, bytes.
    fn push(&mut self, packet: &Packet) -> u64 {
        self.client.publish(packet.kind(), packet.timestamp(), &packet.body());
        let mut bytes = 0;
        while let Some(output) = self.client.next_output() {
            if let ClientOutput::Send(block) = output {
                bytes += block.len() as u64;
                self.out.push(block);
            }
        }
        bytes
    }

    async fn exchange(&mut self) -> Result<(), UpstreamError> {
        if self.out.is_empty() {
            self.reads = 0;
        }
        let may_read = self.reads < READS_WHILE_WRITING;
        let buffer = may_read.then_some(&mut self.buffer[..]);
        match self.out.exchange(&mut self.wire, buffer, self.write_timeout).await {
            Ok(Exchanged::Written) => self.update_charge(),
            Ok(Exchanged::Read(0)) => {
                Err(UpstreamError::Broken(io::ErrorKind::UnexpectedEof.into()))
            }
            Ok(Exchanged::Read(count)) => {
                self.reads += 1;
                let result = self.client.input(&self.buffer[..count]);
                self.pump()?;
                Ok(result?)
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(UpstreamError::Stalled),
            Err(error) => Err(UpstreamError::Broken(error)),
        }
    }

    /// Handles the outputs of the client.
    fn pump(&mut self) -> Result<(), UpstreamError> {
        while let Some(output) = self.client.next_output() {
            match output {
                ClientOutput::Send(bytes) => {
                    self.queue.pushed += bytes.len() as u64;
                    self.out.push(bytes);
                }
                ClientOutput::Event(ClientEvent::Accepted | ClientEvent::Media { .. }) => {}
                ClientOutput::Event(ClientEvent::Refused(answer)) => {
                    return Err(UpstreamError::Refused(answer));
                }
                ClientOutput::Event(ClientEvent::Closed(answer)) => {
                    return Err(UpstreamError::Closed(answer));
                }
                ClientOutput::Close => {
                    let (code, description) = (String::new(), String::new());
                    return Err(UpstreamError::Closed(Answer { code, description }));
                }
            }
        }
        Ok(())
    }
}

/// Measures what waits for the socket.
#[derive(Debug)]
struct SendQueue {
    max_bytes: u64,
    max_time: Duration,
    /// Bytes queued since the connection began.
    pushed: u64,
    /// The packets that the publish began with end at this number of queued bytes.
    first: u64,
    /// When the socket was first seen to have taken the packets that the publish began with.
    begun: Option<Instant>,
    /// Where each waiting packet ends, counted as [`SendQueue::pushed`], and when it was queued.
    packets: VecDeque<(u64, Instant)>,
}

impl SendQueue {
    fn new(options: &UpstreamOptions) -> Self {
        Self {
            max_bytes: options.queue_bytes as u64,
            max_time: options.queue_time,
            pushed: 0,
            first: 0,
            begun: None,
            packets: VecDeque::new(),
        }
    }

    fn allow(&mut self, bytes: u64) {
        self.pushed += bytes;
        self.first = self.pushed;
    }

    fn push(&mut self, bytes: u64, written: u64, now: Instant) -> Result<(), UpstreamError> {
        self.pushed += bytes;
        self.packets.push_back((self.pushed, now));
        while self.packets.front().is_some_and(|(end, _)| *end <= written) {
            self.packets.pop_front();
        }
        if written >= self.first {
            self.begun.get_or_insert(now);
        }
        // The wait of a packet is measured from the time when the first packets are written.
        let oldest = self.packets.front().map_or(now, |(_, at)| *at);
        let waits = self.begun.map_or(Duration::ZERO, |begun| now - oldest.max(begun));
        let waiting = self.pushed - written.max(self.first).min(self.pushed);
        if waiting > self.max_bytes || waits > self.max_time {
            return Err(UpstreamError::TooSlow);
        }
        Ok(())
    }
}

/// Filler bytes for the RTMP handshake. They differ for each connection and need not be secret.
pub(super) fn seed() -> [u8; 16] {
    let seeds = RandomState::new();
    let mut seed = [0; 16];
    seed[..8].copy_from_slice(&seeds.hash_one(0).to_le_bytes());
    seed[8..].copy_from_slice(&seeds.hash_one(1).to_le_bytes());
    seed
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: what may wait for an upstream.

    use std::sync::Arc;

    use rustls::crypto::ring;
    use rustls::{ClientConfig, RootCertStore};

    use super::*;

    fn queue(queue_bytes: usize, queue_ms: u64) -> SendQueue {
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let queue_time = Duration::from_millis(queue_ms);
        let options = UpstreamOptions::new(Arc::new(tls));
        SendQueue::new(&UpstreamOptions { queue_bytes, queue_time, ..options })
    }

    #[test]
    fn bytes_are_bounded_but_for_the_first() {
        let now = Instant::now();
        let mut queue = queue(100, 1000);
        queue.allow(5000);
        assert!(queue.push(60, 0, now).is_ok());
        assert!(queue.push(40, 4999, now).is_ok());
        assert!(queue.push(1, 4999, now).is_err(), "101 bytes behind the first");
        assert!(queue.push(1, 5002, now).is_ok(), "some were written");
    }

    #[test]
    fn waiting_is_bounded_after_the_first_bytes() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let mut queue = queue(1 << 20, 1000);
        queue.allow(5000);
        assert!(queue.push(10, 0, at(0)).is_ok());
        assert!(queue.push(10, 100, at(5000)).is_ok(), "the first are still on their way");
        assert!(queue.push(10, 5000, at(6000)).is_ok(), "from here on it counts");
        assert!(queue.push(10, 5000, at(7000)).is_ok());
        assert!(queue.push(10, 5000, at(7001)).is_err(), "a second without progress");
        assert!(queue.push(10, 5040, at(7002)).is_ok(), "only the newest waits");
    }
}
