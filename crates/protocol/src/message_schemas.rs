//! JSON Schemas of the types and messages of this crate. Comes in: the types. Goes out: JSON Schema. Deliberately
//! absent: whole documents, which the server composes, and the effect of a message.

use crate::prelude::*;

use serde_json::json;

use crate::error::RpcError;
use crate::id::{
    Appkey, ChannelName, Cid, Epoch, Gen, Mid, Pub, RequestId, SessionId, TaskId, UserId,
};
use crate::limits;
use crate::media::{KindSet, MediaKind, MediaSelector};
use crate::message::Position;
use crate::raw::{JsonObject, RawJson};
use crate::schema::{Definitions, Describe, MessageSchema, Value, open};

macro_rules! plain {
    ($( $name:ty => $schema:expr; )+) => {
        $( impl Describe for $name {
            fn describe(_: &mut Definitions) -> Value {
                $schema
            }
        } )+
    };
}

plain! {
    RawJson => json!({});
    JsonObject => json!({ "type": "object" });
    RequestId => json!({ "type": "integer", "minimum": 1, "maximum": limits::MAX_REQUEST_ID });
}

macro_rules! texts {
    ($( $name:ident, $pattern:expr, $text:literal; )+) => {
        $( impl Describe for $name {
            fn describe(definitions: &mut Definitions) -> Value {
                let of = core::any::type_name::<Self>();
                definitions.define(stringify!($name), of, $text, |_| {
                    json!({ "type": "string", "pattern": $pattern })
                })
            }
        } )+
    };
}

/// The form of a channel's name (FRM-11).
pub const CHANNEL_NAME: &str = r#"^(?!\.{1,2}$)[A-Za-z0-9 !#$%&()+:;<=.,>?@\[\]^_{}~"|-]{1,64}$"#;
/// A uid in decimal.
pub const UID: &str = "^(0|[1-9][0-9]{0,19})$";
const RANDOM: &str = "^[a-z2-7]{20}$";

texts! {
    UserId, UID, "A user: 0 to 2^64-1 in decimal. A client may write an integer up to 2^53-1 instead.";
    Appkey, r"^(?!\.{1,2}$)[A-Za-z0-9_.-]{1,64}$", "Key of an app.";
    ChannelName, CHANNEL_NAME, "Name of a channel.";
    TaskId, "^[A-Za-z0-9_]{1,64}$", "Id of a push task, chosen by the client.";
    Epoch, RANDOM, "One log of a channel's events.";
    Mid, RANDOM, "One membership.";
    Pub, RANDOM, "One publication.";
    SessionId, RANDOM, "One session.";
    Gen, "^[a-z2-7]{26}$", "One life of a push URL, and the name of its stream.";
    Cid, "^[1-9][0-9]{0,15}$", "One incarnation of a channel.";
}

impl Describe for KindSet {
    fn describe(definitions: &mut Definitions) -> Value {
        let kind = MediaKind::describe(definitions);
        json!({ "type": "array", "items": kind, "uniqueItems": true })
    }
}

impl Describe for MediaSelector {
    fn describe(definitions: &mut Definitions) -> Value {
        let text = "A kind of media; empty: audio and video.";
        let of = core::any::type_name::<Self>();
        definitions.define("MediaSelector", of, text, |_| {
            let kinds = MediaKind::ALL.iter().map(MediaKind::as_str);
            let names: Vec<&str> = core::iter::once("").chain(kinds).collect();
            open(&names)
        })
    }
}

impl MessageSchema {
    /// The schema of the whole request.
    #[must_use]
    pub fn request(&self, definitions: &mut Definitions) -> Value {
        let id = RequestId::describe(definitions);
        let ack = json!({
            "description": "The client has received the answers of this id and of every lower one.",
            "type": "integer", "minimum": 1, "maximum": limits::MAX_REQUEST_ID,
        });
        json!({
            "type": "object",
            "properties": {
                "jsonrpc": { "const": "2.0" }, "id": id, "ack": ack,
                "method": { "const": self.method }, "params": self.params,
            },
            "required": ["jsonrpc", "id", "method", "params"],
        })
    }

    /// The schema of the answer with a result.
    #[must_use]
    pub fn answer(&self, definitions: &mut Definitions) -> Value {
        let id = RequestId::describe(definitions);
        json!({
            "type": "object",
            "properties": { "jsonrpc": { "const": "2.0" }, "id": id, "result": self.result },
            "required": ["jsonrpc", "id", "result"],
        })
    }

    /// The schema of an event (`numbered`) or a notice.
    #[must_use]
    pub fn notification(&self, definitions: &mut Definitions, numbered: bool) -> Value {
        let params = match numbered {
            true => json!({ "allOf": [Position::describe(definitions), self.params] }),
            false => self.params.clone(),
        };
        json!({
            "type": "object",
            "properties": {
                "jsonrpc": { "const": "2.0" }, "method": { "const": self.method }, "params": params,
            },
            "required": ["jsonrpc", "method", "params"],
        })
    }
}

/// The schema of an answer with an error.
#[must_use]
pub fn error_answer(definitions: &mut Definitions) -> Value {
    let id = Option::<RequestId>::describe(definitions);
    let error = RpcError::describe(definitions);
    json!({
        "type": "object",
        "properties": { "jsonrpc": { "const": "2.0" }, "id": id, "error": error },
        "required": ["jsonrpc", "id", "error"],
    })
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: the schemas of messages.

    use super::*;
    use crate::message::session::{Join, Kick};
    use crate::message::{call, event, notice};

    #[test]
    fn a_struct_is_described_by_the_attributes_of_its_codecs() {
        let mut definitions = Definitions::new("#/$defs/");
        let kick = Kick::describe(&mut definitions);
        assert_eq!(kick, json!({ "$ref": "#/$defs/Kick" }));
        Join::describe(&mut definitions);
        let all = definitions.into_object();
        let kick = &all["Kick"];
        assert_eq!(kick["required"], json!(["uid"]));
        assert_eq!(kick["properties"]["durationS"]["maximum"], u32::MAX);
        assert_eq!(kick["properties"]["reason"]["type"], "string");
        assert_eq!(kick["description"], "Parameters of `kick`.");
        assert_eq!(all["Join"]["required"], json!(["appkey", "channelName"]));
        // The server chooses a uid if it is `null`.
        let uid = json!([{ "$ref": "#/$defs/UserId" }, { "type": "null" }]);
        assert_eq!(all["Join"]["properties"]["uid"]["anyOf"], uid);
        let attributes = &all["Join"]["properties"]["attributes"];
        assert_eq!(attributes["additionalProperties"], json!({ "type": "string" }));
    }

    #[test]
    fn every_message_has_a_schema_and_valid_references() {
        let mut definitions = Definitions::new("#/$defs/");
        let mut frames = alloc::vec![error_answer(&mut definitions)];
        for method in call::describe_calls(&mut definitions) {
            frames.push(method.request(&mut definitions));
            frames.push(method.answer(&mut definitions));
        }
        for event in event::describe_events(&mut definitions) {
            frames.push(event.notification(&mut definitions, true));
        }
        for notice in notice::describe_notices(&mut definitions) {
            frames.push(notice.notification(&mut definitions, false));
        }
        let all = definitions.into_object();
        assert!(frames.len() > 50 && all.len() > 50, "{} {}", frames.len(), all.len());
        let text = serde_json::to_string(&(frames, &all)).unwrap();
        for part in text.split("#/$defs/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(all.get(name).is_some_and(Value::is_object), "{name}");
        }
    }

    #[test]
    fn patterns_match_the_length_of_ids() {
        // No regular expressions are available here: the lengths are compared instead.
        assert_eq!(alloc::string::ToString::to_string(&Mid([255; 12])).len(), 20);
        let generation = Gen { route: u32::MAX, random: [255; 12] };
        assert_eq!(alloc::string::ToString::to_string(&generation).len(), 26);
    }
}
