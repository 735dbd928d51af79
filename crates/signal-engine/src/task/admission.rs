//! Whether tasks can be carried out at all. Goes out: wanted tasks, before any of them takes effect. Comes in: consent,
//! or the first task that cannot be carried out and why (TSK-2, TSK-3). The side of the executors knows its room and
//! the target of an address; the engine knows neither.

use lianmai_protocol::{ErrorName, RpcError, TaskId, UserId};

use super::spec::Spec;
use crate::key::ChannelKey;

/// Tasks to be carried out: new ones, or changed ones in the place of present ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The channel.
    pub channel: ChannelKey,
    /// The tasks.
    pub tasks: Vec<WantedTask>,
}

/// A task to be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedTask {
    /// Its place in the list of the request.
    pub at: usize,
    /// Its id.
    pub task: TaskId,
    /// Its life, which its later runs have as well.
    pub life: u64,
    /// Its owner; `None` for the app's server.
    pub owner: Option<UserId>,
    /// Its specification.
    pub spec: Spec,
}

/// Why a task cannot be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// There is no room for it, or the share of its owner is used up.
    NoRoom,
    /// No push can go to its address.
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
    pub why: RefusalReason,
}

impl Refusal {
    pub(crate) fn error(self) -> RpcError {
        let Refusal { at, why } = self;
        let address = |text: &str| {
            let error = RpcError::new(ErrorName::BadTask).message(text);
            error.field(format!("rtmpTasks[{at}].streamUrl"))
        };
        match why {
            RefusalReason::NoRoom => RpcError::new(ErrorName::TaskFailed)
                .message("The server has no room for the task.")
                .field(format!("rtmpTasks[{at}]")),
            RefusalReason::Address => address("Nobody can push to the URL."),
            RefusalReason::OwnAddress => address("The URL leads back to this server."),
            RefusalReason::PrivateAddress => {
                address("The URL leads to an address that is not public.")
            }
        }
    }
}
