//! Bans and holds by kicks and closes, keyed by channel name so that they outlive the channel (KIC-2, CLS-2). Comes in:
//! restrictions with their makers, joins and tickets. Goes out: rows to write, and errors.
//!
//! The memory that moderators can use is bounded: each restriction takes a place of one pool, on the account of its app
//! and of the moderator in it (`crates/shares`). If a share is used up, nobody but its owner is refused (KIC-5). A
//! demotion takes such a place, too; its channel keeps it. A restriction belongs to its maker: nobody else but an
//! operator ends it or pays for it. A restriction that an operator has ended keeps its place until its end is stored,
//! so that these are bounded, too.
//!
//! Deliberately absent: the effect of a kick on a present member.

use std::collections::BTreeMap;
use std::ops::Bound;

use lianmai_protocol::message::session::{Join, ResumeReason};
use lianmai_protocol::{Appkey, ChannelName, ErrorName, Now, RpcError, UserId, WallTime};
use lianmai_shares::{Pool, PoolAccount, Reservation, Share};

use crate::grant::{Grant, WATERMARK_MS};
use crate::ids::AskId;
use crate::key::ChannelKey;
use crate::output::BanView;
use crate::record::BanRecord;
use crate::rows::{Restored, Row, RowOp};

/// Share of an app, if there are several, in what the pool has left.
const APP_SHARE: Share = Share::of(3, 4);
/// Share of a moderator, in what its app has left.
const MODERATOR_SHARE: Share = Share::of(1, 8).at_least(1);

/// When a ban no longer applies to any token.
fn end(ban: &BanRecord) -> WallTime {
    ban.until.max(WallTime(ban.watermark.0.saturating_add(WATERMARK_MS)))
}

/// The maker of a restriction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Maker {
    Operator,
    Moderator(UserId),
    /// A moderator whose token names no uid, so it may have chosen any.
    Unnamed(UserId),
}

impl Maker {
    const FIRST: Maker = Maker::Operator;
    const LAST: Maker = Maker::Unnamed(UserId(u64::MAX));

    fn of(record: &BanRecord) -> Self {
        match record.by {
            None => Maker::Operator,
            Some(uid) if record.unnamed => Maker::Unnamed(uid),
            Some(uid) => Maker::Moderator(uid),
        }
    }

    fn record(self, until: WallTime, watermark: WallTime) -> BanRecord {
        let (by, unnamed) = match self {
            Maker::Operator => (None, false),
            Maker::Moderator(uid) => (Some(uid), false),
            Maker::Unnamed(uid) => (Some(uid), true),
        };
        BanRecord { until, watermark, by, unnamed }
    }
}

/// The key that a restriction is charged to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    App(Appkey),
    Moderator(Appkey, UserId),
    /// All moderators of an app whose tokens name no uid.
    Unnamed(Appkey),
}

/// A place of a restriction, held until this is dropped.
pub(crate) type RestrictionSlot = Reservation<Owner>;

/// A restriction and its place. One of an earlier process stays even if there is no place for it.
#[derive(Debug)]
struct Restriction {
    record: BanRecord,
    slot: Option<RestrictionSlot>,
}

/// A restriction that an operator has ended, and the last write that has its end (RST-5).
#[derive(Debug)]
struct Lifted {
    kept: Restriction,
    ask: Option<AskId>,
}

/// Key of an ended restriction: its channel, and the uid and the maker of a ban, or `None` for a hold.
type LiftedKey = (ChannelKey, Option<(UserId, Maker)>);

#[derive(Debug, Default)]
struct ChannelRestrictions {
    /// By uid and maker: no moderator ends or changes a ban of another one. A moderator whose token names no uid is
    /// another maker than the moderator with the same uid.
    bans: BTreeMap<(UserId, Maker), Restriction>,
    hold: Option<Restriction>,
}

impl ChannelRestrictions {
    /// All bans of a uid combined.
    fn ban(&self, uid: UserId) -> Option<BanRecord> {
        let all = self.bans.range((uid, Maker::FIRST)..=(uid, Maker::LAST));
        all.map(|(_, kept)| kept.record).reduce(|one, other| combined(&one, other))
    }
}

impl Lifted {
    /// Whether `selects` selects it; see [`Restrictions::lift`].
    fn is_selected(
        &self,
        (channel, own): &LiftedKey,
        selects: impl Fn(&ChannelKey, Option<UserId>, Option<UserId>) -> bool,
    ) -> bool {
        selects(channel, own.map(|(uid, _)| uid), self.kept.record.by)
    }

    /// The op that drops its row.
    fn drop_op(&self, (channel, own): &LiftedKey) -> RowOp {
        let row = own.map_or(Row::Hold, |(uid, _)| Row::ban(uid, &self.kept.record));
        RowOp::drop(channel, row)
    }
}

/// Combines two restrictions: neither a later, shorter one nor a clock that went back shortens the first.
fn combined(old: &BanRecord, new: BanRecord) -> BanRecord {
    let of = if new.until > old.until { new } else { *old };
    BanRecord { watermark: new.watermark.max(old.watermark), ..of }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Restrictions {
    channels: BTreeMap<ChannelKey, ChannelRestrictions>,
    /// Restrictions that an operator has ended, until this is known to be stored: a repeated request writes it again.
    lifted: BTreeMap<LiftedKey, Lifted>,
    pool: Pool<Owner>,
    /// Accounts that hold places. The operator has no share of its own.
    accounts: BTreeMap<(Appkey, Option<Owner>), PoolAccount<Owner>>,
    app_share: Share,
}

impl Restrictions {
    /// Room for `most` restrictions, of `apps` apps.
    pub(crate) fn new(most: usize, apps: usize) -> Self {
        Restrictions {
            channels: BTreeMap::new(),
            lifted: BTreeMap::new(),
            pool: Pool::new(most),
            accounts: BTreeMap::new(),
            app_share: if apps > 1 { APP_SHARE } else { Share::ALL },
        }
    }

    /// Takes a place on the account of a moderator, or of the operator.
    ///
    /// # Errors
    /// `tooManyBans` if that share is used up.
    pub(crate) fn take_slot(
        &mut self,
        appkey: &Appkey,
        maker: Maker,
    ) -> Result<RestrictionSlot, RpcError> {
        let moderator = match maker {
            Maker::Operator => None,
            Maker::Moderator(uid) => Some(Owner::Moderator(appkey.clone(), uid)),
            Maker::Unnamed(_) => Some(Owner::Unnamed(appkey.clone())),
        };
        let key = (appkey.clone(), moderator);
        let account = self.accounts.get(&key).cloned().unwrap_or_else(|| {
            let app = (Owner::App(appkey.clone()), self.app_share);
            let moderator = key.1.clone().map(|moderator| (moderator, MODERATOR_SHARE));
            self.pool.account(std::iter::once(app).chain(moderator))
        });
        let slot = account.take(1).map_err(|_| RpcError::from(ErrorName::TooManyBans))?;
        self.accounts.insert(key, account);
        Ok(slot)
    }

    /// Bans a uid, and adds the row to write. A further ban by the same maker extends the first one without another
    /// place.
    ///
    /// # Errors
    /// `tooManyBans`; then nothing has changed.
    pub(crate) fn ban(
        &mut self,
        channel: &ChannelKey,
        uid: UserId,
        maker: Maker,
        now: Now,
        duration_s: u32,
        ops: &mut Vec<RowOp>,
    ) -> Result<(), RpcError> {
        let until = WallTime(now.wall.0 + u64::from(duration_s) * 1000);
        let new = maker.record(until, now.wall);
        let own = (uid, maker);
        let known = self.channels.get_mut(channel).and_then(|of| of.bans.get_mut(&own));
        if let Some(kept) = known {
            kept.record = combined(&kept.record, new);
            ops.push(RowOp::put_ban(channel, uid, kept.record));
            return Ok(());
        }
        let slot = self.take_slot(&channel.appkey, maker)?;
        ops.push(RowOp::put_ban(channel, uid, new));
        let kept = Restriction { record: new, slot: Some(slot) };
        self.channels.entry(channel.clone()).or_default().bans.insert(own, kept);
        self.lifted.remove(&(channel.clone(), Some(own)));
        Ok(())
    }

    /// Holds a channel's name, as [`Restrictions::ban`]. There is one hold; it is charged to the maker with the latest
    /// end.
    ///
    /// # Errors
    /// `tooManyBans`; then nothing has changed.
    pub(crate) fn hold(
        &mut self,
        channel: &ChannelKey,
        maker: Maker,
        now: Now,
        hold_s: u32,
        ops: &mut Vec<RowOp>,
    ) -> Result<(), RpcError> {
        let until = WallTime(now.wall.0 + u64::from(hold_s) * 1000);
        let new = maker.record(until, now.wall);
        let old =
            self.channels.get(channel).and_then(|of| of.hold.as_ref()).map(|kept| kept.record);
        let record = old.map_or(new, |old| combined(&old, new));
        // Another maker is charged for it.
        let moves = old.is_none_or(|old| Maker::of(&record) != Maker::of(&old));
        let slot = if moves { Some(self.take_slot(&channel.appkey, maker)?) } else { None };
        ops.push(RowOp::put_hold(channel, record));
        let hold = &mut self.channels.entry(channel.clone()).or_default().hold;
        let former = hold.take().and_then(|kept| kept.slot);
        *hold = Some(Restriction { record, slot: slot.or(former) });
        self.lifted.remove(&(channel.clone(), None));
        Ok(())
    }

    /// Ends the restrictions that `selects` selects by channel, uid (`None` for a hold) and moderator (`None` for an
    /// operator). Returns their number. Restrictions that ended earlier count as well, until their end is known to be
    /// stored.
    pub(crate) fn lift(
        &mut self,
        selects: impl Fn(&ChannelKey, Option<UserId>, Option<UserId>) -> bool,
        ops: &mut Vec<RowOp>,
    ) -> usize {
        for (channel, restricted) in &mut self.channels {
            let bans = restricted
                .bans
                .extract_if(.., |(uid, _), kept| selects(channel, Some(*uid), kept.record.by))
                .map(|(own, kept)| (Some(own), kept));
            let hold = restricted.hold.take_if(|kept| selects(channel, None, kept.record.by));
            for (own, kept) in bans.chain(hold.map(|kept| (None, kept))) {
                self.lifted.insert((channel.clone(), own), Lifted { kept, ask: None });
            }
        }
        self.forget();
        let before = ops.len();
        let meant = self.lifted.iter().filter(|(key, lifted)| lifted.is_selected(key, &selects));
        ops.extend(meant.map(|(key, lifted)| lifted.drop_op(key)));
        ops.len() - before
    }

    /// Sets the write that has the end of the restrictions that `selects` selects.
    pub(crate) fn set_write(
        &mut self,
        selects: impl Fn(&ChannelKey, Option<UserId>, Option<UserId>) -> bool,
        ask: AskId,
    ) {
        for (key, lifted) in &mut self.lifted {
            if lifted.is_selected(key, &selects) {
                lifted.ask = Some(ask);
            }
        }
    }

    /// A write is known to be stored.
    pub(crate) fn stored(&mut self, ask: AskId) {
        self.lifted.retain(|_, lifted| lifted.ask != Some(ask));
        self.forget();
    }

    /// The restrictions of one channel of an app, or of all its channels. A hold that is over concerns nobody any more.
    pub(crate) fn list(
        &self,
        now: Now,
        appkey: &Appkey,
        name: Option<&ChannelName>,
    ) -> Vec<BanView> {
        let view = |channel: &ChannelKey, uid: Option<UserId>, record: &BanRecord| BanView {
            channel: channel.clone(),
            uid,
            by: record.by,
            left_ms: record.until.0.saturating_sub(now.wall.0),
        };
        let from = self.channels.range((ChannelKey::first_of(appkey), Bound::Unbounded));
        let own = from
            .skip_while(|(key, _)| key.appkey < *appkey)
            .take_while(|(key, _)| key.appkey == *appkey)
            .filter(|(key, _)| name.is_none_or(|of| *of == key.name));
        let mut views = Vec::new();
        for (key, of) in own {
            let hold = of.hold.iter().filter(|kept| kept.record.until > now.wall);
            views.extend(hold.map(|kept| view(key, None, &kept.record)));
            views
                .extend(of.bans.iter().map(|((uid, _), kept)| view(key, Some(*uid), &kept.record)));
        }
        views
    }

    /// Restores all restrictions of an earlier process, which had bounds as well, if for more shards. A wall clock that
    /// went back makes no ban longer than it was.
    pub(crate) fn restore(&mut self, now: Now, restored: &Restored, ops: &mut Vec<RowOp>) {
        let fit = |ban: &BanRecord| {
            let length = ban.until.0.saturating_sub(ban.watermark.0);
            BanRecord { until: ban.until.min(WallTime(now.wall.0.saturating_add(length))), ..*ban }
        };
        for (channel, uid, ban) in &restored.bans {
            let record = fit(ban);
            if record != *ban {
                ops.push(RowOp::put_ban(channel, *uid, record));
            }
            let slot = self.take_slot(&channel.appkey, Maker::of(&record)).ok();
            let restricted = self.channels.entry(channel.clone()).or_default();
            restricted.bans.insert((*uid, Maker::of(&record)), Restriction { record, slot });
        }
        for (channel, hold) in &restored.holds {
            let record = fit(hold);
            if record != *hold {
                ops.push(RowOp::put_hold(channel, record));
            }
            let slot = self.take_slot(&channel.appkey, Maker::of(&record)).ok();
            self.channels.entry(channel.clone()).or_default().hold =
                Some(Restriction { record, slot });
        }
    }

    /// Forgets restrictions that no longer apply to any token.
    pub(crate) fn sweep(&mut self, now: Now, ops: &mut Vec<RowOp>) {
        for (channel, restricted) in &mut self.channels {
            restricted.bans.retain(|(uid, _), kept| {
                let stays = end(&kept.record) > now.wall;
                if !stays {
                    ops.push(RowOp::drop(channel, Row::ban(*uid, &kept.record)));
                }
                stays
            });
            if restricted.hold.as_ref().is_some_and(|kept| kept.record.until <= now.wall) {
                ops.push(RowOp::drop(channel, Row::Hold));
                restricted.hold = None;
            }
        }
        let over = self.lifted.extract_if(.., |_, lifted| end(&lifted.kept.record) <= now.wall);
        ops.extend(over.map(|(key, lifted)| lifted.drop_op(&key)));
        self.forget();
    }

    /// Forgets channels without restrictions and accounts without places.
    fn forget(&mut self) {
        self.channels.retain(|_, of| of.hold.is_some() || !of.bans.is_empty());
        self.accounts.retain(|_, account| account.held() > 0);
    }

    /// Whether a ticket that was issued at that time may resume.
    pub(crate) fn check_ticket(
        &self,
        now: Now,
        channel: &ChannelKey,
        uid: UserId,
        issued_at: WallTime,
    ) -> Result<(), ResumeReason> {
        let Some(restricted) = self.channels.get(channel) else { return Ok(()) };
        let concerns = |of: &BanRecord| of.until > now.wall || issued_at <= of.watermark;
        if restricted.ban(uid).is_some_and(|ban| concerns(&ban)) {
            return Err(ResumeReason::Kicked);
        }
        let held = |hold: &BanRecord| hold.until > now.wall && issued_at <= hold.watermark;
        if restricted.hold.as_ref().is_some_and(|kept| held(&kept.record)) {
            return Err(ResumeReason::ChannelClosed);
        }
        Ok(())
    }

    pub(crate) fn check(
        &self,
        now: Now,
        channel: &ChannelKey,
        uid: UserId,
        grant: &Grant,
    ) -> Result<(), RpcError> {
        let Some(restricted) = self.channels.get(channel) else { return Ok(()) };
        let left = |until: WallTime| until.0.saturating_sub(now.wall.0);
        if let Some(ban) = restricted.ban(uid) {
            if ban.until > now.wall {
                return Err(RpcError::new(ErrorName::Banned).retry_after_ms(left(ban.until)));
            }
            if grant.issued_before(ban.watermark) {
                return Err(ErrorName::TokenRevoked.into());
            }
        }
        if let Some(Restriction { record: hold, .. }) = &restricted.hold
            && hold.until > now.wall
            && (grant.issued_at.is_none() || grant.issued_before(hold.watermark))
        {
            return Err(RpcError::new(ErrorName::ChannelClosed).retry_after_ms(left(hold.until)));
        }
        Ok(())
    }

    /// Judges a join: the grant against the clock, the channel and the uid, then bans and holds.
    pub(crate) fn admit(
        &self,
        now: Now,
        channel: &ChannelKey,
        join: &Join,
        uid: UserId,
        grant: &Grant,
    ) -> Result<(), RpcError> {
        grant.check(now, &channel.name, join.uid)?;
        self.check(now, channel, uid, grant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel_of(app: &str, name: &str) -> ChannelKey {
        ChannelKey { appkey: app.parse().unwrap(), name: name.parse().unwrap() }
    }

    fn channel(name: &str) -> ChannelKey {
        channel_of("demo", name)
    }

    fn is_banned(restrictions: &Restrictions, key: &ChannelKey, uid: u64) -> bool {
        let now = Now::default();
        restrictions.check(now, key, UserId(uid), &Grant::debug()).is_err()
    }

    fn maker(by: Option<u64>) -> Maker {
        by.map_or(Maker::Operator, |uid| Maker::Moderator(UserId(uid)))
    }

    /// How many more bans one moderator can make, each in a channel of its own.
    fn fill(restrictions: &mut Restrictions, app: &str, by: Option<u64>) -> usize {
        let maker = maker(by);
        let mut ops = Vec::new();
        let bans = (0..).take_while(|n| {
            let key = channel_of(app, &format!("{} {n}", by.unwrap_or(0)));
            restrictions.ban(&key, UserId(*n), maker, Now::default(), 60, &mut ops).is_ok()
        });
        let bans = bans.count();
        assert_eq!(ops.len(), bans, "a refusal writes nothing");
        bans
    }

    /// All that was lifted.
    fn store_all(all: &mut Restrictions) {
        all.set_write(|_, _, _| true, AskId(1));
        all.stored(AskId(1));
        assert!(all.lifted.is_empty());
    }

    /// Proves KIC-5.
    #[test]
    fn only_the_account_that_used_up_its_share_is_refused() {
        let mut all = Restrictions::new(1_000, 2);
        assert_eq!(fill(&mut all, "a", Some(1)), 93, "an eighth of three quarters");
        let (by, now) = (maker(Some(1)), Now::default());
        let another = channel_of("a", "another");
        assert!(all.ban(&another, UserId(7), by, now, 60, &mut Vec::new()).is_err());
        assert!((70..93).contains(&fill(&mut all, "a", Some(2))));
        for uid in 3..200 {
            fill(&mut all, "a", Some(uid));
        }
        assert!(fill(&mut all, "a", None) <= 1, "the app has no more");
        assert!(fill(&mut all, "b", Some(1)) > 20, "another has");
        assert!(fill(&mut all, "b", None) > 100);
        // A single app has the whole pool.
        let mut one = Restrictions::new(1_000, 1);
        assert_eq!(fill(&mut one, "a", None), 1_000);
    }

    /// Proves KIC-5.
    #[test]
    fn a_hold_takes_a_slot_and_extending_a_restriction_takes_none() {
        let (mut all, mut ops, now) = (Restrictions::new(8, 1), Vec::new(), Now::default());
        let by = maker(Some(1));
        assert!(all.hold(&channel("a"), by, now, 60, &mut ops).is_ok());
        ops.clear();
        let refused = all.ban(&channel("a"), UserId(2), by, now, 60, &mut ops).unwrap_err();
        assert_eq!(refused.name(), &ErrorName::TooManyBans);
        assert!(all.hold(&channel("b"), by, now, 60, &mut ops).is_err() && ops.is_empty());
        assert!(all.hold(&channel("a"), by, now, 90, &mut ops).is_ok(), "the same one");
        assert_eq!(all.pool.used(), 1);
        assert!(
            all.hold(&channel("a"), maker(Some(2)), now, 60, &mut ops).is_ok(),
            "it adds nothing"
        );
        assert_eq!(all.channels[&channel("a")].hold.as_ref().unwrap().record.by, Some(UserId(1)));
        assert!(all.hold(&channel("a"), maker(Some(2)), now, 99, &mut ops).is_ok());
        assert_eq!(all.pool.used(), 1, "another pays for it");
        assert!(all.hold(&channel("b"), by, now, 60, &mut ops).is_ok(), "and the first no more");
    }

    /// Proves KIC-5.
    #[test]
    fn a_restriction_belongs_to_its_maker() {
        let (mut all, mut ops, now) = (Restrictions::new(100, 1), Vec::new(), Now::default());
        let key = channel("c");
        let mut ban = |all: &mut Restrictions, by, seconds| {
            assert!(all.ban(&key, UserId(5), maker(by), now, seconds, &mut ops).is_ok());
        };
        ban(&mut all, Some(2), 60);
        ban(&mut all, Some(3), 90);
        ban(&mut all, None, 30);
        ban(&mut all, Some(2), 10);
        assert_eq!(all.pool.used(), 3);
        let until = |all: &Restrictions| all.channels[&key].ban(UserId(5)).unwrap().until;
        assert_eq!(until(&all), WallTime(90_000), "the longest");
        assert_eq!(all.lift(|_, _, by| by == Some(UserId(3)), &mut ops), 1);
        assert_eq!(all.pool.used(), 3, "it may come back");
        store_all(&mut all);
        assert_eq!((until(&all), all.pool.used()), (WallTime(60_000), 2), "that of another stays");
    }

    /// Proves KIC-5.
    #[test]
    fn unnamed_moderators_share_one_account() {
        let (mut all, mut ops, now) = (Restrictions::new(80, 1), Vec::new(), Now::default());
        let mut count = 0;
        for uid in 0.. {
            let maker = Maker::Unnamed(UserId(uid));
            let room = channel(&format!("r {uid}"));
            if all.ban(&room, UserId(1), maker, now, 60, &mut ops).is_err() {
                break;
            }
            count += 1;
        }
        assert_eq!(count, 10);
        assert!(all.ban(&channel("x"), UserId(1), maker(Some(0)), now, 60, &mut ops).is_ok());
    }

    /// Proves KIC-5.
    #[test]
    fn an_unnamed_moderator_is_not_the_moderator_with_its_uid() {
        let (mut all, mut ops, now) = (Restrictions::new(100, 1), Vec::new(), Now::default());
        let (named, unnamed) = (Maker::Moderator(UserId(9)), Maker::Unnamed(UserId(9)));
        let (a, b) = (channel("a"), channel("b"));
        let held = |all: &Restrictions| {
            let own = Owner::Moderator(a.appkey.clone(), UserId(9));
            all.accounts[&(a.appkey.clone(), Some(own))].held()
        };
        assert!(all.ban(&a, UserId(5), named, now, 60, &mut ops).is_ok());
        assert!(all.ban(&a, UserId(5), unnamed, now, 90, &mut ops).is_ok());
        assert_eq!((all.pool.used(), held(&all)), (2, 1), "each pays for its own");
        assert!(all.ban(&a, UserId(5), named, now, 30, &mut ops).is_ok());
        assert_eq!(all.channels[&a].ban(UserId(5)).unwrap().until, WallTime(90_000));
        assert_eq!(all.pool.used(), 2);
        // There is one hold: the maker that extends it pays for it.
        assert!(all.hold(&b, named, now, 60, &mut ops).is_ok());
        assert_eq!(held(&all), 2);
        assert!(all.hold(&b, unnamed, now, 90, &mut ops).is_ok());
        assert_eq!((all.pool.used(), held(&all)), (3, 1));
    }

    /// Proves no rule of the protocol: what operators see and lift.
    #[test]
    fn bans_are_listed_and_lifted() {
        let (mut all, mut ops, now) = (Restrictions::new(100, 1), Vec::new(), Now::default());
        for (name, uid, by, s) in
            [("a", 1, Some(9), 60), ("a", 2, Some(8), 0), ("b", 3, Some(9), 5)]
        {
            assert!(all.ban(&channel(name), UserId(uid), maker(by), now, s, &mut ops).is_ok());
        }
        let listed = |all: &Restrictions, now: Now, of: Option<&str>| -> Vec<u64> {
            let name = of.map(|of| channel(of).name);
            let bans = all.list(now, &channel("a").appkey, name.as_ref());
            bans.iter().map(|ban| ban.uid.map_or(0, |uid| uid.0)).collect()
        };
        assert!(all.hold(&channel("c"), maker(Some(9)), now, 60, &mut ops).is_ok());
        for app in ["0", "z"] {
            let other = channel_of(app, "a");
            assert!(all.ban(&other, UserId(7), maker(Some(8)), now, 60, &mut ops).is_ok());
        }
        assert_eq!(listed(&all, now, None), [1, 2, 3, 0], "only those of the app");
        assert_eq!(listed(&all, now, Some("b")), [3]);
        let later = Now { wall: WallTime(60_000), ..now };
        assert_eq!(listed(&all, later, None), [1, 2, 3], "the hold is over");
        ops.clear();
        let (b, three) = (channel("b"), Some(UserId(3)));
        assert_eq!(all.lift(|key, uid, _| *key == b && uid == three, &mut ops), 1);
        assert_eq!(ops, [RowOp::drop(&b, Row::Ban(UserId(3), Some(UserId(9))))]);
        assert!(!is_banned(&all, &b, 3) && is_banned(&all, &channel("a"), 1));
        store_all(&mut all);
        assert_eq!(all.lift(|_, _, by| by == Some(UserId(9)), &mut ops), 2, "a ban and a hold");
        store_all(&mut all);
        assert_eq!((all.pool.used(), all.accounts.len(), all.channels.len()), (3, 3, 3));
    }

    /// Proves no rule of the protocol: an end that is not known to be stored is written again, and is bounded.
    #[test]
    fn a_lifted_restriction_keeps_its_slot_until_the_lift_is_stored() {
        let (mut all, mut ops, now) = (Restrictions::new(2, 1), Vec::new(), Now::default());
        let (a, b, by) = (channel("a"), channel("b"), maker(None));
        let any = |_: &ChannelKey, _: Option<UserId>, _: Option<UserId>| true;
        assert!(all.ban(&a, UserId(1), by, now, 60, &mut ops).is_ok());
        assert!(all.hold(&a, by, now, 60, &mut ops).is_ok());
        ops.clear();
        assert_eq!(all.lift(any, &mut ops), 2);
        let drops = [RowOp::drop(&a, Row::Hold), RowOp::drop(&a, Row::Ban(UserId(1), None))];
        assert_eq!(ops, drops);
        assert!(!is_banned(&all, &a, 1));
        all.set_write(any, AskId(7));
        assert_eq!(all.lift(any, &mut ops), 2, "again");
        assert_eq!(ops[2..], drops);
        all.set_write(any, AskId(8));
        all.stored(AskId(7));
        assert!(all.ban(&b, UserId(1), by, now, 60, &mut ops).is_err(), "their places are taken");
        all.stored(AskId(8));
        assert!(all.ban(&b, UserId(1), by, now, 60, &mut ops).is_ok());
        // Who is banned again is, and what is over is forgotten.
        assert_eq!(all.lift(any, &mut ops), 1);
        assert!(all.ban(&b, UserId(1), by, now, 60, &mut ops).is_ok());
        assert!(all.lifted.is_empty() && is_banned(&all, &b, 1));
        assert!(all.hold(&b, by, now, 60, &mut ops).is_ok());
        assert_eq!((all.lift(any, &mut ops), all.pool.used()), (2, 2));
        let later = Now { wall: WallTime(WATERMARK_MS + 1), ..Now::default() };
        ops.clear();
        all.sweep(later, &mut ops);
        assert_eq!((ops.len(), all.lifted.len(), all.pool.used()), (2, 0, 0));
    }

    /// Proves no rule of the protocol: ended restrictions leave no memory.
    #[test]
    fn expired_restrictions_are_swept() {
        let (mut restrictions, mut ops) = (Restrictions::new(10, 1), Vec::new());
        let by = maker(Some(9));
        assert!(
            restrictions.ban(&channel("a"), UserId(1), by, Now::default(), 60, &mut ops).is_ok()
        );
        assert!(
            restrictions.hold(&channel("b"), maker(None), Now::default(), 60, &mut ops).is_ok()
        );
        let later = Now { wall: WallTime(WATERMARK_MS + 1), ..Now::default() };
        restrictions.sweep(later, &mut ops);
        assert!(restrictions.channels.is_empty() && restrictions.accounts.is_empty());
        assert_eq!((restrictions.pool.used(), restrictions.pool.keys()), (0, 0));
    }

    /// Proves CLS-2.
    #[test]
    fn a_later_close_does_not_shorten_a_hold() {
        let (mut restrictions, mut ops) = (Restrictions::new(10, 1), Vec::new());
        assert!(
            restrictions.hold(&channel("a"), maker(None), Now::default(), 60, &mut ops).is_ok()
        );
        assert!(restrictions.hold(&channel("a"), maker(None), Now::default(), 0, &mut ops).is_ok());
        assert!(is_banned(&restrictions, &channel("a"), 1));
    }
}
