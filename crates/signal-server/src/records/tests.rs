//! Proves no rule of the protocol: the store.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use lianmai_protocol::{Attributes, Cid, KindSet, Mid, Rights, Role, SessionId, UserId};
use lianmai_signal_engine::ChannelKey;
use lianmai_signal_engine::record::{
    BanRecord, ChannelRecord, LogRecord, MemberRecord, SessionRecord,
};
use rusqlite::Connection;

use lianmai_signal_engine::{Record, Row, RowKey};

use super::sqlite::FILE;
use super::*;

const NOW: WallTime = WallTime(1_000_000);
const GRACE_MS: u64 = 30_000;
/// Longer than any operation here takes.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn params(shards: usize) -> OpenParams {
    OpenParams { now: NOW, grace_ms: GRACE_MS, shards }
}

/// A directory that is removed with the test.
pub(super) struct Temp(pub(super) PathBuf);

impl Temp {
    /// Each is a directory of its own: a store that was dropped closes its files a moment later, and deletes its log.
    pub(super) fn new(name: &str) -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let (process, number) = (std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(format!("lianmai-store-{process}-{number}-{name}"));
        let _ = fs::remove_dir_all(&path);
        Temp(path)
    }

    fn open(&self) -> (Sqlite, Vec<Restored>) {
        self.open_at(NOW)
    }

    fn open_at(&self, now: WallTime) -> (Sqlite, Vec<Restored>) {
        self.try_open(OpenParams { now, ..params(1) }).unwrap()
    }

    fn try_open(&self, params: OpenParams) -> Result<(Sqlite, Vec<Restored>), StoreError> {
        let lock = Arc::new(DirLock::take(&self.0).unwrap());
        Sqlite::open(&self.0, lock, params)
    }

    /// Another connection, like one of an operator.
    fn look(&self) -> Connection {
        Connection::open(self.0.join(FILE)).unwrap()
    }

    /// A copy of the files at this moment, as `kill -9` would leave them.
    fn killed(&self, name: &str) -> Temp {
        let copy = Temp::new(name);
        fs::create_dir_all(&copy.0).unwrap();
        for name in [FILE, "lianmai.db-wal"] {
            fs::copy(self.0.join(name), copy.0.join(name)).unwrap();
        }
        copy
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn key(name: &str) -> ChannelKey {
    ChannelKey { appkey: "demo".parse().unwrap(), name: name.parse().unwrap() }
}

pub(super) fn channel(n: u8) -> Box<ChannelRecord> {
    Box::new(ChannelRecord {
        cid: Cid(n.into()),
        creator: Some(UserId(1)),
        attributes: Attributes::default(),
        demoted: Vec::new(),
        kept_down: Vec::new(),
        barred: Vec::new(),
        rules: Default::default(),
        prepared_until: None,
        live: None,
    })
}

pub(super) fn member(uid: u64, name: &str) -> Box<MemberRecord> {
    Box::new(MemberRecord {
        uid: UserId(uid),
        mid: Mid([7; 12]),
        session: SessionId([8; 12]),
        join_id: Some("secret-of-the-join".to_owned()),
        role: Role::Broadcaster,
        rights: Rights::MEMBER,
        named: true,
        name: Some(name.to_owned()),
        attributes: Attributes::default(),
        muted: KindSet::default(),
        token_end: None,
        published: Vec::new(),
        pushes: Vec::new(),
        confirmed: 1,
        forced: None,
        live: None,
    })
}

pub(super) fn ban(until: u64) -> BanRecord {
    BanRecord { until: WallTime(until), watermark: WallTime(1), by: None, unnamed: false }
}

pub(super) fn put_channel(channel: ChannelKey, record: Box<ChannelRecord>) -> RowOp {
    RowOp::Put(RowKey { channel, row: Row::Channel }, Record::Channel(record))
}

pub(super) fn put_member(channel: ChannelKey, record: Box<MemberRecord>) -> RowOp {
    RowOp::Put(RowKey { channel, row: Row::Member(record.uid) }, Record::Member(record))
}

pub(super) fn put_ban(channel: ChannelKey, uid: UserId, record: BanRecord) -> RowOp {
    RowOp::Put(RowKey { channel, row: Row::Ban(uid, None) }, Record::Ban(record))
}

pub(super) fn put_hold(channel: ChannelKey, record: BanRecord) -> RowOp {
    RowOp::Put(RowKey { channel, row: Row::Hold }, Record::Ban(record))
}

pub(super) fn drop_row(channel: ChannelKey, row: Row) -> RowOp {
    RowOp::Drop(RowKey { channel, row })
}

/// Waits until all earlier operations are written, or their write has failed.
fn flush(store: &Sqlite) -> bool {
    let (sender, stored) = mpsc::channel();
    store.write(Vec::new(), Some(Box::new(move |stored| sender.send(stored).unwrap())));
    stored.recv_timeout(PATIENCE).unwrap()
}

pub(super) fn only(restored: Vec<Restored>) -> Restored {
    let [shard] = <[Restored; 1]>::try_from(restored).unwrap();
    shard
}

fn names(restored: &Restored) -> Vec<(&str, Vec<u64>)> {
    let uids = |members: &Vec<MemberRecord>| members.iter().map(|member| member.uid.0).collect();
    restored.channels.iter().map(|(key, _, members)| (key.name.as_str(), uids(members))).collect()
}

/// Proves RST-3.
#[test]
fn rst_3_acknowledged_writes_survive_a_kill() {
    let temp = Temp::new("kill");
    let (store, restored) = temp.open();
    assert_eq!(restored, [Restored { clean: true, ..Restored::default() }]);
    let most = UserId(u64::MAX);
    store.write(
        vec![
            put_channel(key("room 1"), channel(1)),
            put_member(key("room 1"), member(u64::MAX, "Ann")),
            put_member(key("room 1"), member(2, "Bob")),
            put_ban(key("room 1"), most, ban(5)),
            put_hold(key("other"), ban(6)),
        ],
        None,
    );
    store.write(vec![drop_row(key("room 1"), Row::Member(UserId(2)))], None);
    assert!(flush(&store));
    let restored = only(temp.killed("kill-copy").open().1);
    assert_eq!(
        restored,
        Restored {
            channels: vec![(key("room 1"), *channel(1), vec![*member(u64::MAX, "Ann")])],
            bans: vec![(key("room 1"), most, ban(5))],
            holds: vec![(key("other"), ban(6))],
            journals: vec![],
            ..Restored::default()
        }
    );
    store.write(vec![RowOp::DropChannel(key("room 1")), drop_row(key("other"), Row::Hold)], None);
    assert!(flush(&store));
    let restored = only(temp.killed("kill-copy").open().1);
    assert!(restored.channels.is_empty() && restored.holds.is_empty(), "{restored:?}");
    assert_eq!(restored.bans.len(), 1, "a ban outlives its channel");
}

/// Proves RST-2.
#[tokio::test]
async fn rst_2_a_handover_is_used_once_and_only_while_fresh() {
    let temp = Temp::new("hand-over");
    let live = |record: &Restored| {
        let (_, channel, members) = &record.channels[0];
        (channel.live.is_some(), members[0].live.is_some(), record.clean)
    };
    let hand_over = async || {
        let (store, _) = temp.open();
        let log = LogRecord { epoch: lianmai_protocol::Epoch([1; 12]), head: 9, events: vec![] };
        let session = SessionRecord {
            offered: 2,
            attempt: 1,
            last_id: None,
            answers: vec![(1, u64::MAX, "{}".to_owned())],
            message_head: 0,
            messages: vec![],
            pulls: vec![],
            lost_ms: 1,
            first_lost_ms: 2,
            floor_only: true,
            restored: true,
            media_ms: Some(3),
        };
        let channel = ChannelRecord { live: Some(log), ..*channel(1) };
        let member = MemberRecord { live: Some(session), ..*member(1, "Ann") };
        store.write(vec![put_channel(key("room"), Box::new(channel))], None);
        store.write(vec![put_member(key("room"), Box::new(member))], None);
        assert!(store.close(Some(NOW)).await);
        // Too late, so it has no effect.
        store.write(
            vec![RowOp::DropChannel(key("room"))],
            Some(Box::new(|_| panic!("the callback must not run"))),
        );
        assert!(store.close(None).await, "all callbacks get the same result");
        assert!(!temp.0.join("lianmai.db-wal").exists(), "every row is in the file");
    };
    hand_over().await;
    let (store, restored) = temp.open_at(WallTime(NOW.0 + GRACE_MS));
    assert_eq!(live(&only(restored)), (true, true, true));
    let copy = temp.killed("hand-over-copy");
    assert_eq!(
        live(&only(copy.open().1)),
        (false, false, false),
        "a kill, with the clean mark removed"
    );
    assert!(store.close(None).await);
    for (later, fresh) in [(GRACE_MS, true), (GRACE_MS + 1, false)] {
        hand_over().await;
        for now in [NOW.0 + later, NOW.0 - later] {
            let (store, restored) = temp.open_at(WallTime(now));
            assert_eq!(live(&only(restored)), (fresh, fresh, fresh), "{now}");
            assert!(store.close(Some(NOW)).await);
        }
    }
    temp.look().execute("UPDATE meta SET value = '0 1000000'", []).unwrap();
    assert_eq!(live(&only(temp.open().1)), (false, false, false), "another format");
}

#[test]
fn pending_rows_are_written_when_the_last_handle_is_dropped() {
    let temp = Temp::new("drop");
    let (store, _) = temp.open();
    store.write(vec![put_channel(key("room"), channel(1))], None);
    let ended = store.0.clone();
    drop(store);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(runtime.block_on(ended.ended()));
    assert_eq!(names(&only(temp.open().1)), [("room", vec![])]);
}

#[tokio::test]
async fn the_directory_stays_locked_until_the_file_is_closed() {
    let temp = Temp::new("held");
    let (store, _) = temp.open();
    DirLock::take(&temp.0).unwrap_err();
    assert!(store.close(None).await);
    DirLock::take(&temp.0).unwrap();
}

#[test]
fn a_row_that_cannot_be_read_is_removed() {
    let temp = Temp::new("unreadable");
    let (store, _) = temp.open();
    for name in ["good", "bad record"] {
        store.write(vec![put_channel(key(name), channel(1))], None);
        for uid in 1..=4 {
            store.write(vec![put_member(key(name), member(uid, "x"))], None);
        }
    }
    store.write(vec![put_ban(key("good"), UserId(1), ban(5))], None);
    store.write(vec![put_ban(key("good"), UserId(2), ban(5))], None);
    assert!(flush(&store));
    let damage = "
        UPDATE record SET record = '{\"cid\":\"1\"' WHERE channel = 'bad record' AND kind = 'channel';
        UPDATE record SET record = '{}' WHERE channel = 'good' AND kind = 'member' AND id = '1';
        UPDATE record SET id = '02' WHERE channel = 'good' AND kind = 'member' AND id = '2';
        UPDATE record SET id = '5' WHERE channel = 'good' AND kind = 'member' AND id = '3';
        UPDATE record SET record = CAST(x'ff' AS TEXT) WHERE kind = 'ban' AND id = '1';
        INSERT INTO record VALUES ('not an app', 'good', 'hold', '', '{\"until\":1,\"watermark\":1}');
        INSERT INTO record VALUES ('demo', 'good', 'task', 't', '{}');
    ";
    temp.look().execute_batch(damage).unwrap();
    let copy = temp.killed("unreadable-copy");
    for _ in 0..2 {
        let (store, restored) = copy.open();
        let restored = only(restored);
        assert_eq!(names(&restored), [("good", vec![4])]);
        assert_eq!(restored.bans, [(key("good"), UserId(2), ban(5))]);
        assert!(restored.holds.is_empty());
        // Rows that are readable but do not fit are for the engine: of another uid, and without a channel.
        assert_eq!(restored.invalid_rows.len(), 5);
        let count = "SELECT count(*) FROM record";
        let rows: u32 = copy.look().query_row(count, [], |row| row.get(0)).unwrap();
        assert_eq!(rows as usize, 3 + restored.invalid_rows.len());
        let ended = store.0.clone();
        drop(store);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert!(runtime.block_on(ended.ended()));
    }
}

/// An operator that runs an earlier version for a day loses no row of the later one.
#[test]
fn a_row_of_an_unknown_kind_stays() {
    let temp = Temp::new("unknown");
    let (store, _) = temp.open();
    store.write(vec![put_channel(key("room"), channel(1))], None);
    assert!(flush(&store));
    let later = "
        INSERT INTO record VALUES ('demo', 'room', 'later', 'any id', 'any text');
        INSERT INTO record VALUES ('not an app', '', 'later', '', '');
        INSERT INTO record VALUES ('demo', 'room', 'ban', 'any id', '{}');
    ";
    temp.look().execute_batch(later).unwrap();
    let copy = temp.killed("unknown-copy");
    for _ in 0..2 {
        let (store, restored) = copy.open();
        let restored = only(restored);
        assert_eq!((names(&restored), restored.invalid_rows.len()), (vec![("room", vec![])], 0));
        // The end of a channel removes only rows of known kinds.
        store.write(vec![RowOp::DropChannel(key("room"))], None);
        store.write(vec![put_channel(key("room"), channel(1))], None);
        assert!(flush(&store));
        let kinds = "SELECT group_concat(kind, ' ' ORDER BY kind) FROM record";
        let kinds: String = copy.look().query_row(kinds, [], |row| row.get(0)).unwrap();
        assert_eq!(kinds, "channel later later");
        let ended = store.0.clone();
        drop(store);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert!(runtime.block_on(ended.ended()));
    }
}

#[test]
fn foreign_and_newer_files_are_refused() {
    let temp = Temp::new("refused");
    let (store, _) = temp.open();
    assert!(flush(&store));
    for suffix in ["", "-wal", "-shm"] {
        let path = schema::beside(&temp.0.join(FILE), suffix);
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o600, "{suffix}");
    }
    let copy = temp.killed("refused-copy");
    for name in [FILE, "lianmai.db-wal"] {
        let chmod = |mode| {
            fs::set_permissions(copy.0.join(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        chmod(0o640);
        let error = copy.try_open(params(1)).unwrap_err();
        assert!(matches!(error, StoreError::Open { mode: 0o640, .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
        chmod(0o600);
    }
    copy.look().pragma_update(None, "user_version", 6).unwrap();
    let error = copy.try_open(params(1)).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 6, known: 5, .. }), "{error}");
    let _ = fs::remove_file(copy.0.join("lianmai.db-wal"));
    fs::write(copy.0.join(FILE), "this is no database, and long enough to say so").unwrap();
    let error = copy.try_open(params(1)).unwrap_err();
    assert!(matches!(error, StoreError::Database { .. }), "{error}");
}

/// Proves RST-5.
#[test]
fn rst_5_a_full_disk_is_reported_and_the_file_catches_up_later() {
    let temp = Temp::new("full");
    drop(DirLock::take(&temp.0).unwrap());
    let connection = schema::open(&temp.0.join(FILE)).unwrap();
    let pages: u32 = connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    connection.pragma_update_and_check(None, "max_page_count", pages + 2, |_| Ok(())).unwrap();
    let lock = Arc::new(DirLock::take(&temp.0).unwrap());
    let database = Database::open(&temp.0.join(FILE)).unwrap();
    let store = Sqlite(writer::start(connection, lock).unwrap(), database);
    store.write(vec![put_channel(key("room"), channel(1))], None);
    assert!(flush(&store));
    let large = "x".repeat(50_000);
    store.write(vec![put_member(key("room"), member(1, &large))], None);
    store.write(vec![put_member(key("room"), member(2, "small"))], None);
    assert!(!flush(&store) && !flush(&store), "waiters are notified");
    assert_eq!(store.stats().waiting, 2);
    assert!(store.stats().failures >= 2);
    store.write(vec![drop_row(key("room"), Row::Member(UserId(1)))], None);
    assert!(flush(&store), "rows that do not fit are dropped");
    assert_eq!(store.stats().waiting, 0);
    assert_eq!(names(&only(temp.killed("full-copy").open().1)), [("room", vec![2])]);
}

/// Proves RST-5.
#[test]
fn rst_5_writes_to_a_locked_file_are_retried() {
    let temp = Temp::new("locked");
    drop(DirLock::take(&temp.0).unwrap());
    let connection = schema::open(&temp.0.join(FILE)).unwrap();
    connection.busy_timeout(Duration::from_millis(1)).unwrap();
    let lock = Arc::new(DirLock::take(&temp.0).unwrap());
    let database = Database::open(&temp.0.join(FILE)).unwrap();
    let store = Sqlite(writer::start(connection, lock).unwrap(), database);
    let operator = temp.look();
    operator.execute_batch("BEGIN IMMEDIATE").unwrap();
    store.write(vec![put_ban(key("room"), UserId(1), ban(5))], None);
    assert!(!flush(&store));
    operator.execute_batch("ROLLBACK").unwrap();
    // The writer retries without a new write.
    let start = std::time::Instant::now();
    while store.stats().waiting > 0 {
        assert!(start.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    let bans: u32 =
        operator.query_row("SELECT count(*) FROM record", [], |row| row.get(0)).unwrap();
    assert_eq!(bans, 1);
}

#[test]
fn each_shard_gets_its_channels() {
    let temp = Temp::new("shards");
    let (store, _) = temp.open();
    let rooms: Vec<_> = (0..20).map(|n| key(&format!("room {n}"))).collect();
    for room in &rooms {
        store.write(vec![put_channel(room.clone(), channel(1))], None);
        store.write(vec![put_ban(room.clone(), UserId(1), ban(5))], None);
        store.write(vec![put_hold(room.clone(), ban(5))], None);
    }
    assert!(flush(&store));
    let copy = temp.killed("shards-copy");
    let (_, shards) = copy.try_open(params(3)).unwrap();
    let mut seen = 0;
    for (index, shard) in shards.iter().enumerate() {
        let own = |key: &ChannelKey| crate::route::shard_of(key.route(), 3) == index;
        assert!(shard.channels.iter().all(|(key, ..)| own(key)));
        assert!(shard.bans.iter().all(|(key, ..)| own(key)));
        assert!(shard.holds.iter().all(|(key, _)| own(key)));
        assert_eq!(
            (shard.bans.len(), shard.holds.len()),
            (shard.channels.len(), shard.channels.len())
        );
        seen += shard.channels.len();
    }
    assert_eq!((shards.len(), seen), (3, rooms.len()));
}

/// Proves RES-9.
#[test]
fn every_shard_learns_of_a_crash_and_a_first_start_is_not_one() {
    let temp = Temp::new("first");
    let (store, first) = temp.open();
    assert!(only(first).clean, "no process ran before");
    store.write(vec![put_channel(key("room"), channel(1))], None);
    assert!(flush(&store));
    let (_, shards) = temp.killed("first-copy").try_open(params(3)).unwrap();
    assert!(shards.iter().all(|shard| !shard.clean), "also to shards without a channel");
}

#[test]
fn debug_output_shows_no_record() {
    let (store, _) = Temp::new("debug").open();
    store.write(vec![put_member(key("room"), member(1, "Ann"))], None);
    let shown = format!("{store:?}");
    assert!(!shown.contains("secret") && !shown.contains("Ann"), "{shown}");
}

/// A file of the first version, made with the statements of that version.
/// Proves RST-2.
#[test]
fn a_file_of_an_earlier_version_is_migrated() {
    let temp = Temp::new("earlier");
    drop(DirLock::take(&temp.0).unwrap());
    drop(fs::OpenOptions::new().write(true).create_new(true).open(temp.0.join(FILE)).unwrap());
    fs::set_permissions(temp.0.join(FILE), fs::Permissions::from_mode(0o600)).unwrap();
    let old = temp.look();
    for step in schema::steps_of_version(1) {
        old.execute_batch(step).unwrap();
    }
    old.pragma_update(None, "user_version", 1).unwrap();
    let text = |record: Record| record.text();
    let (room, ann, held) = (
        text(Record::Channel(channel(1))),
        text(Record::Member(member(u64::MAX, "Ann"))),
        text(Record::Ban(ban(6))),
    );
    let most = u64::MAX.to_string();
    old.execute("INSERT INTO channel VALUES ('demo', 'room', ?)", [&room]).unwrap();
    old.execute("INSERT INTO member VALUES ('demo', 'room', ?, ?)", [&most, &ann]).unwrap();
    old.execute("INSERT INTO ban VALUES ('demo', 'room', '2', ?)", [&held]).unwrap();
    old.execute("INSERT INTO hold VALUES ('demo', 'other', ?)", [&held]).unwrap();
    let mark = format!("{FORMAT} {}", NOW.0);
    old.execute("INSERT INTO meta VALUES ('handed_over', ?)", [&mark]).unwrap();
    drop(old);
    let (store, restored) = temp.open();
    assert_eq!(
        only(restored),
        Restored {
            channels: vec![(key("room"), *channel(1), vec![*member(u64::MAX, "Ann")])],
            bans: vec![(key("room"), UserId(2), ban(6))],
            holds: vec![(key("other"), ban(6))],
            clean: true,
            ..Restored::default()
        }
    );
    // From now on it is an ordinary file.
    store.write(vec![RowOp::DropChannel(key("room"))], None);
    assert!(flush(&store));
    let restored = only(temp.killed("earlier-copy").open().1);
    assert!(restored.channels.is_empty() && restored.bans.len() == 1 && restored.holds.len() == 1);
}
