//! WebSocket frames that the server writes (RFC 6455 §5): whole, unmasked, ready to be shared by every
//! receiver.

use bytes::{BufMut, Bytes, BytesMut};
use lianmai_protocol::message::Notice;
use lianmai_protocol::message::notice::Closing;
use lianmai_protocol::{CloseCode, codec};

const FIN_TEXT: u8 = 0x81;
const FIN_BINARY: u8 = 0x82;
const FIN_CLOSE: u8 = 0x88;
const FIN_PING: u8 = 0x89;
const FIN_PONG: u8 = 0x8a;
/// Close code for a close frame that RFC 6455 does not allow (§7.4.1).
const PROTOCOL_ERROR: u16 = 1002;
/// Close code for a close frame whose reason is not UTF-8.
const NOT_UTF8: u16 = 1007;

fn head(first: u8, length: usize, room: usize) -> BytesMut {
    let mut head = BytesMut::with_capacity(room + 10);
    head.put_u8(first);
    match length {
        len @ 0..=125 => head.put_u8(len as u8),
        len @ 126..=0xffff => {
            head.put_u8(126);
            head.put_u16(len as u16);
        }
        len => {
            head.put_u8(127);
            head.put_u64(len as u64);
        }
    }
    head
}

fn frame(first: u8, payload: &[u8]) -> Bytes {
    let mut frame = head(first, payload.len(), payload.len());
    frame.extend_from_slice(payload);
    frame.freeze()
}

/// The head of a binary frame with a payload of `length` bytes. The payload itself need not be copied.
pub(crate) fn binary_head(length: usize) -> Bytes {
    head(FIN_BINARY, length, 0).freeze()
}

/// A text frame.
pub(crate) fn text(payload: &[u8]) -> Bytes {
    frame(FIN_TEXT, payload)
}

/// A ping without payload.
pub(crate) fn ping() -> Bytes {
    Bytes::from_static(&[FIN_PING, 0])
}

/// The answer to a ping with this payload.
pub(crate) fn pong(payload: &[u8]) -> Bytes {
    frame(FIN_PONG, payload)
}

/// The answer to a close frame with this payload: the peer's code alone, or the code of what is wrong with the frame.
pub(crate) fn close_reply(payload: &[u8]) -> Bytes {
    let code = match payload {
        [] => return frame(FIN_CLOSE, &[]),
        [high, low, reason @ ..] => match u16::from_be_bytes([*high, *low]) {
            code if !may_close(code) => PROTOCOL_ERROR,
            _ if str::from_utf8(reason).is_err() => NOT_UTF8,
            code => code,
        },
        [_] => PROTOCOL_ERROR,
    };
    frame(FIN_CLOSE, &code.to_be_bytes())
}

/// Whether a close frame may hold this code (RFC 6455 §7.4). 1012-1014 are registered with IANA; 1004-1006 and 1015
/// must not be sent.
fn may_close(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// A close frame whose reason is the name of the code.
pub(crate) fn close(code: CloseCode) -> Bytes {
    let name = code.row().map_or("", |row| row.name);
    let mut payload = Vec::with_capacity(2 + name.len());
    payload.extend_from_slice(&code.0.to_be_bytes());
    payload.extend_from_slice(name.as_bytes());
    frame(FIN_CLOSE, &payload)
}

/// The notice that the server stops, for connections without a member.
pub(crate) fn going_away() -> Bytes {
    let code = CloseCode::GOING_AWAY;
    let row = code.row().expect("the code is in the table");
    let notice = Closing {
        code,
        reason: row.name.to_owned(),
        action: row.action.clone(),
        url: None,
        retry_after_ms: None,
    };
    text(codec::encode_notice(&Notice::Closing(notice)).as_bytes())
}

/// Frames a text once for all receivers of the same payload: the engine hands out clones of one `Bytes`.
#[derive(Debug, Default)]
pub(crate) struct Framer {
    last: Option<(Bytes, Bytes)>,
}

impl Framer {
    pub(crate) fn text(&mut self, payload: Bytes) -> Bytes {
        if let Some((last, framed)) = &self.last
            && last.as_ptr() == payload.as_ptr()
            && last.len() == payload.len()
        {
            return framed.clone();
        }
        let framed = text(&payload);
        self.last = Some((payload, framed.clone()));
        framed
    }

    /// Forgets the last payload, so that an idle shard does not hold its memory.
    pub(crate) fn forget(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves CON-7.
    #[test]
    fn lengths_take_the_shortest_form() {
        assert_eq!(&text(&[b'a'; 125])[..2], &[0x81, 125]);
        assert_eq!(&text(&[b'a'; 126])[..4], &[0x81, 126, 0, 126]);
        assert_eq!(&text(&[b'a'; 65_536])[..10], &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    /// Proves CON-10.
    #[test]
    fn a_close_is_echoed_if_its_code_is_valid() {
        let reply = |payload: &[u8]| close_reply(payload).to_vec();
        for code in [1000, 1001, 1002, 1003, 1007, 1011, 1012, 1014, 3000, 3999, 4000, 4005, 4999] {
            let bytes = u16::to_be_bytes(code);
            assert_eq!(reply(&bytes), [&[0x88, 2][..], &bytes].concat(), "{code}");
            assert_eq!(reply(&[&bytes[..], b"bye"].concat()), [&[0x88, 2][..], &bytes].concat());
        }
        for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, u16::MAX] {
            assert_eq!(reply(&u16::to_be_bytes(code)), [0x88, 2, 0x03, 0xea], "{code}");
        }
        assert_eq!(reply(b""), [0x88, 0], "a close without a code is answered without one");
        assert_eq!(reply(b"x"), [0x88, 2, 0x03, 0xea], "half a code");
        assert_eq!(reply(&[0x03, 0xe8, 0xff]), [0x88, 2, 0x03, 0xef], "a reason that is not UTF-8");
    }

    /// Proves no rule of the protocol: one payload is framed once.
    #[test]
    fn a_payload_is_framed_once() {
        let mut framer = Framer::default();
        let payload = Bytes::from_static(b"hello");
        let (a, b) = (framer.text(payload.clone()), framer.text(payload));
        assert_eq!(a.as_ptr(), b.as_ptr());
    }
}
