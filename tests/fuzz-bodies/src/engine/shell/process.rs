//! Events of a process and its disk. In: operations. Out: inputs of an engine, possibly of the next one. Checked:
//! stored members are there again, unchanged; a process with a damaged store comes to rest. Deliberately absent: files.

use lianmai_protocol::{MonoTime, Now, WallTime};
use lianmai_signal_engine::{Answer, DrainPlan, Engine, Input, Output};

use super::{BEGIN_MS, LONGEST_LIFE_MS, MAX_DEADLINES, MAX_OUTPUTS, Shell};
use crate::engine::client::ConnState;
use crate::engine::disk::Mode;
use crate::program::Program;

impl Shell {
    pub(crate) fn stop(&mut self) {
        self.input(Input::Stop);
        assert!(self.drain.is_some() || self.seated().is_empty(), "every connection is closed");
    }

    pub(crate) fn set_disk(&mut self, mode: Mode) {
        self.flush();
        self.disk.set(mode);
    }

    /// Completes the oldest pending write, or lets it fail.
    pub(crate) fn write_one(&mut self, stored: bool) {
        if let Some(Some(id)) = self.disk.next(stored) {
            self.observed.states.note("late write", if stored { "done" } else { "failed" });
            self.input(Input::Answer { id, answer: Answer::Stored(stored) });
        }
    }

    /// Completes all pending writes.
    pub(crate) fn flush(&mut self) {
        loop {
            let done = self.disk.flush();
            for id in &done {
                self.input(Input::Answer { id: *id, answer: Answer::Stored(true) });
            }
            if done.is_empty() {
                return;
            }
        }
    }

    pub(crate) fn drain(&mut self) {
        self.drain.get_or_insert(None);
        self.input(Input::Drain(DrainPlan {
            notice_ms: 500,
            freeze_ms: 1_500,
            deadline_ms: 5_000,
            retry_after_ms: 100,
            jitter_ms: 100,
        }));
    }

    /// Ends the process with all sockets and starts the next one, with the state that was handed over or stored.
    pub(crate) fn next_process(&mut self) {
        let had = self.members();
        let clean = self.drain.take() == Some(Some(true));
        self.disk.forget_held();
        for client in self.clients.values_mut() {
            client.state = ConnState::Gone;
        }
        self.held_mints.clear();
        self.held_tokens.clear();
        self.asked.clear();
        let before = self.members;
        self.processes = self.processes.wrapping_add(1);
        // The clocks of two processes are unrelated.
        self.now.mono = MonoTime(BEGIN_MS + 7_000_000 / u64::from(self.processes.max(1)));
        self.engine = Engine::new(self.config.clone(), [self.processes; 32]);
        let restored = self.disk.restored(clean);
        let members = restored.channels.iter().flat_map(|(_, _, members)| members);
        for push in members.flat_map(|member| &member.pushes) {
            // A cut that was not stored is made again.
            self.cut.remove(&push.generation);
            self.minted.push(push.generation);
        }
        self.members = restored.channels.iter().map(|(_, _, members)| members.len()).sum();
        assert!(self.disk.lost || self.members == before, "every member was written down");
        if self.members > 0 {
            self.observed
                .states
                .note("restored", if clean { "after a clean stop" } else { "after a crash" });
        }
        self.input(Input::Restore(Box::new(restored)));
        if let (Some(had), false) = (had, self.disk.lost)
            && let Some(has) = self.members()
        {
            let new: Vec<_> = has.difference(&had).collect();
            assert!(new.is_empty(), "no membership changes in a restart: {new:?}, was {had:?}");
        }
    }

    /// Starts a process with a damaged store, next to the present one, which continues.
    pub(crate) fn damage(&mut self, program: &mut Program<'_>) {
        let Some(damaged) = self.disk.damaged(program) else { return };
        self.observed.states.note("restored", "damaged");
        let mut engine = Engine::new(self.config.clone(), [9; 32]);
        let mut now = Now { mono: MonoTime(BEGIN_MS), wall: self.now.wall };
        let end = now.mono + 2 * LONGEST_LIFE_MS;
        let mut input = Input::Restore(Box::new(damaged));
        for _ in 0..MAX_DEADLINES {
            engine.handle(now, input);
            let mut outputs = 0;
            while let Some(output) = engine.poll_output() {
                outputs += 1;
                assert!(outputs < MAX_OUTPUTS, "outputs without end");
                assert!(!matches!(output, Output::Send { .. }), "no frame is sent without members");
            }
            let Some(due) = engine.next_deadline().filter(|due| *due <= end) else { break };
            assert!(due > now.mono, "no deadline is overdue");
            let ms = due.since(now.mono);
            now = Now { mono: due, wall: WallTime(now.wall.0 + ms) };
            input = Input::Tick;
        }
        assert_eq!(engine.stats().members, 0, "no restored member stays for ever");
    }
}
