//! Proves no rule of the protocol: the sum of what all shards answer, and commands to all of them.

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

#[tokio::test]
async fn an_error_of_one_shard_does_not_keep_a_command_from_the_others() {
    let (shards, mailboxes) = Shards::new(2);
    let command = AdminCommand::LiftBansBy {
        appkey: "demo".parse().unwrap(),
        by: lianmai_protocol::UserId(1),
    };
    let asking = tokio::spawn(async move { shards.ask_all(&command).await });
    let replies = [Err(ErrorName::NotStored.into()), Ok(AdminReply::Lifted(1))];
    for (mut mailbox, reply) in mailboxes.into_iter().zip(replies) {
        let message = mailbox.recv().await;
        let Some(ShardMsg::Admin { answer, .. }) = message else { panic!("it was not asked") };
        answer.send(reply).unwrap();
    }
    let error = asking.await.unwrap().unwrap_err();
    assert_eq!(*error.name(), ErrorName::NotStored);
}
