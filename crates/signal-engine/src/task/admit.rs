//! Whether tasks can be carried out at all. Goes out: what somebody wants, before any of it takes effect. Comes in: that
//! it can be, or the first thing that cannot and why (TSK-2, TSK-3). Whoever carries tasks out knows its room, and where
//! an address leads; the engine knows neither.

use lianmai_protocol::{ErrorName, RpcError, TaskId, UserId};

use super::spec::Spec;
use crate::key::ChannelKey;

/// What somebody wants to have carried out: new tasks, or others in the place of those that are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The channel.
    pub channel: ChannelKey,
    /// The tasks.
    pub tasks: Vec<Wanted>,
}

/// A task that somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its place in the list of the request.
    pub at: usize,
    /// Its id.
    pub task: TaskId,
    /// Its life: that of its runs later.
    pub life: u64,
    /// Whose it is; `None` is the app's server.
    pub owner: Option<UserId>,
    /// What it is to do.
    pub spec: Spec,
}

/// Why a task cannot be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// There is no room for it, or its owner has as much as one may have.
    NoRoom,
    /// Nobody can push to its address.
    Address,
    /// Its address leads back to the server itself.
    OwnAddress,
    /// Its address is not public, and that is not allowed.
    PrivateAddress,
}

/// A task that cannot be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its place in the list of the request.
    pub at: usize,
    /// Why.
    pub why: Unfit,
}

impl Refusal {
    pub(crate) fn error(self) -> RpcError {
        let Refusal { at, why } = self;
        let address = |text: &str| {
            let error = RpcError::new(ErrorName::BadTask).message(text);
            error.field(format!("rtmpTasks[{at}].streamUrl"))
        };
        match why {
            Unfit::NoRoom => RpcError::new(ErrorName::TaskFailed)
                .message("The server has no room for the task.")
                .field(format!("rtmpTasks[{at}]")),
            Unfit::Address => address("Nobody can push to the URL."),
            Unfit::OwnAddress => address("The URL leads back to this server."),
            Unfit::PrivateAddress => address("The URL leads to an address that is not public."),
        }
    }
}
