//! Questions of an engine to the shell: a URL, a check of a token, a write. Comes in: a question and the continuation
//! (`Continuation`) of its answer. Goes out: the continuation, once, at the answer or the deadline. A further question
//! is one more variant of `Question`, `Answer` and `Continuation`.
//!
//! ```text
//!   command -> Output::Ask { id, question } -> shell
//!                   |                            |
//!            [ Continuation ] <-- Input::Answer { id, answer }, or at the deadline: the answer that it failed
//! ```
//!
//! Deliberately absent: the effects of answers (`engine/answers.rs` and the channels).

use std::collections::BTreeMap;

use lianmai_protocol::message::session::Kick;
use lianmai_protocol::{
    Appkey, ChannelName, ErrorName, Gen, KindSet, MediaKind, Mid, Pub, TaskId, UserId,
};

use crate::grant::Grant;
use crate::ids::{AskId, ChannelRef, MemberRef, QueryId};
use crate::record::Minted;
use crate::rows::RowOp;
use crate::task::{Admission, Claim, Claimed, Refusal};

/// A URL that was not issued within this time fails its command, in milliseconds.
const MINT_MS: u64 = 5_000;
/// Deadline of the check of a token, in milliseconds.
const VERIFY_MS: u64 = 5_000;
/// Deadlines of the admission of tasks and of the claim of a push address, in milliseconds.
const ADMIT_MS: u64 = 5_000;
const CLAIM_MS: u64 = 5_000;
/// A write without an answer for this long counts as failed, in milliseconds (RST-5).
const WRITE_MS: u64 = 5_000;

/// A question or request of the engine that needs an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// Issue URLs; answered by [`Answer::Minted`].
    Mint(MintRequest),
    /// Check the token of a member; answered by [`Answer::Verified`].
    Verify(TokenRequest),
    /// Whether tasks can be carried out; answered by [`Answer::Admitted`].
    Admit(Box<Admission>),
    /// Claim a push address. The shell hands this to the engine that keeps the claim, as [`crate::Input::Claim`].
    /// Answered by [`Answer::Claimed`].
    Claim(Claim),
    /// Write these rows in this order, after every earlier write; answered by [`Answer::Stored`].
    Store(Vec<RowOp>),
}

/// The answer to a [`Question`]. An answer of another kind than its question is ignored.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The issued URLs; `None` if none could be issued.
    Minted(Option<Minted>),
    /// What the token grants, or why it is invalid.
    Verified(Result<Grant, ErrorName>),
    /// Whether the tasks can be carried out; `None` if that is not known.
    Admitted(Option<Result<(), Refusal>>),
    /// Whether the task has the claim.
    Claimed(Claimed),
    /// Whether the write will survive the process.
    Stored(bool),
}

/// A request for a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MintRequest {
    /// The app, which may have its own media provider.
    pub appkey: Appkey,
    /// The stream.
    pub generation: Gen,
    /// `None` for a push URL, else the membership that may play.
    pub viewer: Option<Mid>,
}

/// A token to check, and its member.
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

/// The continuation of a question.
#[derive(Debug)]
pub(crate) enum Continuation {
    /// Continues a command of the member with its URL, or sends the URL to the member.
    Url { member: MemberRef, purpose: UrlPurpose },
    /// Continues a `renewToken` of the member.
    Token { member: MemberRef },
    /// Continues a request for tasks of the channel.
    Admit { channel: ChannelRef, request: AskId },
    /// Continues a task of the channel, or a request for tasks.
    Claim { channel: ChannelRef, claim: Claim, of: ClaimPurpose },
    /// Continues after a write.
    AfterWrite(AfterWrite),
}

/// The purpose of a claim.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ClaimPurpose {
    /// A request for tasks, identified by its ask.
    Request(AskId),
    /// A task that was restored from an earlier process.
    Task,
}

/// The purpose of a URL.
#[derive(Debug)]
pub(crate) enum UrlPurpose {
    /// `publish`: the push URL of a generation, which is new or `renewed`.
    Push { generation: Gen, kinds: KindSet, renewed: bool },
    /// `subscribe`: the pull URL of a publication.
    Pull { generation: Gen, publisher: UserId, kind: MediaKind, publication: Pub },
    /// No command: the membership holds a URL of the stream whose address has changed.
    Moved { generation: Gen, mid: Mid },
}

/// The continuation of a write.
#[derive(Debug)]
pub(crate) enum AfterWrite {
    /// Answers a member whose change took effect already. `of`: the changed member; `None` for tasks.
    Change { member: MemberRef, of: Option<UserId> },
    /// Kicks a member, if it still has this membership.
    Kick { channel: Option<ChannelRef>, mid: Option<Mid>, params: Kick, by: Caller },
    /// Closes a channel.
    Close { channel: ChannelRef, text: Option<String>, by: Caller },
    /// Answers the admin API that `lifted` restrictions ended, with the demotions that ended in `channels`.
    Lift { query: QueryId, lifted: usize, channels: Vec<ChannelRef> },
    /// Answers a change of tasks by the app's server.
    Tasks { by: Caller },
    /// Starts a run whose number was written.
    Run { channel: ChannelRef, task: TaskId, life: u64, number: u64 },
    /// Answers a claim of a push address.
    Claim { query: QueryId, claim: Claim },
    /// Answers a request of the admin API that took effect already in a channel. `of`: the member that it was about.
    AdminChange { query: QueryId, channel: ChannelRef, of: Option<UserId>, outcome: AdminOutcome },
    /// Ends the drain: the state was handed over.
    HandOver,
}

/// The admin API's answer when the row of a channel is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AdminOutcome {
    /// The channel is as the request asked for.
    Done,
    /// The request created the channel; the answer shows it.
    Made,
    /// The channel existed before the request.
    Exists,
}

/// The caller of a change that must be written first.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Caller {
    /// A member, by command.
    Member(UserId),
    /// The admin API.
    Admin(QueryId),
}

impl Caller {
    pub(crate) fn member(self) -> Option<UserId> {
        match self {
            Caller::Member(uid) => Some(uid),
            Caller::Admin(_) => None,
        }
    }
}

impl Continuation {
    /// Milliseconds until the deadline of the answer. A hand-over has the deadline of its drain.
    pub(crate) fn timeout_ms(&self) -> Option<u64> {
        match self {
            Continuation::Url { .. } => Some(MINT_MS),
            Continuation::Token { .. } => Some(VERIFY_MS),
            Continuation::Admit { .. } => Some(ADMIT_MS),
            Continuation::Claim { .. } => Some(CLAIM_MS),
            Continuation::AfterWrite(AfterWrite::HandOver) => None,
            Continuation::AfterWrite(_) => Some(WRITE_MS),
        }
    }

    fn is_write(&self) -> bool {
        matches!(self, Continuation::AfterWrite(_) | Continuation::Claim { .. })
    }

    /// The answer that stands for a missing one.
    fn failed(&self) -> Answer {
        match self {
            Continuation::Url { .. } => Answer::Minted(None),
            Continuation::Token { .. } => Answer::Verified(Err(ErrorName::InternalError)),
            Continuation::Admit { .. } => Answer::Admitted(None),
            Continuation::Claim { .. } => Answer::Claimed(Claimed::Unavailable),
            Continuation::AfterWrite(_) => Answer::Stored(false),
        }
    }
}

/// The open questions.
#[derive(Debug, Default)]
pub(crate) struct OpenQuestions {
    last: u64,
    open: BTreeMap<AskId, Continuation>,
}

impl OpenQuestions {
    /// A number that no question uses, for a request that waits for several questions.
    pub(crate) fn reserve(&mut self) -> AskId {
        self.last += 1;
        AskId(self.last)
    }

    pub(crate) fn open(&mut self, then: Continuation) -> AskId {
        let id = self.reserve();
        self.open.insert(id, then);
        id
    }

    /// Removes an open question and returns its continuation; `None` if it was never asked or is answered already.
    pub(crate) fn take(&mut self, id: AskId) -> Option<Continuation> {
        self.open.remove(&id)
    }

    /// Reopens a question whose answer was of another kind.
    pub(crate) fn put_back(&mut self, id: AskId, then: Continuation) {
        self.open.insert(id, then);
    }

    /// The answer of an open question whose deadline has passed.
    pub(crate) fn failed(&self, id: AskId) -> Option<Answer> {
        self.open.get(&id).map(Continuation::failed)
    }

    /// Whether an open question is a write, or a claim, which another engine writes.
    pub(crate) fn is_write(&self, id: AskId) -> bool {
        self.open.get(&id).is_some_and(Continuation::is_write)
    }

    /// Whether a write or a claim is open.
    pub(crate) fn has_writes(&self) -> bool {
        self.open.values().any(Continuation::is_write)
    }
}
