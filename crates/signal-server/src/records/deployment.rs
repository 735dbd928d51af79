//! Rows of the deployment: keys of the API, endpoints of webhooks, revocations of tokens, and the answers to requests
//! with an idempotency key, for repeated requests. Comes in: decisions of the API. Goes out: the same rows.
//! Deliberately absent: secrets of keys, of which only a hash is stored. Secrets of endpoints are stored as they are,
//! because they sign; the file has mode 0600.

use rusqlite::{OptionalExtension, params};

use super::database::{Database, DatabaseError};

/// A table of records with an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// Keys of the API.
    Keys,
    /// Endpoints of webhooks.
    Endpoints,
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Table::Keys => "api_key",
            Table::Endpoints => "endpoint",
        }
    }
}

/// One record of a [`Table`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: String,
    /// Its app; empty for all apps.
    pub(crate) appkey: String,
    pub(crate) record: String,
}

/// A revocation of tokens of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Revocation {
    pub(crate) appkey: String,
    /// Decimal; empty for all uids.
    pub(crate) uid: String,
    /// In Unix milliseconds: tokens that were issued before are refused.
    pub(crate) not_before: u64,
}

/// What is known about a request with an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IdempotencyState {
    /// It is new: it is stored now and must be carried out.
    New,
    /// The key belongs to another request.
    KeyReused,
    /// It is being carried out, or a process ended during that.
    InProgress,
    /// It was answered with this.
    Answered { status: u16, body: String },
    /// It is new, and was not stored: the caller has as many keys as it may have. The oldest is from this time.
    TooManyKeys { oldest: u64 },
}

impl Database {
    /// All entries of a table.
    pub(crate) async fn entries(&self, table: Table) -> Result<Vec<Entry>, DatabaseError> {
        self.read(move |transaction| {
            let sql = format!("SELECT id, appkey, record FROM {} ORDER BY id", table.name());
            let mut statement = transaction.prepare(&sql)?;
            let rows = statement.query_map([], |row| {
                Ok(Entry { id: row.get(0)?, appkey: row.get(1)?, record: row.get(2)? })
            })?;
            rows.collect()
        })
        .await
    }

    /// Writes an entry, or replaces the one with its id. Returns `false` without writing if its app has `most` others.
    pub(crate) async fn put_entry(
        &self,
        table: Table,
        entry: Entry,
        most: usize,
    ) -> Result<bool, DatabaseError> {
        self.write(move |transaction| {
            let Entry { id, appkey, record } = entry;
            let name = table.name();
            let sql = format!("SELECT COUNT(*) FROM {name} WHERE appkey = ? AND id != ?");
            let others: usize =
                transaction.query_row(&sql, params![appkey, id], |row| row.get(0))?;
            if others >= most {
                return Ok(false);
            }
            let sql =
                format!("INSERT OR REPLACE INTO {name} (id, appkey, record) VALUES (?, ?, ?)");
            transaction.execute(&sql, params![id, appkey, record])?;
            Ok(true)
        })
        .await
    }

    /// Removes an entry and the rows that belong to it.
    pub(crate) async fn drop_entry(&self, table: Table, id: String) -> Result<(), DatabaseError> {
        self.write(move |transaction| {
            let sql = format!("DELETE FROM {} WHERE id = ?", table.name());
            transaction.execute(&sql, [&id])?;
            if table == Table::Endpoints {
                transaction.execute("DELETE FROM delivery WHERE endpoint = ?", [&id])?;
                transaction.execute("DELETE FROM dead WHERE endpoint = ?", [&id])?;
            }
            Ok(())
        })
        .await
    }

    /// All revocations.
    pub(crate) async fn revocations(&self) -> Result<Vec<Revocation>, DatabaseError> {
        self.read(|transaction| {
            let mut statement =
                transaction.prepare("SELECT appkey, uid, not_before FROM revocation")?;
            let rows = statement.query_map([], |row| {
                Ok(Revocation { appkey: row.get(0)?, uid: row.get(1)?, not_before: row.get(2)? })
            })?;
            rows.collect()
        })
        .await
    }

    /// Writes a revocation, whose time never moves back, and removes those that no longer concern any token. Returns
    /// `false` without writing if the app has `most` others.
    pub(crate) async fn revoke(
        &self,
        revocation: Revocation,
        forget_before: u64,
        most: usize,
    ) -> Result<bool, DatabaseError> {
        self.write(move |transaction| {
            let Revocation { appkey, uid, not_before } = revocation;
            transaction
                .execute("DELETE FROM revocation WHERE not_before < ?", [forget_before])?;
            let sql = "SELECT COUNT(*) FROM revocation WHERE appkey = ? AND uid != ?";
            let others: usize = transaction.query_row(sql, params![appkey, uid], |row| row.get(0))?;
            if others >= most {
                return Ok(false);
            }
            transaction.execute(
                "INSERT INTO revocation (appkey, uid, not_before) VALUES (?, ?, ?)
                 ON CONFLICT (appkey, uid) DO UPDATE SET not_before = MAX(not_before, excluded.not_before)",
                params![appkey, uid, not_before],
            )?;
            Ok(true)
        })
        .await
    }

    /// Stores a request with an idempotency key, unless it is known or its caller has `most` others.
    pub(crate) async fn begin_request(
        &self,
        (scope, key): (String, String),
        hash: String,
        (now, forget_before): (u64, u64),
        most: usize,
    ) -> Result<IdempotencyState, DatabaseError> {
        self.write(move |transaction| {
            transaction.execute("DELETE FROM idempotency WHERE at < ?", [forget_before])?;
            let sql = "SELECT hash, status, body FROM idempotency WHERE scope = ? AND key = ?";
            let known = transaction
                .query_row(sql, params![scope, key], |row| {
                    Ok((
                        row.get::<_, String>(0)?,
                        row.get::<_, Option<u16>>(1)?,
                        row.get::<_, Option<String>>(2)?,
                    ))
                })
                .optional()?;
            match known {
                Some((old, ..)) if old != hash => return Ok(IdempotencyState::KeyReused),
                Some((_, Some(status), Some(body))) => {
                    return Ok(IdempotencyState::Answered { status, body });
                }
                Some(_) => return Ok(IdempotencyState::InProgress),
                None => {}
            }
            let sql = "SELECT COUNT(*) FROM idempotency WHERE scope = ?";
            let others: usize = transaction.query_row(sql, [&scope], |row| row.get(0))?;
            if others >= most {
                let sql = "SELECT COALESCE(MIN(at), 0) FROM idempotency WHERE scope = ?";
                let oldest = transaction.query_row(sql, [&scope], |row| row.get(0))?;
                return Ok(IdempotencyState::TooManyKeys { oldest });
            }
            transaction.execute(
                "INSERT INTO idempotency (scope, key, hash, at) VALUES (?, ?, ?, ?)",
                params![scope, key, hash, now],
            )?;
            Ok(IdempotencyState::New)
        })
        .await
    }

    /// Stores the answer to a request with an idempotency key. `None` removes the request, which may be repeated.
    pub(crate) async fn store_answer(
        &self,
        (scope, key): (String, String),
        answer: Option<(u16, String)>,
    ) -> Result<(), DatabaseError> {
        self.write(move |transaction| {
            match answer {
                Some((status, body)) => transaction.execute(
                    "UPDATE idempotency SET status = ?, body = ? WHERE scope = ? AND key = ?",
                    params![status, body, scope, key],
                )?,
                None => transaction.execute(
                    "DELETE FROM idempotency WHERE scope = ? AND key = ?",
                    params![scope, key],
                )?,
            };
            Ok(())
        })
        .await
    }
}
