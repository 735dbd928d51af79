//! Events in the form for receivers and for readers of the journal. Comes in: a stored event. Goes out: JSON that is
//! the same for a delivery and for a read. Deliberately absent: which events a receiver wants.

use lianmai_protocol::{Appkey, ChannelName, Cid};
use lianmai_signal_engine::{ChannelKey, Event, EventRecord};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::records::{EventContent, StoredEvent};

/// One event of a channel, as `listEvents` gives it and as webhooks deliver it. `webhookEvent` in schema.json has the exact
/// fields of each type.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EventDto {
    /// The same in each delivery and in `listEvents`: a text of at most 64 visible characters, which has no meaning. A
    /// `lost` has an id of its own, which depends on `from` and `to`.
    pub(crate) id: String,
    /// The type: `channelOpened`, `channelEnded`, `memberJoined`, `memberLeft`, `roleChanged`, `streamAdded`,
    /// `streamRemoved`, `taskAdded`, `taskChanged`, `taskEnded`, or `lost` for numbers that are gone.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// When it happened, in Unix milliseconds. Of a `lost`: about when the events were lost, or 0 if that is unknown.
    pub(crate) at: u64,
    /// The app.
    #[schema(value_type = String)]
    pub(crate) appkey: Appkey,
    /// The name of the channel.
    #[schema(value_type = String)]
    pub(crate) channel_name: ChannelName,
    /// The incarnation of the channel: another channel of the same name has another one. Only a `lost` has none; then the
    /// field is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(crate) cid: Option<Cid>,
    /// Its number: one more than that of the event before. Numbers belong to the name of the channel. They go on through
    /// all channels of this name and over restarts. The first number of a name is the time in milliseconds, not 0 or 1.
    /// The server forgets a number 7 days after the last event (earlier only if it knows more than 200,000 names), if no
    /// channel has the name then; the next event has `first` and a greater number. A `lost` has the number `to`.
    pub(crate) seq: u64,
    /// True for an event before which the server knows no event of this channel name: it is the first one, or the server
    /// has forgotten the number. The number before may then be any smaller one. False when absent. It belongs to the
    /// event, not to the delivery: a webhook that was made later gets its first event of a channel without `first`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) first: bool,
    /// Further fields, which depend on the type: none for `channelOpened` and `channelEnded`; `uid`, `mid` and `role` of
    /// `memberJoined` and `roleChanged`; `uid`, `mid` and `reason` of `memberLeft`; `uid`, `mid`, `mediaType` and `pub` of
    /// `streamAdded` and `streamRemoved`; `taskId` and `uid` (absent for a task of the API) of `taskAdded`; `taskId`,
    /// `state`, `code`, `revision`, `retries` and `msg` of `taskChanged`; `taskId` and `msg` of `taskEnded`; `from` and `to`
    /// of `lost`.
    #[schema(value_type = std::collections::BTreeMap<String, Value>)]
    pub(crate) data: Map<String, Value>,
}

impl EventDto {
    /// Reads a stored event; `None` if the name of its channel is no name. An event that this version cannot read is told
    /// as a gap, so that readers know that there was one.
    pub(crate) fn of(appkey: &Appkey, stored: &StoredEvent) -> Option<Self> {
        let name: ChannelName = stored.channel.parse().ok()?;
        match &stored.content {
            EventContent::Record(text) => {
                let record = serde_json::from_str(text).ok();
                let event = record.and_then(|record| Self::of_record(appkey, name.clone(), record));
                Some(event.unwrap_or_else(|| Self::lost(appkey, name, stored.seq, stored.seq, 0)))
            }
            EventContent::Lost { from, at } => {
                Some(Self::lost(appkey, name, *from, stored.seq, *at))
            }
        }
    }

    /// A gap: these numbers of a channel are gone.
    pub(crate) fn lost(
        appkey: &Appkey,
        channel_name: ChannelName,
        from: u64,
        to: u64,
        at: u64,
    ) -> Self {
        let channel = ChannelKey { appkey: appkey.clone(), name: channel_name.clone() };
        let data = [("from", from), ("to", to)].map(|(key, seq)| (key.to_owned(), seq.into()));
        EventDto {
            id: format!("{}-{to}", EventRecord::id(&channel, from)),
            kind: "lost".to_owned(),
            at,
            appkey: appkey.clone(),
            channel_name,
            cid: None,
            seq: to,
            first: false,
            data: data.into_iter().collect(),
        }
    }

    fn of_record(appkey: &Appkey, channel_name: ChannelName, record: EventRecord) -> Option<Self> {
        let EventRecord { seq, first, at, cid, event } = record;
        if let Event::Lost { from, to } = event {
            return Some(Self::lost(appkey, channel_name, from, to, at.0));
        }
        let kind = event.kind().to_owned();
        let Ok(Value::Object(mut data)) = serde_json::to_value(&event) else { return None };
        data.remove("type");
        let channel = ChannelKey { appkey: appkey.clone(), name: channel_name.clone() };
        Some(EventDto {
            id: EventRecord::id(&channel, seq),
            kind,
            at: at.0,
            appkey: appkey.clone(),
            channel_name,
            cid: Some(cid),
            seq,
            first,
            data,
        })
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: events of other versions, and gaps.

    use super::*;

    fn read(seq: u64, content: EventContent) -> EventDto {
        let stored = StoredEvent { pos: 1, channel: "a".to_owned(), seq, content };
        EventDto::of(&"demo".parse().unwrap(), &stored).unwrap()
    }

    #[test]
    fn an_event_of_a_later_version_is_told_as_a_gap() {
        let event = read(7, EventContent::Record(r#"{"seq":7,"event":{"type":"new"}}"#.to_owned()));
        assert_eq!((event.kind.as_str(), event.seq), ("lost", 7));
        assert_eq!(event.data["from"], 7);
        assert_eq!(event.data["to"], 7);
    }

    #[test]
    fn a_gap_has_a_time_and_an_id_of_its_own() {
        let gap = read(7, EventContent::Lost { from: 3, at: 50 });
        assert_eq!((gap.at, gap.seq), (50, 7));
        let channel = ChannelKey { appkey: gap.appkey.clone(), name: gap.channel_name.clone() };
        assert_ne!(gap.id, EventRecord::id(&channel, 7));
        assert_ne!(gap.id, read(7, EventContent::Lost { from: 4, at: 50 }).id);
        assert!(read(u64::MAX, EventContent::Lost { from: u64::MAX, at: 0 }).id.len() <= 64);
    }
}
