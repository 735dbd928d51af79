//! The handle that an app holds. In: `async` calls. Out: commands for the event loop, and their outcomes. Deliberately
//! absent: state; the getters show what the delivery task has delivered.

use std::sync::{Arc, Weak};
use std::time::Duration;

use lianmai_protocol::message::media::{Mute, Publish, Published, SetRole, Subscribe, Subscribed};
use lianmai_protocol::message::method;
use lianmai_protocol::message::session::{
    AttributeTarget, CloseChannel, Empty, Join, Kick, RenewToken, Report, ReportDir, ReportType,
    SendMessage, SetAttributes,
};
use lianmai_protocol::message::task::{Task, TaskIds, TaskInfo, Tasks};
use lianmai_protocol::{ErrorName, MediaKind, MediaSelector, Role, RpcError, TaskId, UserId};
use tokio::sync::{mpsc, oneshot};

use super::config::{ClientConfig, IntoUserId, JoinOptions};
use super::event_loop::{AppRequest, EventLoop, Hint};
use super::events::EventStream;
use super::hub::{Hub, ListenerId};
use super::platform;
use crate::error::{
    CallError, CommandError, ConfigError, JoinError, LeaveError, MessageError, Operation,
    PublishError, RenewTokenError, SubscribeError, TaskError,
};
use crate::session::{
    Command, ConnectionState, Event, EventKind, Joined, Member, Own, Picture, Reply, Session,
};

/// A client: at most one channel at a time, any number one after the other. Clones are handles of the same client. When
/// the last handle is dropped, the socket is closed and the tasks end. That is not a `leave`: the other members see the
/// member until the server's grace period ends.
///
/// A call starts when its future is first polled. Dropping the future does not cancel the call.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

/// A handle that does not keep its client alive, for handlers, which the client owns.
#[derive(Clone)]
pub struct WeakClient {
    inner: Weak<Inner>,
}

struct Inner {
    appkey: String,
    requests: mpsc::UnboundedSender<AppRequest>,
    hub: Arc<Hub>,
}

impl Client {
    /// Creates a client that is in no channel. Nothing is sent before [`Client::join`].
    ///
    /// # Errors
    /// The list [`ClientConfig::servers`] is empty, too long, or contains an invalid address.
    ///
    /// # Panics
    /// Outside a tokio runtime with time and I/O.
    pub fn new(config: ClientConfig) -> Result<Client, ConfigError> {
        let (requests, received) = mpsc::unbounded_channel();
        let hub = Arc::new(Hub::new(config.event_capacity));
        let session = Session::new(config.session(platform::seed()))?;
        tokio::spawn(EventLoop::new(session, Arc::clone(&hub)).run(received));
        tokio::spawn(Arc::clone(&hub).run());
        Ok(Client { inner: Arc::new(Inner { appkey: config.appkey, requests, hub }) })
    }

    /// Enters a channel. From then on the client stays in it: it reconnects by itself after a connection loss
    /// ([`Event::Reconnected`]), until `leave` or until [`Event::Disconnected`] announces the end. After that the same
    /// client may join again.
    ///
    /// # Errors
    /// See [`JoinError`]. After an error the client is in no channel; after `AlreadyJoined` it stays in its channel.
    pub async fn join(&self, options: JoinOptions) -> Result<Joined, JoinError> {
        let name = |error: lianmai_protocol::id::IdError| CallError::refused(error.name);
        let entropy = |_| {
            let error = RpcError::new(ErrorName::InternalError);
            CallError::Refused(error.message("the system gave no random bytes"))
        };
        let join = Join {
            appkey: self.inner.appkey.parse().map_err(name)?,
            channel_name: options.channel_name.parse().map_err(name)?,
            uid: options.uid,
            token: options.token,
            role: options.role,
            join_id: Some(match options.join_id {
                Some(join_id) => join_id,
                None => platform::join_id().map_err(entropy)?,
            }),
            continues: None,
            name: options.name,
            attributes: options.attributes,
        };
        match self.ask::<method::Join>(join).await? {
            Reply::Joined(joined) => Ok(*joined),
            _ => Err(JoinError::OutcomeUnknown),
        }
    }

    /// Leaves the channel. The client is in no channel afterwards, even after an error. Without a connection the call
    /// succeeds at once, and the client still tries for 10 s to tell the server.
    ///
    /// # Errors
    /// [`LeaveError::NotJoined`] if the client was in no channel; [`LeaveError::OutcomeUnknown`] if the server did not
    /// answer in time.
    pub async fn leave(&self) -> Result<(), LeaveError> {
        self.tell::<method::Leave>(Empty {}).await
    }

    /// Publishes media and returns the push URL, which is secret. Audio and video share one URL.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish(&self, media_type: MediaSelector) -> Result<Published, PublishError> {
        match self.ask::<method::Publish>(Publish { media_type, uid: None }).await? {
            Reply::Published(published) => Ok(published),
            _ => Err(PublishError::OutcomeUnknown),
        }
    }

    /// Unpublishes media. When neither audio nor video is published any more, their push URL becomes invalid.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn unpublish(&self, media_type: MediaSelector) -> Result<(), PublishError> {
        self.tell::<method::Unpublish>(Publish { media_type, uid: None }).await
    }

    /// Unpublishes media of another member; needs the right `moderate`.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn unpublish_of(
        &self,
        uid: impl IntoUserId,
        media_type: MediaSelector,
    ) -> Result<(), PublishError> {
        let uid = Some(read_uid(uid)?);
        self.tell::<method::Unpublish>(Publish { media_type, uid }).await
    }

    /// Returns the pull URL for a kind of a member's media; the URL is secret. A subscription ends with its
    /// publication.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub async fn subscribe(
        &self,
        uid: impl IntoUserId,
        media_type: MediaKind,
    ) -> Result<Subscribed, SubscribeError> {
        let uid = read_uid(uid)?;
        match self.ask::<method::Subscribe>(Subscribe { uid, media_type }).await? {
            Reply::Subscribed(subscribed) => Ok(subscribed),
            _ => Err(SubscribeError::OutcomeUnknown),
        }
    }

    /// Ends a subscription. It is no error if there is none.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub async fn unsubscribe(
        &self,
        uid: impl IntoUserId,
        media_type: MediaKind,
    ) -> Result<(), SubscribeError> {
        let uid = read_uid(uid)?;
        self.tell::<method::Unsubscribe>(Subscribe { uid, media_type }).await
    }

    /// Changes the app's own role. Becoming audience unpublishes all media and invalidates the push URLs.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn set_role(&self, role: Role) -> Result<(), CommandError> {
        self.tell::<method::SetRole>(SetRole { role, uid: None }).await
    }

    /// Changes the role of another member; needs the right `moderate`.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn set_role_of(&self, uid: impl IntoUserId, role: Role) -> Result<(), CommandError> {
        let uid = Some(read_uid(uid)?);
        self.tell::<method::SetRole>(SetRole { role, uid }).await
    }

    /// Tells the other members that the app's audio, video or both are muted. The app itself has to silence the media.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn mute(&self, media_type: MediaSelector) -> Result<(), CommandError> {
        self.tell::<method::Mute>(Mute { media_type, uid: None }).await
    }

    /// Reverts [`Client::mute`].
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn unmute(&self, media_type: MediaSelector) -> Result<(), CommandError> {
        self.tell::<method::Unmute>(Mute { media_type, uid: None }).await
    }

    /// Marks another member as muted; needs the right `moderate`.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn mute_of(
        &self,
        uid: impl IntoUserId,
        media_type: MediaSelector,
    ) -> Result<(), CommandError> {
        let uid = Some(read_uid(uid)?);
        self.tell::<method::Mute>(Mute { media_type, uid }).await
    }

    /// Reverts [`Client::mute_of`].
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn unmute_of(
        &self,
        uid: impl IntoUserId,
        media_type: MediaSelector,
    ) -> Result<(), CommandError> {
        let uid = Some(read_uid(uid)?);
        self.tell::<method::Unmute>(Mute { media_type, uid }).await
    }

    /// Removes a member and bans its uid for `ban`, in whole seconds, at most 7 days; needs the right `moderate`.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn kick(
        &self,
        uid: impl IntoUserId,
        ban: Duration,
        reason: Option<String>,
    ) -> Result<(), CommandError> {
        let uid = read_uid(uid)?;
        let duration_s = seconds(ban)?;
        self.tell::<method::Kick>(Kick { uid, duration_s, reason }).await
    }

    /// Ends the channel for all members and refuses joins with older tokens for `hold`, in whole seconds, at most an
    /// hour; needs the right `moderate`.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn close_channel(
        &self,
        hold: Duration,
        reason: Option<String>,
    ) -> Result<(), CommandError> {
        let hold_s = seconds(hold)?;
        self.tell::<method::CloseChannel>(CloseChannel { hold_s, reason }).await
    }

    /// Sends a message to all members, at most 8 KiB.
    ///
    /// # Errors
    /// See [`MessageError`].
    pub async fn send_message(&self, data: impl Into<String>) -> Result<(), MessageError> {
        self.tell::<method::SendMessage>(SendMessage { data: data.into(), to: None }).await
    }

    /// Sends a message to certain members, at most 64, and returns the number of different uids in `to`. Uids that are
    /// not members are skipped.
    ///
    /// # Errors
    /// See [`MessageError`].
    pub async fn send_message_to(
        &self,
        to: impl IntoIterator<Item = UserId>,
        data: impl Into<String>,
    ) -> Result<u64, MessageError> {
        let to = Some(to.into_iter().collect());
        match self.ask::<method::SendMessage>(SendMessage { data: data.into(), to }).await? {
            Reply::MessageSent { delivered } => Ok(delivered),
            _ => Err(MessageError::OutcomeUnknown),
        }
    }

    /// Changes the app's own attributes (`None` removes a key) and, if given, the display name.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn set_attributes(
        &self,
        attributes: impl IntoIterator<Item = (String, Option<String>)>,
        name: Option<String>,
    ) -> Result<(), CommandError> {
        let attributes = attributes.into_iter().collect();
        self.tell::<method::SetAttributes>(SetAttributes { attributes, target: None, name }).await
    }

    /// Changes attributes of the channel; needs the right `moderate`.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn set_channel_attributes(
        &self,
        attributes: impl IntoIterator<Item = (String, Option<String>)>,
    ) -> Result<(), CommandError> {
        let (attributes, target) =
            (attributes.into_iter().collect(), Some(AttributeTarget::Channel));
        self.tell::<method::SetAttributes>(SetAttributes { attributes, target, name: None }).await
    }

    /// Replaces the token by a new one for the same app, channel and uid. Returns how long it is valid; `None` if it
    /// never expires.
    ///
    /// # Errors
    /// See [`RenewTokenError`].
    pub async fn renew_token(
        &self,
        token: impl Into<String>,
    ) -> Result<Option<Duration>, RenewTokenError> {
        match self.ask::<method::RenewToken>(RenewToken { token: token.into() }).await? {
            Reply::TokenRenewed { expires_in_ms } => Ok(expires_in_ms.map(Duration::from_millis)),
            _ => Err(RenewTokenError::OutcomeUnknown),
        }
    }

    /// Starts push tasks, all or none of them: the server composes the published media and pushes the result to the
    /// address of each task. [`Event::RtmpTasksStatus`] reports their state.
    ///
    /// # Errors
    /// See [`TaskError`].
    pub async fn add_tasks(&self, tasks: impl IntoIterator<Item = Task>) -> Result<(), TaskError> {
        let rtmp_tasks = tasks.into_iter().collect();
        self.tell::<method::AddTasks>(Tasks { rtmp_tasks }).await
    }

    /// Replaces the whole configuration of push tasks.
    ///
    /// # Errors
    /// See [`TaskError`].
    pub async fn update_tasks(
        &self,
        tasks: impl IntoIterator<Item = Task>,
    ) -> Result<(), TaskError> {
        let rtmp_tasks = tasks.into_iter().collect();
        self.tell::<method::UpdateTasks>(Tasks { rtmp_tasks }).await
    }

    /// Ends push tasks.
    ///
    /// # Errors
    /// See [`TaskError`].
    pub async fn delete_tasks(
        &self,
        ids: impl IntoIterator<Item = TaskId>,
    ) -> Result<(), TaskError> {
        let task_ids = ids.into_iter().collect();
        self.tell::<method::DeleteTasks>(TaskIds { task_ids }).await
    }

    /// Every push task of the channel, by id.
    #[must_use]
    pub fn tasks(&self) -> Vec<TaskInfo> {
        let all = |picture: &Picture| picture.tasks.values().cloned().collect();
        self.inner.hub.with_picture(|picture| picture.map(all).unwrap_or_default())
    }

    /// Reports observations of a media component to the server. `uid` identifies the stream of a pull.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn report(
        &self,
        dir: ReportDir,
        kind: ReportType,
        data: serde_json::Map<String, serde_json::Value>,
        uid: Option<UserId>,
    ) -> Result<(), CommandError> {
        self.tell::<method::Report>(Report { dir, kind, data: data.into(), uid }).await
    }

    /// Tells the client that the network changed: it reconnects on a new socket, at once unless the server asked for a
    /// wait. Use it if the system reports such changes; without it a dead connection is found within `deadAfterMs`.
    pub fn network_changed(&self) {
        self.hint(Hint::NetworkChanged);
    }

    /// Tells the client that the app is shown again: the client checks within 3 s that its connection is alive.
    pub fn foreground(&self) {
        self.hint(Hint::Foreground);
    }

    /// Runs `handler` for every event of a kind, or of all kinds ([`EventKind::All`]), in order, on the client's
    /// delivery task. The handler may use getters, `on` and `off`, and spawn tasks that call methods. It must not
    /// block, in particular not on a call of this client. It should hold a [`WeakClient`]: a [`Client`] in a handler
    /// keeps itself alive until [`Client::off`].
    pub fn on(
        &self,
        kind: EventKind,
        handler: impl Fn(&Event) + Send + Sync + 'static,
    ) -> ListenerId {
        self.inner.hub.on(kind, Arc::new(handler))
    }

    /// Removes a handler; returns `false` if it was removed already. A running invocation of it continues.
    pub fn off(&self, id: ListenerId) -> bool {
        self.inner.hub.off(id)
    }

    /// A stream of all events from now on. See [`EventStream`] for its capacity.
    #[must_use]
    pub fn events(&self) -> EventStream {
        EventStream::new(Arc::clone(&self.inner.hub))
    }

    /// The state of the connection.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        self.inner.hub.state()
    }

    /// A copy of the channel as of the event that was delivered last; `None` while in no channel.
    #[must_use]
    pub fn picture(&self) -> Option<Picture> {
        self.inner.hub.with_picture(|picture| picture.cloned())
    }

    /// All broadcasters by uid, including the app itself if it is one.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        let all = |picture: &Picture| picture.members.values().cloned().collect();
        self.inner.hub.with_picture(|picture| picture.map(all).unwrap_or_default())
    }

    /// The app's own state; `None` while in no channel.
    #[must_use]
    pub fn self_info(&self) -> Option<Own> {
        self.inner.hub.with_picture(|picture| picture.map(|picture| picture.own.clone()))
    }

    /// A handle that does not keep the client alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakClient {
        WeakClient { inner: Arc::downgrade(&self.inner) }
    }

    /// Calls a method; `error.rs` defines its error type.
    async fn ask<M: Operation>(&self, params: M::Params) -> Result<Reply, M::Error> {
        Ok(self.call(M::call(params)).await?)
    }

    /// Calls a method whose result has no contents.
    async fn tell<M: Operation>(&self, params: M::Params) -> Result<(), M::Error> {
        self.call(M::call(params)).await?;
        Ok(())
    }

    async fn call(&self, command: Command) -> Result<Reply, CallError> {
        let (waiter, outcome) = oneshot::channel();
        let stopped = || CallError::Closed { code: 1006, reason: "the runtime stopped".to_owned() };
        self.inner.requests.send(AppRequest::Call { command, waiter }).map_err(|_| stopped())?;
        outcome.await.unwrap_or_else(|_| Err(stopped()))
    }

    fn hint(&self, hint: Hint) {
        // If the event loop has ended, there is no connection that the notice could concern.
        let _ = self.inner.requests.send(AppRequest::Hint(hint));
    }
}

impl WeakClient {
    /// The client, if any [`Client`] handle still exists.
    #[must_use]
    pub fn upgrade(&self) -> Option<Client> {
        self.inner.upgrade().map(|inner| Client { inner })
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("state", &self.state()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for WeakClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WeakClient").finish_non_exhaustive()
    }
}

fn read_uid(uid: impl IntoUserId) -> Result<UserId, CallError> {
    uid.into_user_id().map_err(|error| CallError::refused(error.name))
}

fn seconds(duration: Duration) -> Result<u32, CallError> {
    u32::try_from(duration.as_secs()).map_err(|_| CallError::refused(ErrorName::BadDuration))
}
