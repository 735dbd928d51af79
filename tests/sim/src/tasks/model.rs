//! The expected tasks of each channel. Comes in: commands when they are made, answers when they come, starts and
//! crashes. Goes out: whether an answer is permitted, and which tasks must exist. It knows nothing of claims, leases
//! and runs: only that a place belongs to one task, and is free again some time after that task.

use std::collections::{BTreeMap, BTreeSet};

use lianmai_protocol::message::Call;
use lianmai_protocol::message::task::{Canvas, Layout, LayoutUser, Task, TaskIds, Tasks};
use lianmai_protocol::{ErrorName, TaskId, UserId};
use lianmai_signal_engine::output::TaskView;
use lianmai_signal_engine::task::{Address, ClaimKey};

use super::PublishedKinds;
use crate::rng::Rng;

const MAX_TASKS: usize = 3;
/// A place is free this long after a task left it: generous for the lease of its last run, the rest, the messages
/// between engines and a slow disk.
const FREE_AFTER_MS: u64 = 16_000;
const URLS: [&str; 8] = [
    "rtmp://one.example.com/live/a",
    "rtmp://One.example.com:1935/live//a?sign=1",
    "rtmp://one.example.com/live/%61?sign=2",
    "rtmp://one.example.com/live/b",
    "rtmps://one.example.com/live/a",
    "rtmp://two.example.com/live/a",
    "rtmp://two.example.com./live/a?x",
    "rtmp://three.example.com/live/a",
];

/// What the model knows of a task.
#[derive(Clone, Debug, PartialEq)]
struct KnownTask {
    task: Task,
    revision: u64,
    /// The place of its address.
    place: ClaimKey,
}

#[derive(Clone, Debug, Default)]
struct ChannelModel {
    tasks: BTreeMap<TaskId, KnownTask>,
    /// A request whose answer was lost in a crash: it may have taken effect or not.
    maybe: Option<Call>,
    asked_at: u64,
}

#[derive(Debug, Default)]
pub(super) struct TaskModel {
    channels: BTreeMap<usize, ChannelModel>,
    /// When each place was left last, by any task.
    left: BTreeMap<ClaimKey, u64>,
    started_at: u64,
}

fn place_of(task: &Task) -> ClaimKey {
    Address::parse(&task.stream_url).expect("the generator writes good addresses").key()
}

fn some_task(rng: &mut Rng, id: &str) -> Task {
    let (audio, video) = *rng.pick(&[(true, true), (true, true), (true, false), (false, true)]);
    let layout = Layout {
        canvas: Canvas { width: 640, height: 360, color: 0 },
        users: vec![LayoutUser {
            uid: UserId(1),
            x: 0,
            y: 0,
            width: 640,
            height: 360,
            adaption: 1,
            z_order: 0,
            push_audio: audio,
            push_video: video,
        }],
        images: vec![],
    };
    Task {
        task_id: id.parse().expect("an id"),
        stream_url: (*rng.pick(&URLS)).to_owned(),
        record: rng.chance(500),
        host_uid: None,
        revision: None,
        layout,
        config: None,
        extra_info: None,
    }
}

fn some_tasks(rng: &mut Rng) -> Vec<Task> {
    let ids = ["a", "b", "c", "d"];
    let count = 1 + rng.index(2);
    (0..count)
        .map(|_| {
            let id = *rng.pick(&ids);
            some_task(rng, id)
        })
        .collect()
}

impl TaskModel {
    pub(super) fn some_add(&mut self, now: u64, rng: &mut Rng) -> Call {
        let mut tasks = some_tasks(rng);
        self.to_where_others_were(&mut tasks, now, rng);
        Call::AddTasks(Tasks { rtmp_tasks: tasks })
    }

    /// Sends some tasks to places that were left a moment ago, if there are such places.
    fn to_where_others_were(&self, tasks: &mut [Task], now: u64, rng: &mut Rng) {
        let lately = |url: &&str| {
            let place = Address::parse(url).expect("a good address").key();
            self.left.get(&place).is_some_and(|at| now < at + FREE_AFTER_MS)
        };
        let urls: Vec<&str> = URLS.iter().copied().filter(lately).collect();
        for task in tasks {
            if !urls.is_empty() && rng.chance(400) {
                (*rng.pick(&urls)).clone_into(&mut task.stream_url);
            }
        }
    }

    pub(super) fn some_update(&mut self, ch: usize, now: u64, rng: &mut Rng) -> Call {
        let mut tasks = some_tasks(rng);
        self.to_where_others_were(&mut tasks, now, rng);
        let known = &self.channels.entry(ch).or_default().tasks;
        for task in &mut tasks {
            // Most updates concern a known task, and many keep its address.
            if let Some((id, known)) = known.iter().nth(rng.index(known.len().max(1)))
                && rng.chance(800)
            {
                task.task_id = id.clone();
                if rng.chance(500) {
                    task.stream_url.clone_from(&known.task.stream_url);
                }
                let far = known.revision + rng.below(4);
                task.revision = rng.chance(300).then_some(far.max(1));
            }
        }
        Call::UpdateTasks(Tasks { rtmp_tasks: tasks })
    }

    /// Deletes mostly what is there, and often one of the tasks that are in trouble.
    pub(super) fn some_delete(&mut self, ch: usize, troubled: &[TaskId], rng: &mut Rng) -> Call {
        let known = &self.channels.entry(ch).or_default().tasks;
        let some = match troubled {
            [_, ..] if rng.chance(500) => Some(rng.pick(troubled).clone()),
            _ => known.keys().nth(rng.index(known.len().max(1))).cloned(),
        };
        let task_ids = match some.filter(|_| rng.chance(900)) {
            Some(id) => vec![id],
            None => vec!["d".parse().expect("an id")],
        };
        Call::DeleteTasks(TaskIds { task_ids })
    }

    pub(super) fn asked(&mut self, ch: usize, now: u64) {
        self.channels.entry(ch).or_default().asked_at = now;
    }

    pub(super) fn started(&mut self, now: u64) {
        self.started_at = now;
    }

    pub(super) fn crashed(&mut self, ch: usize, unanswered: Option<Call>) {
        self.channels.entry(ch).or_default().maybe = unanswered;
    }

    pub(super) fn live(&self) -> usize {
        self.channels.values().map(|channel| channel.tasks.len()).sum()
    }

    /// Whether a task shows or mixes in anything of a member that publishes these kinds.
    pub(super) fn shows(&self, ch: usize, id: &TaskId, kinds: PublishedKinds) -> bool {
        let known = self.channels.get(&ch).and_then(|channel| channel.tasks.get(id));
        known.is_some_and(|known| {
            let mut users = known.task.layout.users.iter();
            users.any(|u| u.push_audio && kinds.audio || u.push_video && kinds.video)
        })
    }

    pub(super) fn place(&self, ch: usize, id: &TaskId) -> Option<ClaimKey> {
        Some(self.channels.get(&ch)?.tasks.get(id)?.place)
    }

    /// Number of known tasks at a place, except for one task.
    fn holders(&self, place: ClaimKey, but: (usize, &TaskId)) -> usize {
        let channels = self.channels.iter();
        let tasks = channels.flat_map(|(ch, channel)| channel.tasks.iter().map(move |t| (*ch, t)));
        tasks.filter(|(ch, (id, known))| known.place == place && (*ch, *id) != but).count()
    }

    /// Whether a place may be busy: a task has it or had it lately, or this is unknown shortly after a start.
    fn may_be_busy(&self, ch: usize, task: &Task, now: u64) -> bool {
        let place = place_of(task);
        let lately = self.left.get(&place).is_some_and(|at| now < at + FREE_AFTER_MS);
        let early = self.channels[&ch].asked_at < self.started_at + FREE_AFTER_MS;
        let unknown = self.channels.values().any(|channel| channel.maybe.is_some());
        // A pending request of another channel may claim it for a moment.
        let asked = self
            .channels
            .iter()
            .any(|(of, channel)| *of != ch && now < channel.asked_at + FREE_AFTER_MS);
        lately || early || unknown || asked || self.holders(place, (ch, &task.task_id)) > 0
    }

    /// The expected answer to a request, apart from busy places. `Ok(false)` means that it changes nothing.
    fn judge(&self, ch: usize, call: &Call) -> Result<bool, ErrorName> {
        let channel = &self.channels[&ch];
        let twice = |tasks: &[Task]| {
            let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
            for task in tasks {
                if !ids.insert(task.task_id.clone()) {
                    return Err(ErrorName::DuplicateTask);
                }
                if !places.insert(place_of(task)) {
                    return Err(ErrorName::StreamUrlBusy);
                }
            }
            Ok(())
        };
        let same = |known: &KnownTask, task: &Task| {
            Task { revision: None, ..known.task.clone() } == Task { revision: None, ..task.clone() }
        };
        match call {
            Call::AddTasks(Tasks { rtmp_tasks: tasks }) => {
                twice(tasks)?;
                let mut new = 0;
                for task in tasks {
                    match channel.tasks.get(&task.task_id) {
                        None => new += 1,
                        Some(known) if same(known, task) => {}
                        Some(_) => return Err(ErrorName::DuplicateTask),
                    }
                }
                if channel.tasks.len() + new > MAX_TASKS {
                    return Err(ErrorName::TaskLimitExceeded);
                }
                Ok(new > 0)
            }
            Call::UpdateTasks(Tasks { rtmp_tasks: tasks }) => {
                twice(tasks)?;
                let mut changes = false;
                for task in tasks {
                    let Some(known) = channel.tasks.get(&task.task_id) else {
                        return Err(ErrorName::NoSuchTask);
                    };
                    match task.revision {
                        Some(revision) if revision == known.revision && same(known, task) => {}
                        Some(revision) if revision <= known.revision => {
                            return Err(ErrorName::TaskOverridden);
                        }
                        None if same(known, task) => {}
                        _ => changes = true,
                    }
                }
                Ok(changes)
            }
            Call::DeleteTasks(TaskIds { task_ids }) => {
                if task_ids.iter().all(|id| channel.tasks.contains_key(id)) {
                    Ok(true)
                } else {
                    Err(ErrorName::NoSuchTask)
                }
            }
            _ => Ok(false),
        }
    }

    /// Whether an update repeats the present revision of a known task that comes before the first unknown one.
    fn may_be_of_a_failed_one(&self, ch: usize, call: &Call) -> bool {
        let Call::UpdateTasks(Tasks { rtmp_tasks: tasks }) = call else { return false };
        let mut known = tasks.iter().map_while(|task| {
            let known = self.channels[&ch].tasks.get(&task.task_id)?;
            Some(task.revision == Some(known.revision))
        });
        known.any(|own| own)
    }

    /// A refused update may have claimed places for tasks that have pushed before. Each of these places rests (TSK-7).
    fn refused(&mut self, ch: usize, call: &Call, now: u64) {
        let Call::UpdateTasks(Tasks { rtmp_tasks: tasks }) = call else { return };
        for task in tasks {
            let place = place_of(task);
            let known = self.channels[&ch].tasks.get(&task.task_id);
            if known.is_some_and(|known| known.place != place) {
                self.left.insert(place, now);
            }
        }
    }

    pub(super) fn answered(
        &mut self,
        ch: usize,
        call: &Call,
        outcome: &Result<(), ErrorName>,
        now: u64,
    ) -> Result<(), String> {
        let judged = self.answered_as_judged(ch, call, outcome, now);
        if outcome.is_err() {
            self.refused(ch, call, now);
        }
        judged
    }

    fn answered_as_judged(
        &mut self,
        ch: usize,
        call: &Call,
        outcome: &Result<(), ErrorName>,
        now: u64,
    ) -> Result<(), String> {
        let judged = self.judge(ch, call);
        let wrong =
            || Err(format!("{call:?} of channel {ch} is answered {outcome:?}, and not {judged:?}"));
        match (outcome, &judged) {
            (Ok(()), Ok(_)) => {}
            (Err(error), Err(should)) if error == should => return Ok(()),
            // The model does not know whether a task has failed: an update of a failed task with its present revision
            // is refused.
            (Err(ErrorName::TaskOverridden), Ok(_)) => return Ok(()),
            // The same before a later task of the list is found not to exist.
            (Err(ErrorName::TaskOverridden), Err(ErrorName::NoSuchTask))
                if self.may_be_of_a_failed_one(ch, call) =>
            {
                return Ok(());
            }
            (Err(ErrorName::StreamUrlBusy), Ok(_)) => {
                let (Call::AddTasks(Tasks { rtmp_tasks: tasks })
                | Call::UpdateTasks(Tasks { rtmp_tasks: tasks })) = call
                else {
                    return wrong();
                };
                let reason = tasks.iter().any(|task| self.may_be_busy(ch, task, now));
                return if reason {
                    Ok(())
                } else {
                    Err(format!("{call:?} is busy without a reason"))
                };
            }
            // An answer from the other engine was late.
            (Err(ErrorName::TaskFailed), Ok(_)) => return Ok(()),
            _ => return wrong(),
        }
        self.apply(ch, call, now);
        let places = self.channels[&ch].tasks.iter().map(|(id, known)| (id.clone(), known.place));
        for (id, place) in places.collect::<Vec<_>>() {
            if self.holders(place, (ch, &id)) > 0 {
                return Err(format!(
                    "{call:?} of channel {ch} is answered, and its place is taken"
                ));
            }
        }
        Ok(())
    }

    fn apply(&mut self, ch: usize, call: &Call, now: u64) {
        let channel = self.channels.entry(ch).or_default();
        match call {
            Call::AddTasks(Tasks { rtmp_tasks: tasks }) => {
                for task in tasks {
                    let (task, revision) = (task.clone(), task.revision.unwrap_or(1));
                    let known = KnownTask { place: place_of(&task), task, revision };
                    channel.tasks.entry(known.task.task_id.clone()).or_insert(known);
                }
            }
            Call::UpdateTasks(Tasks { rtmp_tasks: tasks }) => {
                for task in tasks {
                    let Some(known) = channel.tasks.get_mut(&task.task_id) else { continue };
                    let place = place_of(task);
                    if place != known.place {
                        self.left.insert(known.place, now);
                    }
                    // An update that changes nothing may keep the revision; `compare` accepts greater ones.
                    known.revision = task.revision.unwrap_or(known.revision);
                    (known.task, known.place) = (task.clone(), place);
                }
            }
            Call::DeleteTasks(TaskIds { task_ids }) => {
                for id in task_ids {
                    if let Some(known) = channel.tasks.remove(id) {
                        self.left.insert(known.place, now);
                    }
                }
            }
            _ => {}
        }
    }

    /// Compares the tasks of a channel with the model. A request whose answer was lost in a crash counts as done if the
    /// tasks show its effect.
    pub(super) fn compare(&mut self, ch: usize, views: &[TaskView]) -> Result<(), String> {
        let fits = |channel: &ChannelModel| {
            channel.tasks.len() == views.len()
                && views.iter().all(|view| {
                    channel.tasks.get(&view.info.task_id).is_some_and(|known| {
                        known.task.stream_url == view.address.secret_url()
                            && known.task.record == view.record
                            && view.info.revision >= known.revision
                            && view.info.uid == Some(UserId(1))
                    })
                })
        };
        // An update may have changed the layout alone, which no view shows: its revision tells.
        let same = |channel: &ChannelModel| {
            let mut known = channel.tasks.values().map(|known| known.revision);
            views.iter().all(|view| known.next() == Some(view.info.revision))
        };
        let channel = self.channels.entry(ch).or_default().clone();
        if let Some(call) = channel.maybe.clone()
            && !(fits(&channel) && same(&channel))
        {
            self.apply(ch, &call, self.started_at);
        }
        let channel = self.channels.entry(ch).or_default();
        channel.maybe = None;
        if !fits(channel) {
            let are: Vec<_> = views
                .iter()
                .map(|v| (&v.info.task_id, v.info.revision, v.address.secret_url(), v.record))
                .collect();
            let should: Vec<_> = channel
                .tasks
                .iter()
                .map(|(id, k)| (id, k.revision, &k.task.stream_url, k.task.record))
                .collect();
            return Err(format!("the tasks of channel {ch} are {are:?}, and should be {should:?}"));
        }
        for view in views {
            if let Some(known) = channel.tasks.get_mut(&view.info.task_id) {
                known.revision = view.info.revision;
            }
        }
        Ok(())
    }
}
