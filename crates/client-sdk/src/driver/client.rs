//! The handle that an app holds. Comes in: `async` calls. Goes out: commands for the event loop, and
//! what became of them. Deliberately absent: state; what it shows is what the delivery task
//! delivered.

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
use super::event_loop::{EventLoop, Notice, Order};
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

/// A client: at most one channel at a time, any number one after the other. Clones are handles of the
/// same client; when the last one is dropped, its socket is closed and its tasks end. That is no
/// `leave`: others see the member until the server's grace ends.
///
/// A call starts when its future is first polled. Dropping the future does not take the call back.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

/// A handle that does not keep its client alive: for handlers, which the client owns.
#[derive(Clone)]
pub struct WeakClient {
    inner: Weak<Inner>,
}

struct Inner {
    appkey: String,
    orders: mpsc::UnboundedSender<Order>,
    hub: Arc<Hub>,
}

impl Client {
    /// Makes a client that is in no channel. Nothing is sent before [`Client::join`].
    ///
    /// # Errors
    /// The addresses of [`ClientConfig::servers`] are none, too many, or no addresses.
    ///
    /// # Panics
    /// Outside a tokio runtime with time and I/O.
    pub fn new(config: ClientConfig) -> Result<Client, ConfigError> {
        let (orders, orders_in) = mpsc::unbounded_channel();
        let hub = Arc::new(Hub::new(config.event_capacity));
        let session = Session::new(config.session(platform::seed()))?;
        tokio::spawn(EventLoop::new(session, Arc::clone(&hub)).run(orders_in));
        tokio::spawn(Arc::clone(&hub).run());
        Ok(Client { inner: Arc::new(Inner { appkey: config.appkey, orders, hub }) })
    }

    /// Enters a channel. From then on the client stays in it: a connection that is lost comes back by itself
    /// ([`Event::Reconnected`]), until `leave` or an end that [`Event::Disconnected`] tells. After that
    /// the same client may join again.
    ///
    /// # Errors
    /// See [`JoinError`]; the client is in no channel then, except after `AlreadyJoined`.
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

    /// Leaves the channel. Whatever comes out, the client is in no channel afterwards. Without a connection
    /// it succeeds at once, and the client still tries to tell the server for 10 s.
    ///
    /// # Errors
    /// [`LeaveError::NotJoined`] if it was in none; a timeout if the server did not answer.
    pub async fn leave(&self) -> Result<(), LeaveError> {
        self.tell::<method::Leave>(Empty {}).await
    }

    /// Announces media and gets the push URL, a secret. Audio and video share one.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish(&self, media_type: MediaSelector) -> Result<Published, PublishError> {
        match self.ask::<method::Publish>(Publish { media_type, uid: None }).await? {
            Reply::Published(published) => Ok(published),
            _ => Err(PublishError::OutcomeUnknown),
        }
    }

    /// Takes announced media back. Without audio and video the push URL dies.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn unpublish(&self, media_type: MediaSelector) -> Result<(), PublishError> {
        self.tell::<method::Unpublish>(Publish { media_type, uid: None }).await
    }

    /// Takes somebody else's media back; needs the right `moderate`.
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

    /// Gets the pull URL of somebody's media, a secret. A subscription ends with the publication.
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

    /// Gives a subscription up; not being subscribed is no error.
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

    /// Changes one's own role. Becoming audience unpublishes and kills the push URLs.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn set_role(&self, role: Role) -> Result<(), CommandError> {
        self.tell::<method::SetRole>(SetRole { role, uid: None }).await
    }

    /// Changes somebody's role; needs the right `moderate`.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn set_role_of(&self, uid: impl IntoUserId, role: Role) -> Result<(), CommandError> {
        let uid = Some(read_uid(uid)?);
        self.tell::<method::SetRole>(SetRole { role, uid }).await
    }

    /// Tells others that one's audio, video or both are muted. The media itself is the app's to
    /// silence.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn mute(&self, media_type: MediaSelector) -> Result<(), CommandError> {
        self.tell::<method::Mute>(Mute { media_type, uid: None }).await
    }

    /// Takes [`Client::mute`] back.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn unmute(&self, media_type: MediaSelector) -> Result<(), CommandError> {
        self.tell::<method::Unmute>(Mute { media_type, uid: None }).await
    }

    /// Marks somebody as muted; needs the right `moderate`.
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

    /// Takes [`Client::mute_of`] back.
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

    /// Removes a member and keeps it out for `ban`, in whole seconds, at most 7 days; needs `moderate`.
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

    /// Ends the channel for all and refuses joins with older tokens for `hold`, in whole seconds, at
    /// most an hour; needs `moderate`.
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

    /// Says something to all, at most 8 KiB.
    ///
    /// # Errors
    /// See [`MessageError`].
    pub async fn send_message(&self, data: impl Into<String>) -> Result<(), MessageError> {
        self.tell::<method::SendMessage>(SendMessage { data: data.into(), to: None }).await
    }

    /// Says something to some members, at most 64, and tells how many different uids these are. Who is not there
    /// is skipped.
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

    /// Changes one's own attributes (`None` removes a key) and, where given, the display name.
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

    /// Hands in a new token for the same app, channel and uid. Answers how long it lasts; `None` is
    /// for ever.
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

    /// Starts push tasks: what the channel publishes is composed and pushed to each one's address. What becomes of them is
    /// told by [`Event::RtmpTasksStatus`]. All of them begin, or none.
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
        self.inner.hub.look(|picture| picture.map(all).unwrap_or_default())
    }

    /// Tells the server what a media component observed. `uid` names the stream of a pull.
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

    /// Tells the client that the network is another one: it comes back at once, on a new socket. For hosts
    /// whose system says so; without it a dead connection is found within `deadAfterMs`.
    pub fn network_changed(&self) {
        self.notice(Notice::NetworkChanged);
    }

    /// Tells the client that the app is shown again: it makes sure within 3 s that its connection lives.
    pub fn foreground(&self) {
        self.notice(Notice::Foreground);
    }

    /// Runs `handler` for every event of a kind, or of all ([`EventKind::All`]), in order, on the
    /// client's delivery task. It may use getters, `on` and `off`, and spawn tasks that call methods;
    /// it must not block, least of all on a call of this client. It should hold a [`WeakClient`]: a
    /// [`Client`] in a handler keeps itself alive until [`Client::off`].
    pub fn on(
        &self,
        kind: EventKind,
        handler: impl Fn(&Event) + Send + Sync + 'static,
    ) -> ListenerId {
        self.inner.hub.on(kind, Arc::new(handler))
    }

    /// Removes a handler; `false` if it was removed already. A call of it that is running goes on.
    pub fn off(&self, id: ListenerId) -> bool {
        self.inner.hub.off(id)
    }

    /// Every event from now on. See [`EventStream`] for its bound.
    #[must_use]
    pub fn events(&self) -> EventStream {
        EventStream::new(Arc::clone(&self.inner.hub))
    }

    /// Where the connection is.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        self.inner.hub.state()
    }

    /// A copy of the channel as of the event that was delivered last; `None` while in no channel.
    #[must_use]
    pub fn picture(&self) -> Option<Picture> {
        self.inner.hub.look(|picture| picture.cloned())
    }

    /// Every broadcaster, oneself included if one is one, by uid.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        let all = |picture: &Picture| picture.members.values().cloned().collect();
        self.inner.hub.look(|picture| picture.map(all).unwrap_or_default())
    }

    /// One's own state; `None` while in no channel.
    #[must_use]
    pub fn self_info(&self) -> Option<Own> {
        self.inner.hub.look(|picture| picture.map(|picture| picture.own.clone()))
    }

    /// A handle that does not keep the client alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakClient {
        WeakClient { inner: Arc::downgrade(&self.inner) }
    }

    /// Calls a method; its error follows from `error.rs`.
    async fn ask<M: Operation>(&self, params: M::Params) -> Result<Reply, M::Error> {
        Ok(self.call(M::call(params)).await?)
    }

    /// Calls a method whose answer says no more than that it is done.
    async fn tell<M: Operation>(&self, params: M::Params) -> Result<(), M::Error> {
        self.call(M::call(params)).await?;
        Ok(())
    }

    async fn call(&self, command: Command) -> Result<Reply, CallError> {
        let (waiter, outcome) = oneshot::channel();
        let stopped = || CallError::Closed { code: 1006, reason: "the runtime stopped".to_owned() };
        self.inner.orders.send(Order::Call { command, waiter }).map_err(|_| stopped())?;
        outcome.await.unwrap_or_else(|_| Err(stopped()))
    }

    fn notice(&self, notice: Notice) {
        // Without an event loop there is no connection either.
        let _ = self.inner.orders.send(Order::Notice(notice));
    }
}

impl WeakClient {
    /// The client, if a [`Client`] handle is left.
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
