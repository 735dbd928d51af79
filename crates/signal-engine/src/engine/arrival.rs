//! Joins and resumes: finds or creates the channel. Comes in: a join with the verdict on its token, a reconnect whose
//! ticket is genuine. Goes out: the channel's answer, or a refusal that changed nothing.

use lianmai_protocol::message::event::LeaveReason;
use lianmai_protocol::message::session::{Join, ResumeReason};
use lianmai_protocol::{ErrorName, RpcError};

use super::Engine;
use crate::channel::Channel;
use crate::grant::Grant;
use crate::ids::{AddrId, Arrival, ChannelRef, ConnId};
use crate::input::{JoinRequest, ReconnectRequest};
use crate::key::ChannelKey;
use crate::output::Note;
use crate::ticket::TicketClaims;

impl Engine {
    pub(super) fn join(&mut self, conn: ConnId, addr: AddrId, request: JoinRequest) {
        let JoinRequest { id, join, grant } = request;
        let arrival = Arrival { conn, addr, id };
        let key = ChannelKey { appkey: join.appkey.clone(), name: join.channel_name.clone() };
        let uid = join.uid;
        let admitted = self.admitted(&key, &join, grant);
        let entered = admitted.and_then(|(grant, used_up)| {
            self.enter(arrival, &key, join, &grant)?;
            // A ticket that a new membership was created with is used up: it neither resumes nor creates another one.
            if let (Some(claims), Some(uid)) = (used_up, uid)
                && self
                    .channel(&key)
                    .is_some_and(|channel| !channel.has_membership(uid, claims.mid))
            {
                self.context.endings.add(self.context.mono(), claims.mid, &LeaveReason::Replaced);
            }
            Ok(())
        });
        if let Err(error) = entered {
            let cx = &mut self.context;
            // If the channel exists, its history gets the refused join.
            let here = self.names.get(&key).and_then(|id| self.channels.get_mut(id));
            if let Some(channel) = here {
                channel.join_refused(cx, uid, error.name());
            }
            cx.note(Note::JoinRefused { channel: key, conn, error: error.name().clone() });
            cx.refuse_join(conn, id, &error);
        }
    }

    fn channel(&self, key: &ChannelKey) -> Option<&Channel> {
        self.channels.get(self.names.get(key)?)
    }

    /// The grant of a join, and the ticket that replaced its token, if one did.
    fn admitted(
        &self,
        key: &ChannelKey,
        join: &Join,
        grant: Result<Grant, ErrorName>,
    ) -> Result<(Grant, Option<TicketClaims>), RpcError> {
        let cx = &self.context;
        if !cx.config.apps.contains_key(&key.appkey) {
            return Err(ErrorName::BadAppkey.into());
        }
        if let Some(drain) = &cx.drain {
            let away_ms = drain.away_ms(cx.mono());
            return Err(RpcError::new(ErrorName::Draining).retry_after_ms(away_ms));
        }
        let checked = grant.map_err(RpcError::from).and_then(|grant| {
            grant.check(cx.now, &key.name, join.uid)?;
            Ok(grant)
        });
        match checked {
            Ok(grant) => Ok((grant, None)),
            Err(error)
                if matches!(error.name(), ErrorName::TokenMissing | ErrorName::TokenExpired) =>
            {
                let claims = self.ticket_for(key, join).ok_or(error)?;
                Ok((Grant::of_ticket(&claims), Some(claims)))
            }
            Err(error) => Err(error),
        }
    }

    fn enter(
        &mut self,
        arrival: Arrival,
        key: &ChannelKey,
        join: Join,
        grant: &Grant,
    ) -> Result<(), RpcError> {
        let cx = &mut self.context;
        let existing = self.names.get(key).copied();
        let here = existing.and_then(|id| self.channels.get(&id));
        let uid = join.uid.or(grant.uid).unwrap_or_else(|| Channel::given_uid(here, cx, &join));
        cx.restrictions.admit(cx.now, key, &join, uid, grant)?;
        if let Some(channel) = existing {
            let mut result = Ok(());
            self.with_channel(channel, |channel, cx| {
                result = channel.join(cx, arrival, uid, join, grant);
            });
            return result;
        }
        if self.channels.len() >= cx.config.limits.channels {
            return Err(ErrorName::TooManyChannels.into());
        }
        let policy = cx.config.apps.get(&key.appkey).ok_or(ErrorName::BadAppkey)?.clone();
        self.last_channel += 1;
        let new = ChannelRef(self.last_channel);
        let mut channel = Channel::new(cx, new, key.clone(), policy, Some(uid));
        // A refused join leaves no channel behind.
        channel.join(cx, arrival, uid, join, grant)?;
        channel.settle(cx);
        self.names.insert(key.clone(), new);
        self.channels.insert(new, channel);
        self.sweep_from_now_on();
        Ok(())
    }

    /// Shortly after a crash a ticket replaces a token that is missing or has expired (RES-9), for a client whose
    /// membership was not stored, or that repeats its join.
    fn ticket_for(&self, key: &ChannelKey, join: &Join) -> Option<TicketClaims> {
        let cx = &self.context;
        cx.crash_grace_end.filter(|over| cx.mono() < *over)?;
        let claims = TicketClaims::open(&cx.config.ticket_key, join.continues.as_deref()?)?;
        let fits = claims.channel == *key && join.uid == Some(claims.uid);
        let here = self.channel(key).and_then(|channel| channel.is_joined_by(claims.uid, join));
        let free = here.unwrap_or_else(|| cx.endings.reason_of(claims.mid) == ResumeReason::Gone);
        (fits && free && claims.replaces_token_until() > cx.now.wall).then_some(claims)
    }

    pub(super) fn reconnect(&mut self, conn: ConnId, addr: AddrId, request: ReconnectRequest) {
        let ReconnectRequest { id, reconnect, claims } = request;
        match self.judge_resume(&claims, reconnect.attempt) {
            Ok(channel) => self.with_channel(channel, |channel, cx| {
                channel.resume(cx, Arrival { conn, addr, id }, &claims, &reconnect);
            }),
            Err(reason) => self.context.refuse_resume(conn, id, claims, reason),
        }
    }

    /// The channel where a ticket resumes, or why it does not. Changes nothing (RES-4).
    fn judge_resume(
        &self,
        claims: &TicketClaims,
        attempt: u64,
    ) -> Result<ChannelRef, ResumeReason> {
        let cx = &self.context;
        cx.restrictions.check_ticket(cx.now, &claims.channel, claims.uid, claims.issued_at)?;
        let found = self.names.get(&claims.channel).and_then(|id| {
            let verdict = self.channels.get(id)?.judge_resume(claims, attempt)?;
            Some(verdict.map(|()| *id))
        });
        match found {
            None => Err(cx.endings.reason_of(claims.mid)),
            Some(verdict) => verdict,
        }
    }
}
