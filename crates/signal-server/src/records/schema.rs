//! The file and its tables. Comes in: a path. Goes out: a connection to a file of this program's version. Deliberately
//! absent: the content of the tables.
//!
//! All rows of the engines are in one table: keys and record are texts, and SQL does not read inside the record. A uid
//! is decimal text, because integers of SQLite are signed.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::StoreError;

/// The step from each version to the next; `user_version` of a file is the number of its steps. A released step never
/// changes.
const MIGRATIONS: [&str; 5] = [
    "
    CREATE TABLE meta (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) STRICT;
    CREATE TABLE channel (
        appkey TEXT NOT NULL, name TEXT NOT NULL, record TEXT NOT NULL,
        PRIMARY KEY (appkey, name)
    ) STRICT;
    CREATE TABLE member (
        appkey TEXT NOT NULL, name TEXT NOT NULL, uid TEXT NOT NULL, record TEXT NOT NULL,
        PRIMARY KEY (appkey, name, uid)
    ) STRICT;
    CREATE TABLE ban (
        appkey TEXT NOT NULL, name TEXT NOT NULL, uid TEXT NOT NULL, record TEXT NOT NULL,
        PRIMARY KEY (appkey, name, uid)
    ) STRICT;
    CREATE TABLE hold (
        appkey TEXT NOT NULL, name TEXT NOT NULL, record TEXT NOT NULL,
        PRIMARY KEY (appkey, name)
    ) STRICT;
    ",
    // One table for all rows: a new kind needs no step.
    "
    CREATE TABLE record (
        appkey TEXT NOT NULL, channel TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL,
        record TEXT NOT NULL,
        PRIMARY KEY (appkey, channel, kind, id)
    ) STRICT;
    INSERT INTO record SELECT appkey, name, 'channel', '', record FROM channel;
    INSERT INTO record SELECT appkey, name, 'member', uid, record FROM member;
    INSERT INTO record SELECT appkey, name, 'ban', uid, record FROM ban;
    INSERT INTO record SELECT appkey, name, 'hold', '', record FROM hold;
    DROP TABLE channel; DROP TABLE member; DROP TABLE ban; DROP TABLE hold;
    ",
    // Events, their deliveries, and the data of the API.
    "
    CREATE TABLE event (
        pos INTEGER PRIMARY KEY AUTOINCREMENT,
        appkey TEXT NOT NULL, channel TEXT NOT NULL, seq INTEGER NOT NULL, at INTEGER NOT NULL,
        record TEXT NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX event_of_channel ON event (appkey, channel, seq);
    CREATE INDEX event_of_app ON event (appkey, pos);
    CREATE TABLE lost (
        appkey TEXT NOT NULL, channel TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
        pos INTEGER NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (appkey, channel)
    ) STRICT;
    CREATE TABLE endpoint (
        id TEXT PRIMARY KEY NOT NULL, appkey TEXT NOT NULL, record TEXT NOT NULL
    ) STRICT;
    CREATE TABLE delivery (
        endpoint TEXT NOT NULL, channel TEXT NOT NULL, seq INTEGER NOT NULL,
        PRIMARY KEY (endpoint, channel)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE dead (
        endpoint TEXT NOT NULL, pos INTEGER NOT NULL, attempts INTEGER NOT NULL, error TEXT NOT NULL,
        at INTEGER NOT NULL,
        PRIMARY KEY (endpoint, pos)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE api_key (
        id TEXT PRIMARY KEY NOT NULL, appkey TEXT NOT NULL, record TEXT NOT NULL
    ) STRICT;
    CREATE TABLE revocation (
        appkey TEXT NOT NULL, uid TEXT NOT NULL, not_before INTEGER NOT NULL,
        PRIMARY KEY (appkey, uid)
    ) STRICT;
    CREATE TABLE idempotency (
        scope TEXT NOT NULL, key TEXT NOT NULL, hash TEXT NOT NULL, status INTEGER, body TEXT,
        at INTEGER NOT NULL,
        PRIMARY KEY (scope, key)
    ) STRICT;
    CREATE INDEX idempotency_at ON idempotency (at);
    ",
    // The history of calls.
    "
    CREATE TABLE history (
        pos INTEGER PRIMARY KEY AUTOINCREMENT,
        appkey TEXT NOT NULL, channel TEXT NOT NULL, at INTEGER NOT NULL,
        uid TEXT, other TEXT, record TEXT NOT NULL
    ) STRICT;
    CREATE INDEX history_of_channel ON history (appkey, channel, at);
    ",
    // Gaps by position and by time, and an id of the file: positions of events belong to it.
    "
    CREATE INDEX lost_of_app ON lost (appkey, pos);
    CREATE INDEX lost_at ON lost (at);
    INSERT INTO meta (key, value) VALUES ('file', lower(hex(randomblob(8))));
    ",
];

/// Time that a write waits for another connection, such as one of an operator.
const BUSY: Duration = Duration::from_secs(1);

/// The steps up to an earlier version, to make a file of that version.
#[cfg(test)]
pub(super) fn steps_of_version(version: usize) -> &'static [&'static str] {
    &MIGRATIONS[..version]
}

/// Opens the file, creates it if it is missing, and upgrades it to this version.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    own_files(path)?;
    let database = |source| StoreError::Database { path: path.to_owned(), source };
    let mut connection = connect(path).map_err(database)?;
    let found = migrate(&mut connection, &MIGRATIONS).map_err(database)?;
    match u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX) {
        known if found > known => Err(StoreError::Newer { path: path.to_owned(), found, known }),
        _ => Ok(connection),
    }
}

/// Creates the file if it is missing, and checks the modes. SQLite gives its other files the mode of the first.
fn own_files(path: &Path) -> Result<(), StoreError> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(StoreError::Io { path: path.to_owned(), source: error });
        }
        _ => {}
    }
    for suffix in ["", "-wal", "-shm"] {
        let path = beside(path, suffix);
        match fs::metadata(&path) {
            Ok(meta) if meta.mode() & 0o077 != 0 => {
                return Err(StoreError::Open { path, mode: meta.mode() & 0o7777 });
            }
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::Io { path, source });
            }
            _ => {}
        }
    }
    Ok(())
}

/// The path of another file of SQLite next to its database.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A connection to an existing file.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    synchronous(&connection, "normal")?;
    Ok(connection)
}

/// Sets `synchronous`: `normal`, or `full` for a commit that must survive a power cut.
pub(super) fn synchronous(connection: &Connection, how: &str) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", how)
}

/// Upgrades a file to the last version, each step in a transaction. Returns the version of the file; a newer file stays
/// unchanged.
fn migrate(connection: &mut Connection, steps: &[&str]) -> rusqlite::Result<u32> {
    loop {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: u32 =
            transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let Some(step) = steps.get(version as usize) else { return Ok(version) };
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", version + 1)?;
        transaction.commit()?;
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: versions of the file.

    use super::*;

    #[test]
    fn every_migration_runs_once() {
        let mut connection = Connection::open_in_memory().unwrap();
        let steps = ["CREATE TABLE a (x)", "ALTER TABLE a ADD COLUMN y", "CREATE TABLE b (z)"];
        assert_eq!(migrate(&mut connection, &steps[..1]).unwrap(), 1);
        connection.execute("INSERT INTO a VALUES (1)", []).unwrap();
        assert_eq!(migrate(&mut connection, &steps).unwrap(), 3);
        assert_eq!(migrate(&mut connection, &steps).unwrap(), 3);
        let row = connection.query_row("SELECT x, y FROM a", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?))
        });
        assert_eq!(row.unwrap(), (1, None), "existing rows stay");
        assert_eq!(
            migrate(&mut connection, &steps[..2]).unwrap(),
            3,
            "a newer file is not changed"
        );
    }

    #[test]
    fn a_failed_migration_changes_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        let steps = ["CREATE TABLE a (x)", "CREATE TABLE b (x); nonsense"];
        migrate(&mut connection, &steps).unwrap_err();
        let version: u32 =
            connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(version, 1);
        assert!(!connection.table_exists(None, "b").unwrap());
    }
}
