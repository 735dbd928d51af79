//! An RTMP client for measurements. In: an address, the name of a stream, messages. Out: bytes, received messages.
//! Deliberately absent: handling of errors; the measurement fails with them.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use lianmai_media_plane::rtmp::amf0::Value;
use lianmai_media_plane::rtmp::chunk::{ChunkReader, encode_message};
use lianmai_media_plane::rtmp::command::Command;
use lianmai_media_plane::rtmp::handshake::PACKET;
use lianmai_media_plane::rtmp::message::{Message, message_type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The id of the only stream of a connection.
const STREAM: u32 = 1;
const CHUNK_SIZE: usize = 4096;

/// A stream, as identified by its URL.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    address: SocketAddr,
    app: String,
    name: String,
}

impl Target {
    /// Parses `rtmp://IP:PORT/app/name?query`.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let rest = url.strip_prefix("rtmp://").context("no rtmp URL")?;
        let (address, path) = rest.split_once('/').context("no path")?;
        let (app, name) = path.split_once('/').context("no stream")?;
        Ok(Target { address: address.parse()?, app: app.to_owned(), name: name.to_owned() })
    }
}

/// A connection that publishes or plays.
pub(crate) struct Client {
    stream: TcpStream,
    reader: ChunkReader,
    held: Vec<u8>,
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

impl Client {
    pub(crate) async fn publish(target: &Target) -> Result<Self> {
        let words = vec![text(&target.name), text("live")];
        let mut client = Client::open(target, "publish", words).await?;
        client.status("NetStream.Publish.Start").await?;
        Ok(client)
    }

    pub(crate) async fn play(target: &Target) -> Result<Self> {
        let words = vec![text(&target.name), Value::Number(-2000.0)];
        Client::open(target, "play", words).await
    }

    async fn open(target: &Target, method: &str, words: Vec<Value>) -> Result<Self> {
        let mut stream = TcpStream::connect(target.address).await?;
        stream.set_nodelay(true)?;
        let mut hello = vec![0; 1 + PACKET];
        hello[0] = 3;
        stream.write_all(&hello).await?;
        let mut answer = vec![0; 1 + 2 * PACKET];
        stream.read_exact(&mut answer).await?;
        stream.write_all(&answer[1..=PACKET]).await?;
        let mut reader = ChunkReader::default();
        reader.expect_media(true)?;
        let mut client = Client { stream, reader, held: Vec::new() };
        let size = u32::try_from(CHUNK_SIZE)?.to_be_bytes();
        client.send(2, message_type::SET_CHUNK_SIZE, 0, 0, &size).await?;
        let url = format!("rtmp://{}/{}", target.address, target.app);
        let object =
            Value::Object(vec![("app".into(), text(&target.app)), ("tcUrl".into(), text(&url))]);
        client.command(0, "connect", 1.0, object, Vec::new()).await?;
        client.result(1.0).await?;
        client.command(0, "createStream", 2.0, Value::Null, Vec::new()).await?;
        client.result(2.0).await?;
        client.command(STREAM, method, 3.0, Value::Null, words).await?;
        Ok(client)
    }

    async fn command(
        &mut self,
        stream: u32,
        name: &str,
        transaction: f64,
        object: Value,
        arguments: Vec<Value>,
    ) -> Result<()> {
        let command = Command { name: name.to_owned(), transaction, object, arguments };
        self.send(3, message_type::COMMAND, stream, 0, &command.encode()).await
    }

    async fn send(
        &mut self,
        chunk_stream: u8,
        type_id: u8,
        stream_id: u32,
        timestamp: u32,
        payload: &[u8],
    ) -> Result<()> {
        let message = Message { timestamp, type_id, stream_id, payload: payload.to_vec().into() };
        let mut bytes = Vec::new();
        let size = if type_id == message_type::SET_CHUNK_SIZE { 128 } else { CHUNK_SIZE };
        encode_message(&mut bytes, chunk_stream, &message, size);
        Ok(self.stream.write_all(&bytes).await?)
    }

    /// Sends a media message.
    pub(crate) async fn media(&mut self, type_id: u8, timestamp: u32, body: &[u8]) -> Result<()> {
        self.send(type_id.min(9) - 3, type_id, STREAM, timestamp, body).await
    }

    async fn result(&mut self, transaction: f64) -> Result<()> {
        loop {
            let Some(command) = self.next_command().await? else { continue };
            if command.transaction == transaction {
                ensure!(command.name == "_result", "{command:?}");
                return Ok(());
            }
        }
    }

    async fn status(&mut self, code: &str) -> Result<()> {
        loop {
            let Some(command) = self.next_command().await? else { continue };
            let said = command.arguments.first().and_then(|said| said.get("code"));
            if said.and_then(Value::as_str) == Some(code) {
                return Ok(());
            }
        }
    }

    async fn next_command(&mut self) -> Result<Option<Command>> {
        let message = self.next().await?;
        Ok(match message.type_id {
            message_type::COMMAND => Some(Command::parse(&message.payload)?),
            _ => None,
        })
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> Result<Message> {
        loop {
            let mut input = &self.held[..];
            let message = self.reader.read(&mut input)?;
            self.held = input.to_vec();
            if let Some(message) = message {
                if message.type_id == message_type::SET_CHUNK_SIZE {
                    let size = message.payload.first_chunk().context("no size")?;
                    self.reader.set_chunk_size(u32::from_be_bytes(*size))?;
                }
                return Ok(message);
            }
            let mut buffer = [0; 64 * 1024];
            let read = self.stream.read(&mut buffer).await?;
            ensure!(read > 0, "the server closed the connection");
            self.held.extend_from_slice(&buffer[..read]);
        }
    }

    /// Reads and discards everything until the server closes.
    pub(crate) async fn discard(mut self) -> Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        while self.stream.read(&mut buffer).await? > 0 {}
        Ok(())
    }
}
