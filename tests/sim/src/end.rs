//! The client's ends of sockets. Comes in: the opening, the frames and the end of a socket. Goes out: the same to the
//! session or script that holds it. Inputs of a socket that was given up arrive late, with its number.

use lianmai_client_sdk::session::{Input, SocketId};
use lianmai_protocol::CloseCode;
use lianmai_protocol::codec::{self, ServerMessage};

use crate::net::{End, Frame, LinkId, Way};
use crate::world::{Ev, World, log};

/// Whether a frame holds events: the loss of any other single frame cannot be noticed.
fn is_of_events(frame: &Frame) -> bool {
    let Frame::Text(text) = frame else { return false };
    let messages = codec::decode_server_frame(text).unwrap_or_default();
    messages.iter().any(|message| matches!(message, ServerMessage::Event(..)))
}

impl World {
    /// Closes the client's end.
    pub(crate) fn client_lets_go(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.client_open = false;
        self.finish(id, Way::Up);
        self.bury(id);
    }

    /// Whether an end reads now.
    pub(crate) fn end_reads(&self, end: End) -> bool {
        match end {
            End::Client(c) => {
                self.clients[c].frozen.is_none() && self.clients[c].slow_until <= self.now
            }
            End::Raw(raw) => self.raws[raw].reads,
        }
    }

    /// The number of a socket in its session, if this session still exists.
    pub(crate) fn socket_of(&self, c: usize, id: LinkId) -> Option<SocketId> {
        self.clients[c].sockets.get(&id).copied()
    }

    pub(crate) fn end_opened(&mut self, id: LinkId) {
        let Some(end) = self.links.get(&id).map(|link| link.end) else { return };
        match end {
            End::Client(c) => {
                if let Some((until, _)) = self.clients[c].frozen {
                    return self.at(until + 1, Ev::Opened(id));
                }
                let Some(socket) = self.socket_of(c, id) else { return };
                if self.clients[c].link != Some(id) {
                    return self.feed_late(c, Input::SocketOpened { socket });
                }
                if self.clients[c].trips > 0 {
                    self.clients[c].trips -= 1;
                    // Within about one round trip.
                    let within = 20 + 4 * self.scenario.knobs.delay.1;
                    let delay = self.clients[c].rng.below(within);
                    self.after(delay, Ev::Trip(id));
                }
                self.clients[c].sent.opened();
                self.feed(c, Input::SocketOpened { socket });
            }
            End::Raw(raw) => self.raw_opened(raw),
        }
    }

    pub(crate) fn end_frame(&mut self, id: LinkId, frame: Frame) {
        let Some(end) = self.links.get(&id).map(|link| link.end) else { return };
        match end {
            End::Raw(raw) => self.raw_frame(raw, frame),
            // Late frames of a socket that was given up: a session recognises them by the number (CLI-8).
            End::Client(c) if self.clients[c].link != Some(id) => {
                let Some(socket) = self.socket_of(c, id) else { return };
                self.cov.count("fault:lateFrame");
                match frame {
                    Frame::Text(text) => self.feed_late(c, text_frame(socket, &text)),
                    Frame::Close(code) => {
                        let (code, reason) = (code.unwrap_or(1005), "late".to_owned());
                        self.feed_late(c, Input::SocketClosed { socket, code, reason });
                    }
                    Frame::Binary(_) => self.feed_late(c, Input::Unreadable { socket }),
                    Frame::Ping | Frame::Pong => {}
                }
            }
            End::Client(c) if self.clients[c].swallows && is_of_events(&frame) => {
                log!(self, "c{c} loses a frame");
                self.clients[c].swallows = false;
                self.clients[c].disturbed_at = self.now + 2 * self.scenario.knobs.timers[0];
            }
            End::Client(c) => match frame {
                Frame::Text(text) => {
                    self.check_received(c, &text);
                    if let Some(socket) = self.socket_of(c, id) {
                        self.feed(c, text_frame(socket, &text));
                    }
                }
                Frame::Close(code) => {
                    self.clients[c].unreported.closes(code.unwrap_or(1005));
                    self.end_closed(id, code.unwrap_or(1005));
                }
                Frame::Binary(_) => {
                    if let Some(socket) = self.socket_of(c, id) {
                        self.feed(c, Input::Unreadable { socket });
                    }
                }
                // Like a browser, without the session.
                Frame::Ping => {
                    self.client_pongs(c);
                }
                Frame::Pong => {}
            },
        }
    }

    /// The client's end learns that its socket is gone.
    pub(crate) fn end_closed(&mut self, id: LinkId, code: u16) {
        let Some(link) = self.links.get(&id) else { return };
        if !link.client_open {
            return;
        }
        let end = link.end;
        if let End::Client(c) = end
            && let Some((until, _)) = self.clients[c].frozen
        {
            return self.at(until + 1, Ev::Refused(id));
        }
        self.client_lets_go(id);
        match end {
            End::Raw(raw) => self.raw_closed(raw),
            End::Client(c) => {
                if self.clients[c].link == Some(id) {
                    self.clients[c].link = None;
                    let known = CloseCode(code).row().map_or("", |row| row.name);
                    if let Some(socket) = self.socket_of(c, id) {
                        let reason = known.to_owned();
                        self.feed(c, Input::SocketClosed { socket, code, reason });
                    }
                }
            }
        }
    }
}

/// The input for a text frame.
fn text_frame(socket: SocketId, bytes: &[u8]) -> Input<'_> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Input::Frame { socket, text },
        Err(_) => Input::Unreadable { socket },
    }
}
