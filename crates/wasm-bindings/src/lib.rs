//! The client session for JavaScript: the WebAssembly half of the npm package `lianmai`.
//!
//! In: calls of the app and reports of its host about sockets, timers and its life cycle, each with the host's
//! monotonic clock. Out: commands for the host at once, and items for the app one at a time. Everything is text (JSON)
//! and numbers, so that the glue code needs no typed arrays, big integers or tables of references. Deliberately absent:
//! sockets, timers, randomness, promises and the NERTC-shaped API; they are in `js/`.
//!
//! ```text
//!   host ── opened, frame, closed, timeout, call .. ──> Session ──> commands: connect, send, close
//!                                                          └──> Delivery ── next() ──> events, settlements
//!                                                                        └─ picture(), as of the last of them
//! ```

#![cfg_attr(target_arch = "wasm32", no_std)]
#![expect(
    unexpected_cfgs,
    reason = "`Wire` describes what it reads where the feature `schema` is, and here is none"
)]

extern crate alloc;

mod output_json;
mod picture_json;

/// The text form of a session's outputs, for native programs.
pub mod print {
    pub use crate::output_json::{command, event, settlement};
    pub use crate::picture_json::picture;
}

#[cfg(target_arch = "wasm32")]
mod bare;

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use lianmai_client_sdk::CallError;
use lianmai_client_sdk::session::{
    CallId, Delivered, Delivery, Input, Output, Session, SessionConfig, SocketId,
};
use lianmai_protocol::message::Call;
use lianmai_protocol::wire::{self, Wire, Writer};
use lianmai_protocol::{ErrorName, MonoTime, RpcError};
use wasm_bindgen::prelude::wasm_bindgen;

/// The version of this module, which `js/` compares with its own.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Maximum number of items that wait for the app. A host in JavaScript cannot stop reading its socket, so there is no
/// limit.
const CAPACITY: usize = usize::MAX;

/// The configuration of a client.
#[derive(Wire)]
#[serde(rename_all = "camelCase")]
struct Config {
    /// Server addresses of one deployment, tried in turn.
    urls: Vec<String>,
    /// 64 random bits as 16 hexadecimal digits.
    seed: String,
    /// Time limit in milliseconds for opening a socket.
    #[serde(default)]
    connect_timeout_ms: Option<u64>,
    /// Time limit in milliseconds for a call.
    #[serde(default)]
    command_timeout_ms: Option<u64>,
    /// Milliseconds without a connection after which a membership is given up.
    #[serde(default)]
    give_up_after_ms: Option<u64>,
}

/// One client.
#[wasm_bindgen]
pub struct Core {
    session: Session,
    delivery: Delivery,
}

#[wasm_bindgen]
impl Core {
    /// Creates a client from a configuration.
    ///
    /// # Errors
    /// The name of the invalid field, or a description of the invalid addresses.
    #[wasm_bindgen(constructor)]
    pub fn new(config: &str) -> Result<Core, String> {
        let config: Config = wire::from_text(config).map_err(|refusal| refusal.field)?;
        let seed = u64::from_str_radix(&config.seed, 16).map_err(|_| "seed".to_owned())?;
        let mut session = SessionConfig::new("");
        session.urls = config.urls;
        session.seed = seed;
        let set = |value: Option<u64>, field: &mut u64| *field = value.unwrap_or(*field);
        set(config.connect_timeout_ms, &mut session.connect_timeout_ms);
        set(config.command_timeout_ms, &mut session.command_timeout_ms);
        set(config.give_up_after_ms, &mut session.give_up_after_ms);
        let session =
            Session::new(session).map_err(|error| output_json::bad_config(&error).to_owned())?;
        Ok(Core { session, delivery: Delivery::new(CAPACITY) })
    }

    /// The version of this module.
    pub fn version() -> String {
        VERSION.to_owned()
    }

    /// The app calls `method` with parameters in wire format. `next` returns the settlement under the number `call`.
    pub fn call(&mut self, now: f64, call: f64, method: &str, params: &str) -> String {
        let call = CallId(call as u64);
        let read =
            Call::read(method, params).unwrap_or(Err(RpcError::bare(ErrorName::MethodNotFound)));
        match read {
            Ok(command) => self.handle(now, Input::Command { call, command }),
            Err(error) => {
                let outcome = Err(CallError::Refused(error));
                drop(self.delivery.push(Output::Settled { call, outcome }));
                String::new()
            }
        }
    }

    /// A socket is open and speaks the sub-protocol.
    pub fn opened(&mut self, now: f64, socket: f64) -> String {
        self.handle(now, Input::SocketOpened { socket: number(socket) })
    }

    /// A text frame arrived.
    pub fn frame(&mut self, now: f64, socket: f64, text: &str) -> String {
        self.handle(now, Input::Frame { socket: number(socket), text })
    }

    /// Data arrived that no server sends: a binary frame.
    pub fn unreadable(&mut self, now: f64, socket: f64) -> String {
        self.handle(now, Input::Unreadable { socket: number(socket) })
    }

    /// A socket is gone, or could not be opened. The code is 1006 if there was no close frame.
    pub fn closed(&mut self, now: f64, socket: f64, code: f64, reason: &str) -> String {
        let (socket, code) = (number(socket), code as u16);
        self.handle(now, Input::SocketClosed { socket, code, reason: reason.to_owned() })
    }

    /// The time of `deadline` has come. Harmless at any other time.
    pub fn timeout(&mut self, now: f64) -> String {
        self.handle(now, Input::Timeout)
    }

    /// The network changed.
    #[wasm_bindgen(js_name = networkChanged)]
    pub fn network_changed(&mut self, now: f64) -> String {
        self.handle(now, Input::NetworkChanged)
    }

    /// The app is shown again and may have been frozen, or is hidden and may be frozen soon.
    pub fn foreground(&mut self, now: f64) -> String {
        self.handle(now, Input::Foreground)
    }

    /// The time on the host's clock at which `timeout` is due; -1 for never. Read it after each input.
    pub fn deadline(&self) -> f64 {
        self.session.next_deadline().map_or(-1.0, |at| at.0 as f64)
    }

    /// The next item for the app; empty if there is none.
    #[expect(clippy::should_implement_trait, reason = "more may come after the last")]
    pub fn next(&mut self) -> String {
        loop {
            match self.delivery.next() {
                // A picture change is visible in `picture()` only.
                Some(Delivered::Picture(_)) => {}
                Some(Delivered::Event(event)) => return output_json::event(&event),
                Some(Delivered::Settled { call, outcome }) => {
                    return output_json::settlement(call, &outcome);
                }
                None => return String::new(),
            }
        }
    }

    /// The channel as of the last item; empty while in none.
    pub fn picture(&self) -> String {
        self.delivery.picture().map(picture_json::picture).unwrap_or_default()
    }

    fn handle(&mut self, now: f64, input: Input<'_>) -> String {
        self.session.handle(MonoTime(now as u64), input);
        let mut commands = Writer::default();
        let mut any = false;
        while let Some(output) = self.session.poll_output() {
            let Some(output) = self.delivery.push(output) else { continue };
            if !any {
                commands.begin('[');
                any = true;
            }
            output_json::command(&output, &mut commands);
        }
        if any {
            commands.end(']');
        }
        commands.into_text()
    }
}

fn number(socket: f64) -> SocketId {
    SocketId(socket as u64)
}
