//! The text form of commands for the host and of items for the app. In: outputs of the session. Out: JSON with the
//! names of the wire protocol. Deliberately absent: data that only the session needs (`seq`, generations).

use alloc::string::String;

use lianmai_client_sdk::session::{
    CallId, ConnectionState, Event, Output, ReconnectOutcome, Reply, StateReason,
};
use lianmai_client_sdk::{CallError, ConfigError};
use lianmai_protocol::MediaKind;
use lianmai_protocol::message::media::Urls;
use lianmai_protocol::wire::{Write, Writer};

/// Describes an invalid configuration.
pub(crate) fn bad_config(error: &ConfigError) -> &'static str {
    match error {
        ConfigError::TooManyAddresses(_) => "too many addresses",
        ConfigError::BadAddress(_) => "an address that does not begin with ws:// or wss://",
        _ => "no address",
    }
}

/// Appends a command for the host to a list.
pub fn command(output: &Output, writer: &mut Writer) {
    let (name, socket) = match output {
        Output::Connect { socket, .. } => ("connect", socket),
        Output::Send { socket, .. } => ("send", socket),
        Output::CloseSocket { socket, .. } => ("close", socket),
        // The delivery has already taken these for the app.
        _ => return,
    };
    writer.next();
    writer.begin('[');
    writer.next();
    writer.string(name);
    writer.element(&socket.0);
    match output {
        Output::Connect { url: text, .. } | Output::Send { text, .. } => writer.element(text),
        Output::CloseSocket { code, .. } => writer.element(code),
        _ => {}
    }
    writer.end(']');
}

/// Writes an event for the app.
pub fn event(event: &Event) -> String {
    let mut writer = Writer::default();
    writer.begin('{');
    text(&mut writer, "event", event.kind().name());
    writer.name("data");
    payload(event, &mut writer);
    writer.end('}');
    writer.into_text()
}

/// Writes the settlement of a call.
pub fn settlement(call: CallId, outcome: &Result<Reply, CallError>) -> String {
    let mut writer = Writer::default();
    writer.begin('{');
    writer.field("call", &call.0);
    match outcome {
        Ok(reply) => {
            writer.name("result");
            self::reply(reply, &mut writer);
        }
        Err(error) => {
            writer.name("error");
            self::error(error, &mut writer);
        }
    }
    writer.end('}');
    writer.into_text()
}

fn text(writer: &mut Writer, name: &str, text: &str) {
    writer.name(name);
    writer.string(text);
}

fn payload(event: &Event, writer: &mut Writer) {
    let whole: &dyn Write = match event {
        Event::Closing(data) => data,
        Event::ClientJoin(data) => data,
        Event::ClientLeave(data) => data,
        Event::ClientUpdate(data) => data,
        Event::ChannelUpdate(data) => data,
        Event::RoleChanged(data) => data,
        Event::StreamAdded(data) | Event::StreamRemoved(data) => data,
        Event::Muted(data) | Event::Unmuted(data) => data,
        Event::RtmpTasksStatus(data) => data,
        Event::LiveRoomClose(data) => data,
        Event::Kicked(data) => data,
        Event::SyncDone(data) => data,
        Event::ServerRestarting(data) => data,
        Event::NetworkQuality(data) => data,
        other => return own_event(other, writer),
    };
    whole.write(writer);
}

/// Writes the parameters of an event that the session itself creates.
fn own_event(event: &Event, writer: &mut Writer) {
    writer.begin('{');
    match event {
        Event::ConnectionStateChange { state, reason } => {
            text(writer, "state", self::state(*state));
            text(writer, "reason", self::reason(*reason));
        }
        Event::Reconnected { outcome, missed, messages_lost } => {
            reconnected(outcome, writer);
            if let Some(missed) = missed {
                writer.name("missed");
                writer.begin('{');
                writer.field("fromSeq", &missed.from_seq);
                if let Some(to) = &missed.to_seq {
                    writer.field("toSeq", to);
                }
                writer.end('}');
            }
            writer.field("messagesLost", messages_lost);
        }
        Event::Disconnected { code, reason, terminal } => {
            writer.field("code", code);
            writer.field("reason", reason);
            writer.field("terminal", terminal);
        }
        Event::SendCommandOverTime { method } => text(writer, "method", method),
        Event::Published { media_type } | Event::Unpublished { media_type } => {
            kind(writer, media_type);
        }
        Event::Message { uid, data, targeted } => {
            writer.field("uid", uid);
            writer.field("data", data);
            writer.field("targeted", targeted);
        }
        Event::TokenWillExpire { expires_in_ms } => writer.field("expiresInMs", expires_in_ms),
        Event::MemberCount { count } => writer.field("count", count),
        Event::Unknown { method, params } => {
            writer.field("method", method);
            writer.name("params");
            writer.raw(params);
        }
        // `Open` has no parameters, and all other events are written whole.
        _ => {}
    }
    writer.end('}');
}

fn kind(writer: &mut Writer, kind: &MediaKind) {
    writer.field("mediaType", kind);
}

fn state(state: ConnectionState) -> &'static str {
    match state {
        ConnectionState::Connecting => "connecting",
        ConnectionState::Connected => "connected",
        ConnectionState::Reconnecting => "reconnecting",
        ConnectionState::Disconnecting => "disconnecting",
        _ => "disconnected",
    }
}

fn reason(reason: StateReason) -> &'static str {
    match reason {
        StateReason::JoinCalled => "joinCalled",
        StateReason::Joined => "joined",
        StateReason::JoinRefused => "joinRefused",
        StateReason::Resumed => "resumed",
        StateReason::Rejoined => "rejoined",
        StateReason::Refused => "refused",
        StateReason::WrongDeployment => "wrongDeployment",
        StateReason::GaveUp => "gaveUp",
        StateReason::Left => "left",
        StateReason::Timeout => "timeout",
        StateReason::ServerClosing => "serverClosing",
        StateReason::SocketClosed => "socketClosed",
        StateReason::Gap => "gap",
        StateReason::DeadPeer => "deadPeer",
        StateReason::NetworkChanged => "networkChanged",
        StateReason::Woken => "woken",
        _ => "unknown",
    }
}

fn reconnected(outcome: &ReconnectOutcome, writer: &mut Writer) {
    match outcome {
        ReconnectOutcome::Replayed { events, messages } => {
            text(writer, "outcome", "replayed");
            writer.field("events", events);
            writer.field("messages", messages);
        }
        ReconnectOutcome::Snapshot { reason } => {
            text(writer, "outcome", "snapshot");
            writer.field("reason", reason);
        }
        ReconnectOutcome::Rejoined { reason } => {
            text(writer, "outcome", "rejoined");
            writer.field("reason", reason);
        }
        _ => {}
    }
}

fn reply(reply: &Reply, writer: &mut Writer) {
    writer.begin('{');
    match reply {
        Reply::Joined(joined) => {
            writer.field("cid", &joined.cid);
            writer.field("uid", &joined.uid);
            writer.field("mid", &joined.mid);
            writer.field("sessionId", &joined.session_id);
            writer.field("deploymentId", &joined.deployment_id);
        }
        Reply::Published(published) => {
            writer.field("uid", &published.uid);
            urls(&published.url, &published.urls, writer);
        }
        Reply::Subscribed(subscribed) => {
            writer.field("uid", &subscribed.uid);
            urls(&subscribed.url, &subscribed.urls, writer);
        }
        Reply::MessageSent { delivered } => writer.field("delivered", delivered),
        Reply::TokenRenewed { expires_in_ms: Some(ms) } => writer.field("expiresInMs", ms),
        _ => {}
    }
    writer.end('}');
}

fn urls(url: &String, urls: &Urls, writer: &mut Writer) {
    writer.field("url", url);
    writer.field("urls", urls);
}

fn error(error: &CallError, writer: &mut Writer) {
    writer.begin('{');
    writer.field("name", &error.name());
    match error {
        CallError::Refused(rpc) => {
            writer.field("code", &rpc.code);
            if !rpc.message.is_empty() {
                writer.field("message", &rpc.message);
            }
            let data = &rpc.data;
            if let Some(field) = &data.field {
                writer.field("field", field);
            }
            if let Some(ms) = &data.retry_after_ms {
                writer.field("retryAfterMs", ms);
            }
            if let Some(action) = &data.action {
                writer.field("action", action);
            }
        }
        other => {
            writer.field("code", &other.name().code());
            if let CallError::Closed { code, reason } = other {
                writer.field("reason", reason);
                writer.field("closeCode", code);
            }
        }
    }
    writer.end('}');
}
