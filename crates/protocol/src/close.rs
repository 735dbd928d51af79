//! WebSocket close codes and the action of a client for each of them (CLO-1). For 4000-4499 a client comes back with
//! backoff; 4500-4999 are terminal: it does not come back by itself.

use crate::wire::Wire;
use serde::{Deserialize, Serialize};

use crate::wire_enum::wire_enum;

wire_enum! {
    /// What the closing server asks of the client. An unknown action follows the class of the code.
    pub enum Action {
        /// Open a new socket and `reconnect`.
        Reconnect = "reconnect",
        /// `join` again.
        Rejoin = "rejoin",
        /// Get a new token from the app, then come back.
        RenewToken = "renewToken",
        /// Go to another address.
        Redirect = "redirect",
        /// Do nothing.
        None = "none",
    }
}

/// Close code of a WebSocket in this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Wire)]
#[serde(transparent)]
pub struct CloseCode(pub u16);

/// One row of the close code table: code, name and the default action.
#[derive(Clone, Debug)]
pub struct CloseRow {
    /// The code.
    pub code: CloseCode,
    /// The name used as `reason` in the `closing` notice and in the close frame.
    pub name: &'static str,
    /// The action of the client if the notice names none.
    pub action: Action,
}

macro_rules! close_codes {
    ($( $(#[$meta:meta])* $konst:ident = $code:literal, $name:literal, $meaning:literal, $action:ident; )+) => {
        impl CloseCode {
            $( #[doc = $meaning] pub const $konst: CloseCode = CloseCode($code); )+

            /// Every code that this version knows, ascending.
            pub const TABLE: &'static [CloseRow] = &[$(
                CloseRow { code: CloseCode::$konst, name: $name, action: Action::$action },
            )+];

            /// The meaning as a sentence for people; empty for an unknown code.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self {
                    $( CloseCode::$konst => $meaning, )+
                    _ => "",
                }
            }
        }
    };
}

close_codes! {
    NORMAL = 1000, "left", "The session ended by `leave`.", None;
    GOING_AWAY = 4000, "goingAway", "The server stops without handing over.", Reconnect;
    SLOW_READER = 4001, "slowReader", "The client read too slowly and more bytes waited than the limit allows.", Reconnect;
    IDLE = 4002, "idle", "No frame came from the client for longer than `deadAfterMs`.", Reconnect;
    SERVER_RESTART = 4003, "serverRestart", "The server restarts; `serverRestarting` came before.", Reconnect;
    TAKEN_OVER = 4004, "takenOver", "Another socket resumed this session.", None;
    GAP = 4005, "gap", "Sent by a client that found a gap in `seq` and resumes.", Reconnect;
    KICKED = 4500, "kicked", "A moderator or the admin API removed the member.", None;
    CHANNEL_CLOSED = 4501, "channelClosed", "The channel was closed.", None;
    REPLACED = 4502, "replaced", "The same uid joined from another place.", None;
    JOIN_REFUSED = 4503, "joinRefused", "`join` or `reconnect` was refused by the answer that came before.", None;
    PROTOCOL_VIOLATION = 4504, "protocolViolation", "A frame was binary, too long, too deep or not JSON.", None;
    JOIN_TIMEOUT = 4505, "joinTimeout", "No successful `join` within the time or the bytes that a new connection has.", Reconnect;
    RATE_LIMITED = 4506, "rateLimited", "The client went on sending after many `rateLimited` answers.", None;
    TOKEN_EXPIRED = 4507, "tokenExpired", "The token of the session expired and was not renewed.", RenewToken;
}

impl CloseCode {
    /// The row of a known code.
    #[must_use]
    pub fn row(self) -> Option<&'static CloseRow> {
        CloseCode::TABLE.iter().find(|row| row.code == self)
    }

    /// Whether a client must not come back by itself. Known codes have it in the table; for an unknown code its range
    /// decides (CLO-1).
    #[must_use]
    pub fn is_terminal(self) -> bool {
        match self.row() {
            Some(row) => !matches!(row.action, Action::Reconnect | Action::Rejoin),
            None => matches!(self.0, 4500..=4999),
        }
    }
}
