//! The directory of secrets. Comes in: its path. Goes out: the admin token, the keys of media URLs and tickets and the
//! id of the deployment, created at the first start, and a lock against other processes. Deliberately absent: other
//! data, see `records/`; logging.
//!
//! The directory has mode 0700 and its files 0600. What others could have written is refused, because they would know
//! or choose the secrets. A file is written under another name and renamed, so it is never incomplete.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lianmai_signal_engine::TicketKey;

use crate::config::Secret;

/// Bytes of the keys of media URLs and tickets, and random bytes of the admin token.
const KEY_BYTES: usize = 32;
/// Minimum length of an admin token in bytes, for operators who write their own.
const MIN_TOKEN_BYTES: usize = 32;
/// Maximum length of a deployment's id in bytes.
const MAX_ID_BYTES: usize = 64;

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`{path}` {problem}")]
pub struct DataDirError {
    /// The directory or file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: DataDirProblem,
}

/// What is wrong with a file or directory.
#[derive(Debug, thiserror::Error)]
pub enum DataDirProblem {
    /// The system refuses access.
    #[error("cannot be used: {0}")]
    Io(#[from] io::Error),
    /// It is not a directory.
    #[error("is no directory")]
    NotADirectory,
    /// Others may have changed it.
    #[error(
        "can be written by others (mode {0:04o}): run `chmod go-w` on it, and look what is in it"
    )]
    Writable(u32),
    /// Others may have read it.
    #[error(
        "is open to others (mode {0:04o}): run `chmod 600` on it, or delete it to get a new secret"
    )]
    Open(u32),
    /// Another server uses it.
    #[error("is in use by another server process; it must end first")]
    InUse,
    /// Its content is invalid.
    #[error("does not hold {0}; delete it to get a new one")]
    Content(&'static str),
    /// The system has no random bytes.
    #[error("cannot be made: no random bytes")]
    Random,
}

/// Keeps other processes out of a directory until it is dropped, or the process ends in any way.
#[derive(Debug)]
pub(crate) struct DirLock(#[expect(dead_code, reason = "held for its drop")] File);

impl DirLock {
    /// Creates the directory if it is missing, and locks it for this server.
    ///
    /// # Errors
    /// [`DataDirError`] with the path.
    pub(crate) fn take(path: &Path) -> Result<Self, DataDirError> {
        let at = |path: &Path, problem| DataDirError { path: path.to_owned(), problem };
        open_directory(path).map_err(|problem| at(path, problem))?;
        let file = path.join("lianmai.lock");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(&file).map_err(|error| at(&file, error.into()))?;
        match lock.try_lock() {
            Ok(()) => Ok(DirLock(lock)),
            Err(TryLockError::WouldBlock) => Err(at(path, DataDirProblem::InUse)),
            Err(TryLockError::Error(error)) => Err(at(&file, error.into())),
        }
    }
}

/// An open directory and its content.
#[derive(Clone)]
pub(crate) struct DataDir {
    path: PathBuf,
    admin_token: Secret,
    url_key: [u8; KEY_BYTES],
    ticket_key: TicketKey,
    deployment_id: String,
}

impl std::fmt::Debug for DataDir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataDir")
            .field("path", &self.path)
            .field("deployment_id", &self.deployment_id)
            .finish_non_exhaustive()
    }
}

impl DataDir {
    /// Opens the directory and creates missing files.
    ///
    /// # Errors
    /// [`DataDirError`] with the path.
    pub(crate) fn open(path: &Path) -> Result<Self, DataDirError> {
        open_directory(path).map_err(|problem| DataDirError { path: path.to_owned(), problem })?;
        let token =
            load(path, "admin.token", |random| URL_SAFE_NO_PAD.encode(random).into_bytes())?;
        let key = load(path, "url.key", |random| random.to_vec())?;
        let ticket = load(path, "ticket.key", |random| random.to_vec())?;
        let id = load(path, "deployment.id", |random| {
            let hex = random[..12].iter().fold("dep-".to_owned(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            });
            hex.into_bytes()
        })?;
        let content = |name: &str, what| DataDirError {
            path: path.join(name),
            problem: DataDirProblem::Content(what),
        };
        let admin_token = text(token)
            .filter(|token| token.len() >= MIN_TOKEN_BYTES)
            .ok_or_else(|| content("admin.token", "32 or more visible characters"))?;
        let deployment_id = text(id)
            .filter(|id| (1..=MAX_ID_BYTES).contains(&id.len()))
            .ok_or_else(|| content("deployment.id", "1-64 visible characters"))?;
        let ticket = ticket.try_into().map_err(|_| content("ticket.key", "32 bytes"))?;
        Ok(DataDir {
            path: path.to_owned(),
            admin_token: Secret::new(admin_token),
            ticket_key: TicketKey::new(ticket),
            url_key: key.try_into().map_err(|_| content("url.key", "32 bytes"))?,
            deployment_id,
        })
    }

    /// The token for requests to the admin listener.
    #[must_use]
    pub(crate) fn admin_token(&self) -> &Secret {
        &self.admin_token
    }

    /// The path of the admin token, for operators.
    #[must_use]
    pub(crate) fn admin_token_path(&self) -> PathBuf {
        self.path.join("admin.token")
    }

    /// Key of media URLs. A secret.
    #[must_use]
    pub(crate) fn url_key(&self) -> &[u8; KEY_BYTES] {
        &self.url_key
    }

    /// Key of tickets. A secret.
    #[must_use]
    pub(crate) fn ticket_key(&self) -> &TicketKey {
        &self.ticket_key
    }

    /// The id that clients are told. It stays the same as long as the directory exists.
    #[must_use]
    pub(crate) fn deployment_id(&self) -> &str {
        &self.deployment_id
    }
}

fn open_directory(path: &Path) -> Result<(), DataDirProblem> {
    // Fails if the name exists, whatever it is; that is checked below.
    match DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    let meta = fs::metadata(path)?;
    if !meta.is_dir() {
        return Err(DataDirProblem::NotADirectory);
    }
    let mode = meta.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(DataDirProblem::Writable(mode));
    }
    Ok(())
}

/// Reads a file, or creates it from random bytes if it is missing.
fn load(
    dir: &Path,
    name: &str,
    make: impl Fn(&[u8; KEY_BYTES]) -> Vec<u8>,
) -> Result<Vec<u8>, DataDirError> {
    let path = dir.join(name);
    let read = || match read_private(&path) {
        Err(DataDirProblem::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
            let mut random = [0; KEY_BYTES];
            getrandom::fill(&mut random).map_err(|_| DataDirProblem::Random)?;
            create(dir, name, &make(&random))?;
            // Read again, because another process may have created it at the same time.
            read_private(&path)
        }
        result => result,
    };
    read().map_err(|problem| DataDirError { path: path.clone(), problem })
}

fn read_private(path: &Path) -> Result<Vec<u8>, DataDirProblem> {
    let mode = fs::metadata(path)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(DataDirProblem::Open(mode));
    }
    Ok(fs::read(path)?)
}

fn create(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!(".{name}.{}.tmp", std::process::id()));
    let written = (|| {
        let _ = fs::remove_file(&temporary);
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, dir.join(name))?;
        File::open(dir)?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Visible ASCII, without white space at its ends.
fn text(bytes: Vec<u8>) -> Option<String> {
    let text = String::from_utf8(bytes).ok()?;
    let text = text.trim();
    text.bytes().all(|byte| byte.is_ascii_graphic()).then(|| text.to_owned())
}

#[cfg(test)]
#[path = "data_dir_tests.rs"]
mod tests;
