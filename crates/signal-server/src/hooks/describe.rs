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

/// A field of `data`: its name, its meaning, whether it is required, its schema.
type Field = (&'static str, &'static str, bool, fn(&mut Definitions) -> Value);
type Data = &'static [Field];

const UID: Field = ("uid", "The user.", true, UserId::describe);
const MID: Field = ("mid", "The membership.", true, Mid::describe);
const TASK: Field = (
    "taskId",
    "The push task. A later task may have the id of one that ended.",
    true,
    TaskId::describe,
);
const MSG: Field = ("msg", "One sentence for people.", true, String::describe);
const NONE: Data = &[];
const JOINED: Data = &[UID, MID, ("role", "The role, from now on.", true, Role::describe)];
const LEFT: Data = &[UID, MID, ("reason", REASON, true, LeaveReason::describe)];
const STREAM: Data = &[
    UID,
    MID,
    ("mediaType", "The kind of media.", true, MediaKind::describe),
    ("pub", "The publication.", true, Pub::describe),
];
const TASK_ADDED: Data = &[
    TASK,
    ("uid", "The member that owns it; absent for a task of the API.", false, UserId::describe),
];
const TASK_CHANGED: Data = &[
    TASK,
    ("state", "What it does now.", true, TaskState::describe),
    (
        "code",
        "505 pushing, 506 failed, 512 an image could not be used, 0 otherwise.",
        true,
        u16::describe,
    ),
    ("revision", "Grows with each update of the task.", true, u64::describe),
    ("retries", "The number of retries of the push in a row.", true, u32::describe),
    MSG,
];
const TASK_ENDED: Data = &[TASK, MSG];
const LOST: Data = &[
    ("from", "The number of the first event that is gone.", true, u64::describe),
    ("to", "The number of the last event that is gone.", true, u64::describe),
];

/// Why a membership ended. `roleChanged` and `whileAway` are for clients only.
const REASON: &str = "Why. `left`: the client called `leave`. `timeout`: its connection was lost and it did not come \
                      back in time. `kicked`: a moderator or the API kicked it. `replaced`: the same uid joined \
                      again; this event comes before the `memberJoined` of the new membership. `tokenExpired`: its \
                      token ended and was not renewed. `serverRestart`: it did not come back after a restart of the \
                      server. `channelClosed`: the channel was closed. `roleChanged` and `whileAway` are not used in \
                      this event.";

/// Type, description and `data` of all events.
static ALL: [(&str, &str, Data); 11] = [
    (
        "channelOpened",
        "A channel began: with `createChannel`, or else with the first join. The first event of its `cid`.",
        NONE,
    ),
    (
        "channelEnded",
        "A channel ended: with its last membership, also if that was kicked, unless `keepEmpty` is set; by a close; or \
         because nobody joined a channel of `createChannel` within 24 hours. The last event of its `cid`.",
        NONE,
    ),
    (
        "memberJoined",
        "A membership began, of a broadcaster or of the audience. A client that reconnects keeps its `mid` and causes \
         no event; neither does a repeated `join` with the same `joinId`.",
        JOINED,
    ),
    (
        "memberLeft",
        "A membership ended. Each `memberJoined` has exactly one, with the same `mid`, before the `channelEnded`, also \
         over crashes and closes. The `streamRemoved` of its streams come before it. That of a kick is stored before \
         the kick is answered.",
        LEFT,
    ),
    ("roleChanged", "A member became broadcaster or audience. Its membership goes on.", JOINED),
    ("streamAdded", "A publication began.", STREAM),
    ("streamRemoved", "A publication ended.", STREAM),
    (
        "taskAdded",
        "A push task was added. It is idle until `taskChanged` says otherwise.",
        TASK_ADDED,
    ),
    ("taskChanged", "The state of a push task changed, or it was updated.", TASK_CHANGED),
    (
        "taskEnded",
        "A push task ended. Each `taskAdded` has exactly one, before the `channelEnded`.",
        TASK_ENDED,
    ),
    (
        "lost",
        "The events with the numbers `from` to `to`, both included, are gone. `seq` is `to`, and the next event of the \
         channel has the number after it. Every webhook gets it, whatever its `events` are.",
        LOST,
    ),
];

/// Every kind of event.
pub(crate) fn events(definitions: &mut Definitions) -> Vec<DescribedEvent> {
    let mut events = Vec::new();
    for (kind, text, data) in ALL.iter().copied() {
        let mut fields = Fields::default();
        for (name, meaning, required, describe) in data {
            let schema = describe(definitions);
            fields.add(name, meaning, *required, schema);
        }
        let schema = event_schema(definitions, kind, text, fields.object());
        events.push(DescribedEvent { kind, text, schema });
    }
    events
}

/// The delivery that `pingWebhook` makes. It is no event: it belongs to no channel.
pub(crate) fn ping(definitions: &mut Definitions) -> DescribedEvent {
    let (kind, text) =
        ("ping", "A delivery of `pingWebhook`. It is no event of a channel, and has no number.");
    let mut fields = Fields::default();
    fields.add("id", "Unique.", true, json!({ "type": "string" }));
    fields.add("type", "", true, json!({ "const": kind }));
    fields.add("at", "When it was sent, in Unix milliseconds.", true, u64::describe(definitions));
    fields.add("appkey", "The app.", true, Appkey::describe(definitions));
    fields.add("data", "Empty.", true, Fields::default().object());
    let mut schema = fields.object();
    schema["description"] = text.into();
    DescribedEvent { kind, text, schema }
}

/// The schema of an event around its `data`.
fn event_schema(definitions: &mut Definitions, kind: &str, text: &str, data: Value) -> Value {
    let mut fields = Fields::default();
    let id = "The same in each delivery and in `listEvents`. A `lost` has an id of its own.";
    fields.add("id", id, true, json!({ "type": "string" }));
    fields.add("type", "", true, json!({ "const": kind }));
    let at = "When it happened, in Unix milliseconds. Of a `lost`: about when the events were lost, or 0 if that is \
              unknown.";
    fields.add("at", at, true, u64::describe(definitions));
    fields.add("appkey", "The app.", true, Appkey::describe(definitions));
    let name = json!({ "type": "string", "pattern": CHANNEL_NAME });
    fields.add("channelName", "The name of the channel.", true, name);
    // The incarnation of events in a gap is unknown.
    let cid = "The incarnation of the channel: another channel of the same name has another one.";
    fields.add("cid", cid, kind != "lost", Cid::describe(definitions));
    let seq = "The number, by name of the channel: one more than that of the event before, also through several \
               channels of the name and over restarts. It does not begin with 1.";
    fields.add("seq", seq, true, u64::describe(definitions));
    let first = "True if the server knows no earlier event of this channel name: the number before may then be any \
                 smaller one. False when absent.";
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
    fn every_event_description_matches_its_json() {
        let mut described = BTreeSet::new();
        for sample in samples() {
            let Ok(Value::Object(mut written)) = serde_json::to_value(&sample) else { panic!() };
            written.remove("type");
            let of_kind = ALL.iter().copied().find(|(kind, _, _)| *kind == sample.kind());
            let (kind, _, data) = of_kind.expect("every event kind is described");
            described.insert(kind);
            for (name, _, required, _) in data {
                assert!(!required || written.contains_key(*name), "{kind} {name}");
                written.remove(*name);
            }
            assert!(written.is_empty(), "{kind} {written:?}");
        }
        let all: BTreeSet<&str> = KINDS.into_iter().chain(["lost"]).collect();
        assert_eq!(described, all);
    }
}
