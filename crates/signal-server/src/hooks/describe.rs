//! Descriptions of events for the documents. Comes in: the types of their fields. Goes out: JSON Schema. Deliberately
//! absent: when an event happens. A test compares this with what the engine writes.

use lianmai_protocol::message::event::LeaveReason;
use lianmai_protocol::message::task::TaskState;
use lianmai_protocol::message_schemas::CHANNEL_NAME;
use lianmai_protocol::schema::{Definitions, Describe, Fields, Value};
use lianmai_protocol::{Appkey, Cid, MediaKind, Mid, Pub, Role, TaskId, UserId};
use serde_json::json;

/// A kind of event.
pub(crate) struct DescribedEvent {
    /// Its type.
    pub(crate) kind: &'static str,
    /// What has happened.
    pub(crate) text: &'static str,
    /// The schema of the whole event.
    pub(crate) schema: Value,
}

/// A field of `data`: its name, whether it is required, its schema.
type Field = (&'static str, bool, fn(&mut Definitions) -> Value);
type Data = &'static [Field];

const MEMBER: [Field; 2] = [("uid", true, UserId::describe), ("mid", true, Mid::describe)];
const NONE: Data = &[];
const JOINED: Data = &[MEMBER[0], MEMBER[1], ("role", true, Role::describe)];
const LEFT: Data = &[MEMBER[0], MEMBER[1], ("reason", true, LeaveReason::describe)];
const STREAM: Data =
    &[MEMBER[0], MEMBER[1], ("mediaType", true, MediaKind::describe), ("pub", true, Pub::describe)];
const TASK_ADDED: Data = &[("taskId", true, TaskId::describe), ("uid", false, UserId::describe)];
const TASK_CHANGED: Data = &[
    ("taskId", true, TaskId::describe),
    ("state", true, TaskState::describe),
    ("code", true, u16::describe),
    ("revision", true, u64::describe),
    ("retries", true, u32::describe),
    ("msg", true, String::describe),
];
const TASK_ENDED: Data = &[("taskId", true, TaskId::describe), ("msg", true, String::describe)];
const LOST: Data = &[("from", true, u64::describe), ("to", true, u64::describe)];

/// Type, description and `data` of all events.
static ALL: [(&str, &str, Data); 11] = [
    ("channelOpened", "A channel began.", NONE),
    ("channelEnded", "A channel ended.", NONE),
    ("memberJoined", "A membership began.", JOINED),
    ("memberLeft", "A membership ended.", LEFT),
    ("roleChanged", "A member became a broadcaster, or is none any more.", JOINED),
    ("streamAdded", "A publication began.", STREAM),
    ("streamRemoved", "A publication ended.", STREAM),
    ("taskAdded", "A push task was added.", TASK_ADDED),
    ("taskChanged", "A push task does something else than before.", TASK_CHANGED),
    ("taskEnded", "A push task ended.", TASK_ENDED),
    ("lost", "The events with these numbers are gone.", LOST),
];

/// Every kind of event.
pub(crate) fn events(definitions: &mut Definitions) -> Vec<DescribedEvent> {
    let mut events = Vec::new();
    for (kind, text, data) in ALL.iter().copied() {
        let mut fields = Fields::default();
        for (name, required, describe) in data {
            let schema = describe(definitions);
            fields.add(name, "", *required, schema);
        }
        let schema = event_schema(definitions, kind, text, fields.object());
        events.push(DescribedEvent { kind, text, schema });
    }
    events
}

/// The schema of an event around its `data`.
fn event_schema(definitions: &mut Definitions, kind: &str, text: &str, data: Value) -> Value {
    let mut fields = Fields::default();
    let id = "The same whenever it is told: by it receivers know what comes again.";
    fields.add("id", id, true, json!({ "type": "string" }));
    fields.add("type", "", true, json!({ "const": kind }));
    fields.add("at", "When, in unix milliseconds.", true, u64::describe(definitions));
    fields.add("appkey", "", true, Appkey::describe(definitions));
    let name = json!({ "type": "string", "pattern": CHANNEL_NAME });
    fields.add("channelName", "", true, name);
    // The incarnation of events in a gap is unknown.
    fields.add("cid", "Incarnation of the channel.", kind != "lost", Cid::describe(definitions));
    let seq = "Number in the channel: one more than that of the event before.";
    fields.add("seq", seq, true, u64::describe(definitions));
    let first = "Nothing is known of what happened in the channel before.";
    fields.add("first", first, false, json!({ "type": "boolean" }));
    fields.add("data", "", true, data);
    let mut schema = fields.object();
    schema["description"] = text.into();
    schema
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: the descriptions of events match what is written.

    use std::collections::BTreeSet;

    use lianmai_signal_engine::Event;

    use super::*;
    use crate::hooks::KINDS;

    fn samples() -> Vec<Event> {
        let (uid, mid, publication) = (UserId(7), Mid([1; 12]), Pub([2; 12]));
        let (media_type, task_id) = (MediaKind::Audio, "t1".parse::<TaskId>().unwrap());
        let (role, msg) = (Role::Audience, "said".to_owned());
        let changed = Event::TaskChanged {
            task_id: task_id.clone(),
            state: TaskState::Idle,
            code: 0,
            revision: 1,
            retries: 0,
            msg: msg.clone(),
        };
        vec![
            Event::ChannelOpened,
            Event::ChannelEnded,
            Event::MemberJoined { uid, mid, role: role.clone() },
            Event::MemberLeft { uid, mid, reason: LeaveReason::Left },
            Event::RoleChanged { uid, mid, role },
            Event::StreamAdded { uid, mid, media_type: media_type.clone(), publication },
            Event::StreamRemoved { uid, mid, media_type, publication },
            Event::TaskAdded { task_id: task_id.clone(), uid: Some(uid) },
            Event::TaskAdded { task_id: task_id.clone(), uid: None },
            changed,
            Event::TaskEnded { task_id, msg },
            Event::Lost { from: 1, to: 2 },
        ]
    }

    #[test]
    fn every_event_is_described_as_it_is_written() {
        let mut described = BTreeSet::new();
        for sample in samples() {
            let Ok(Value::Object(mut written)) = serde_json::to_value(&sample) else { panic!() };
            written.remove("type");
            let of_kind = ALL.iter().copied().find(|(kind, _, _)| *kind == sample.kind());
            let (kind, _, data) = of_kind.expect("described");
            described.insert(kind);
            for (name, required, _) in data {
                assert!(!required || written.contains_key(*name), "{kind} {name}");
                written.remove(*name);
            }
            assert!(written.is_empty(), "{kind} {written:?}");
        }
        let all: BTreeSet<&str> = KINDS.into_iter().chain(["lost"]).collect();
        assert_eq!(described, all);
    }
}
