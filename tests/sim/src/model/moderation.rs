//! Kicks and closes, by command or through the admin API: checked, written, then visible (KIC-1, RST-5). Comes in:
//! requests and the results of writes. Goes out: fences, ends, answers and replies.

use lianmai_protocol::limits::{MAX_BAN_S, MAX_HOLD_S};
use lianmai_protocol::message::Notice;
use lianmai_protocol::message::event::{LeaveReason, RoomCloseReason};
use lianmai_protocol::message::notice::Kicked;
use lianmai_protocol::message::session::Kick;
use lianmai_protocol::{CloseCode, ErrorName, UserId};
use lianmai_signal_engine::output::{ChannelView, MemberView};
use lianmai_signal_engine::{AdminCommand, AdminReply, AskId, ChannelKey, Output, QueryId};

use super::commands::{CommandKey, CommandResult};
use super::state::{AfterWrite, Ban, Channel, Maker, MemberRef, PendingOn};
use super::verify::UNSEEN;
use super::{Expect, InputStep, Model, Verdict};

/// A moderator with fewer restrictions than this has room for another one. By the time it makes this many, the greedy
/// clients have used up what they can get, and all others of a world have a few dozen together.
const LEAST_PLACES: u64 = 4;

/// The origin of a request that must be written before it takes effect.
#[derive(Clone, Copy, Debug)]
pub(super) enum Caller {
    Member(UserId),
    Admin(QueryId),
}

impl Caller {
    fn member(self) -> Option<UserId> {
        match self {
            Caller::Member(uid) => Some(uid),
            Caller::Admin(_) => None,
        }
    }
}

fn of_now(wall: u64, duration_s: u32) -> Ban {
    (wall + u64::from(duration_s) * 1000, wall)
}

/// A ban is not shortened by a shorter one, nor by a clock that went back.
fn longer(old: Option<&Ban>, new: Ban) -> Ban {
    old.map_or(new, |old| (old.0.max(new.0), old.1.max(new.1)))
}

/// The reply to the admin API; `None` if it comes later.
type AdminResult = Result<Option<AdminReply>, ErrorName>;

fn check_close(hold_s: u32, reason: Option<&String>) -> Result<(), ErrorName> {
    check_reason(reason)?;
    if hold_s > MAX_HOLD_S { Err(ErrorName::BadDuration) } else { Ok(()) }
}

fn check_reason(reason: Option<&String>) -> Result<(), ErrorName> {
    if reason.is_some_and(|reason| reason.len() > 256) {
        return Err(ErrorName::BadReason);
    }
    Ok(())
}

impl Channel {
    /// The channel as the admin API shows it.
    fn shown(&self, key: &ChannelKey) -> AdminReply {
        let view = ChannelView {
            channel: key.clone(),
            cid: self.cid,
            creator: Some(self.creator),
            members: self.members.len(),
            broadcasters: self.broadcasters(),
        };
        let members = self.members.iter().map(|(uid, member)| MemberView {
            uid: *uid,
            mid: member.mid,
            role: member.role.clone(),
            connected: member.conn.is_some(),
            published: member.published(),
            muted: member.muted,
        });
        AdminReply::Channel(view, members.collect())
    }
}

impl Model {
    pub(super) fn admin(
        &mut self,
        s: usize,
        query: QueryId,
        command: &AdminCommand,
        outputs: &[Output],
        step: &mut InputStep<'_>,
    ) -> Verdict {
        let reply = replies(outputs).find_map(|(of, reply)| (of == query).then_some(reply));
        let draining =
            reply.is_some_and(|reply| reply.as_ref().is_err_and(|e| *e == ErrorName::Draining));
        let replied = if self.shards[s].turns_away(draining) {
            Err(ErrorName::Draining)
        } else {
            self.administer(s, Caller::Admin(query), command, step)?
        };
        step.replies.extend(replied.transpose().map(|reply| (query, reply)));
        Ok(())
    }

    fn administer(
        &mut self,
        s: usize,
        by: Caller,
        command: &AdminCommand,
        step: &mut InputStep<'_>,
    ) -> Verdict<AdminResult> {
        let channel = command.channel().and_then(|key| self.shards[s].channels.get(key));
        match command {
            AdminCommand::Kick { channel: key, uid, duration_s, reason } => {
                let kick = Kick { uid: *uid, duration_s: *duration_s, reason: reason.clone() };
                if let Err(error) = self.check_kick(s, key, &kick) {
                    return Ok(Err(error));
                }
                self.begin_kick(s, key, kick, by, step)?;
            }
            _ if channel.is_none() => return Ok(Err(ErrorName::ChannelClosed)),
            AdminCommand::CloseChannel { channel: key, hold_s, reason } => {
                if let Err(error) = check_close(*hold_s, reason.as_ref()) {
                    return Ok(Err(error));
                }
                self.begin_close(s, key, *hold_s, reason.clone(), by, step)?;
            }
            AdminCommand::GetChannel(key) => {
                return Ok(Ok(channel.map(|channel| channel.shown(key))));
            }
            // Never used in these worlds: bans are not lifted, and tasks have their own worlds.
            AdminCommand::ListChannels
            | AdminCommand::ListBans(_)
            | AdminCommand::ListBansOfApp(_)
            | AdminCommand::LiftBan { .. }
            | AdminCommand::LiftBansBy { .. }
            | AdminCommand::GetTasks(_)
            | AdminCommand::ChangeTasks { .. }
            | AdminCommand::PageChannels { .. }
            | AdminCommand::CreateChannel { .. }
            | AdminCommand::GetDetail(_)
            | AdminCommand::PageMembers { .. }
            | AdminCommand::GetMember { .. }
            | AdminCommand::SetAttributes { .. }
            | AdminCommand::SetRules { .. }
            | AdminCommand::SetRole { .. }
            | AdminCommand::SetBarredKinds { .. }
            | AdminCommand::Announce { .. } => {}
        }
        Ok(Ok(None))
    }

    /// Checks that the admin API gets exactly the expected replies.
    pub(super) fn same_replies(outputs: &[Output], step: &mut InputStep<'_>) -> Verdict {
        let told: Vec<_> = replies(outputs).collect();
        if told == step.replies {
            return Ok(());
        }
        Err(("model", format!("the admin API is told {told:?}, and not {:?}", step.replies)))
    }

    pub(super) fn kick(
        &mut self,
        who: MemberRef<'_>,
        command: CommandKey,
        params: Kick,
        step: &mut InputStep<'_>,
    ) -> Verdict<CommandResult> {
        let MemberRef { s, key, uid } = who;
        if let Err(error) = self.moderates(who) {
            return Ok(Err(error));
        }
        if params.uid == uid {
            return Ok(Err(ErrorName::SelfTarget));
        }
        if let Err(error) = self.check_kick(s, key, &params) {
            return Ok(Err(error));
        }
        let maker = self.maker(s, key, Caller::Member(uid));
        let there = self.shards[s].bans.contains_key(&(key.clone(), params.uid, maker));
        if !there && self.check_refused_for_share(who, command, step)? {
            return Ok(Err(ErrorName::TooManyBans));
        }
        let ask = self.begin_kick(s, key, params, Caller::Member(uid), step)?;
        self.wait(who, command, PendingOn::Write { ask });
        Ok(Ok(None))
    }

    /// Whether a moderator is refused because its share is used up: the engine decides, and must have a reason (KIC-5).
    pub(super) fn check_refused_for_share(
        &mut self,
        who: MemberRef<'_>,
        (id, _): CommandKey,
        step: &InputStep<'_>,
    ) -> Verdict<bool> {
        let conn = self.member(who).and_then(|member| member.conn);
        let refused = match conn {
            Some(conn) => step.is_answered_with(conn, id, &ErrorName::TooManyBans),
            None => step.writes.is_empty(),
        };
        let appkey = who.key.appkey.clone();
        let made = self.made.entry((appkey, who.uid)).or_default();
        if refused && *made < LEAST_PLACES {
            let what = format!("{} is refused a ban and has made {made}", who.uid);
            return Err(("fair", what));
        }
        *made += u64::from(!refused);
        Ok(refused)
    }

    fn check_kick(&self, s: usize, key: &ChannelKey, kick: &Kick) -> Result<(), ErrorName> {
        check_reason(kick.reason.as_ref())?;
        if kick.duration_s > MAX_BAN_S {
            return Err(ErrorName::BadDuration);
        }
        let channel = self.shards[s].channels.get(key);
        let there = channel.is_some_and(|channel| channel.members.contains_key(&kick.uid));
        if there || kick.duration_s > 0 { Ok(()) } else { Err(ErrorName::NoSuchMember) }
    }

    /// The maker of a restriction. A moderator whose token names no uid does not count as the one with that uid.
    fn maker(&mut self, s: usize, key: &ChannelKey, by: Caller) -> Maker {
        let uid = by.member()?;
        let named = self.member(MemberRef { s, key, uid }).is_some_and(|member| member.named);
        Some((uid, !named))
    }

    /// Fences the member and writes the kick.
    fn begin_kick(
        &mut self,
        s: usize,
        key: &ChannelKey,
        kick: Kick,
        by: Caller,
        step: &mut InputStep<'_>,
    ) -> Verdict<AskId> {
        let ask = step.take_write()?;
        let mid = self.member(MemberRef { s, key, uid: kick.uid }).map(|member| {
            member.being_kicked = true;
            member.pending = None;
            member.mid
        });
        let place = (key.clone(), kick.uid, self.maker(s, key, by));
        let ban = of_now(step.wall, kick.duration_s);
        let ban = longer(self.shards[s].bans.get(&place), ban);
        self.shards[s].bans.insert(place, ban);
        let then = AfterWrite::Kick { key: key.clone(), mid, kick, by };
        self.shards[s].writes.insert(ask, (step.now, then));
        Ok(ask)
    }

    pub(super) fn close(
        &mut self,
        who: MemberRef<'_>,
        command: CommandKey,
        hold_s: u32,
        reason: Option<String>,
        step: &mut InputStep<'_>,
    ) -> Verdict<CommandResult> {
        let MemberRef { s, key, uid } = who;
        if let Err(error) = self.moderates(who) {
            return Ok(Err(error));
        }
        if let Err(error) = check_close(hold_s, reason.as_ref()) {
            return Ok(Err(error));
        }
        // The command adds a restriction, or lengthens one of another maker.
        if self.check_refused_for_share(who, command, step)? {
            return Ok(Err(ErrorName::TooManyBans));
        }
        let ask = self.begin_close(s, key, hold_s, reason, Caller::Member(uid), step)?;
        self.wait(who, command, PendingOn::Write { ask });
        Ok(Ok(None))
    }

    fn begin_close(
        &mut self,
        s: usize,
        key: &ChannelKey,
        hold_s: u32,
        text: Option<String>,
        by: Caller,
        step: &mut InputStep<'_>,
    ) -> Verdict<AskId> {
        let ask = step.take_write()?;
        let new = of_now(step.wall, hold_s);
        let hold = longer(self.shards[s].holds.get(key), new);
        self.shards[s].holds.insert(key.clone(), hold);
        // Otherwise it remains open whether the old hold was forgotten.
        if hold == new {
            self.shards[s].lapsed.remove(key);
        }
        let epoch = self.channel(s, key).map(|channel| {
            channel.closing = true;
            channel.epoch
        });
        let then = AfterWrite::Close { key: key.clone(), epoch, text, by };
        self.shards[s].writes.insert(ask, (step.now, then));
        Ok(ask)
    }

    /// A write is done, or has failed.
    pub(super) fn stored(
        &mut self,
        s: usize,
        ask: AskId,
        stored: bool,
        step: &mut InputStep<'_>,
    ) -> Verdict {
        let Some((_, then)) = self.shards[s].writes.remove(&ask) else { return Ok(()) };
        match then {
            AfterWrite::HandOver => Ok(()),
            AfterWrite::Answer { key, uid, of } => {
                let who = MemberRef { s, key: &key, uid };
                if stored {
                    self.mark_stored(who.of(of), ask);
                }
                if self.waits_for(who, ask) {
                    let outcome = self.written(s, &key, stored);
                    self.go_on(who, outcome, step)?;
                }
                Ok(())
            }
            // Both take effect whatever the result of the write is; the caller is told the result (RST-5).
            AfterWrite::Kick { key, mid, kick, by } => {
                let who = MemberRef { s, key: &key, uid: kick.uid };
                let there = self.member(who).is_some_and(|member| Some(member.mid) == mid);
                let named = self.member(who).is_some_and(|member| member.named);
                if there {
                    let conn = self.member(who).and_then(|member| member.conn);
                    let told = Kicked { reason: kick.reason, duration_s: kick.duration_s };
                    step.notices.extend(conn.map(|conn| (conn, Notice::Kicked(told))));
                    let (reason, code) = (LeaveReason::Kicked, CloseCode::KICKED);
                    self.remove(who, reason, code, step);
                }
                step.replied(by, stored);
                let caller = by.member();
                if let Some(caller) = caller.filter(|uid| self.waits_for(who.of(*uid), ask)) {
                    let outcome = self.written(s, &key, stored);
                    self.go_on(who.of(caller), outcome, step)?;
                }
                if there {
                    self.dissolve(who, named, step);
                }
                Ok(())
            }
            AfterWrite::Close { key, epoch, text, by } => {
                step.replied(by, stored);
                // The channel may have ended meanwhile, and another one may have begun.
                let is = self.shards[s].channels.get(&key);
                let seen_since = epoch == Some(UNSEEN) && is.is_some_and(|is| is.closing);
                let same = seen_since || is.map(|channel| channel.epoch) == epoch;
                let caller = by.member();
                let caller = caller.filter(|uid| {
                    same && self.waits_for(MemberRef { s, key: &key, uid: *uid }, ask)
                });
                if same && epoch.is_some() {
                    let reason = match by {
                        Caller::Member(_) => RoomCloseReason::Closed,
                        Caller::Admin(_) => RoomCloseReason::Admin,
                    };
                    let answer = caller.and_then(|caller| {
                        let pending =
                            self.member(MemberRef { s, key: &key, uid: caller })?.pending.take()?;
                        Some((caller, pending.id))
                    });
                    self.close_channel(s, &key, reason, text, (answer, stored), step);
                }
                Ok(())
            }
        }
    }

    /// The change of a member is stored, unless it was changed again.
    fn mark_stored(&mut self, who: MemberRef<'_>, write: AskId) {
        let Some(channel) = self.channel(who.s, who.key) else { return };
        let of = channel.members.get_mut(&who.uid).map(|member| &mut member.unstored);
        for last in of.into_iter().chain([&mut channel.unstored]) {
            *last = last.filter(|last| *last != write);
        }
    }

    fn written(&self, s: usize, key: &ChannelKey, stored: bool) -> Result<Expect, ErrorName> {
        if stored { Ok(self.done(s, key)) } else { Err(ErrorName::NotStored) }
    }

    fn waits_for(&mut self, who: MemberRef<'_>, write: AskId) -> bool {
        let pending = self.member(who).and_then(|member| member.pending.as_ref());
        pending.is_some_and(|w| matches!(w.on, PendingOn::Write { ask } if ask == write))
    }
}

impl InputStep<'_> {
    /// The reply to the admin API after a write.
    fn replied(&mut self, by: Caller, stored: bool) {
        if let Caller::Admin(query) = by {
            let reply = if stored { Ok(AdminReply::Done) } else { Err(ErrorName::NotStored) };
            self.replies.push((query, reply));
        }
    }
}

/// The replies to the admin API.
fn replies(
    outputs: &[Output],
) -> impl Iterator<Item = (QueryId, Result<AdminReply, ErrorName>)> + '_ {
    outputs.iter().filter_map(|output| match output {
        Output::AdminReply { query, reply } => {
            Some((*query, reply.clone().map_err(|error| error.name().clone())))
        }
        _ => None,
    })
}
