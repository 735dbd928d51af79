//! Events in the form for receivers and for readers of the journal. Comes in: a stored event. Goes out: JSON that is
//! the same for a delivery and for a read. Deliberately absent: which events a receiver wants.

use lianmai_protocol::{Appkey, ChannelName, Cid};
use lianmai_signal_engine::{ChannelKey, Event, EventRecord};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::records::{EventContent, StoredEvent};

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EventDto {
    /// The same in each delivery, so that receivers can detect repetitions.
    pub(crate) id: String,
    /// The type: `channelOpened`, `channelEnded`, `memberJoined`, `memberLeft`, `roleChanged`, `streamAdded`,
    /// `streamRemoved`, `taskAdded`, `taskChanged`, `taskEnded`, or `lost` for numbers that are gone.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The time in Unix milliseconds.
    pub(crate) at: u64,
    /// The app.
    #[schema(value_type = String)]
    pub(crate) appkey: Appkey,
    /// The channel.
    #[schema(value_type = String)]
    pub(crate) channel_name: ChannelName,
    /// Its incarnation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(crate) cid: Option<Cid>,
    /// Its number in the channel: one more than that of the event before.
    pub(crate) seq: u64,
    /// The events of the channel before this one are unknown, so the number before may be any.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) first: bool,
    /// Further fields: `uid`, `mid`, `role`, `reason`, `mediaType`, `pub`; `from` and `to` of `lost`.
    #[schema(value_type = std::collections::BTreeMap<String, Value>)]
    pub(crate) data: Map<String, Value>,
}

impl EventDto {
    /// Reads a stored event; `None` if it is damaged.
    pub(crate) fn of(appkey: &Appkey, stored: &StoredEvent) -> Option<Self> {
        let name: ChannelName = stored.channel.parse().ok()?;
        match &stored.content {
            EventContent::Record(text) => {
                Self::of_record(appkey, name, serde_json::from_str(text).ok()?)
            }
            EventContent::Lost(from) => Some(Self::lost(appkey, name, *from, stored.seq, 0)),
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
            id: EventRecord::id(&channel, to),
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
