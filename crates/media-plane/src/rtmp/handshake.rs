//! The plain RTMP handshake, server side (RTMP 1.0 §5.2).
//!
//! In: the bytes of C0, C1 and C2; a seed for the filler of S1. Out: S0, S1 and S2. Absent: the digest handshake of
//! Flash Player. S1 announces version 0, so every client uses the plain handshake.

use super::RtmpError;

/// Length of C1, C2, S1 and S2, bytes.
pub const PACKET: usize = 1536;

/// The progress of one handshake.
#[derive(Debug)]
pub struct Handshake {
    seed: [u8; 16],
    received: Vec<u8>,
    answered: bool,
}

impl Handshake {
    /// A new handshake. `seed` fills S1 and need not be secret.
    #[must_use]
    pub fn new(seed: [u8; 16]) -> Self {
        Self { seed, received: Vec::new(), answered: false }
    }

    /// Takes the bytes that the handshake needs from the front of `input` and appends the reply to `out`. Returns
    /// whether the handshake is complete.
    ///
    /// # Errors
    /// [`RtmpError::HandshakeVersion`] if the first byte is not 3.
    pub fn advance(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<bool, RtmpError> {
        let wanted = if self.answered { PACKET } else { 1 + PACKET };
        let take = (wanted - self.received.len()).min(input.len());
        let (head, tail) = input.split_at(take);
        self.received.extend_from_slice(head);
        *input = tail;
        if !self.answered
            && let Some(&version) = self.received.first()
            && version != 3
        {
            return Err(RtmpError::HandshakeVersion(version));
        }
        if self.received.len() < wanted {
            return Ok(false);
        }
        if self.answered {
            self.received = Vec::new();
            return Ok(true);
        }
        out.reserve(1 + 2 * PACKET);
        out.push(3);
        out.extend_from_slice(&[0; 8]);
        out.extend(self.seed.iter().cycle().take(PACKET - 8));
        out.extend_from_slice(&self.received[1..]);
        self.answered = true;
        self.received.clear();
        self.advance(input, out)
    }
}
