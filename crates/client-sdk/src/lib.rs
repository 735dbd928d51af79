//! Client of the Lianmai signaling protocol.
//!
//! Comes in: what an app wants (join, publish, subscribe, ...). Goes out: push and pull URLs, a picture
//! of the channel that is always true, and events. Deliberately absent: media. An app hands the URLs to
//! whatever pushes and plays.
//!
//! A lost connection comes back by itself: missed events are replayed, or what changed is told as a
//! difference; calls wait for it, take effect once, and are settled in any case. A membership that
//! ended meanwhile, or a server that crashed, is made good: the app is what it was again, and
//! hears of every URL that is another one now (`syncDone`). `Disconnected` is the end.
//!
//! * [`session`] decides everything and touches nothing: no socket, clock, randomness or task. It runs
//!   in tokio, in a browser and in a simulator alike.
//! * `driver` (feature `tokio`, on by default) is the native host of a session: the async `Client`.
//! * [`error`] has one small enum per operation.
//!
#![cfg_attr(
    feature = "tokio",
    doc = r#"
```no_run
use lianmai_client_sdk::{Client, ClientConfig, Event, JoinOptions, MediaKind, MediaSelector};

# async fn run() -> Result<(), Box<dyn std::error::Error>> {
let client = Client::new(ClientConfig::new("ws://127.0.0.1:8600", "demo"))?;
let mut events = client.events();
client.join(JoinOptions::new("room-1").uid(7u64)?).await?;
let push = client.publish(MediaSelector::Both).await?;
println!("push to {}", push.url);
while let Some(event) = events.next().await {
    if let Event::StreamAdded(stream) = event {
        let pull = client.subscribe(stream.uid, stream.media_type).await?;
        println!("play {}", pull.url);
    }
}
# Ok(())
# }
```
"#
)]
#![cfg_attr(not(feature = "tokio"), no_std)]

extern crate alloc;

mod prelude;

pub mod error;
pub mod session;

#[cfg(feature = "tokio")]
pub mod driver;

pub use error::{
    CallError, CommandError, ConfigError, JoinError, LeaveError, MessageError, PublishError,
    RenewTokenError, SubscribeError, TaskError,
};
pub use lianmai_protocol as protocol;
pub use lianmai_protocol::message::media::{Published, Subscribed, Urls};
pub use lianmai_protocol::message::session::ResumeReason;
pub use lianmai_protocol::message::task::{Task, TaskInfo, TaskState, TaskStatus};
pub use lianmai_protocol::{
    Attributes, CloseCode, ErrorName, KindSet, MediaKind, MediaSelector, Rights, Role, RpcError,
    UserId,
};
pub use session::{
    ConnectionState, Event, EventKind, Joined, Member, Missed, Own, Picture, ReconnectOutcome,
    StateReason,
};

#[cfg(feature = "tokio")]
pub use driver::{
    Client, ClientConfig, EventStream, IntoUserId, JoinOptions, ListenerId, WeakClient,
};
