//! The answers of an upstream.
//!
//! In: bodies of command messages. Out: the next step of the client, or its end. Absent: answers to `releaseStream`
//! and `FCPublish`. Servers that do not know these commands refuse them and accept the publish nevertheless.

use super::{Client, ClientEvent, ClientOutput, ClientState, transaction};
use crate::rtmp::RtmpError;
use crate::rtmp::amf0::Value;
use crate::rtmp::command::Command;
use crate::rtmp::limits::{MAX_ANSWER_CODE, MAX_ANSWER_TEXT};

/// The reason that an upstream gives for an end: shortened, on one line, and without the keys of the target. It may
/// be logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status code, for example `NetStream.Publish.BadName`: ASCII letters, digits, `.`, `_` and `-`. Empty if the
    /// upstream gave none.
    pub code: String,
    /// Text for people. May be empty.
    pub description: String,
}

impl Client {
    /// Handles a command of the upstream.
    pub(super) fn answer(&mut self, payload: &[u8]) -> Result<(), RtmpError> {
        let command = match Command::parse(payload) {
            Ok(command) => command,
            // A client that publishes or plays awaits no answer.
            Err(_) if self.is_publishing() || self.is_playing() => return Ok(()),
            Err(error) => return Err(error),
        };
        match command.name.as_str() {
            "_result" => self.result(&command)?,
            "_error" => self.refused(&command),
            "onStatus" => self.status(&command)?,
            "close" => self.ended(&command),
            _ => {}
        }
        Ok(())
    }

    fn result(&mut self, command: &Command) -> Result<(), RtmpError> {
        let number = command.transaction;
        match self.state {
            ClientState::Connecting if number == transaction::CONNECT => self.connected(),
            ClientState::Creating if number == transaction::CREATE_STREAM => {
                let stream = command.arguments.first().and_then(Value::as_number);
                self.created(stream.and_then(message_stream).ok_or(RtmpError::Command)?);
            }
            _ => {}
        }
        Ok(())
    }

    fn refused(&mut self, command: &Command) {
        let awaited = match self.state {
            ClientState::Connecting => transaction::CONNECT,
            ClientState::Creating => transaction::CREATE_STREAM,
            ClientState::Starting(_) => transaction::PUBLISH,
            ClientState::Publishing(_) | ClientState::Playing | ClientState::Closed => return,
        };
        if command.transaction == awaited {
            self.ended(command);
        }
    }

    fn status(&mut self, command: &Command) -> Result<(), RtmpError> {
        let field = |name| information(command).and_then(|it| it.get(name)).and_then(Value::as_str);
        let (level, code) = (field("level"), field("code"));
        match (self.state, code) {
            (ClientState::Starting(_), Some("NetStream.Play.Start")) if self.plays => {
                self.state = ClientState::Playing;
                self.reader.expect_media(true)?;
                self.out.push_back(ClientOutput::Event(ClientEvent::Accepted));
            }
            (
                ClientState::Playing,
                Some(
                    "NetStream.Play.Stop"
                    | "NetStream.Play.Complete"
                    | "NetStream.Play.UnpublishNotify",
                ),
            ) => self.ended(command),
            (ClientState::Starting(stream), Some("NetStream.Publish.Start")) if !self.plays => {
                self.state = ClientState::Publishing(stream);
                self.out.push_back(ClientOutput::Event(ClientEvent::Accepted));
            }
            (_, Some("NetStream.Unpublish.Success" | "NetConnection.Connect.Closed")) => {
                self.ended(command);
            }
            _ if level == Some("error") => self.ended(command),
            _ => {}
        }
        Ok(())
    }

    /// Handles the end of the publish or play, or its refusal, by the upstream.
    fn ended(&mut self, command: &Command) {
        let field = |name| {
            let text = information(command).and_then(|it| it.get(name)).and_then(Value::as_str);
            self.target.cleared(text.unwrap_or(""))
        };
        let code: String = field("code")
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c))
            .take(MAX_ANSWER_CODE)
            .collect();
        let description: String = field("description")
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(MAX_ANSWER_TEXT)
            .collect();
        let answer = Answer { code, description };
        let event = match self.state {
            ClientState::Publishing(_) | ClientState::Playing => ClientEvent::Closed(answer),
            _ => ClientEvent::Refused(answer),
        };
        self.out.push_back(ClientOutput::Event(event));
        self.close();
    }
}

/// The information object of an answer. Some servers send it in place of the command object.
fn information(command: &Command) -> Option<&Value> {
    let has_code = |value: &&Value| value.get("code").is_some();
    command.arguments.iter().chain([&command.object]).find(has_code)
}

/// The number of a message stream, if the value is a whole number in 1..=`u32::MAX`.
fn message_stream(number: f64) -> Option<u32> {
    let whole = number.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(&number);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range")]
    whole.then_some(number as u32)
}
