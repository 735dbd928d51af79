//! The minimal cost of a fan-out: whenever a connection sends something, a plain loop writes a prepared frame to every
//! socket. In: connections. Out: frames. Deliberately absent: parsing, state, queues.

use std::sync::Arc;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tungstenite::handshake::derive_accept_key;

/// The length of a `message` event with 50 bytes of data.
const FRAME_BYTES: usize = 140;

#[expect(clippy::print_stdout, reason = "the address is for the parent")]
pub(crate) async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let sockets: Arc<Mutex<Vec<Arc<TcpStream>>>> = Arc::default();
    loop {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // The key is always the same, because this server has only one client program.
        let mut head = [0; 1024];
        let _ = stream.read(&mut head).await?;
        let accept = derive_accept_key(b"AAAAAAAAAAAAAAAAAAAAAA==");
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: lianmai.v1\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).await?;
        let stream = Arc::new(stream);
        sockets.lock().await.push(stream.clone());
        tokio::spawn(answer_with_frames(stream, sockets.clone()));
    }
}

async fn answer_with_frames(
    stream: Arc<TcpStream>,
    sockets: Arc<Mutex<Vec<Arc<TcpStream>>>>,
) -> Result<()> {
    let mut frame = vec![0x81, 126, 0, FRAME_BYTES as u8];
    frame.resize(4 + FRAME_BYTES, b'x');
    let mut buffer = [0; 1024];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {
                for socket in sockets.lock().await.iter() {
                    let _ = socket.try_write(&frame);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}
