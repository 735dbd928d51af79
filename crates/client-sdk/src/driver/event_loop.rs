//! The loop around the session. In: socket events, requests of the app, the timer. Out: the session's outputs, to the
//! socket and to the hub. Deliberately absent: decisions.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::hub::{Hub, Waiter};
use super::platform::Clock;
use super::socket::{Socket, SocketEvent};
use crate::session::{CallId, Command, Input, Output, Session, SocketId};

/// A request of the app to the event loop.
pub(super) enum AppRequest {
    /// A call.
    Call { command: Command, waiter: Waiter },
    /// An observation of the app.
    Hint(Hint),
}

/// An observation that the session cannot make itself.
pub(super) enum Hint {
    NetworkChanged,
    Foreground,
}

/// The state of the loop.
pub(super) struct EventLoop {
    session: Session,
    socket: Socket,
    clock: Clock,
    hub: Arc<Hub>,
    last_call: u64,
}

/// Close code when all handles of the client were dropped. It is not a leave: the membership ends with the grace
/// period.
const DROPPED: u16 = 1000;

impl EventLoop {
    pub(super) fn new(session: Session, hub: Arc<Hub>) -> Self {
        let (socket, clock) = (Socket::default(), Clock::start());
        EventLoop { session, socket, clock, hub, last_call: 0 }
    }

    /// Runs until the last client handle is dropped.
    pub(super) async fn run(mut self, mut requests: mpsc::UnboundedReceiver<AppRequest>) {
        let mut paused = false;
        loop {
            if let Some(input) = self.hub.reading() {
                paused = matches!(input, Input::ReadingPaused);
                self.feed(input);
            }
            let deadline = self.session.next_deadline().map(|at| self.clock.instant(at));
            let timer = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            // In this order: data that arrived in time must be seen before the timer.
            tokio::select! {
                biased;
                request = requests.recv() => match request {
                    Some(request) => self.handle_request(request),
                    None => break,
                },
                (socket, event) = self.socket.next(!paused) => self.report(socket, event),
                () = self.hub.room(), if paused => {}
                () = timer => self.feed(Input::Timeout),
            }
        }
        self.socket.close(DROPPED);
    }

    fn report(&mut self, socket: SocketId, event: SocketEvent) {
        match event {
            SocketEvent::Opened => self.feed(Input::SocketOpened { socket }),
            SocketEvent::Frame(text) => self.feed(Input::Frame { socket, text: &text }),
            SocketEvent::Unreadable => self.feed(Input::Unreadable { socket }),
            SocketEvent::Closed { code, reason } => {
                self.feed(Input::SocketClosed { socket, code, reason });
            }
        }
    }

    fn handle_request(&mut self, request: AppRequest) {
        match request {
            AppRequest::Call { command, waiter } => {
                self.last_call += 1;
                let call = CallId(self.last_call);
                self.hub.await_call(call, waiter);
                self.feed(Input::Command { call, command });
            }
            AppRequest::Hint(Hint::NetworkChanged) => self.feed(Input::NetworkChanged),
            AppRequest::Hint(Hint::Foreground) => self.feed(Input::Foreground),
        }
    }

    fn feed(&mut self, input: Input<'_>) {
        self.session.handle(self.clock.now(), input);
        while let Some(output) = self.session.poll_output() {
            let Some(output) = self.hub.push(output) else { continue };
            match output {
                Output::Connect { socket, url } => self.socket.connect(socket, url),
                // Both concern the one socket that exists.
                Output::Send { text, .. } => self.socket.send(text),
                Output::CloseSocket { code, .. } => self.socket.close(code),
                // The hub keeps these for the app.
                Output::Picture(_) | Output::Event(_) | Output::Settled { .. } => {}
            }
        }
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        self.hub.stop();
    }
}
