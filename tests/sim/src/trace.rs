//! Records the inputs and outputs of one session, so that the same session can be run in another form: as WebAssembly
//! of the npm package. Comes in: each input, then its outputs. Goes out: lines of JSON. The first is the configuration,
//! each further one `[now, method, arguments, commands, items, deadline, picture]` as `lianmai-wasm-bindings` prints
//! them. Deliberately absent: the comparison, which the test in JavaScript makes.

use lianmai_client_sdk::session::{Input, Output, Picture, SessionConfig};
use lianmai_protocol::MonoTime;
use lianmai_protocol::wire::Writer;
use lianmai_wasm_bindings::print;
use serde_json::{Value, json};

/// Most inputs of one trace: enough for a few resumes, and quick to replay.
const MAX_INPUTS: usize = 300;

/// The trace of one session, from its beginning.
pub(crate) struct Trace {
    lines: Vec<String>,
    /// The input whose outputs are being recorded.
    input: Option<Value>,
    commands: Vec<Output>,
    items: Vec<String>,
    /// Nothing more is recorded.
    ended: bool,
}

impl Trace {
    pub(crate) fn new(config: &SessionConfig) -> Trace {
        let config = json!({
            "urls": config.urls,
            "seed": format!("{:016x}", config.seed),
            "giveUpAfterMs": config.give_up_after_ms,
        });
        let lines = vec![config.to_string()];
        Trace { lines, input: None, commands: vec![], items: vec![], ended: false }
    }

    /// Called before an input is handled. An input that no host in JavaScript has ends the trace.
    pub(crate) fn input(&mut self, now: MonoTime, input: &Input<'_>) {
        // A call from inside a handler, before the earlier outputs are polled.
        let is_nested = self.input.is_some();
        match words(input).filter(|_| !is_nested && self.lines.len() <= MAX_INPUTS) {
            Some((method, arguments)) => self.input = Some(json!([now.0, method, arguments])),
            None => self.ended = true,
        }
    }

    /// Called for each output of the input.
    pub(crate) fn output(&mut self, output: &Output) {
        match output {
            Output::Event(event) => self.items.push(print::event(event)),
            Output::Settled { call, outcome } => {
                self.items.push(print::settlement(*call, outcome));
            }
            Output::Picture(_) => {}
            command => self.commands.push(command.clone()),
        }
    }

    /// Called after the last output of an input was polled.
    pub(crate) fn polled(&mut self, deadline: Option<MonoTime>, picture: Option<&Picture>) {
        let (commands, items) =
            (std::mem::take(&mut self.commands), std::mem::take(&mut self.items));
        let Some(Value::Array(mut line)) = self.input.take().filter(|_| !self.ended) else {
            return;
        };
        let mut writer = Writer::default();
        if !commands.is_empty() {
            writer.begin('[');
            for command in &commands {
                print::command(command, &mut writer);
            }
            writer.end(']');
        }
        line.push(writer.into_text().into());
        line.push(items.into());
        line.push(deadline.map_or(json!(-1), |at| json!(at.0)));
        line.push(picture.map(print::picture).unwrap_or_default().into());
        self.lines.push(Value::Array(line).to_string());
    }

    /// The session ended.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines
    }
}

/// The method of the WebAssembly module for an input, and its arguments after the time.
fn words(input: &Input<'_>) -> Option<(&'static str, Value)> {
    Some(match input {
        Input::Command { call, command } => {
            ("call", json!([call.0, command.method(), command.params_text()]))
        }
        Input::SocketOpened { socket } => ("opened", json!([socket.0])),
        Input::Frame { socket, text } => ("frame", json!([socket.0, text])),
        Input::Unreadable { socket } => ("unreadable", json!([socket.0])),
        Input::SocketClosed { socket, code, reason } => ("closed", json!([socket.0, code, reason])),
        Input::Timeout => ("timeout", json!([])),
        Input::NetworkChanged => ("networkChanged", json!([])),
        Input::Foreground => ("foreground", json!([])),
        // JavaScript cannot pause reading from a socket.
        Input::ReadingPaused | Input::ReadingResumed => return None,
    })
}
