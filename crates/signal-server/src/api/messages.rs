//! The documents of what is not requested by HTTP: the messages of members and of the server (`docs/protocol.md`), and
//! the events for webhooks. Comes in: the types that are sent, and `hooks/delivery.md`, which describes deliveries. Goes
//! out: an AsyncAPI document, and a JSON Schema of all of them. Deliberately absent: the API (`docs`).

use lianmai_protocol::message::{call, event, notice};
use lianmai_protocol::message_schemas::error_answer;
use lianmai_protocol::schema::{Definitions, Object, Value};
use lianmai_protocol::{SIGNAL_PATH, SUBPROTOCOL};
use serde_json::json;

use crate::hooks::describe;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const SUMMARY: &str = "Messages between clients and a Lianmai server, and the bodies of webhooks. For clients: the messages \
                       without `Hook`; docs/protocol.md explains them, and ids such as JOI-2 are rules in that file. \
                       For back ends: the messages `...Hook` are the bodies of webhooks; openapi.json describes the API.";
/// How webhooks are delivered.
const DELIVERY: &str = include_str!("../hooks/delivery.md");

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
        all.answers.push(message_doc(
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
        let ping = describe::ping(definitions);
        all.hooks.push(message_doc(ping.kind, "Hook", ping.text, ping.schema));
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
        (
            "webhookEvent",
            "The body of a webhook. All but `pingHook` are also the events of `listEvents` in openapi.json.",
            hook,
        ),
    ];
    for (name, text, mut schema) in frames {
        schema["description"] = text.into();
        defined.insert(name.to_owned(), schema);
    }
    let mut document = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Lianmai",
        "description": SUMMARY,
        "version": VERSION,
        "anyOf": [
            { "$ref": "#/$defs/clientFrame" },
            { "$ref": "#/$defs/serverFrame" },
            { "$ref": "#/$defs/webhookEvent" },
        ],
        "$defs": defined,
    });
    finish(&mut document);
    document
}

/// What both documents need at their end.
fn finish(document: &mut Value) {
    name_the_file_of_rules(document);
    super::docs::bound_uids(document);
}

/// Makes descriptions readable outside this repository: names the file of each rule, and removes links of Rust.
fn name_the_file_of_rules(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for (key, value) in object.iter_mut() {
                let is_text = matches!(key.as_str(), "description" | "summary");
                match value.as_str().filter(|_| is_text).map(with_file) {
                    Some(text) => *value = text.into(),
                    None => name_the_file_of_rules(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(name_the_file_of_rules),
        _ => {}
    }
}

/// A text in which `(JOI-2)` is `(docs/protocol.md, JOI-2)`.
fn with_file(text: &str) -> String {
    let mut cited = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('(') {
        cited.push_str(before);
        cited.push_str(if begins_with_a_rule(after) { "(docs/protocol.md, " } else { "(" });
        rest = after;
    }
    cited.push_str(rest);
    cited.replace("[`", "`").replace("`]", "`")
}

/// Whether a text begins like the id of a rule: `JOI-2`.
fn begins_with_a_rule(text: &str) -> bool {
    let (group, rest) = text.as_bytes().split_at(text.len().min(3));
    group.len() == 3
        && group.iter().all(u8::is_ascii_uppercase)
        && rest.first() == Some(&b'-')
        && rest.get(1).is_some_and(u8::is_ascii_digit)
}

/// The headers of a delivery.
fn webhook_headers() -> Value {
    json!({
        "type": "object",
        "properties": {
            "content-type": { "const": "application/json" },
            "webhook-id": { "type": "string", "description": "The `id` of the body." },
            "webhook-timestamp": {
                "type": "string",
                "pattern": "^[0-9]{1,12}$",
                "description": "The time of this attempt in Unix seconds.",
            },
            "webhook-signature": {
                "type": "string",
                "description": "One or more signatures, separated by spaces: each is `v1,` and the base64 of HMAC-SHA256 \
                                over `webhook-id`, `.`, `webhook-timestamp`, `.` and the body.",
            },
            "user-agent": { "type": "string", "description": "`lianmai/` and the version of the server." },
        },
        "required": ["content-type", "webhook-id", "webhook-timestamp", "webhook-signature"],
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
    for MessageDoc { name, .. } in &all.hooks {
        messages[name]["headers"] = json!({ "$ref": "#/components/schemas/WebhookHeaders" });
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
        (
            "webhooks",
            "Events, to the webhooks of an app. Any 2xx answer accepts one.",
            "webhook",
            &all.hooks,
        ),
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
    let mut schemas = definitions.into_object();
    schemas.insert("WebhookHeaders".to_owned(), webhook_headers());
    let mut document = json!({
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
                "title": "Deliveries of webhooks",
                "summary": "A POST to the `url` of a webhook, signed as Standard Webhooks defines.",
                "description": DELIVERY,
                "messages": webhook,
            },
        },
        "operations": operations,
        "components": { "messages": messages, "schemas": schemas },
    });
    finish(&mut document);
    document
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
        for name in [
            "joinRequest",
            "joinAnswer",
            "messageEvent",
            "messageNotice",
            "memberLeftHook",
            "pingHook",
        ] {
            assert!(schema["$defs"][name].is_object(), "{name}");
        }
        assert_eq!(schema["$defs"]["joinRequest"]["properties"]["method"]["const"], "join");
        let operations = asyncapi()["operations"].as_object().map(Object::len);
        assert_eq!(operations, Some(lianmai_protocol::message::Call::METHODS.len() + 3));
    }

    #[test]
    fn rules_are_cited_with_their_file() {
        let text = "See (LIV-2, LIV-3) and [`Resumed`] (or not) (A-1).";
        let cited = "See (docs/protocol.md, LIV-2, LIV-3) and `Resumed` (or not) (A-1).";
        assert_eq!(with_file(text), cited);
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
