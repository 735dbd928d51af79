//! One play from an upstream.
//!
//! In: an [`UpstreamUrl`]. Out: media in order, or why the play ended. Absent: another attempt; a queue beyond one
//! read. Media that the caller does not take stays in the socket.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use tokio::time::timeout;

use super::connect::connect;
use super::publishing::seed;
use super::{UpstreamError, UpstreamOptions, UpstreamUrl};
use crate::rtmp::{Answer, Client, ClientEvent, ClientOutput, MediaKind};
use crate::wire::{Wire, WriteQueue};

/// Bytes read at once.
const READ_BYTES: usize = 32 << 10;

/// A play that an upstream has accepted. Dropping it closes the connection.
#[derive(Debug)]
pub struct UpstreamPlay {
    wire: Wire,
    client: Client,
    out: WriteQueue,
    buffer: Vec<u8>,
    options: UpstreamOptions,
    media: VecDeque<(MediaKind, u32, Bytes)>,
    accepted: bool,
}

impl UpstreamPlay {
    /// Connects and requests the stream.
    ///
    /// # Errors
    /// [`UpstreamError`], at the latest after [`UpstreamOptions::connect_timeout`].
    pub async fn play(url: &UpstreamUrl, options: &UpstreamOptions) -> Result<Self, UpstreamError> {
        timeout(options.connect_timeout, Self::opened(url, options))
            .await
            .unwrap_or(Err(UpstreamError::Timeout))
    }

    async fn opened(url: &UpstreamUrl, options: &UpstreamOptions) -> Result<Self, UpstreamError> {
        let mut play = Self {
            wire: connect(url, options).await?,
            client: Client::player(url.target().clone(), seed()),
            out: WriteQueue::default(),
            buffer: vec![0; READ_BYTES],
            options: options.clone(),
            media: VecDeque::new(),
            accepted: false,
        };
        play.pump()?;
        while !play.accepted {
            play.exchange().await?;
        }
        Ok(play)
    }

    /// The next audio or video message: its kind, its timestamp in milliseconds, and its FLV tag body. Cancel safe.
    ///
    /// # Errors
    /// [`UpstreamError`] if the play has ended.
    pub async fn next(&mut self) -> Result<(MediaKind, u32, Bytes), UpstreamError> {
        loop {
            if let Some(media) = self.media.pop_front() {
                return Ok(media);
            }
            self.exchange().await?;
        }
    }

    async fn exchange(&mut self) -> Result<(), UpstreamError> {
        // Only acknowledgements and answers to pings: few bytes.
        self.out.flush(&mut self.wire, self.options.write_timeout).await.map_err(broken)?;
        match self.wire.read(&mut self.buffer).await.map_err(UpstreamError::Broken)? {
            0 => Err(UpstreamError::Broken(io::ErrorKind::UnexpectedEof.into())),
            count => {
                let result = self.client.input(&self.buffer[..count]);
                self.pump()?;
                Ok(result?)
            }
        }
    }

    fn pump(&mut self) -> Result<(), UpstreamError> {
        while let Some(output) = self.client.next_output() {
            match output {
                ClientOutput::Send(bytes) => self.out.push(bytes),
                ClientOutput::Event(ClientEvent::Accepted) => self.accepted = true,
                ClientOutput::Event(ClientEvent::Media { kind, timestamp, payload }) => {
                    self.media.push_back((kind, timestamp, payload));
                }
                ClientOutput::Event(ClientEvent::Refused(answer)) => {
                    return Err(UpstreamError::Refused(answer));
                }
                ClientOutput::Event(ClientEvent::Closed(answer)) => {
                    return Err(UpstreamError::Closed(answer));
                }
                ClientOutput::Close => {
                    let (code, description) = (String::new(), String::new());
                    return Err(UpstreamError::Closed(Answer { code, description }));
                }
            }
        }
        Ok(())
    }
}

fn broken(error: io::Error) -> UpstreamError {
    if error.kind() == io::ErrorKind::TimedOut {
        UpstreamError::Stalled
    } else {
        UpstreamError::Broken(error)
    }
}
