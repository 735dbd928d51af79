//! The shell's part in tasks: claims go to the engine that keeps them, which is the same one here, and orders to an
//! executor, which is the test.

use std::collections::{BTreeMap, VecDeque};

use lianmai_protocol::message::Call;
use lianmai_protocol::message::task::{
    Canvas, Layout, LayoutUser, Task, TaskConfig, TaskIds, Tasks,
};
use lianmai_protocol::{MonoTime, RpcError, UserId};
use lianmai_signal_engine::output::TaskView;
use lianmai_signal_engine::task::{
    Admission, Claim, Job, Refusal, RefusalReason, RunId, RunOrder, RunReport,
};
use lianmai_signal_engine::{
    AdminCommand, AdminReply, AskId, Input, QueryId, TaskChange, TaskPolicy,
};

use super::{World, room};
use crate::calls::ping;

pub(crate) const ACCEPTED: RunReport = RunReport::Accepted { ask: 1 };
pub(crate) const RENEW: RunReport = RunReport::Renew { ask: 2 };

#[derive(Debug, Default)]
pub(crate) struct TaskShell {
    pub(super) orders: Vec<RunOrder>,
    /// The query of each claim at the keeping engine, and the question that it came from.
    pub(super) claims: BTreeMap<QueryId, AskId>,
    pub(crate) hold_claims: bool,
    held: VecDeque<(AskId, Claim)>,
    /// The admissions that were asked for.
    pub(crate) admissions: Vec<Admission>,
    /// Admissions are not answered.
    pub(crate) nobody_admits: bool,
    /// Why all admissions are refused.
    pub(crate) unfit: Option<RefusalReason>,
}

/// A task that shows these users side by side.
pub(crate) fn task(id: &str, url: &str, uids: &[u64]) -> Task {
    let user = |(at, uid): (usize, &u64)| LayoutUser {
        uid: UserId(*uid),
        x: 320 * u32::try_from(at).expect("few"),
        y: 0,
        width: 320,
        height: 180,
        adaption: 1,
        z_order: 0,
        push_audio: true,
        push_video: true,
    };
    Task {
        task_id: id.parse().expect("valid"),
        stream_url: url.to_owned(),
        record: false,
        host_uid: None,
        revision: None,
        layout: Layout {
            canvas: Canvas { width: 1280, height: 720, color: 0 },
            users: uids.iter().enumerate().map(user).collect(),
            images: vec![],
        },
        config: Some(TaskConfig::default()),
        extra_info: None,
    }
}

pub(crate) fn add(tasks: &[Task]) -> Call {
    Call::AddTasks(Tasks { rtmp_tasks: tasks.to_vec() })
}

pub(crate) fn update(tasks: &[Task]) -> Call {
    Call::UpdateTasks(Tasks { rtmp_tasks: tasks.to_vec() })
}

pub(crate) fn delete(ids: &[&str]) -> Call {
    let ids = ids.iter().map(|id| id.parse().expect("valid"));
    Call::DeleteTasks(TaskIds { task_ids: ids.collect() })
}

impl World {
    /// A world whose server serves tasks.
    pub(crate) fn with_tasks() -> World {
        World::with(|config| {
            config.tasks = Some(TaskPolicy { max_retries: 3, ..TaskPolicy::default() });
            config.limits.commands_per_second = 1_000;
            config.limits.command_burst = 1_000;
        })
    }

    pub(super) fn admit_tasks(
        &mut self,
        admission: Admission,
    ) -> Option<Option<Result<(), Refusal>>> {
        let last = admission.tasks.last().expect("something is wanted").at;
        self.tasks.admissions.push(admission);
        let refusal = self.tasks.unfit.map(|why| Err(Refusal { at: last, why }));
        (!self.tasks.nobody_admits).then_some(Some(refusal.unwrap_or(Ok(()))))
    }

    pub(super) fn claim(&mut self, id: AskId, claim: Claim) -> Option<Input> {
        if self.tasks.hold_claims {
            self.tasks.held.push_back((id, claim));
            return None;
        }
        self.last_query += 1;
        let query = QueryId(self.last_query);
        self.tasks.claims.insert(query, id);
        Some(Input::Claim { query, claim })
    }

    /// Hands over the claims that were held.
    pub(crate) fn deliver_claims(&mut self) {
        self.tasks.hold_claims = false;
        for (id, claim) in std::mem::take(&mut self.tasks.held) {
            if let Some(input) = self.claim(id, claim) {
                self.input(input);
            }
        }
    }

    /// The orders since the last call, in words.
    pub(crate) fn orders(&mut self) -> Vec<String> {
        std::mem::take(&mut self.tasks.orders).iter().map(order_words).collect()
    }

    /// The only order since the last call: a run begins.
    #[track_caller]
    pub(crate) fn started(&mut self) -> (RunId, Box<Job>) {
        match std::mem::take(&mut self.tasks.orders).as_slice() {
            [RunOrder::Start { run, job }] => (run.clone(), job.clone()),
            other => panic!("{:?}", other.iter().map(order_words).collect::<Vec<_>>()),
        }
    }

    /// The only order since the last call: an update of a run.
    #[track_caller]
    pub(crate) fn updated(&mut self) -> Box<Job> {
        match std::mem::take(&mut self.tasks.orders).as_slice() {
            [RunOrder::Update { job, .. }] => job.clone(),
            other => panic!("{:?}", other.iter().map(order_words).collect::<Vec<_>>()),
        }
    }

    pub(crate) fn report(&mut self, run: &RunId, report: RunReport) {
        self.input(Input::Task { run: run.clone(), report });
    }

    /// An executor accepts a run and pushes.
    pub(crate) fn push(&mut self, run: &RunId) {
        self.report(run, ACCEPTED);
        self.report(run, RunReport::Pushing);
        self.tasks.orders.clear();
    }

    /// Lets time pass while clients ping and runs renew their leases. Returns the orders except leases.
    pub(crate) fn advance_pushing(&mut self, ms: u64, runs: &[&RunId]) -> Vec<String> {
        let until: MonoTime = self.now.mono + ms;
        let mut orders = self.orders();
        let mut steps = 0_u32;
        while self.now.mono < until {
            self.advance(500.min(until.since(self.now.mono)));
            steps += 1;
            if steps.is_multiple_of(20) {
                for client in self.open() {
                    self.ok(client, ping());
                }
            }
            for run in runs {
                self.report(run, RENEW);
            }
            let seen = self.orders();
            orders.extend(seen.into_iter().filter(|order| !order.starts_with("lease")));
        }
        orders
    }

    pub(crate) fn admin_tasks(&mut self, change: TaskChange) -> Result<(), RpcError> {
        let channel = room("plain");
        self.admin(AdminCommand::ChangeTasks { channel, change }).map(|reply| {
            assert_eq!(reply, AdminReply::Done);
        })
    }

    pub(crate) fn task_views(&mut self) -> Vec<TaskView> {
        match self.admin(AdminCommand::GetTasks(room("plain"))) {
            Ok(AdminReply::Tasks(tasks)) => tasks,
            other => panic!("{other:?}"),
        }
    }
}

fn order_words(order: &RunOrder) -> String {
    match order {
        RunOrder::Start { run, .. } => format!("start {} {}", run.task, run.number),
        RunOrder::Lease { run, ask, ms } => {
            assert!([1, 2].contains(ask), "a lease answers an ask");
            format!("lease {} {} {ms}", run.task, run.number)
        }
        RunOrder::Update { run, .. } => format!("update {} {}", run.task, run.number),
        RunOrder::Stop { run } => format!("stop {} {}", run.task, run.number),
    }
}
