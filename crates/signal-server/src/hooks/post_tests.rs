//! Proves no rule of the protocol: accepted deliveries, and receivers that misbehave.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::relay::client_tls;

fn poster(allow: &[&str], own: &[std::net::SocketAddr]) -> Poster {
    let allow = allow.iter().map(|range| range.parse().unwrap()).collect();
    Poster {
        egress: Arc::new(Egress::new(allow, own.to_vec())),
        tls: client_tls::client_config(None).unwrap(),
        timeout: Duration::from_millis(500),
    }
}

async fn post(poster: &Poster, url: &str) -> Result<(), PostError> {
    let secrets = [Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")];
    let (appkey, body) = ("demo".parse().unwrap(), Bytes::from_static(b"{}"));
    let delivery = Delivery { appkey: &appkey, url, secrets: &secrets, id: "evt_1", at_s: 7, body };
    poster.post(delivery).await
}

/// A receiver that answers one request with this, and the request that it received.
async fn receiver(answer: Vec<u8>) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?x=1", listener.local_addr().unwrap());
    let asked = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"{}") {
            let mut bytes = [0; 1024];
            let count = socket.read(&mut bytes).await.unwrap();
            assert!(count > 0, "the request ends early");
            request.extend_from_slice(&bytes[..count]);
        }
        // An error: the sender has read enough.
        let _ = socket.write_all(&answer).await;
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest).await;
        String::from_utf8(request).unwrap()
    });
    (url, asked)
}

#[tokio::test]
async fn only_a_2xx_answer_counts_as_delivered() {
    let poster = poster(&["127.0.0.1"], &[]);
    let large =
        [&b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n"[..], &[b'x'; 1 << 20]].concat();
    for (answer, expected) in [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(), Ok(())),
        (b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), Ok(())),
        (large, Ok(())),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_vec(), Err(PostError::Status(500))),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
                .to_vec(),
            Err(PostError::Status(302)),
        ),
        (b"nonsense\r\n\r\n".to_vec(), Err(PostError::Broken)),
        (vec![b'x'; 1 << 20], Err(PostError::Broken)),
        ([&b"HTTP/1.1 200 OK\r\nX: "[..], &[b'x'; 1 << 20]].concat(), Err(PostError::Broken)),
        (Vec::new(), Err(PostError::Timeout)),
    ] {
        let (url, asked) = receiver(answer).await;
        assert_eq!(post(&poster, &url).await, expected);
        let asked = asked.await.unwrap();
        let head = asked.to_ascii_lowercase();
        assert!(asked.starts_with("POST /hook?x=1 HTTP/1.1\r\n"), "{asked}");
        for line in ["webhook-id: evt_1", "webhook-timestamp: 7", "content-type: application/json"]
        {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} in {asked}");
        }
        assert!(asked.contains("webhook-signature: v1,"), "{asked}");
    }
}

#[tokio::test]
async fn internal_addresses_are_not_called() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let inside = Err(PostError::Egress(EgressError::Internal));
    for scheme in ["http", "https"] {
        for host in ["127.0.0.1", "localhost"] {
            let url = format!("{scheme}://{host}:{}/", address.port());
            assert_eq!(post(&poster(&[], &[]), &url).await, inside, "{url}");
            let own = poster(&["127.0.0.0/8", "::1"], &[address]);
            assert_eq!(post(&own, &url).await, inside, "own {url}");
        }
    }
    let metadata = post(&poster(&["127.0.0.1"], &[]), "http://169.254.169.254/").await;
    assert_eq!(metadata, inside);
    let none = post(&poster(&[], &[]), "https://nobody.invalid/").await;
    assert_eq!(none, Err(PostError::Egress(EgressError::Resolve)));
    assert!(
        futures_util::FutureExt::now_or_never(listener.accept()).is_none(),
        "the server was called"
    );
}

#[tokio::test]
async fn an_untrusted_certificate_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let key = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![key.cert.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let accepted = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(socket).await;
        assert!(accepted.is_err(), "the certificate was trusted");
    });
    let refused = post(&poster(&["127.0.0.1"], &[]), &format!("https://{address}/")).await;
    assert_eq!(refused, Err(PostError::Tls));
}
