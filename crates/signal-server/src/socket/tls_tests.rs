//! Proves no rule of the protocol: certificates.

use std::fs;
use std::time::{Duration, SystemTime};

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::*;

/// A directory that is removed with the test.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("lianmai-tls-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        Files(dir)
    }

    fn config(&self) -> TlsConfig {
        TlsConfig { cert: self.0.join("cert.pem"), key: self.0.join("key.pem") }
    }

    /// Writes a new pair; the stamps differ from before even on a coarse clock.
    fn write(&self, cert: &str, key: &str) {
        for (path, text) in [(self.config().cert, cert), (self.config().key, key)] {
            let new = path.with_extension("new");
            fs::write(&new, text).unwrap();
            fs::rename(&new, &path).unwrap();
        }
    }

    /// Changes the content of a file, but not its stamp.
    fn write_unseen(&self, path: &Path, text: &str) {
        fs::write(path, format!("{text:4096}")).unwrap();
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    }

    fn issue(&self) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        self.write(&made.cert.pem(), &made.signing_key.serialize_pem());
        made.cert.der().clone()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Connects once; gives the certificate that the server shows and the ALPN protocol.
async fn connect(
    tls: &TlsReloader,
    trusted: &CertificateDer<'static>,
    version: &'static rustls::SupportedProtocolVersion,
) -> io::Result<(Vec<u8>, Option<Vec<u8>>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = tls.acceptor();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let _ = acceptor.accept(stream).await;
    });
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let stream = tokio::time::timeout(Duration::from_secs(60), connecting).await.unwrap()?;
    let (_, session) = stream.get_ref();
    let shown = session.peer_certificates().unwrap()[0].to_vec();
    let alpn = session.alpn_protocol().map(<[u8]>::to_vec);
    server.await.unwrap();
    Ok((shown, alpn))
}

#[tokio::test]
async fn serves_both_versions_and_http1() {
    let files = Files::new("versions");
    let cert = files.issue();
    let tls = TlsReloader::load(&files.config()).unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (shown, alpn) = connect(&tls, &cert, version).await.unwrap();
        assert_eq!(shown, cert.to_vec());
        assert_eq!(alpn.as_deref(), Some(&b"http/1.1"[..]));
    }
}

#[tokio::test]
async fn a_new_pair_is_used_and_an_invalid_one_is_not() {
    let files = Files::new("reload");
    let first = files.issue();
    let tls = TlsReloader::load(&files.config()).unwrap();
    let version = &rustls::version::TLS13;
    assert!(!tls.reload_if_changed().unwrap(), "nothing changed");

    let second = files.issue();
    assert!(tls.reload_if_changed().unwrap());
    assert!(!tls.reload_if_changed().unwrap());
    assert_eq!(connect(&tls, &second, version).await.unwrap().0, second.to_vec());
    assert!(connect(&tls, &first, version).await.is_err(), "the old certificate is not used");

    // Half a change: the new certificate does not fit the key.
    let good_key = fs::read_to_string(files.config().key).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    files.write(&other.cert.pem(), &good_key);
    assert!(matches!(tls.reload_if_changed(), Err(TlsError::Pair(_))));
    assert!(matches!(tls.reload_if_changed(), Ok(false)), "reported once");
    assert_eq!(connect(&tls, &second, version).await.unwrap().0, second.to_vec());

    fs::remove_file(files.config().key).unwrap();
    assert!(matches!(tls.reload_if_changed(), Err(TlsError::Read { .. })));
    assert_eq!(connect(&tls, &second, version).await.unwrap().0, second.to_vec());

    // The other half.
    files.write(&other.cert.pem(), &other.signing_key.serialize_pem());
    assert!(tls.reload_if_changed().unwrap());
    assert_eq!(
        connect(&tls, other.cert.der(), version).await.unwrap().0,
        other.cert.der().to_vec()
    );
}

/// Mode and owner can prevent reading a file, but are not part of its stamp.
#[test]
fn an_invalid_pair_is_tried_again() {
    let files = Files::new("again");
    files.issue();
    let tls = TlsReloader::load(&files.config()).unwrap();
    let cert = files.config().cert;
    files.issue();
    let good = fs::read_to_string(&cert).unwrap();
    files.write_unseen(&cert, "none");
    assert!(matches!(tls.reload_if_changed(), Err(TlsError::Pem { .. })));
    assert!(matches!(tls.reload_if_changed(), Ok(false)), "it is reported once");
    files.write_unseen(&cert, &good);
    assert!(tls.reload_if_changed().unwrap());
    assert!(!tls.reload_if_changed().unwrap(), "nothing changed");

    // The same files fail for one reason, and then for another.
    let key = files.config().key;
    fs::write(&key, "none").unwrap();
    assert!(matches!(tls.reload_if_changed(), Err(TlsError::Pem { path, .. }) if path == key));
    files.write_unseen(&cert, "none");
    assert!(matches!(tls.reload_if_changed(), Err(TlsError::Pem { path, .. }) if path == cert));
    assert!(matches!(tls.reload_if_changed(), Ok(false)), "it is reported once");
}

#[test]
fn a_reload_request_reads_the_files() {
    let files = Files::new("asked");
    files.issue();
    let cert = files.config().cert;
    let good = fs::read_to_string(&cert).unwrap();
    files.write_unseen(&cert, &good);
    let tls = TlsReloader::load(&files.config()).unwrap();
    tls.reload().unwrap();
    files.write_unseen(&cert, "none");
    assert!(!tls.reload_if_changed().unwrap(), "no change is noticed");
    for _ in 0..2 {
        assert!(matches!(tls.reload(), Err(TlsError::Pem { .. })), "it is reported each time");
    }
    files.write_unseen(&cert, &good);
    tls.reload().unwrap();
}

#[test]
fn unusable_files_are_named() {
    let files = Files::new("bad");
    let load = || TlsReloader::load(&files.config()).map(|_| ()).unwrap_err().to_string();
    assert!(load().contains("cert.pem"), "missing");
    files.issue();
    let key = fs::read_to_string(files.config().key).unwrap();
    files.write("", &key);
    assert!(load().contains("cert.pem` holds no usable certificate"), "{}", load());
    files.write("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", &key);
    assert!(load().contains("cert.pem"), "{}", load());
    files.issue();
    let cert = fs::read_to_string(files.config().cert).unwrap();
    files.write(&cert, &cert);
    assert!(load().contains("key.pem` holds no usable private key"), "{}", load());
    let body = key.lines().nth(1).unwrap();
    files.write(&cert, &key);
    assert!(!load().contains(body), "no key in errors: {}", load());
}
