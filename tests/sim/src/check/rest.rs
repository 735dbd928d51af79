//! Conditions that hold from time to time and at the end: undisturbed clients are up to date; after the faults all
//! clients are; after everybody has left, nothing remains. Comes in: times to check. Goes out: whether pictures are
//! equal to the model, and the memory of the engines.

use lianmai_client_sdk::session::{Command, ConnectionState};
use lianmai_protocol::UserId;
use lianmai_protocol::message::session::Empty;
use lianmai_signal_engine::{ChannelKey, Engine};

use crate::alloc;
use crate::client::OpenCall;
use crate::net::{End, Way};
use crate::server::Process;
use crate::world::{Ev, World, log};

/// An event reaches an undisturbed client within this, in milliseconds: the flush, the way, turns.
const SOON_MS: u64 = 4_000;
const LOOK_MS: u64 = 2_500;
/// Longest time until a session is back: two failed attempts and the waits between attempts.
const BACK_MS: u64 = 100_000;
/// A call of an undisturbed client is settled within this.
const SETTLED_MS: u64 = 15_000;
/// A session that is back has restored its state within this, including its repeated requests.
const RETURN_MS: u64 = 15_000;
/// An empty engine holds at most this much more than a new one.
const EMPTY_BYTES: usize = 64 * 1024;
/// Most memory of a member and of a channel.
const MEMBER_BYTES: usize = 160 * 1024;
const CHANNEL_BYTES: usize = 400 * 1024;

impl World {
    /// Runs the world from beginning to end.
    pub(crate) fn live(&mut self) {
        self.after(LOOK_MS, Ev::Look);
        self.run_until(self.scenario.knobs.length_ms);
        self.heal();
        let dead = self.scenario.knobs.timers[1];
        self.run_until(self.now + dead + BACK_MS);
        self.check_converged();
        self.all_leave();
        let [_, dead, grace, idle, _] = self.scenario.knobs.timers;
        self.run_until(self.now + dead + grace.max(idle) + 20_000);
        self.check_empty();
        self.cov.seeds = 1;
        self.cov.delivered = self.checks.delivered;
        self.cov.least_delivered = self.checks.delivered;
    }

    /// Ends the faults.
    fn heal(&mut self) {
        log!(self, "the faults are over");
        self.healing = true;
        self.server.mint_trouble = (0, 0, 0);
        self.server.disk_trouble = (0, 0, 0);
        for c in 0..self.clients.len() {
            let client = &mut self.clients[c];
            client.disturbed_at = client.disturbed_at.max(self.now);
            if let Some((until, _)) = &mut client.frozen {
                *until = self.now;
                self.after(0, Ev::Wake(c));
            }
            if self.clients[c].slow_until > self.now {
                self.clients[c].slow_until = self.now;
                self.after(0, Ev::Reads(c));
            }
            self.clients[c].go_online();
        }
    }

    /// Checks all undisturbed clients.
    pub(crate) fn look(&mut self) {
        self.after(LOOK_MS, Ev::Look);
        if !self.healing {
            self.chatter();
        }
        let Some(process) = &self.server.process else { return };
        if self.now < process.started_at + SOON_MS || self.server.quiet_since(self.now) < SOON_MS {
            return;
        }
        for c in 0..self.clients.len() {
            if self.is_undisturbed(c) {
                self.check_current(c);
            }
        }
    }

    fn is_undisturbed(&self, c: usize) -> bool {
        let client = &self.clients[c];
        let Some(link) = client.link.and_then(|id| self.links.get(&id)) else { return false };
        client.session.state() == ConnectionState::Connected
            && client.frozen.is_none()
            && client.disturbed_at + SOON_MS < self.now
            && client.slow_until + SOON_MS < self.now
            && link.disturbed_at + SOON_MS < self.now
            && link.server_open
            && !link.down.black
            && !link.up.black
            && link.down.room() == link.down.capacity
            && client.app.connected_for(self.now) > SOON_MS
    }

    fn check_current(&mut self, c: usize) {
        let app = &self.clients[c].app;
        if !app.is_settled() && app.connected_for(self.now) > RETURN_MS {
            return self.fail("app", format!("c{c} is back and did not say so"));
        }
        let Some(picture) = self.clients[c].session.picture() else { return };
        let spec = self.clients[c].spec;
        let key = self.key_of(spec.channel);
        let (epoch, seq) = (picture.epoch, picture.seq);
        let Some((is, old_head, head)) = self.model.head(&key, self.now.saturating_sub(SOON_MS))
        else {
            return self.fail("delivery", format!("c{c} is in a channel that is not there"));
        };
        if is.is_some_and(|is| is != epoch) || seq < old_head {
            let what =
                format!("c{c} is at {epoch} {seq}, and {is:?} was at {old_head} some time ago");
            return self.fail("delivery", what);
        }
        if seq == head {
            self.compare_picture(c, &key);
        }
    }

    fn compare_picture(&mut self, c: usize, key: &ChannelKey) {
        let uid = UserId(self.clients[c].spec.uid);
        let Some(picture) = self.clients[c].session.picture() else { return };
        // A command under way may have changed something that no event reports.
        let busy = !self.clients[c].calls.is_empty() || !self.clients[c].app.is_settled();
        if let Err(why) = self.model.compare(key, uid, picture, busy) {
            return self.fail("roster", format!("c{c}: {why}"));
        }
        let plays = self.model.compare_plays(key, uid, picture);
        let off = &mut self.clients[c].plays_off;
        *off = if plays.is_err() { *off + 1 } else { 0 };
        // It takes a moment until the session has repeated its subscriptions.
        match plays {
            Err(why) if *off > 3 || self.now >= self.scenario.knobs.length_ms + BACK_MS => {
                return self.fail("roster", format!("c{c}: {why}"));
            }
            Ok(()) if !busy => self.check_urls(c, key),
            _ => {}
        }
        self.check_count(c, key);
    }

    /// Checks that each change of the number of members is reported within about a second.
    fn check_count(&mut self, c: usize, key: &ChannelKey) {
        let is = self.model.members(key);
        let client = &mut self.clients[c];
        let shown = client.session.picture().map(|picture| picture.member_count);
        let (at, off) = &mut client.app.counted;
        *off = if shown == Some(is) { 0 } else { *off + 1 };
        if *off > 3 {
            let what = format!("c{c}: {is} members, and it was told {shown:?} at {at} last");
            self.fail("roster", what);
        }
    }

    /// Checks that every client is connected and up to date, or disconnected.
    fn check_converged(&mut self) {
        if self.failure.is_some() {
            return;
        }
        for c in 0..self.clients.len() {
            let client = &self.clients[c];
            match client.session.state() {
                ConnectionState::Disconnected => {}
                ConnectionState::Connected => self.check_current(c),
                state => {
                    let session = &client.session;
                    return self.fail("roster", format!("c{c} is still {state:?}: {session:?}"));
                }
            }
            let client = &self.clients[c];
            let old = |open: &OpenCall| open.at + SETTLED_MS < self.now;
            if let Some((call, open)) = client.calls.iter().find(|(_, open)| old(open)) {
                let what = format!("c{c}: {} {} of {} is open", open.method, call.0, open.at);
                return self.fail("settle", what);
            }
            self.check_client_ends(c);
        }
    }

    fn all_leave(&mut self) {
        log!(self, "everybody leaves");
        for c in 0..self.clients.len() {
            self.clients[c].retired = true;
            if self.clients[c].session.state() != ConnectionState::Disconnected {
                self.call(c, Command::Leave(Empty {}));
            }
        }
        let raws: Vec<_> = self
            .links
            .iter()
            .filter(|(_, link)| matches!(link.end, End::Raw(_)))
            .map(|(id, _)| *id)
            .collect();
        for id in raws {
            self.finish(id, Way::Up);
        }
        for raw in 0..self.raws.len() {
            self.raw_stops(raw);
        }
    }

    /// Checks that nothing remains of any client.
    fn check_empty(&mut self) {
        if self.failure.is_some() {
            return;
        }
        let Some(mut process) = self.server.process.take() else {
            return self.fail("leaks", "there is no server".to_owned());
        };
        for (index, shard) in process.shards.iter().enumerate() {
            let stats = shard.engine.stats();
            if [stats.channels, stats.members, stats.connected, stats.streams] != [0; 4] {
                return self.fail("leaks", format!("shard {index} still has {stats:?}"));
            }
        }
        if !self.server.store.is_idle() || self.server.store.rows() > 0 {
            let rows = self.server.store.rows();
            return self.fail("leaks", format!("the store still has {rows} rows"));
        }
        self.check_footprint(&mut process);
        for c in 0..self.clients.len() {
            if let Some((call, open)) = self.clients[c].calls.first_key_value() {
                let what = format!("c{c}: {} {} of {} is open", open.method, call.0, open.at);
                return self.fail("settle", what);
            }
        }
    }

    /// Measures the memory of each engine of a process by dropping the engine.
    pub(crate) fn check_footprint(&mut self, process: &mut Process) {
        if alloc::live() == 0 {
            return;
        }
        let config = self.server.config().clone();
        for shard in &mut process.shards {
            let stats = shard.engine.stats();
            let engine = std::mem::replace(&mut shard.engine, Engine::new(config.clone(), [0; 32]));
            let before = alloc::live();
            drop(engine);
            let held = usize::try_from(before - alloc::live()).unwrap_or(0);
            let most = EMPTY_BYTES + stats.members * MEMBER_BYTES + stats.channels * CHANNEL_BYTES;
            self.checks.largest = self.checks.largest.max(held);
            if held > most {
                let checker = if stats.members == 0 { "leaks" } else { "bounded" };
                self.fail(checker, format!("an engine with {stats:?} holds {held} bytes"));
            }
        }
    }

    /// The last check of a membership of an app.
    pub(crate) fn check_client_ends(&mut self, c: usize) {
        let app = &self.clients[c].app;
        let Some(mid) = app.mid().filter(|_| app.inside && app.whole) else { return };
        if !matches!(self.clients[c].session.state(), ConnectionState::Connected) || !self.healing {
            return;
        }
        let app = &self.clients[c].app;
        let owed = self.model.targeted(mid);
        let missing = owed.iter().filter(|number| !app.targeted.contains(number)).count() as u64;
        if missing > app.lost {
            let what = format!(
                "c{c}: {missing} messages did not come, {} were said to be lost: {owed:?} {:?}",
                app.lost, app.targeted
            );
            self.fail("transients", what);
        }
    }
}
