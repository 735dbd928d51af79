//! Inputs about tasks that are not for a channel alone: reports of executors, and runs that were told to stop. Comes
//! in: reports, deadlines. Goes out: a channel's step, the release of claims once no run pushes to their address.

use lianmai_protocol::ErrorName;

use super::Engine;
use crate::context::Context;
use crate::ids::QueryId;
use crate::key::ChannelKey;
use crate::output::Output;
use crate::task::{Claim, RunId, RunOrder, RunReport, TaskChange};

impl Engine {
    /// An executor's report on a run.
    pub(super) fn task_report(&mut self, run: RunId, report: RunReport) {
        let mut present = false;
        if let Some(&id) = self.names.get(&run.channel) {
            self.with_channel(id, |channel, cx| present = channel.task_report(cx, &run, report));
        }
        match report {
            _ if present => {}
            RunReport::Stopped | RunReport::Failed(_) => self.run_over(&run),
            // The run is not, or no longer, the present one of a task.
            RunReport::Accepted { .. } | RunReport::Renew { .. } => {
                self.context.outputs.push_back(Output::Order(RunOrder::Stop { run }));
            }
            RunReport::Pushing | RunReport::Retrying(_) | RunReport::ImageFailed => {}
        }
    }

    /// Leases of runs that were told to stop are over.
    pub(super) fn stopping_due(&mut self) {
        for run in self.context.stopping.expired(self.context.now.mono) {
            self.run_over(&run);
        }
    }

    fn run_over(&mut self, run: &RunId) {
        let Some(claims) = self.context.stopping.take(run) else { return };
        for claim in claims {
            self.context.release(claim, true);
        }
        if let Some(&id) = self.names.get(&run.channel) {
            self.with_channel(id, |channel, cx| channel.run_is_over(cx, &run.task, run.life));
        }
    }

    /// A request of the app's server about the tasks of a channel.
    pub(super) fn admin_tasks(&mut self, query: QueryId, channel: &ChannelKey, change: TaskChange) {
        if let Some(&id) = self.names.get(channel) {
            return self.with_channel(id, |channel, cx| channel.admin_tasks(cx, query, change));
        }
        let error = match self.context.config.tasks {
            None => ErrorName::MethodNotFound,
            Some(_) => ErrorName::TaskChannelGone,
        };
        let reply = Err(error.into());
        self.context.outputs.push_back(Output::AdminReply { query, reply });
    }
}

impl Context {
    /// Releases a claim. `rest`: a run may have pushed to the address, so no task gets it for a while.
    pub(crate) fn release(&mut self, claim: Claim, rest: bool) {
        self.outputs.push_back(Output::Release { claim, rest });
    }

    /// A number for the life of a task.
    pub(crate) fn new_life(&mut self) -> u64 {
        self.new_cid().0
    }
}
