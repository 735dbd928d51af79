//! Proves no rule of the protocol: the sum of what all shards answer.

use super::*;

/// Two shards that answer all messages with `answer`.
fn shards(answer: impl Fn(u64, ShardMsg) + Copy + Send + 'static) -> Shards {
    let (shards, mailboxes) = Shards::new(2);
    for (number, mut mailbox) in (1..).zip(mailboxes) {
        tokio::spawn(async move {
            while let Some(message) = mailbox.recv().await {
                answer(number, message);
            }
        });
    }
    shards
}

fn stats(times: u64) -> Stats {
    let size = |number: u64| usize::try_from(number * times).unwrap();
    Stats {
        channels: size(1),
        members: size(2),
        connected: size(3),
        streams: size(4),
        log_bytes: size(5),
        message_bytes: size(6),
        events: 7 * times,
        frames: 8 * times,
        commands: 9 * times,
        refusals: 10 * times,
        waiting_plays: size(11),
    }
}

#[tokio::test]
async fn statistics_are_summed_over_all_shards() {
    let shards = shards(|number, message| {
        let ShardMsg::Stats(answer) = message else { panic!("expected a request for statistics") };
        answer.send(stats(number)).unwrap();
    });
    assert_eq!(shards.stats().await, Some(stats(3)));
}
