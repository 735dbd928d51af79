//! The certificate authorities for RTMPS to other servers. Comes in: the file of an operator, if there is one. Goes
//! out: the configuration of a TLS client. Deliberately absent: an option to check nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{ClientConfig, RootCertStore};

use crate::socket::tls::TlsError;

/// Trusts the certificate authorities in a PEM file, or without one those that browsers trust.
///
/// # Errors
/// [`TlsError`].
pub(crate) fn client_config(ca: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    match ca {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => read(&mut roots, path)?,
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn read(roots: &mut RootCertStore, path: &Path) -> Result<(), TlsError> {
    let path = PathBuf::from(path);
    let text =
        std::fs::read(&path).map_err(|error| TlsError::Read { path: path.clone(), error })?;
    let unusable = || TlsError::Pem { path: path.clone(), what: "certificate" };
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, pem::Error>>()
        .map_err(|_| unusable())?;
    for certificate in certificates {
        roots.add(certificate).map_err(|_| unusable())?;
    }
    if roots.is_empty() { Err(unusable()) } else { Ok(()) }
}
