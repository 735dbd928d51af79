//! TLS of the listeners. Comes in: two PEM files. Goes out: an acceptor that always uses the newest valid pair.
//! Deliberately absent: timers and signals; the server calls [`TlsReloader::reload_if_changed`].

use std::fmt;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use crate::config::TlsConfig;

/// Why a pair of files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("`{path}` cannot be read: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        error: io::Error,
    },
    /// A file does not hold the expected PEM.
    #[error("`{path}` holds no usable {what}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// The expected content.
        what: &'static str,
    },
    /// Certificate and key do not match, or are of an unsupported kind.
    #[error("certificate and key cannot be used: {0}")]
    Pair(#[from] rustls::Error),
}

/// TLS 1.2 and 1.3 with one certificate that can be replaced.
pub(crate) struct TlsReloader {
    files: TlsConfig,
    state: Mutex<FileState>,
    resolver: Arc<Resolver>,
    provider: Arc<CryptoProvider>,
    acceptor: TlsAcceptor,
}

impl fmt::Debug for TlsReloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsReloader").field("files", &self.files).finish_non_exhaustive()
    }
}

impl TlsReloader {
    /// Loads the files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub(crate) fn load(files: &TlsConfig) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let used = stamps(files);
        let resolver =
            Arc::new(Resolver { current: RwLock::new(Arc::new(read_pair(files, &provider)?)) });
        let mut config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(resolver.clone());
        // A WebSocket upgrade needs HTTP/1.1.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsReloader {
            files: files.clone(),
            state: Mutex::new(FileState { used, failed: None }),
            resolver,
            provider,
            acceptor: TlsAcceptor::from(Arc::new(config)),
        })
    }

    /// An acceptor for RTMP, which has no ALPN protocol. Later reloads apply to it, too.
    pub(crate) fn media_acceptor(&self) -> TlsAcceptor {
        let mut config = ServerConfig::clone(self.acceptor.config());
        config.alpn_protocols = Vec::new();
        TlsAcceptor::from(Arc::new(config))
    }

    /// An acceptor for HTTP/1.1. Later reloads apply to it, too.
    #[must_use]
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.clone()
    }

    /// Loads the files again if they differ from those in use; says whether a new pair is in use. A pair that cannot be
    /// used is tried each time, because a stamp does not hold the permissions. The error is reported once, and the old
    /// pair stays.
    ///
    /// # Errors
    /// [`TlsError`].
    pub(crate) fn reload_if_changed(&self) -> Result<bool, TlsError> {
        let mut state = self.state();
        // The stamps are taken before the files are read: the next call sees a write in between.
        let now = stamps(&self.files);
        if state.used == now {
            state.failed = None;
            return Ok(false);
        }
        let Err(error) = self.read(&mut state, now) else { return Ok(true) };
        let failed = Some((now, error.to_string()));
        if state.failed == failed {
            return Ok(false);
        }
        state.failed = failed;
        Err(error)
    }

    /// Loads the files again, changed or not.
    ///
    /// # Errors
    /// [`TlsError`]; the old pair stays.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        let mut state = self.state();
        let now = stamps(&self.files);
        self.read(&mut state, now)
    }

    fn read(&self, state: &mut FileState, now: [Stamp; 2]) -> Result<(), TlsError> {
        let pair = Arc::new(read_pair(&self.files, &self.provider)?);
        *self.resolver.current.write().unwrap_or_else(PoisonError::into_inner) = pair;
        *state = FileState { used: now, failed: None };
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, FileState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known about the files.
struct FileState {
    /// The stamps when the pair in use was read.
    used: [Stamp; 2],
    /// The stamps and the error of the last failure, which was reported already.
    failed: Option<([Stamp; 2], String)>,
}

/// Modification time, length and inode of a file, to detect a change without reading it; `None` for a missing file.
type Stamp = Option<(SystemTime, u64, u64)>;

fn stamps(files: &TlsConfig) -> [Stamp; 2] {
    let stamp = |file: &PathBuf| -> Stamp {
        let meta: Metadata = std::fs::metadata(file).ok()?;
        Some((meta.modified().ok()?, meta.len(), meta.ino()))
    };
    [stamp(&files.cert), stamp(&files.key)]
}

fn read_pair(files: &TlsConfig, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let cert = || TlsError::Pem { path: files.cert.clone(), what: "certificate" };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read(&files.cert)?)
        .collect::<Result<_, pem::Error>>()
        .map_err(|_| cert())?;
    if chain.is_empty() {
        return Err(cert());
    }
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
        .map_err(|_| TlsError::Pem { path: files.key.clone(), what: "private key" })?;
    Ok(CertifiedKey::from_der(chain, key, provider)?)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::Read { path: path.to_owned(), error })
}

/// Gives the current pair to rustls.
struct Resolver {
    current: RwLock<Arc<CertifiedKey>>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
