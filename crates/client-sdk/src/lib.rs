//! Client of the Lianmai signaling protocol.
//!
//! In: requests of an app (join, publish, subscribe and so on). Out: push and pull URLs, events, and a consistent
//! picture of the channel. Deliberately absent: media. The app hands the URLs to its own encoders and players.
//!
//! The client reconnects by itself after a connection loss. The server replays the missed events, or the client reports
//! the differences between the old and the new state. Calls wait for the new connection, take effect at most once, and
//! are always settled. If the membership ended in the meantime or the server crashed, the client joins again and
//! restores its role, publications and subscriptions. It reports every URL that changed (`syncDone`). `Disconnected` is
//! final.
//!
//! * [`session`] makes all decisions and has no side effects: no socket, clock, randomness or task. The same code runs
//!   in tokio, in a browser and in the simulator.
//! * `driver` (feature `tokio`, on by default) hosts a session natively: the async `Client`.
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
