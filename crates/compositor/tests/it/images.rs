//! Proves no rule of the protocol: images are fetched with care.

use std::io::Cursor;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use lianmai_compositor::images::{ImageError, ImageOptions, image as fetch};
use lianmai_compositor::picture::{Picture, Yuv};
use lianmai_media_plane::is_public;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn options(may_reach: fn(IpAddr) -> bool) -> ImageOptions {
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    ImageOptions { tls: Arc::new(tls), may_reach, longest_side: 1280, background: 0 }
}

/// An HTTP server with one fixed answer per path.
async fn server(answers: Vec<(&'static str, Vec<u8>)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answers = answers.clone();
            tokio::spawn(async move {
                let mut head = vec![0; 4096];
                let count = stream.read(&mut head).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..count]).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default();
                if let Some((_, answer)) = answers.iter().find(|(wanted, _)| *wanted == path) {
                    let _ = stream.write_all(answer).await;
                    let _ = stream.shutdown().await;
                }
            });
        }
    });
    format!("http://{address}")
}

fn ok(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn redirect(to: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into_bytes()
}

fn png() -> Vec<u8> {
    let image = DynamicImage::from(RgbImage::from_pixel(32, 16, Rgb([0, 0, 255])));
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

#[tokio::test]
async fn an_image_is_fetched_and_redirects_are_followed() {
    let base = server(vec![
        ("/a.png", ok(&png())),
        ("/once", redirect("/a.png")),
        ("/round", redirect("/round")),
        ("/not", b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec()),
        ("/text", ok(b"hello")),
        ("/long", ok(&vec![0; 5 << 20])),
        (
            "/chunks",
            [&b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"[..], &vec![0; 5 << 20]].concat(),
        ),
    ])
    .await;
    let get = async |path: &str| fetch(&format!("{base}{path}"), &options(|_| true)).await;
    let blue = Picture::filled(32, 16, Yuv::from_rgb(0x00_00FF)).unwrap();
    assert_eq!(get("/a.png").await, Ok(blue.clone()));
    assert_eq!(get("/once").await, Ok(blue));
    assert_eq!(get("/round").await, Err(ImageError::Answer));
    assert_eq!(get("/not").await, Err(ImageError::Answer));
    assert_eq!(get("/text").await, Err(ImageError::Format));
    assert_eq!(get("/long").await, Err(ImageError::Size));
    assert_eq!(get("/chunks").await, Err(ImageError::Size));
    assert_eq!(get("/nothing").await, Err(ImageError::Connection));
}

#[tokio::test]
async fn images_of_internal_addresses_are_refused() {
    let base = server(vec![("/a.png", ok(&png()))]).await;
    let url = format!("{base}/a.png");
    assert_eq!(fetch(&url, &options(is_public)).await, Err(ImageError::Address));
    let by_name = url.replace("127.0.0.1", "localhost");
    assert_eq!(fetch(&by_name, &options(is_public)).await, Err(ImageError::Address));
    for url in
        ["http://169.254.169.254/latest/", "http://[::1]/", "http://0.0.0.0/", "http://10.0.0.1/"]
    {
        assert_eq!(fetch(url, &options(is_public)).await, Err(ImageError::Address), "{url}");
    }
}

/// Of two addresses of this machine, one stands for the internal network.
#[tokio::test]
async fn redirects_to_internal_addresses_are_refused() {
    let inside = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let address = inside.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    tokio::spawn(async move {
        while inside.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let to = format!("http://{address}/a.png");
    let base = server(vec![
        ("/a.png", ok(&png())),
        ("/good", redirect("/a.png")),
        ("/inside", redirect(&to)),
        ("/further", redirect("/inside")),
    ])
    .await;
    let outside = options(|ip| ip == IpAddr::V4(Ipv4Addr::LOCALHOST));
    let get = async |path: &str| fetch(&format!("{base}{path}"), &outside).await;
    assert!(get("/good").await.is_ok());
    for path in ["/inside", "/further"] {
        assert_eq!(get(path).await, Err(ImageError::Address), "{path}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}
