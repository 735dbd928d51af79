//! skeleton
#![allow(missing_docs)]
use lianmai_client_sdk::session::{Input, Output, Session, SessionConfig, Command, CallId};
use lianmai_protocol::MonoTime;
use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen]
pub struct Core {
    session: Session,
}

#[wasm_bindgen]
impl Core {
    #[wasm_bindgen(constructor)]
    pub fn new(urls: &str, seed: f64) -> Core {
        Core { session: { let mut c = SessionConfig::new(urls); c.seed = seed as u64; Session::new(c) } }
    }
    pub fn frame(&mut self, now: f64, text: &str) -> String {
        self.session.handle(MonoTime(now as u64), Input::Frame(text.as_bytes()));
        self.drain()
    }
    fn drain(&mut self) -> String {
        let mut all = String::new();
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Send(text) => all.push_str(&text),
                _ => all.push('x'),
            }
        }
        all
    }
}
