//! The commands of a peer, and the answers to them.
//!
//! In: bodies of command messages. Out: requests, answers, changes of the session's state. Absent: answers to other
//! commands. Clients send bandwidth checks and the like, and work without an answer.

use super::{Event, Output, Request, RequestKind, Session, State};
use crate::rtmp::RtmpError;
use crate::rtmp::amf0::Value;
use crate::rtmp::command::{Command, split_query, status};
use crate::rtmp::limits::{
    ACK_WINDOW, MAX_NAME_BYTES, MAX_OTHER_STREAMS, MAX_REFUSALS, MAX_REQUESTS, OUT_CHUNK_SIZE,
};
use crate::rtmp::message::{MEDIA_STREAM, Message, chunk_stream, control, message_type};

impl Session {
    pub(super) fn command(&mut self, stream: u32, payload: &[u8]) -> Result<(), RtmpError> {
        let command = match Command::parse(payload) {
            Ok(command) => command,
            Err(error) if self.state == State::New => return Err(error),
            Err(_) => {
                self.report_skipped("a command that cannot be read");
                return Ok(());
            }
        };
        if self.state == State::New && command.name != "connect" {
            return Err(RtmpError::CommandOrder);
        }
        match command.name.as_str() {
            "connect" => self.connect(&command)?,
            "createStream" => self.create_stream(&command),
            "releaseStream" | "FCPublish" | "FCUnpublish" => {
                self.result(&command, Value::Null, Value::Undefined);
            }
            "getStreamLength" => self.result(&command, Value::Null, Value::Number(0.0)),
            "publish" => self.request(RequestKind::Publish, stream, &command)?,
            "play" => self.request(RequestKind::Play, stream, &command)?,
            "pause" | "pauseRaw" => self.pause(stream, &command),
            "seek" if self.active() == Some(stream) => {
                let description = "seek: a live stream is played as it comes";
                self.refuse_beside(stream, "NetStream.Seek.Failed", description);
            }
            "closeStream" if self.is_meant(stream) => self.stop()?,
            "deleteStream" => {
                let named = command.arguments.first().and_then(Value::as_number);
                if named.map_or(self.is_meant(stream), |named| {
                    self.active().is_some_and(|active| f64::from(active) == named) || named == 0.0
                }) {
                    self.stop()?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The message stream that publishes or plays.
    fn active(&self) -> Option<u32> {
        match self.state {
            State::Publishing(stream) | State::Playing(stream) => Some(stream),
            _ => None,
        }
    }

    /// Whether a command on this message stream is about the publish or play that runs. Some clients send all
    /// commands on message stream 0.
    fn is_meant(&self, stream: u32) -> bool {
        stream == 0 || self.active() == Some(stream)
    }

    fn connect(&mut self, command: &Command) -> Result<(), RtmpError> {
        if self.state != State::New {
            if self.active().is_some() {
                return Ok(());
            }
            return Err(RtmpError::CommandOrder);
        }
        let text = |name| command.object.get(name).and_then(Value::as_str).unwrap_or("");
        let (app, tc_url) = (text("app"), text("tcUrl"));
        if app.len() > MAX_NAME_BYTES || tc_url.len() > MAX_NAME_BYTES {
            return Err(RtmpError::NameSize);
        }
        let (app, app_query) = split_query(app);
        let (_, url_query) = split_query(tc_url);
        self.app = app.trim_matches('/').to_owned();
        self.fallback_query = if url_query.is_empty() { app_query } else { url_query }.to_owned();
        self.state = State::Idle;
        let window = ACK_WINDOW.to_be_bytes();
        self.send(chunk_stream::CONTROL, &control(message_type::WINDOW_ACK_SIZE, &window));
        // Limit type 2: dynamic.
        let [a, b, c, d] = window;
        self.send(
            chunk_stream::CONTROL,
            &control(message_type::SET_PEER_BANDWIDTH, &[a, b, c, d, 2]),
        );
        let size = u32::try_from(OUT_CHUNK_SIZE).unwrap_or(u32::MAX).to_be_bytes();
        self.send(chunk_stream::CONTROL, &control(message_type::SET_CHUNK_SIZE, &size));
        self.out_chunk_size = OUT_CHUNK_SIZE;
        let properties = Value::Object(vec![
            ("fmsVer".into(), Value::String("FMS/3,0,1,123".into())),
            ("capabilities".into(), Value::Number(31.0)),
        ]);
        let mut information = status("status", "NetConnection.Connect.Success", "connected");
        if let Value::Object(fields) = &mut information {
            fields.push(("objectEncoding".into(), Value::Number(0.0)));
        }
        self.result(command, properties, information);
        Ok(())
    }

    /// Rejects the connection. The answer has transaction number 1, which `connect` has in all clients.
    pub(super) fn reject_connection(&mut self, description: &str) {
        let reply = Command {
            name: "_error".into(),
            transaction: 1.0,
            object: Value::Null,
            arguments: vec![status("error", "NetConnection.Connect.Rejected", description)],
        };
        self.send_command(0, &reply);
    }

    /// Returns message stream 1 if nothing runs, so that encoded media is the same for all players. While something
    /// runs, the client gets another number, so that its commands there are not taken for the first stream.
    fn create_stream(&mut self, command: &Command) {
        let stream = match self.active() {
            None => MEDIA_STREAM,
            Some(_) => {
                self.other_streams = (self.other_streams + 1).min(MAX_OTHER_STREAMS);
                MEDIA_STREAM + self.other_streams
            }
        };
        self.result(command, Value::Null, Value::Number(f64::from(stream)));
    }

    fn request(
        &mut self,
        kind: RequestKind,
        stream: u32,
        command: &Command,
    ) -> Result<(), RtmpError> {
        let failed = match kind {
            RequestKind::Publish => "NetStream.Publish.BadName",
            RequestKind::Play => "NetStream.Play.Failed",
        };
        let name = match command.arguments.first() {
            Some(Value::String(name)) => name.as_str(),
            // Flash ends a publish or play with `publish(false)` or `play(false)`.
            Some(Value::Boolean(false) | Value::Null | Value::Undefined) => "",
            _ => {
                self.refuse_beside(stream, failed, "command: the name of the stream is missing");
                return Ok(());
            }
        };
        if let Some(active) = self.active() {
            if name.is_empty() && self.is_meant(stream) {
                return self.stop();
            }
            let description = if active == stream {
                "inUse: the stream publishes or plays already"
            } else {
                "oneStream: a connection publishes or plays one stream; use another connection"
            };
            self.refuse_beside(stream, failed, description);
            return Ok(());
        }
        let (name, query) = split_query(name);
        // If an encoder was given the whole URL and no stream key, the stream name is the end of the app.
        let (app, name) = match (name, self.app.rsplit_once('/')) {
            ("", Some((app, name))) => (app.to_owned(), name.to_owned()),
            ("", None) => {
                let description = "noStreamKey: the stream key is empty; it is what stands behind the last slash of the URL";
                self.refuse_beside(stream, failed, description);
                return Ok(());
            }
            (name, _) => (self.app.clone(), name.to_owned()),
        };
        self.requests += 1;
        if self.requests > MAX_REQUESTS {
            return Err(RtmpError::Requests);
        }
        if name.len() + query.len() >= MAX_NAME_BYTES {
            return Err(RtmpError::NameSize);
        }
        self.state = State::Awaiting(kind, stream);
        let query = if query.is_empty() { self.fallback_query.clone() } else { query.to_owned() };
        self.out.push_back(Output::Event(Event::Request(Request {
            kind,
            app,
            stream: name,
            query,
        })));
        Ok(())
    }

    /// Pauses or resumes a play.
    fn pause(&mut self, stream: u32, command: &Command) {
        let Some(Value::Boolean(paused)) = command.arguments.first() else { return };
        if !matches!(self.state, State::Playing(_))
            || !self.is_meant(stream)
            || *paused == self.paused
        {
            return;
        }
        self.paused = *paused;
        let (code, description) = match paused {
            true => ("NetStream.Pause.Notify", "paused"),
            false => ("NetStream.Unpause.Notify", "goes on"),
        };
        self.on_status(stream, "status", code, description);
        self.out.push_back(Output::Event(Event::Paused(*paused)));
    }

    /// Answers a request that is refused without effect on the publish or play that runs.
    fn refuse_beside(&mut self, stream: u32, code: &str, description: &str) {
        self.refusals += 1;
        if self.refusals <= MAX_REFUSALS {
            self.on_status(stream, "error", code, description);
        }
    }

    pub(super) fn result(&mut self, command: &Command, object: Value, argument: Value) {
        if command.transaction != 0.0 {
            let reply = Command {
                name: "_result".into(),
                transaction: command.transaction,
                object,
                arguments: vec![argument],
            };
            self.send_command(0, &reply);
        }
    }

    pub(super) fn on_status(&mut self, stream: u32, level: &str, code: &str, description: &str) {
        let reply = Command {
            name: "onStatus".into(),
            transaction: 0.0,
            object: Value::Null,
            arguments: vec![status(level, code, description)],
        };
        self.send_command(stream, &reply);
    }

    fn send_command(&mut self, stream_id: u32, command: &Command) {
        let payload = command.encode();
        let message = Message { timestamp: 0, type_id: message_type::COMMAND, stream_id, payload };
        self.send(chunk_stream::COMMAND, &message);
    }
}
