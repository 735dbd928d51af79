//! The table of methods on the wire: name, parameters, result. A new method of the wire needs one line in this file; a
//! new call of an SDK that uses a present method needs none.
//!
//! Comes in: a method's name and its parameters as JSON. Goes out: a [`Call`]. Deliberately absent: the effect of a
//! method, and the permission to call it.

use crate::prelude::*;
use serde::Deserialize;
use serde::Serialize;
use serde::de::{DeserializeOwned, Deserializer};
use serde_json::value::RawValue;

use super::{media, session, task};
use crate::error::RpcError;
use crate::id::RequestId;
use crate::wire::{self, Read, Wire, Write};

/// A request of a client: one command and its id.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Grows with each command of a session.
    pub id: RequestId,
    /// The client has received the answers of this id and of every lower one; the server forgets them.
    pub ack: Option<RequestId>,
    /// The method and its parameters.
    pub call: Call,
}

macro_rules! calls {
    ($( $(#[doc = $doc:literal])+ $variant:ident = $method:literal, $params:ty, $result:ty; )+) => {
        /// A method and its parameters.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Call {
            $( $(#[doc = $doc])+ $variant($params), )+
        }

        impl Call {
            /// Every method name.
            pub const METHODS: &'static [&'static str] = &[$( $method, )+];

            /// The name of the method.
            #[must_use]
            pub fn method(&self) -> &'static str {
                match self { $( Call::$variant(_) => $method, )+ }
            }

            /// Reads the parameters of `method` with serde. The outer `None` means that the method is unknown.
            pub fn decode<'de, D: Deserializer<'de>>(
                method: &str,
                params: D,
            ) -> Option<Result<Call, D::Error>> {
                match method {
                    $( $method => Some(<$params>::deserialize(params).map(Call::$variant)), )+
                    _ => None,
                }
            }

            /// Reads the parameters of `method` with the small codec, which accepts what a client of this library
            /// writes. The outer `None` means that the method is unknown.
            #[must_use]
            pub fn read(method: &str, params: &str) -> Option<Result<Call, RpcError>> {
                let mut call = Self::BLANK[wire::position(Self::METHODS, method)?]();
                Some(match wire::read_into(call.params_mut(), params) {
                    Ok(()) => Ok(call),
                    Err(refusal) => Err(refusal.into()),
                })
            }

            /// For each method, in the order of `METHODS`, a function that makes a blank call to read into.
            const BLANK: &'static [fn() -> Self] =
                &[$( || Call::$variant(<$params>::blank()), )+];

            fn params_mut(&mut self) -> &mut dyn Read {
                match self { $( Call::$variant(params) => params, )+ }
            }

            /// The parameters as a client writes them, by the small codec.
            #[must_use]
            pub fn params_text(&self) -> String {
                wire::to_text(match self { $( Call::$variant(params) => params as &dyn Write, )+ })
            }

            /// The parameters in serde's encoding: the same text for every spelling of the same request.
            ///
            /// # Errors
            /// None for a decoded call, because all keys are strings.
            pub fn params_json(&self) -> Result<Box<RawValue>, serde_json::Error> {
                match self { $( Call::$variant(params) => serde_json::value::to_raw_value(params), )+ }
            }
        }

        /// One type per method, for code that is generic over methods.
        pub mod method {
            use super::{media, session, task};

            $(
                $(#[doc = $doc])+
                #[derive(Debug)]
                pub enum $variant {}

                impl super::Method for $variant {
                    type Params = $params;
                    type Result = $result;

                    fn call(params: Self::Params) -> super::Call {
                        super::Call::$variant(params)
                    }
                }
            )+
        }

        /// Checks that `json` is a result of `method` and encodes it again. Used for test vectors.
        ///
        /// # Errors
        /// The text is not such a result, or the method is unknown.
        pub fn reencode_result(method: &str, json: &str) -> Result<String, serde_json::Error> {
            match method {
                $( $method => serde_json::to_string(&serde_json::from_str::<$result>(json)?), )+
                _ => Err(serde::de::Error::custom("unknown method")),
            }
        }

        /// Descriptions of all methods.
        #[cfg(feature = "schema")]
        pub fn describe_calls(
            definitions: &mut crate::schema::Definitions,
        ) -> Vec<crate::schema::MessageSchema> {
            use crate::schema::Describe;
            alloc::vec![ $( crate::schema::MessageSchema {
                method: $method,
                text: concat!($( $doc ),+).trim_ascii(),
                params: <$params>::describe(definitions),
                result: Some(<$result>::describe(definitions)),
            }, )+ ]
        }
    };
}

/// The types of a method.
pub trait Method {
    /// Its parameters.
    type Params: Serialize + DeserializeOwned + Wire;
    /// Its result.
    type Result: Serialize + DeserializeOwned + Wire;

    /// Makes the call.
    fn call(params: Self::Params) -> Call;
}

calls! {
    /// Enters a channel, and creates it if it does not exist. `joinId` is 128 random bits, new for each entry.
    Join = "join", session::Join, session::Joined;
    /// Ends the membership.
    Leave = "leave", session::Empty, session::Done;
    /// Announces media and asks for the push URL.
    Publish = "publish", media::Publish, media::Published;
    /// Ends publications.
    Unpublish = "unpublish", media::Publish, session::Done;
    /// Asks for the pull URL of a member's media.
    Subscribe = "subscribe", media::Subscribe, media::Subscribed;
    /// Ends a subscription.
    Unsubscribe = "unsubscribe", media::Subscribe, session::Done;
    /// Changes a role.
    SetRole = "setRole", media::SetRole, session::Done;
    /// Tells others that media is muted.
    Mute = "mute", media::Mute, session::Done;
    /// Tells others that media is heard and seen again.
    Unmute = "unmute", media::Mute, session::Done;
    /// Removes a member and keeps it out.
    Kick = "kick", session::Kick, session::Done;
    /// Ends the channel for everybody.
    CloseChannel = "closeChannel", session::CloseChannel, session::Done;
    /// Starts push tasks.
    AddTasks = "addTasks", task::Tasks, session::Done;
    /// Replaces the whole configuration of push tasks.
    UpdateTasks = "updateTasks", task::Tasks, session::Done;
    /// Ends push tasks.
    DeleteTasks = "deleteTasks", task::TaskIds, session::Done;
    /// Sends a message to all or to some members.
    SendMessage = "sendMessage", session::SendMessage, session::MessageSent;
    /// Changes the caller's attributes or those of the channel.
    SetAttributes = "setAttributes", session::SetAttributes, session::Done;
    /// Hands in a new token.
    RenewToken = "renewToken", session::RenewToken, session::TokenRenewed;
    /// Hands in what the media components of the client observed.
    Report = "report", session::Report, session::Empty;
    /// Resumes a session on a new socket.
    Reconnect = "reconnect", session::Reconnect, session::Resumed;
    /// Shows that the client is alive, and asks for the head of the channel.
    Ping = "ping", session::Ping, session::Pong;
}
