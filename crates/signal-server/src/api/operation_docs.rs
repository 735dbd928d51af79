//! The scope and the errors of each operation, for the document of the API. Comes in: the document, as it is made from
//! the types. Goes out: the same document, in which each operation names its scope and its errors. A test compares the
//! scopes with what the routes require. Deliberately absent: errors of the form of a body; `invalidParams` stands for
//! all of them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// An error: its status and its name.
type NamedError = (u16, &'static str);

/// What the types of an operation do not say.
struct OperationDoc {
    /// Its id.
    id: &'static str,
    /// The scope that it needs: that of a key, or [`DEPLOYMENT`].
    scope: &'static str,
    /// Errors that not all operations have.
    errors: &'static [NamedError],
}

const READ: &str = "read";
const MODERATE: &str = "moderate";
const ADMIN: &str = "admin";
/// Only the token of the deployment.
const DEPLOYMENT: &str = "deployment";

const NO_CHANNEL: NamedError = (404, "noSuchChannel");
const NO_MEMBER: NamedError = (404, "noSuchMember");
const NO_TASK: NamedError = (404, "noSuchTask");
const NO_WEBHOOK: NamedError = (404, "noSuchWebhook");
const NO_KEY: NamedError = (404, "noSuchKey");
const NOT_STORED: NamedError = (500, "notStored");
const TOO_MANY_BANS: NamedError = (503, "tooManyBans");
const BAD_REASON: NamedError = (400, "badReason");
const BAD_DURATION: NamedError = (400, "badDuration");
const BAD_ATTRIBUTES: NamedError = (422, "badAttributes");
const ATTRIBUTES_TOO_LARGE: NamedError = (409, "attributesTooLarge");
const EVENTS_NOT_KEPT: NamedError = (409, "eventsNotKept");
const BAD_URL: NamedError = (422, "badWebhookUrl");
const BAD_EVENT_TYPE: NamedError = (400, "badEventType");

/// The errors of `addTasks`.
const ADDED_TASKS: &[NamedError] = &[
    NO_CHANNEL,
    (409, "duplicateTask"),
    (409, "streamUrlBusy"),
    (409, "taskFailed"),
    (409, "taskLimitExceeded"),
    (409, "taskOverridden"),
    (409, "tasksNotServed"),
    (422, "badTask"),
    (422, "badLayout"),
    (422, "badImage"),
    NOT_STORED,
];

/// The errors of `updateTasks`.
const UPDATED_TASKS: &[NamedError] = &[
    NO_CHANNEL,
    NO_TASK,
    (409, "duplicateTask"),
    (409, "streamUrlBusy"),
    (409, "taskFailed"),
    (409, "taskOverridden"),
    (409, "tasksNotServed"),
    (422, "badTask"),
    (422, "badLayout"),
    (422, "badImage"),
    NOT_STORED,
];

/// The errors of `deleteTask` and `deleteTasks`.
const ENDED_TASKS: &[NamedError] = &[
    NO_CHANNEL,
    NO_TASK,
    (409, "taskFailed"),
    (409, "taskOverridden"),
    (409, "tasksNotServed"),
    (422, "badTask"),
    NOT_STORED,
];

const fn of(id: &'static str, scope: &'static str, errors: &'static [NamedError]) -> OperationDoc {
    OperationDoc { id, scope, errors }
}

/// All operations.
static OPERATIONS: &[OperationDoc] = &[
    of("listChannels", READ, &[]),
    of(
        "createChannel",
        ADMIN,
        &[
            (409, "channelExists"),
            BAD_ATTRIBUTES,
            ATTRIBUTES_TOO_LARGE,
            (503, "tooManyChannels"),
            NOT_STORED,
        ],
    ),
    of("getChannel", READ, &[NO_CHANNEL]),
    of(
        "closeChannel",
        MODERATE,
        &[NO_CHANNEL, BAD_REASON, BAD_DURATION, TOO_MANY_BANS, NOT_STORED],
    ),
    of(
        "setChannelAttributes",
        MODERATE,
        &[NO_CHANNEL, BAD_ATTRIBUTES, ATTRIBUTES_TOO_LARGE, NOT_STORED],
    ),
    of("setChannelPolicy", ADMIN, &[NO_CHANNEL, NOT_STORED]),
    of(
        "sendMessage",
        MODERATE,
        &[NO_CHANNEL, (400, "messageTooLarge"), (400, "tooManyRecipients")],
    ),
    of("listMembers", READ, &[NO_CHANNEL]),
    of("getMember", READ, &[NO_CHANNEL, NO_MEMBER]),
    of("kickMember", MODERATE, &[NO_MEMBER, BAD_REASON, BAD_DURATION, TOO_MANY_BANS, NOT_STORED]),
    of(
        "setMemberRole",
        MODERATE,
        &[
            NO_CHANNEL,
            NO_MEMBER,
            (409, "forbidden"),
            (409, "tooManyBroadcasters"),
            ATTRIBUTES_TOO_LARGE,
            TOO_MANY_BANS,
            NOT_STORED,
        ],
    ),
    of("setBarredKinds", MODERATE, &[NO_CHANNEL, (409, "tooManyBarred"), NOT_STORED]),
    of("listStreams", READ, &[NO_CHANNEL]),
    of("listBansOfApp", READ, &[]),
    of("listBans", READ, &[]),
    of("liftBan", MODERATE, &[NOT_STORED]),
    of("liftHold", MODERATE, &[NOT_STORED]),
    of("liftBansBy", MODERATE, &[NOT_STORED]),
    of("listTasks", READ, &[NO_CHANNEL]),
    of("addTasks", ADMIN, ADDED_TASKS),
    of("updateTasks", ADMIN, UPDATED_TASKS),
    of("getTask", READ, &[NO_CHANNEL, NO_TASK]),
    of("deleteTask", ADMIN, ENDED_TASKS),
    of("deleteTasks", ADMIN, ENDED_TASKS),
    of("mintToken", ADMIN, &[(409, "debugMode"), (409, "noSigningKey")]),
    of("revokeTokens", ADMIN, &[(409, "inFuture"), (409, "tooManyRevocations")]),
    of("listKeys", ADMIN, &[]),
    of("createKey", ADMIN, &[(409, "hasPassed"), (409, "tooManyKeys")]),
    of("revokeKey", ADMIN, &[NO_KEY]),
    of("listGlobalKeys", DEPLOYMENT, &[]),
    of("createGlobalKey", DEPLOYMENT, &[(409, "hasPassed"), (409, "tooManyKeys")]),
    of("revokeGlobalKey", DEPLOYMENT, &[NO_KEY]),
    of("listWebhooks", ADMIN, &[]),
    of(
        "createWebhook",
        ADMIN,
        &[BAD_URL, BAD_EVENT_TYPE, EVENTS_NOT_KEPT, (409, "tooManyWebhooks")],
    ),
    of("getWebhook", ADMIN, &[NO_WEBHOOK]),
    of("changeWebhook", ADMIN, &[NO_WEBHOOK, BAD_URL, BAD_EVENT_TYPE]),
    of("removeWebhook", ADMIN, &[NO_WEBHOOK]),
    of("rotateWebhookSecret", ADMIN, &[NO_WEBHOOK]),
    of("pingWebhook", ADMIN, &[NO_WEBHOOK, (429, "tooManyPings")]),
    of("listDeadLetters", ADMIN, &[NO_WEBHOOK]),
    of("listEvents", READ, &[EVENTS_NOT_KEPT]),
    of("readHistory", READ, &[(409, "historyNotKept"), (422, "withNeedsUid")]),
];

/// Errors that every operation has; the description of the API explains them.
const COMMON: &[NamedError] = &[
    (400, "badRequest"),
    (400, "invalidParams"),
    (401, "unauthorized"),
    (403, "missingScope"),
    (403, "originNotAllowed"),
    (403, "debugLocalOnly"),
    (503, "draining"),
    (503, "storeUnavailable"),
];

/// Common errors that are not among the responses of the operations.
const RARE: &[NamedError] = &[
    (404, "notFound"),
    (405, "methodNotAllowed"),
    (413, "bodyTooLarge"),
    (415, "notJson"),
    (421, "hostNotAllowed"),
    (429, "tooManyIdempotencyKeys"),
    (500, "internalError"),
    (503, "notNow"),
];

/// Errors of the header `Idempotency-Key`.
const IDEMPOTENCY: &[NamedError] = &[
    (400, "badIdempotencyKey"),
    (409, "idempotencyKeyReused"),
    (409, "idempotencyInProgress"),
    (409, "idempotencyAnswerNotKept"),
];

/// Errors of the parameters of a path or query.
const PARAMETERS: &[(&str, &[NamedError])] = &[
    ("appkey", &[(403, "wrongApp"), (404, "noSuchApp")]),
    ("channel", &[(400, "badChannelName")]),
    ("uid", &[(400, "badUid"), (400, "uidOutOfRange")]),
    ("task", &[(422, "badTask")]),
    ("after", &[(404, "badCursor")]),
];

/// Adds scope and errors to all operations, and the list of all errors to `Problem`.
pub(super) fn describe(document: &mut Value) {
    let mut names: BTreeSet<&str> = RARE.iter().map(|(_, name)| *name).collect();
    let Some(paths) = document["paths"].as_object_mut() else { return };
    for item in paths.values_mut().filter_map(Value::as_object_mut) {
        for (method, operation) in item.iter_mut() {
            if let Some(operation) = operation.as_object_mut() {
                describe_operation(method, operation, &mut names);
            }
        }
    }
    let all: Vec<&str> = names.into_iter().collect();
    document["components"]["schemas"]["Problem"]["properties"]["name"]["x-extensible-enum"] =
        json!(all);
}

fn describe_operation(
    method: &str,
    operation: &mut Map<String, Value>,
    names: &mut BTreeSet<&'static str>,
) {
    let id = operation.get("operationId").and_then(Value::as_str).unwrap_or_default();
    let Some(OperationDoc { scope, errors, .. }) = OPERATIONS.iter().find(|known| known.id == id)
    else {
        return;
    };
    let needs = match *scope {
        DEPLOYMENT => "Scope: none is enough; only the token in `admin.token` may ask.".to_owned(),
        scope => format!("Scope: `{scope}`."),
    };
    let own = match errors.is_empty() {
        true => "Errors: only those of all operations.".to_owned(),
        false => {
            let listed = errors.iter().map(|(status, name)| format!("{status} `{name}`"));
            format!(
                "Errors: {}, and those of all operations.",
                listed.collect::<Vec<_>>().join(", ")
            )
        }
    };
    let text = operation.get("description").and_then(Value::as_str);
    let text = text.map(|text| format!("{}\n\n", text.trim_end())).unwrap_or_default();
    let mut by_status: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    for (status, name) in all_errors(method, operation, errors) {
        names.insert(name);
        let same = by_status.entry(status).or_default();
        if !same.contains(&name) {
            same.push(name);
        }
    }
    operation.insert("description".to_owned(), format!("{text}{needs} {own}").into());
    operation.insert("x-scope".to_owned(), (*scope).into());
    if let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) {
        for (status, of) in by_status {
            let listed: Vec<String> = of.iter().map(|name| format!("`{name}`")).collect();
            let response = json!({
                "description": listed.join(", "),
                "content": {
                    "application/problem+json": {
                        "schema": { "$ref": "#/components/schemas/Problem" },
                    },
                },
            });
            responses.insert(status.to_string(), response);
        }
    }
}

/// The errors of an operation: its own ones first.
fn all_errors(
    method: &str,
    operation: &Map<String, Value>,
    own: &'static [NamedError],
) -> Vec<NamedError> {
    let mut all = own.to_vec();
    let parameters = operation.get("parameters").and_then(Value::as_array);
    for parameter in parameters.into_iter().flatten() {
        let header = parameter["in"] == "header";
        let of = PARAMETERS.iter().find(|(name, _)| !header && parameter["name"] == *name);
        all.extend(of.iter().flat_map(|(_, errors)| errors.iter()));
    }
    all.extend(COMMON);
    if method != "get" {
        all.extend(IDEMPOTENCY);
    }
    all
}
