//! The documents of what is not requested by HTTP: the messages of members and of the server (`docs/protocol.md`), and
//! the events for webhooks. Comes in: the types that are sent. Goes out: an AsyncAPI document, and a JSON Schema of all
//! of them. Deliberately absent: hand-written parts that could differ from what is sent.

use lianmai_protocol::message::{call, event, notice};
use lianmai_protocol::message_schemas::error_answer;
use lianmai_protocol::schema::{Definitions, Object, Value};
use lianmai_protocol::{SIGNAL_PATH, SUBPROTOCOL};
use serde_json::json;

use crate::hooks::describe;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const SUMMARY: &str = "Messages between members and a Lianmai server, and events for webhooks. docs/protocol.md has the rules.";

/// A message: its name in the documents, its purpose, its schema.
struct MessageDoc {
    name: String,
    text: String,
    schema: Value,
}

/// All messages.
#[derive(Default)]
struct MessageDocs {
    requests: Vec<MessageDoc>,
    answers: Vec<MessageDoc>,
    events: Vec<MessageDoc>,
    notices: Vec<MessageDoc>,
    hooks: Vec<MessageDoc>,
}

/// A message of the documents. Its name includes the kind: a method, an event and a notice may have the same name.
fn message_doc(name: &str, kind: &str, text: &str, schema: Value) -> MessageDoc {
    MessageDoc { name: format!("{name}{kind}"), text: text.to_owned(), schema }
}

impl MessageDocs {
    fn of(definitions: &mut Definitions) -> Self {
        let mut all = MessageDocs::default();
        for method in call::describe_calls(definitions) {
            let schema = method.request(definitions);
            all.requests.push(message_doc(method.method, "Request", method.text, schema));
            let text = format!("Answer to `{}`.", method.method);
            all.answers.push(message_doc(
                method.method,
                "Answer",
                &text,
                method.answer(definitions),
            ));
        }
        all.answers.push(sent(
            "",
            "refusal",
            "An answer with an error.",
            error_answer(definitions),
        ));
        for event in event::describe_events(definitions) {
            let schema = event.notification(definitions, true);
            all.events.push(message_doc(event.method, "Event", event.text, schema));
        }
        for notice in notice::describe_notices(definitions) {
            let schema = notice.notification(definitions, false);
            all.notices.push(message_doc(notice.method, "Notice", notice.text, schema));
        }
        for hook in describe::events(definitions) {
            all.hooks.push(message_doc(hook.kind, "Hook", hook.text, hook.schema));
        }
        all
    }

    fn from_server(&self) -> impl Iterator<Item = &MessageDoc> {
        self.answers.iter().chain(&self.events).chain(&self.notices)
    }
}

/// References to messages under a base.
fn references<'a>(base: &str, sent: impl IntoIterator<Item = &'a MessageDoc>) -> Vec<Value> {
    let refer = |sent: &MessageDoc| json!({ "$ref": format!("{base}{}", sent.name) });
    sent.into_iter().map(refer).collect()
}

/// One frame: a message, or an array of them (FRM-6).
fn frame(messages: Vec<Value>) -> Value {
    let one = json!({ "anyOf": messages });
    json!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1, "maxItems": 32 }] })
}

/// The JSON Schema of all messages.
pub(crate) fn schema() -> Value {
    const BASE: &str = "#/$defs/";
    let mut definitions = Definitions::new(BASE);
    let all = MessageDocs::of(&mut definitions);
    let mut defined = definitions.into_object();
    let client = frame(references(BASE, &all.requests));
    let server = frame(references(BASE, all.from_server()));
    let hook = json!({ "anyOf": references(BASE, &all.hooks) });
    let MessageDocs { requests, answers, events, notices, hooks } = all;
    for MessageDoc { name, schema, .. } in
        [requests, answers, events, notices, hooks].into_iter().flatten()
    {
        defined.insert(name, schema);
    }
    let frames = [
        ("clientFrame", "What a client sends.", client),
        (
            "serverFrame",
            "What the server sends. A client passes over what it does not know (FWD-1).",
            server,
        ),
        ("webhookEvent", "The body of a webhook, and an event of the API.", hook),
    ];
    for (name, text, mut schema) in frames {
        schema["description"] = text.into();
        defined.insert(name.to_owned(), schema);
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Lianmai",
        "description": SUMMARY,
        "version": VERSION,
        "anyOf": [{ "$ref": "#/$defs/clientFrame" }, { "$ref": "#/$defs/serverFrame" }],
        "$defs": defined,
    })
}

/// The messages of a channel of the document, by name.
fn of_channel<'a>(sent: impl Iterator<Item = &'a MessageDoc>) -> Object<String, Value> {
    let refer = |sent: &MessageDoc| {
        let reference = json!({ "$ref": format!("#/components/messages/{}", sent.name) });
        (sent.name.clone(), reference)
    };
    sent.map(refer).collect()
}

/// The AsyncAPI document.
pub(crate) fn asyncapi() -> Value {
    const SIGNAL: &str = "#/channels/signal/messages/";
    let mut definitions = Definitions::new("#/components/schemas/");
    let all = MessageDocs::of(&mut definitions);
    let mut messages = Object::new();
    let everything = all.requests.iter().chain(all.from_server()).chain(&all.hooks);
    for MessageDoc { name, text, schema } in everything {
        let message = json!({
            "name": name, "summary": text, "contentType": "application/json", "payload": schema,
        });
        messages.insert(name.clone(), message);
    }
    let signal = of_channel(all.requests.iter().chain(all.from_server()));
    let webhook = of_channel(all.hooks.iter());
    let mut operations = Object::new();
    for (request, answer) in all.requests.iter().zip(&all.answers) {
        let replies = [answer].into_iter().chain(all.answers.last());
        let operation = json!({
            "action": "receive",
            "channel": { "$ref": "#/channels/signal" },
            "summary": request.text,
            "messages": references(SIGNAL, [request]),
            "reply": {
                "channel": { "$ref": "#/channels/signal" },
                "messages": references(SIGNAL, replies),
            },
        });
        operations.insert(request.name.clone(), operation);
    }
    let sends = [
        ("events", "Numbered, to every member of a channel.", "signal", &all.events),
        ("notices", "To one session.", "signal", &all.notices),
        ("webhooks", "Events, to the endpoints of an app.", "webhook", &all.hooks),
    ];
    for (name, text, channel, sent) in sends {
        let operation = json!({
            "action": "send",
            "channel": { "$ref": format!("#/channels/{channel}") },
            "summary": text,
            "messages": references(&format!("#/channels/{channel}/messages/"), sent),
        });
        operations.insert(name.to_owned(), operation);
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Lianmai",
            "version": VERSION,
            "description": SUMMARY,
            "license": { "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0" },
        },
        "defaultContentType": "application/json",
        "servers": {
            "public": {
                "host": "{host}",
                "protocol": "wss",
                "description": "The public listener.",
                "variables": { "host": { "description": "Host and port.", "default": "localhost:8600" } },
            },
        },
        "channels": {
            "signal": {
                "address": SIGNAL_PATH,
                "description": format!(
                    "A WebSocket with the sub-protocol `{SUBPROTOCOL}`. A frame is one message or an array of them."
                ),
                "servers": [{ "$ref": "#/servers/public" }],
                "messages": signal,
            },
            "webhook": {
                "address": null,
                "description": "A POST to the URL of an endpoint, signed as Standard Webhooks has it.",
                "messages": webhook,
            },
        },
        "operations": operations,
        "components": { "messages": messages, "schemas": definitions.into_object() },
    })
}

/// A document as text.
pub(crate) fn text(document: &Value) -> String {
    let mut text = serde_json::to_string_pretty(document).expect("a document has string keys only");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: documents of messages. `cargo xtask api check` tests whether they are valid.

    use super::*;

    /// Each reference in a document has a target in it.
    fn check_references(document: &Value, value: &Value) {
        match value {
            Value::Object(object) => {
                if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
                    let pointer = reference.trim_start_matches('#');
                    assert!(document.pointer(pointer).is_some(), "{reference}");
                }
                object.values().for_each(|value| check_references(document, value));
            }
            Value::Array(values) => {
                values.iter().for_each(|value| check_references(document, value));
            }
            _ => {}
        }
    }

    #[test]
    fn documents_hold_together() {
        for document in [schema(), asyncapi()] {
            check_references(&document, &document);
        }
        let schema = schema();
        for name in ["joinRequest", "joinAnswer", "messageEvent", "messageNotice", "memberLeftHook"]
        {
            assert!(schema["$defs"][name].is_object(), "{name}");
        }
        assert_eq!(schema["$defs"]["joinRequest"]["properties"]["method"]["const"], "join");
        let operations = asyncapi()["operations"].as_object().map(Object::len);
        assert_eq!(operations, Some(lianmai_protocol::message::Call::METHODS.len() + 3));
    }

    #[test]
    fn the_documents_in_the_repository_are_these() {
        for (name, document) in [("schema", schema()), ("asyncapi", asyncapi())] {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/api/");
            let kept = std::fs::read_to_string(format!("{folder}{name}.json")).unwrap_or_default();
            assert!(kept == text(&document), "{name}: run `cargo xtask api`");
        }
    }
}
