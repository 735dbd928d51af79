//! What an engine asks the outside: a URL, a look at a token, a write. Comes in: a question and what goes on with
//! its answer. Goes out: that, once, when the answer or the deadline comes. A further question is one more
//! variant of `Question`, `Answer` and `Then`.
//!
//! ```text
//!   command -> Output::Ask { id, question } -> shell
//!                   |                            |
//!                [ Then ] <-- Input::Answer { id, answer }, or the deadline: the answer that it failed
//! ```
//!
//! Deliberately absent: what an answer does (`engine/answers.rs` and the channels).

use std::collections::BTreeMap;

use lianmai_protocol::message::session::Kick;
use lianmai_protocol::{
    Appkey, ChannelName, ErrorName, Gen, KindSet, MediaKind, Mid, Pub, TaskId, UserId,
};

use crate::admission::Grant;
use crate::ids::{AskId, ChannelRef, QueryId, Seat};
use crate::record::Minted;
use crate::rows::RowOp;
use crate::task::{Admission, Claim, Claimed, Refusal};

/// A URL that was not issued within this time fails its command, in milliseconds.
const MINT_MS: u64 = 5_000;
/// As long for a token that is looked at.
const VERIFY_MS: u64 = 5_000;
/// As long for whether a task can be carried out, and for the claim of a place.
const ADMIT_MS: u64 = 5_000;
const CLAIM_MS: u64 = 5_000;
/// A write that is not answered for so long is taken for one that failed (RST-5).
const WRITE_MS: u64 = 5_000;

/// What the engine wants to know or have done.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// Issue URLs; answered by [`Answer::Minted`].
    Mint(MintRequest),
    /// Look at the token of a member; answered by [`Answer::Verified`].
    Verify(TokenRequest),
    /// Whether tasks can be carried out; answered by [`Answer::Admitted`].
    Admit(Box<Admission>),
    /// Claim a place; to be handed to the engine that keeps it, as [`crate::Input::Claim`]. Answered by
    /// [`Answer::Claimed`].
    Claim(Claim),
    /// Write this down, in this order, behind every write of before; answered by [`Answer::Stored`].
    Store(Vec<RowOp>),
}

/// What the outside says to a [`Question`]. One of another kind than the question is ignored.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// What was issued; `None` if no URL could be.
    Minted(Option<Minted>),
    /// What the token grants, or why it is none.
    Verified(Result<Grant, ErrorName>),
    /// Whether the tasks can be carried out; `None` where nobody knows.
    Admitted(Option<Result<(), Refusal>>),
    /// Whether the place is the task's.
    Claimed(Claimed),
    /// Whether the write will survive the process.
    Stored(bool),
}

/// What a URL is wanted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MintRequest {
    /// The app, which may have its own media provider.
    pub appkey: Appkey,
    /// The stream.
    pub generation: Gen,
    /// `None` for a push URL, else the membership that may play.
    pub viewer: Option<Mid>,
}

/// Whose token is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    /// The app.
    pub appkey: Appkey,
    /// The user.
    pub uid: UserId,
    /// The channel.
    pub channel: ChannelName,
    /// The token. A secret.
    pub token: Token,
}

/// A token as a client sent it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// What goes on when a question is answered.
#[derive(Debug)]
pub(crate) enum Then {
    /// A command of that member goes on with its URL, or the member is told it.
    Url { seat: Seat, wanted: WantedUrl },
    /// A `renewToken` of that member goes on.
    Token { seat: Seat },
    /// A request for tasks of that channel goes on.
    Admit { channel: ChannelRef, request: AskId },
    /// A task of that channel goes on, or a request for tasks.
    Claim { channel: ChannelRef, claim: Claim, of: ClaimOf },
    /// Something is written down.
    Written(Written),
}

/// Who wants a claim.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ClaimOf {
    /// A request, which is known by its ticket.
    Request(AskId),
    /// A task of an earlier process.
    Task,
}

/// What a URL is for.
#[derive(Debug)]
pub(crate) enum WantedUrl {
    /// `publish`: the push URL of a generation, which is new or `renewed`.
    Push { generation: Gen, kinds: KindSet, renewed: bool },
    /// `subscribe`: the pull URL of a publication.
    Pull { generation: Gen, publisher: UserId, kind: MediaKind, publication: Pub },
    /// No command: the membership holds a URL of the stream whose address has changed.
    Moved { generation: Gen, mid: Mid },
}

/// What was to be written down first.
#[derive(Debug)]
pub(crate) enum Written {
    /// What took effect already: a member is answered. `of`: whom it changed, if not tasks.
    Change { seat: Seat, of: Option<UserId> },
    /// Somebody is kicked, if it is that membership still.
    Kick { channel: Option<ChannelRef>, mid: Option<Mid>, params: Kick, by: By },
    /// A channel is closed.
    Close { channel: ChannelRef, text: Option<String>, by: By },
    /// So many restrictions ended; those that moderators made in these channels themselves, too.
    Lift { query: QueryId, lifted: usize, channels: Vec<ChannelRef> },
    /// Tasks that the app's server changed: it is answered.
    Tasks { by: By },
    /// The number of a run of a task.
    Run { channel: ChannelRef, task: TaskId, life: u64, number: u64 },
    /// A claim of a place.
    Claim { query: QueryId, claim: Claim },
    /// What the admin API has changed in a channel, or of a member of it, took effect already: it is told that.
    Told { query: QueryId, channel: ChannelRef, of: Option<UserId>, news: News },
    /// Everything is handed over.
    HandOver,
}

/// What the admin API is told when a channel is written down.
#[derive(Clone, Copy, Debug)]
pub(crate) enum News {
    /// It is as was asked for.
    Done,
    /// It is made, and shown.
    Made,
    /// It was there before.
    Exists,
}

/// Who wants something done that must be written down before.
#[derive(Clone, Copy, Debug)]
pub(crate) enum By {
    /// A member, by command.
    Member(UserId),
    /// The admin API.
    Admin(QueryId),
}

impl By {
    pub(crate) fn member(self) -> Option<UserId> {
        match self {
            By::Member(uid) => Some(uid),
            By::Admin(_) => None,
        }
    }
}

impl Then {
    /// How long the answer may take, in milliseconds. A hand-over has the deadline of its drain.
    pub(crate) fn patience_ms(&self) -> Option<u64> {
        match self {
            Then::Url { .. } => Some(MINT_MS),
            Then::Token { .. } => Some(VERIFY_MS),
            Then::Admit { .. } => Some(ADMIT_MS),
            Then::Claim { .. } => Some(CLAIM_MS),
            Then::Written(Written::HandOver) => None,
            Then::Written(_) => Some(WRITE_MS),
        }
    }

    fn is_write(&self) -> bool {
        matches!(self, Then::Written(_) | Then::Claim { .. })
    }

    /// What a question without an answer is taken to be answered.
    fn failed(&self) -> Answer {
        match self {
            Then::Url { .. } => Answer::Minted(None),
            Then::Token { .. } => Answer::Verified(Err(ErrorName::InternalError)),
            Then::Admit { .. } => Answer::Admitted(None),
            Then::Claim { .. } => Answer::Claimed(Claimed::Unavailable),
            Then::Written(_) => Answer::Stored(false),
        }
    }
}

/// The questions without an answer.
#[derive(Debug, Default)]
pub(crate) struct Asks {
    last: u64,
    open: BTreeMap<AskId, Then>,
}

impl Asks {
    /// A number that no question has: for what waits for several.
    pub(crate) fn reserve(&mut self) -> AskId {
        self.last += 1;
        AskId(self.last)
    }

    pub(crate) fn open(&mut self, then: Then) -> AskId {
        let id = self.reserve();
        self.open.insert(id, then);
        id
    }

    /// Takes what goes on; `None` for what was never asked, or is answered.
    pub(crate) fn take(&mut self, id: AskId) -> Option<Then> {
        self.open.remove(&id)
    }

    /// The answer that was taken it for was none to this question.
    pub(crate) fn put_back(&mut self, id: AskId, then: Then) {
        self.open.insert(id, then);
    }

    /// What a question that is open is answered when its time is over.
    pub(crate) fn failed(&self, id: AskId) -> Option<Answer> {
        self.open.get(&id).map(Then::failed)
    }

    /// Whether a question that is open is a write, or a claim, which is one elsewhere.
    pub(crate) fn is_write(&self, id: AskId) -> bool {
        self.open.get(&id).is_some_and(Then::is_write)
    }

    /// Whether somebody waits for a write.
    pub(crate) fn has_writes(&self) -> bool {
        self.open.values().any(Then::is_write)
    }
}
