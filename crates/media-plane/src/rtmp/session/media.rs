//! The media messages of a publish.
//!
//! In: audio, video, data and aggregate messages. Out: events. Absent: the meaning of the media, see `crate::media`.

use bytes::Bytes;

use super::{Event, MediaKind, Output, Session, State};
use crate::rtmp::RtmpError;
use crate::rtmp::amf0::{self, Value};
use crate::rtmp::limits::MAX_AGGREGATED;
use crate::rtmp::message::{Message, message_type};

/// Values skipped before the name of a data message. Some cameras write numbers there.
const LEADING_VALUES: usize = 4;

impl Session {
    /// Takes a media message. It is ignored unless a publish runs, and if it came on a message stream that was
    /// refused.
    pub(super) fn published(&mut self, message: Message) -> Result<(), RtmpError> {
        let is_refused = (2..2 + self.other_streams).contains(&message.stream_id);
        match self.state {
            State::Publishing(stream) if stream == message.stream_id || !is_refused => {}
            _ => return Ok(()),
        }
        if message.type_id == message_type::AGGREGATE {
            self.aggregate(message.timestamp, &message.payload)
        } else {
            self.single(message.type_id, message.timestamp, message.payload);
            Ok(())
        }
    }

    fn single(&mut self, type_id: u8, timestamp: u32, payload: Bytes) {
        match type_id {
            message_type::AUDIO => self.media(MediaKind::Audio, timestamp, payload),
            message_type::VIDEO => self.media(MediaKind::Video, timestamp, payload),
            message_type::DATA => self.data(timestamp, payload),
            message_type::DATA_AMF3 if !payload.is_empty() => {
                self.data(timestamp, payload.slice(1..));
            }
            _ => {}
        }
    }

    /// Splits an aggregate (RTMP 1.0 §7.1.6). It consists of FLV tags, the first of which has the timestamp of the
    /// aggregate.
    fn aggregate(&mut self, timestamp: u32, payload: &Bytes) -> Result<(), RtmpError> {
        let mut first = None;
        let mut at = 0;
        for count in 0.. {
            let Some(&[type_id, l0, l1, l2, t0, t1, t2, t3, _, _, _]) =
                payload.get(at..).and_then(<[u8]>::first_chunk)
            else {
                break;
            };
            if count == MAX_AGGREGATED {
                return Err(RtmpError::Aggregate);
            }
            let body = at + 11;
            let end = body + u32::from_be_bytes([0, l0, l1, l2]) as usize;
            if end > payload.len() {
                self.report_skipped("the end of an aggregate, which is cut short");
                break;
            }
            let time = u32::from_be_bytes([t3, t0, t1, t2]);
            let offset = time.wrapping_sub(*first.get_or_insert(time));
            self.single(type_id, timestamp.wrapping_add(offset), payload.slice(body..end));
            // Each tag is followed by its size.
            at = end + 4;
        }
        Ok(())
    }

    fn media(&mut self, kind: MediaKind, timestamp: u32, payload: Bytes) {
        if !payload.is_empty() {
            self.out.push_back(Output::Event(Event::Media { kind, timestamp, payload }));
        }
    }

    /// Takes a data message. Unreadable metadata is dropped: it is no reason to end a publish.
    fn data(&mut self, timestamp: u32, payload: Bytes) {
        let mut rest = &payload[..];
        let mut start = 0;
        let mut name = None;
        for _ in 0..LEADING_VALUES {
            start = payload.len() - rest.len();
            match amf0::decode_first(&mut rest) {
                Ok(Value::String(text)) if text == "@setDataFrame" => {}
                Ok(Value::String(text)) => {
                    name = Some(text);
                    break;
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        if name.as_deref() != Some("onMetaData") {
            self.report_skipped("a data message other than onMetaData");
        } else if amf0::decode_all(rest).is_err() {
            self.report_skipped("metadata that cannot be read");
        } else {
            self.media(MediaKind::Metadata, timestamp, payload.slice(start..));
        }
    }
}
