//! Whether tasks stop when they show nobody, and go on when somebody is there. Comes in: what members publish and were
//! told. Goes out: a task that is idle and should not be, or is not and should be (TSK-8). Deliberately absent: what the
//! executors of such tasks do; a stop is a stop.

use std::collections::BTreeMap;

use lianmai_protocol::TaskId;
use lianmai_protocol::message::Call;
use lianmai_protocol::message::task::TaskState;

use super::TaskWorld;

/// A task that shows nobody for so long becomes idle.
pub(super) const IDLE_MS: u64 = 20_000;
/// What is told of a task waits for the disk, and takes no longer.
const SLACK_MS: u64 = 3_000;

/// Whether tasks show somebody, and since when it is so, as their members see it.
#[derive(Debug, Default)]
pub(super) struct Idle {
    since: BTreeMap<(usize, TaskId), (bool, u64)>,
}

impl TaskWorld {
    /// Looks at all tasks that members were told of. What an update without an answer may have changed is left out.
    pub(super) fn look_at_idle(&mut self) {
        let mut since = BTreeMap::new();
        let mut wrong = None;
        for (ch, member) in self.members.iter().enumerate() {
            let changes = matches!(member.asked, Some((_, Call::UpdateTasks(_))));
            if !self.up || member.conn.is_none() || changes {
                continue;
            }
            for (id, task) in &member.tasks {
                let shows = self.model.shows(ch, id, member.reported_kinds);
                let key = (ch, id.clone());
                let before = self.idle.since.get(&key).filter(|(same, _)| *same == shows);
                let (_, at) = before.copied().unwrap_or((shows, self.now));
                since.insert(key, (shows, at));
                let is_idle = task.state == Some(TaskState::Idle);
                let ms = self.now - at;
                if shows && is_idle && ms > SLACK_MS {
                    wrong = Some(format!(
                        "{id} of channel {ch} is idle, and shows somebody for {ms} ms"
                    ));
                }
                let runs = !is_idle && task.state != Some(TaskState::Failed);
                if !shows && runs && ms > IDLE_MS + SLACK_MS {
                    wrong =
                        Some(format!("{id} of channel {ch} runs on, and shows nobody for {ms} ms"));
                }
            }
        }
        self.idle.since = since;
        if let Some(wrong) = wrong {
            self.fail("tasks", wrong);
        }
    }
}
