//! Joins, as docs/protocol.md section 6 states them: whether a join is accepted, with which uid and rights, and what
//! others are told.

use lianmai_protocol::message::event::LeaveReason;
use lianmai_protocol::message::session::{Join, Joined, ResumeReason};
use lianmai_protocol::{Attributes, CloseCode, ErrorName, Mid, Role, UserId, WallTime};
use lianmai_signal_engine::{
    AddrId, ChannelKey, ConnId, DuplicatePolicy, Grant, JoinRequest, TicketClaims,
};

use super::frames::RATE_SLACK;
use super::notices::SentNotices;
use super::state::{Channel, Member, MemberRef, ModelEvent, RATE_BURST, left, text_bytes};
use super::{Expect, InputStep, Model, Verdict};

const SKEW_S: u64 = 60;
const LEEWAY_MS: u64 = 5_000;

/// The uid, the grant, and the membership whose ticket replaced the token.
type Admitted = (Option<UserId>, Grant, Option<Mid>);

fn concerns(grant: &Grant, watermark: u64) -> bool {
    grant.issued_at.is_some_and(|at| at.0 / 1000 <= watermark.div_ceil(1000) + SKEW_S)
}

/// Whether a grant is valid now for this channel and uid.
fn judge(grant: &Grant, wall: u64, key: &ChannelKey, uid: Option<UserId>) -> Result<(), ErrorName> {
    let early = grant.not_before.is_some_and(|at| at.0 > wall + LEEWAY_MS);
    if early || grant.issued_at.is_some_and(|at| at.0 > wall + SKEW_S * 1000) {
        return Err(ErrorName::TokenNotYetValid);
    }
    if grant.expires.is_some_and(|at| at.0 + LEEWAY_MS <= wall) {
        return Err(ErrorName::TokenExpired);
    }
    if grant.channel.as_ref().is_some_and(|name| *name != key.name) {
        return Err(ErrorName::ChannelMismatch);
    }
    match (grant.uid, uid) {
        (Some(granted), Some(uid)) if granted != uid => Err(ErrorName::UidMismatch),
        _ => Ok(()),
    }
}

/// Whether a token names this uid. For a ticket this is not known.
fn names(grant: &Grant, uid: UserId) -> bool {
    grant.uid == Some(uid) || grant.issued_at.is_none()
}

fn token_end(grant: &Grant) -> Option<u64> {
    grant.expires.filter(|_| grant.ends_membership).map(|at| at.0 + LEEWAY_MS)
}

/// The name and attributes that others see of a member that joins with these: without the right `message`, a new name
/// or new attributes are not shown.
fn texts(
    channel: Option<&Channel>,
    uid: Option<UserId>,
    join: &Join,
    may_speak: bool,
) -> (Option<String>, Attributes) {
    let shown = channel.zip(uid).filter(|_| !may_speak).and_then(|(channel, uid)| {
        match channel.members.get(&uid).filter(|old| old.is_visible()) {
            Some(old) if old.rights.message => None,
            Some(old) => Some((old.name.clone(), old.attributes.clone())),
            None => channel.hidden_texts.get(&uid).cloned(),
        }
    });
    shown.unwrap_or_else(|| (join.name.clone(), join.attributes.clone()))
}

impl Model {
    pub(super) fn join(
        &mut self,
        s: usize,
        conn: ConnId,
        addr: AddrId,
        request: &JoinRequest,
        step: &mut InputStep<'_>,
    ) -> Verdict {
        let JoinRequest { id, join, grant } = request;
        let key = ChannelKey { appkey: join.appkey.clone(), name: join.channel_name.clone() };
        match self.admit(s, &key, join, grant, (addr, step.error(conn)), step) {
            Err(error) => {
                let error = self.acceptable(s, error, step.error(conn));
                step.answers.push((conn, Some(*id), Expect::Error(error)));
                step.closes.push((conn, CloseCode::JOIN_REFUSED));
                Ok(())
            }
            Ok((uid, grant, used_up)) => {
                let Some(joined) = step.joined(conn) else {
                    let error_sent = step.error(conn);
                    return Err((
                        "model",
                        format!("{conn:?} may join as {uid:?}, and is answered {error_sent:?}"),
                    ));
                };
                step.answers.push((conn, Some(*id), Expect::Entered));
                let uid = uid.unwrap_or(joined.uid);
                self.enter(MemberRef { s, key: &key, uid }, conn, join, &grant, &joined, step)?;
                if let Some(mid) = used_up.filter(|mid| *mid != joined.mid) {
                    self.shards[s].endings.insert(mid, ResumeReason::Replaced);
                }
                Ok(())
            }
        }
    }

    /// A frozen server answers `draining` instead of any other error.
    fn acceptable(&self, s: usize, error: ErrorName, error_sent: Option<&ErrorName>) -> ErrorName {
        let late = self.shards[s].turns_away(error_sent == Some(&ErrorName::Draining));
        if late { ErrorName::Draining } else { error }
    }

    /// Whether a join is accepted, and with which uid and grant.
    fn admit(
        &self,
        s: usize,
        key: &ChannelKey,
        join: &Join,
        grant: &Result<Grant, ErrorName>,
        (addr, error_sent): (AddrId, Option<&ErrorName>),
        step: &InputStep<'_>,
    ) -> Result<Admitted, ErrorName> {
        let shard = &self.shards[s];
        let policy = self.rules.apps.get(&key.appkey).ok_or(ErrorName::BadAppkey)?;
        if shard.drain.is_some() {
            return Err(ErrorName::Draining);
        }
        let grant = match grant {
            Ok(grant) => Ok(grant.clone()),
            Err(error) => Err(error.clone()),
        };
        let mut used_up = None;
        let judged =
            grant.and_then(|grant| judge(&grant, step.wall, key, join.uid).map(|()| grant));
        let grant = match judged {
            Err(error @ (ErrorName::TokenMissing | ErrorName::TokenExpired)) => {
                let (grant, mid) = self.by_ticket(s, key, join, step).ok_or(error)?;
                used_up = Some(mid);
                grant
            }
            judged => judged?,
        };
        let uid = join.uid.or(grant.uid);
        let ban = uid.and_then(|uid| shard.ban(key, uid));
        if let Some((until, watermark)) = ban {
            if until > step.wall {
                return Err(ErrorName::Banned);
            }
            if concerns(&grant, watermark) {
                return Err(ErrorName::TokenRevoked);
            }
        }
        if let Some((until, watermark)) = shard.holds.get(key)
            && *until > step.wall
            && (grant.issued_at.is_none() || concerns(&grant, *watermark))
            && (!shard.lapsed.contains(key) || error_sent == Some(&ErrorName::ChannelClosed))
        {
            return Err(ErrorName::ChannelClosed);
        }
        let channel = shard.channels.get(key);
        if channel.is_none() && shard.channels.len() >= self.rules.limits.channels {
            return Err(ErrorName::TooManyChannels);
        }
        let old = uid.and_then(|uid| channel?.members.get(&uid));
        if join.join_id.as_ref().is_some_and(|join_id| !(16..=64).contains(&join_id.len())) {
            return Err(ErrorName::InvalidParams);
        }
        if old.is_some_and(|old| join.join_id.is_some() && old.join_id == join.join_id) {
            return Ok((uid, grant, used_up));
        }
        if join.name.as_ref().is_some_and(|name| name.len() > 128) {
            return Err(ErrorName::BadName);
        }
        if join.attributes.0.keys().any(|key| key.is_empty() || key.len() > 64) {
            return Err(ErrorName::BadAttributes);
        }
        let demoted = channel.zip(uid).is_some_and(|(of, uid)| of.demoted.contains_key(&uid));
        let broadcast = grant.rights.broadcast;
        match &join.role {
            None | Some(Role::Audience) => {}
            Some(Role::Broadcaster) if broadcast => {}
            Some(Role::Broadcaster) => return Err(ErrorName::Forbidden),
            Some(_) => return Err(ErrorName::BadRole),
        }
        let becomes = !demoted
            && (matches!(join.role, Some(Role::Broadcaster)) || (join.role.is_none() && broadcast));
        let (name, attributes) = texts(channel, uid, join, grant.rights.message);
        let bytes = text_bytes(name.as_deref(), &attributes);
        let most = self.rules.limits.channel_attribute_bytes;
        match channel.zip(uid) {
            Some((channel, uid)) => channel.has_room(uid, becomes, bytes, most)?,
            None if bytes > (most / 16).max(131) => return Err(ErrorName::AttributesTooLarge),
            None => {}
        }
        if let Some(channel) = channel {
            let members = channel.members.len() - usize::from(old.is_some());
            if members >= self.rules.limits.members {
                return Err(ErrorName::ChannelFull);
            }
            let broadcasters =
                channel.broadcasters() - usize::from(old.is_some_and(Member::is_visible));
            if becomes && broadcasters >= self.rules.limits.broadcasters {
                return Err(ErrorName::TooManyBroadcasters);
            }
        }
        // The rate of the uid before, and the cost of the event of the join (IDS-9). An address that many clients left
        // in debt may have to wait; here only the raw clients have addresses of their own.
        let units = if becomes { (bytes as i64 / 1_024).max(1) } else { 0 };
        let limited = error_sent == Some(&ErrorName::RateLimited);
        let owed = self.left_of(s, key, uid, step.now);
        let must = units > 0 && owed < units * 1_000 - RATE_SLACK;
        let may = (units > 0 && owed < units * 1_000 + RATE_SLACK) || addr != AddrId(0);
        if must || (limited && may) {
            return Err(ErrorName::RateLimited);
        }
        if let Some(channel) = channel {
            // If the server paused lately, it is open whether the old membership was heard.
            let open = self.paused_in(step.now.saturating_sub(70_000), step.now) > 0;
            if old.is_some() && open {
                let refusals = [ErrorName::DuplicateLogin, ErrorName::ReplacedTooOften];
                if let Some(error_sent) =
                    error_sent.filter(|error_sent| refusals.contains(error_sent))
                {
                    return Err(error_sent.clone());
                }
            } else if let (Some(uid), Some(old)) = (uid, old)
                && self.is_live(old, step.now)
            {
                if policy.duplicate == DuplicatePolicy::RejectNew {
                    return Err(ErrorName::DuplicateLogin);
                }
                let lately =
                    channel.replaced.get(&uid).filter(|(_, since)| step.now - since < 60_000);
                if lately.is_some_and(|(count, _)| *count >= 3) {
                    return Err(ErrorName::ReplacedTooOften);
                }
            }
        }
        Ok((uid, grant, used_up))
    }

    /// The rest of the rate of a uid that joins.
    fn left_of(&self, s: usize, key: &ChannelKey, uid: Option<UserId>, now: u64) -> i64 {
        let Some(uid) = uid else { return RATE_BURST };
        let shard = &self.shards[s];
        let present = shard.channels.get(key).and_then(|of| Some(of.members.get(&uid)?.budget));
        let debts = shard.debts.get(&(key.clone(), uid)).copied();
        present.into_iter().chain(debts).map(|of| left(of, now)).min().unwrap_or(RATE_BURST)
    }

    fn is_live(&self, member: &Member, now: u64) -> bool {
        let silent = now - member.last_in;
        member.conn.is_some()
            && silent.saturating_sub(self.paused_in(member.last_in, now)) <= self.rules.ping * 3 / 2
    }

    /// Shortly after a crash a ticket replaces a token that is missing or has expired (RES-9).
    fn by_ticket(
        &self,
        s: usize,
        key: &ChannelKey,
        join: &Join,
        step: &InputStep<'_>,
    ) -> Option<(Grant, Mid)> {
        let shard = &self.shards[s];
        let claims = TicketClaims::open(&self.rules.key, join.continues.as_deref()?)?;
        let whole = claims.issued_at.0 + 24 * 3_600_000;
        let until = claims.token_end.map_or(whole, |end| end.0.min(whole));
        let here = shard.channels.get(key).and_then(|channel| channel.members.get(&claims.uid));
        let free = match here {
            Some(member) => {
                member.join_id.is_some() && member.join_id == join.join_id && !member.being_kicked
            }
            None => !shard.endings.contains_key(&claims.mid),
        };
        let good = step.now < shard.crash_grace_end
            && claims.channel == *key
            && join.uid == Some(claims.uid)
            && until > step.wall
            && free;
        let grant = Grant {
            rights: claims.rights,
            uid: None,
            channel: Some(claims.channel.name.clone()),
            issued_at: Some(claims.issued_at),
            not_before: None,
            expires: claims.token_end.map(|end| WallTime(end.0.saturating_sub(LEEWAY_MS))),
            ends_membership: claims.token_end.is_some(),
        };
        good.then_some((grant, claims.mid))
    }

    fn enter(
        &mut self,
        who: MemberRef<'_>,
        conn: ConnId,
        join: &Join,
        grant: &Grant,
        joined: &Joined,
        step: &mut InputStep<'_>,
    ) -> Verdict {
        let MemberRef { s, key, uid } = who;
        let now = step.now;
        let policy = self.rules.apps[&key.appkey].clone();
        self.channel_begins(s, key, uid, joined, policy.clone());
        let Some(channel) = self.channel(s, key) else { return Ok(()) };
        let creator = channel.creator;
        let mut rights = grant.rights;
        rights.moderate |= policy.creator_moderates && creator == uid && names(grant, uid);
        let same = channel
            .members
            .get(&uid)
            .is_some_and(|old| join.join_id.is_some() && old.join_id == join.join_id);
        let shown = texts(Some(&*channel), Some(uid), join, rights.message);
        let demoted = channel.demoted.contains_key(&uid);
        let mut grew = false;
        if same {
            self.drop_conn(who, CloseCode::TAKEN_OVER, step);
            if let Some(member) = self.member(who) {
                grew = joined.k > Some(member.tickets.1);
                member.pending = None;
                if joined.session_id == member.session {
                    // After this join the client may begin with any id.
                    member.answers.clear();
                    member.last_id = None;
                    member.acked = 0;
                }
                member.attempt = 0;
                member.restored = false;
                member.continue_with(joined.epoch);
                // All older tickets become invalid.
                let newest = joined.k.unwrap_or(0).max(member.tickets.1);
                member.tickets = (newest, newest, false);
            }
            self.grant(who, grant, step)?;
        } else {
            if let Some(old) = channel.members.get(&uid).cloned() {
                if self.is_live(&old, now)
                    && let Some(channel) = self.channel(s, key)
                {
                    channel.replaced.retain(|_, (_, since)| now - *since < 60_000);
                    channel.replaced.entry(uid).or_insert((0, now)).0 += 1;
                }
                self.remove(who, LeaveReason::Replaced, CloseCode::REPLACED, step);
            }
            let role = match join.role {
                _ if demoted => Role::Audience,
                None if rights.broadcast => Role::Broadcaster,
                Some(Role::Broadcaster) => Role::Broadcaster,
                _ => Role::Audience,
            };
            let (name, attributes) = shown;
            // One unit for each full KiB that is sent to all members.
            let bytes = text_bytes(name.as_deref(), &attributes) as i64;
            let units = if role == Role::Broadcaster { bytes / 1_024 } else { 0 };
            let before = self.shards[s].debts.remove(&(key.clone(), uid));
            let rate = before.map_or(RATE_BURST, |of| left(of, now)) - units * 1_000;
            let member = Member {
                join_id: join.join_id.clone(),
                name,
                attributes,
                budget: (rate, now),
                token_end: token_end(grant),
                named: names(grant, uid),
                ..Member::new(joined.mid, joined.session_id, role, rights, now)
            };
            let visible = member.is_visible();
            let event = ModelEvent::Join {
                uid,
                mid: member.mid,
                name: member.name.clone(),
                attributes: member.attributes.clone(),
                muted: member.muted,
            };
            if let Some(channel) = self.channel(s, key) {
                channel.members.insert(uid, member);
            }
            if visible {
                self.emit(s, key, event, now);
            }
        }
        self.attach_conn(who, conn, now);
        self.mark_token_renewed(who, step.wall);
        let offered = self.member(who).map(|member| member.tickets.1);
        if joined.k != offered || (same && !grew) {
            return Err((
                "model",
                format!("join offers ticket {:?} and not {offered:?}", joined.k),
            ));
        }
        if same {
            self.expect_moved_urls(who, step)?;
        }
        self.check_snapshot(who, joined, step)
    }

    fn channel_begins(
        &mut self,
        s: usize,
        key: &ChannelKey,
        creator: UserId,
        joined: &Joined,
        policy: lianmai_signal_engine::AppPolicy,
    ) {
        self.shards[s].channels.entry(key.clone()).or_insert_with(|| Channel {
            cid: joined.cid,
            epoch: joined.epoch,
            creator,
            attributes: Default::default(),
            policy,
            members: Default::default(),
            streams: Default::default(),
            log: Vec::new(),
            base: 0,
            replaced: Default::default(),
            closing: false,
            demoted: Default::default(),
            unstored: None,
            hidden_texts: Default::default(),
        });
    }

    pub(super) fn attach_conn(&mut self, who: MemberRef<'_>, conn: ConnId, now: u64) {
        let MemberRef { s, key, uid } = who;
        self.shards[s].frozen_since = None;
        self.shards[s].connections.insert(conn, (key.clone(), uid));
        self.sent_notices.insert(conn, SentNotices::default());
        if let Some(member) = self.member(who) {
            member.conn = Some(conn);
            member.connected_at = now;
            member.last_in = now;
            (member.pinged, member.pinged_at) = (false, now);
            member.lost_at = None;
        }
    }

    /// A new token: everything that it does not allow ends.
    pub(super) fn grant(
        &mut self,
        who: MemberRef<'_>,
        grant: &Grant,
        step: &mut InputStep<'_>,
    ) -> Verdict {
        let MemberRef { s, key, uid } = who;
        let Some(channel) = self.channel(s, key) else { return Ok(()) };
        let mut rights = grant.rights;
        let named = names(grant, uid);
        rights.moderate |= channel.policy.creator_moderates && channel.creator == uid && named;
        let Some(member) = channel.members.get_mut(&uid) else { return Ok(()) };
        member.named = named;
        member.rights = rights;
        member.token_end = token_end(grant);
        self.mark_token_renewed(who, step.wall);
        let Some(member) = self.member(who) else { return Ok(()) };
        let lost = member.published().difference(rights.publish);
        self.remove_streams(who, lost, step);
        self.restrict_pulls(who, rights.subscribe, step);
        let demoted = self.member(who).is_some_and(|m| m.is_visible() && !rights.broadcast);
        if demoted { self.demote(who, step) } else { Ok(()) }
    }

    pub(super) fn check_token(
        &self,
        who: MemberRef<'_>,
        grant: &Grant,
        step: &InputStep<'_>,
    ) -> Result<(), ErrorName> {
        let MemberRef { s, key, uid } = who;
        let (shard, wall) = (&self.shards[s], step.wall);
        let closed = step.caused.answers.iter().any(|answer| {
            answer.outcome.as_ref().is_err_and(|error| *error.name() == ErrorName::ChannelClosed)
        });
        if let Some((until, watermark)) = shard.ban(key, uid) {
            if until > wall {
                return Err(ErrorName::Banned);
            }
            if concerns(grant, watermark) {
                return Err(ErrorName::TokenRevoked);
            }
        }
        if let Some((until, watermark)) = shard.holds.get(key)
            && *until > wall
            && (grant.issued_at.is_none() || concerns(grant, *watermark))
            && (!shard.lapsed.contains(key) || closed)
        {
            return Err(ErrorName::ChannelClosed);
        }
        judge(grant, wall, key, Some(uid))
    }
}
