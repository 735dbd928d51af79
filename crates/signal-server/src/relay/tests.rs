//! Proves URL-6.

use std::net::SocketAddr;
use std::sync::Arc;

use lianmai_media_plane::{Direction, Hub, Protocol, RelayConfig, StreamRequest};
use lianmai_protocol::{Gen, KindSet, Mid, UserId};
use lianmai_signal_engine::{Access, Allowed, MintRequest};

use super::authorizer::RelayAuthorizer;
use super::provider::EmbeddedRelay;
use crate::clock::wall_now;
use crate::media::{MediaProvider, Minting};
use crate::shard::{ShardMsg, Shards};
use crate::signing::{MEDIA_APP, UrlBases, UrlSigner};

/// The request of a play with this URL.
fn play(url: &str) -> StreamRequest {
    let (path, query) = url.split_once('?').unwrap();
    let stream = path.rsplit('/').next().unwrap();
    let peer = SocketAddr::from(([127, 0, 0, 1], 9));
    StreamRequest::new(Direction::Play, MEDIA_APP, stream, query, Protocol::Rtmp, peer)
}

/// While the engine is asked, the URL is all that is known about a play. A cut in this time must still end the play.
#[tokio::test]
async fn a_cut_ends_a_play_that_waits_for_admission() {
    let bases = UrlBases {
        push: "rtmp://host/live".to_owned(),
        pull_rtmp: "rtmp://host/live".to_owned(),
        pull_flv: "http://host/live".to_owned(),
        rtmps: None,
        prefer_rtmps: false,
    };
    let hub = Hub::new(RelayConfig::default());
    let relay = EmbeddedRelay::new(
        UrlSigner::new(&[7; 32], bases, 60),
        hub.clone(),
        ([0, 0, 0, 0], 1935).into(),
    );
    let (shards, mut mailboxes) = Shards::new(1);
    let authorizer = Arc::new(RelayAuthorizer::new(relay.clone(), shards));
    let generation: Gen = "66tfjgvq6kbnxjbtfqxkwovomm".parse().unwrap();
    let [one, other]: [Mid; 2] =
        ["j72ceuvw75efr6edt4sq", "ujzdegxdncf32epf3dha"].map(|mid| mid.parse().unwrap());
    let mut plays = Vec::new();
    let mut answers = Vec::new();
    for viewer in [one, other] {
        let request =
            MintRequest { appkey: "demo".parse().unwrap(), generation, viewer: Some(viewer) };
        let Minting::Ready(Some(minted)) = relay.mint(&request, wall_now()) else {
            panic!("no URL")
        };
        let (hub, authorizer) = (hub.clone(), authorizer.clone());
        let asked = play(&minted.url);
        plays.push(tokio::spawn(async move { hub.play(&*authorizer, asked).await.map(drop) }));
        let Some(ShardMsg::Authorize { generation: of, access, answer }) =
            mailboxes[0].recv().await
        else {
            panic!("expected an authorization request")
        };
        assert_eq!((of, access), (generation, Access::Play { viewer }));
        answers.push(answer);
    }
    relay.cut_viewer(generation, one);
    for answer in answers {
        // The play that was cut does not receive its answer.
        let (appkey, uid) = ("demo".parse().unwrap(), UserId::from(7));
        let _ = answer.send(Ok(Allowed { appkey, uid, kinds: KindSet::AUDIO_VIDEO }));
    }
    let other = plays.pop().unwrap().await.unwrap();
    assert!(other.is_ok(), "{other:?}");
    assert_eq!(plays.pop().unwrap().await.unwrap().unwrap_err().code, "cut");
}
