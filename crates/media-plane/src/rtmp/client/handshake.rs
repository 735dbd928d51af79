//! The plain RTMP handshake, client side (RTMP 1.0 §5.2).
//!
//! In: the bytes of S0, S1 and S2; a seed for the filler of C1. Out: C0, C1 and C2. Absent: the digest handshake of
//! Flash Player, which servers require only of players; a check of S2, whose echo proves nothing.

use crate::rtmp::RtmpError;
use crate::rtmp::handshake::PACKET;

/// The progress of one handshake.
#[derive(Debug, Default)]
pub(super) struct ClientHandshake {
    received: Vec<u8>,
    answered: bool,
}

impl ClientHandshake {
    /// C0 and C1.
    pub(super) fn hello(seed: [u8; 16]) -> Vec<u8> {
        let mut hello = Vec::with_capacity(1 + PACKET);
        hello.push(3);
        hello.extend_from_slice(&[0; 8]);
        hello.extend(seed.iter().cycle().take(PACKET - 8));
        hello
    }

    /// Takes the bytes that the handshake needs from the front of `input` and appends the reply to `out`. Returns
    /// whether the handshake is complete.
    ///
    /// # Errors
    /// [`RtmpError::HandshakeVersion`] if the first byte is not 3.
    pub(super) fn advance(
        &mut self,
        input: &mut &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, RtmpError> {
        let wanted = if self.answered { PACKET } else { 1 + PACKET };
        let (head, tail) = input.split_at((wanted - self.received.len()).min(input.len()));
        self.received.extend_from_slice(head);
        *input = tail;
        if let (false, Some(&version)) = (self.answered, self.received.first())
            && version != 3
        {
            return Err(RtmpError::HandshakeVersion(version));
        }
        if self.received.len() < wanted {
            return Ok(false);
        }
        let packet = std::mem::take(&mut self.received);
        if self.answered {
            return Ok(true);
        }
        out.extend_from_slice(&packet[1..]);
        self.answered = true;
        self.advance(input, out)
    }
}
