//! The client of another library, `rml_rtmp`, against this server, without I/O.
//! Proves no rule of the protocol: RTMP.

use bytes::Bytes;
use lianmai_media_plane::rtmp::{Event, MediaKind, Output, Session};
use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use rml_rtmp::sessions::{
    ClientSession, ClientSessionConfig, ClientSessionEvent, ClientSessionResult, PublishRequestType,
};
use rml_rtmp::time::RtmpTimestamp;

use crate::support::*;

/// A client and a server that exchange bytes in memory, and the events of both.
struct Pair {
    client: ClientSession,
    server: Session,
    client_events: Vec<ClientSessionEvent>,
    server_events: Vec<Event>,
}

impl Pair {
    fn connected() -> Self {
        let mut server = session();
        let mut handshake = Handshake::new(PeerType::Client);
        let mut to_server = handshake.generate_outbound_p0_and_p1().unwrap();
        let left = loop {
            server.input(&to_server).unwrap();
            let mut outcome = Outcome::default();
            outcome.drain(&mut server);
            match handshake.process_bytes(&outcome.sent).unwrap() {
                HandshakeProcessResult::InProgress { response_bytes } => to_server = response_bytes,
                HandshakeProcessResult::Completed { response_bytes, remaining_bytes } => {
                    server.input(&response_bytes).unwrap();
                    break remaining_bytes;
                }
            }
        };
        let (client, first) = ClientSession::new(ClientSessionConfig::new()).unwrap();
        let mut pair = Self { client, server, client_events: vec![], server_events: vec![] };
        pair.results(first);
        let results = pair.client.handle_input(&left).unwrap();
        pair.results(results);
        let request = pair.client.request_connection("live".into()).unwrap();
        pair.results(vec![request]);
        assert!(pair.client_events.contains(&ClientSessionEvent::ConnectionRequestAccepted));
        pair
    }

    /// Passes the client's results to the server and the answers back, until neither side has any.
    fn results(&mut self, mut results: Vec<ClientSessionResult>) {
        while !results.is_empty() {
            for result in std::mem::take(&mut results) {
                match result {
                    ClientSessionResult::OutboundResponse(packet) => {
                        self.server.input(&packet.bytes).unwrap()
                    }
                    ClientSessionResult::RaisedEvent(event) => self.client_events.push(event),
                    ClientSessionResult::UnhandleableMessageReceived(_) => {}
                }
            }
            while let Some(output) = self.server.next_output() {
                match output {
                    Output::Send(bytes) => {
                        results.extend(self.client.handle_input(&bytes).unwrap())
                    }
                    Output::Event(event) => {
                        if matches!(event, Event::Request(_)) {
                            self.server.accept().unwrap();
                        }
                        self.server_events.push(event);
                    }
                    Output::Close => panic!("closed"),
                }
            }
        }
    }
}

#[test]
fn it_publishes() {
    let mut pair = Pair::connected();
    let request = pair.client.request_publishing("a?x=1".into(), PublishRequestType::Live).unwrap();
    pair.results(vec![request]);
    assert!(pair.client_events.contains(&ClientSessionEvent::PublishRequestAccepted));
    let body = Bytes::from(vec![0x17; 20_000]);
    for timestamp in [0, 40, 80, 0x0100_0000] {
        let video = pair
            .client
            .publish_video_data(body.clone(), RtmpTimestamp::new(timestamp), false)
            .unwrap();
        pair.results(vec![video]);
    }
    let video =
        |timestamp| Event::Media { kind: MediaKind::Video, timestamp, payload: body.clone() };
    assert_eq!(pair.server_events[1..], [0, 40, 80, 0x0100_0000].map(video));
    let stop = pair.client.stop_publishing().unwrap();
    pair.results(stop);
    assert_eq!(pair.server_events.last(), Some(&Event::Stopped));
}

#[tokio::test]
async fn it_plays_what_the_hub_encodes() {
    use lianmai_media_plane::{Direction, Hub, RelayConfig};
    let hub = Hub::new(RelayConfig::default());
    let player = hub.play(&allow(), request(Direction::Play, "a", "")).await.unwrap();
    let publisher = hub.publish(&allow(), request(Direction::Publish, "a", "")).await.unwrap();
    let body = [&[0x12, 1][..], &[5; 20_000]].concat();
    for timestamp in [0x00FF_FF00, 0x00FF_FFFF, 0x0100_0000] {
        publisher.send(MediaKind::Video, timestamp, &body).unwrap();
    }
    let mut batch = Vec::new();
    player.next(&mut batch, 64).await.unwrap();

    let mut pair = Pair::connected();
    let request = pair.client.request_playback("a".into()).unwrap();
    pair.results(vec![request]);
    assert!(pair.client_events.contains(&ClientSessionEvent::PlaybackRequestAccepted));
    pair.client_events.clear();
    for packet in &batch {
        let results = pair.client.handle_input(packet.rtmp()).unwrap();
        pair.results(results);
    }
    let times: Vec<_> = pair
        .client_events
        .iter()
        .map(|event| match event {
            ClientSessionEvent::VideoDataReceived { data, timestamp } => {
                assert_eq!(data, &body);
                timestamp.value
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(times, [0x00FF_FF00, 0x00FF_FFFF, 0x0100_0000]);
}
