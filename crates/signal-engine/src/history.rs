//! The history of a call, to find out later why a member did not see another. Comes in and goes out: plain values of a
//! stable format, one timeline for each channel: events (`event`) and the steps between them. Deliberately absent:
//! secrets; when an entry is written (`channel/history`, `channel/quality`); how long it is kept (the shell).

use lianmai_protocol::message::notice::Direction;
use lianmai_protocol::{Cid, Gen, MediaKind, Mid, UserId, WallTime};
use serde::{Deserialize, Serialize};

use crate::event::Event;

/// One entry of the timeline of a channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryRecord {
    /// When it happened.
    pub at: WallTime,
    /// The incarnation of the channel.
    pub cid: Cid,
    /// The content.
    #[serde(flatten)]
    pub entry: HistoryEntry,
}

impl HistoryRecord {
    /// The member that it is about, and the other one involved: the publisher of played media, or the muting moderator.
    #[must_use]
    pub fn uids(&self) -> (Option<UserId>, Option<UserId>) {
        match &self.entry {
            HistoryEntry::Event(event) => (event.uid(), None),
            HistoryEntry::Step(step) => step.uids(),
        }
    }
}

/// The content of an entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum HistoryEntry {
    /// An event, as in the journal.
    Event(Event),
    /// A step between events.
    Step(HistoryStep),
}

impl HistoryEntry {
    /// Its name, as it is written.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            HistoryEntry::Event(event) => event.kind(),
            HistoryEntry::Step(step) => step.kind(),
        }
    }
}

/// A step of a call that is not in the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum HistoryStep {
    /// The server restarted, and the channel continues.
    Restarted,
    /// A member has a connection again.
    Connected {
        /// The user.
        uid: UserId,
        /// The membership.
        mid: Mid,
    },
    /// A member has lost its connection. The membership goes on for a while.
    Disconnected {
        /// The user.
        uid: UserId,
        /// The membership.
        mid: Mid,
    },
    /// A `join` was refused.
    JoinRefused {
        /// The user, if it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid: Option<UserId>,
        /// The error.
        error: String,
    },
    /// A command about media was refused.
    CommandRefused {
        /// The user.
        uid: UserId,
        /// The membership.
        mid: Mid,
        /// The command.
        method: String,
        /// The error.
        error: String,
    },
    /// A member subscribed to a kind.
    Subscribed {
        /// The user.
        uid: UserId,
        /// The membership.
        mid: Mid,
        /// The publisher.
        of: UserId,
        /// Which kind.
        media_type: MediaKind,
    },
    /// A subscription of a member ended.
    Unsubscribed {
        /// The user.
        uid: UserId,
        /// The membership.
        mid: Mid,
        /// The publisher.
        of: UserId,
        /// Which kind.
        media_type: MediaKind,
    },
    /// A URL was issued.
    UrlIssued {
        /// The user.
        uid: UserId,
        /// The membership.
        mid: Mid,
        /// To push or to play.
        direction: Direction,
        /// The publisher, for a play.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<UserId>,
        /// The stream.
        stream: Gen,
    },
    /// The server let a push or play begin.
    MediaAllowed {
        /// The user.
        uid: UserId,
        /// The membership.
        mid: Mid,
        /// Push or play.
        direction: Direction,
        /// The publisher, for a play.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<UserId>,
        /// The stream.
        stream: Gen,
    },
    /// The server refused a play.
    MediaRefused {
        /// The user, if it is a member.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid: Option<UserId>,
        /// The membership that the URL was issued to.
        mid: Mid,
        /// The publisher.
        of: UserId,
        /// The stream.
        stream: Gen,
        /// Why.
        error: String,
    },
    /// The relay accepted a publisher of the stream.
    PushBegan {
        /// The user.
        uid: UserId,
        /// The membership.
        mid: Mid,
        /// The stream.
        stream: Gen,
    },
    /// The publisher is connected and sends nothing.
    PushStalled {
        /// The user.
        uid: UserId,
        /// The membership.
        mid: Mid,
        /// The stream.
        stream: Gen,
    },
    /// The publisher disconnected. It may come back with the same URL.
    PushEnded {
        /// The user.
        uid: UserId,
        /// The membership.
        mid: Mid,
        /// The stream.
        stream: Gen,
    },
    /// The server ended the push, and every play of the stream.
    PushCut {
        /// The user.
        uid: UserId,
        /// The membership.
        mid: Mid,
        /// The stream.
        stream: Gen,
    },
    /// A player disconnected. It may come back with the same URL.
    PlayEnded {
        /// The user.
        uid: UserId,
        /// The membership.
        mid: Mid,
        /// The publisher.
        of: UserId,
        /// The stream.
        stream: Gen,
    },
    /// The server ended a play.
    PlayCut {
        /// The user.
        uid: UserId,
        /// The membership.
        mid: Mid,
        /// The publisher.
        of: UserId,
        /// The stream.
        stream: Gen,
    },
    /// A member muted a kind, or was muted.
    Muted {
        /// The user.
        uid: UserId,
        /// The membership.
        mid: Mid,
        /// Which kind.
        media_type: MediaKind,
        /// The moderator, if it was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<UserId>,
    },
    /// A member unmuted a kind, or was unmuted.
    Unmuted {
        /// The user.
        uid: UserId,
        /// The membership.
        mid: Mid,
        /// Which kind.
        media_type: MediaKind,
        /// The moderator, if it was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<UserId>,
    },
    /// Figures of a push or play over about a minute.
    Quality(Box<Quality>),
    /// Members were told another level of quality.
    LevelChanged {
        /// The member that plays, or pushes.
        uid: UserId,
        /// Push or play.
        direction: Direction,
        /// The publisher, for a play.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<UserId>,
        /// 1 excellent to 5 bad, 6 down.
        level: u8,
    },
    /// Steps of one member that were left out, because there were too many.
    Missed {
        /// The user; absent for steps of non-members.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid: Option<UserId>,
        /// Number of the steps.
        count: u32,
    },
}

impl HistoryStep {
    /// Its name, as it is written.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            HistoryStep::Restarted => "restarted",
            HistoryStep::Connected { .. } => "connected",
            HistoryStep::Disconnected { .. } => "disconnected",
            HistoryStep::JoinRefused { .. } => "joinRefused",
            HistoryStep::CommandRefused { .. } => "commandRefused",
            HistoryStep::Subscribed { .. } => "subscribed",
            HistoryStep::Unsubscribed { .. } => "unsubscribed",
            HistoryStep::UrlIssued { .. } => "urlIssued",
            HistoryStep::MediaAllowed { .. } => "mediaAllowed",
            HistoryStep::MediaRefused { .. } => "mediaRefused",
            HistoryStep::PushBegan { .. } => "pushBegan",
            HistoryStep::PushStalled { .. } => "pushStalled",
            HistoryStep::PushEnded { .. } => "pushEnded",
            HistoryStep::PushCut { .. } => "pushCut",
            HistoryStep::PlayEnded { .. } => "playEnded",
            HistoryStep::PlayCut { .. } => "playCut",
            HistoryStep::Muted { .. } => "muted",
            HistoryStep::Unmuted { .. } => "unmuted",
            HistoryStep::Quality(_) => "quality",
            HistoryStep::LevelChanged { .. } => "levelChanged",
            HistoryStep::Missed { .. } => "missed",
        }
    }

    fn uids(&self) -> (Option<UserId>, Option<UserId>) {
        match self {
            HistoryStep::Restarted => (None, None),
            HistoryStep::Connected { uid, .. }
            | HistoryStep::Disconnected { uid, .. }
            | HistoryStep::CommandRefused { uid, .. }
            | HistoryStep::PushBegan { uid, .. }
            | HistoryStep::PushStalled { uid, .. }
            | HistoryStep::PushEnded { uid, .. }
            | HistoryStep::PushCut { uid, .. } => (Some(*uid), None),
            HistoryStep::Muted { uid, by, .. } | HistoryStep::Unmuted { uid, by, .. } => {
                (Some(*uid), *by)
            }
            HistoryStep::Subscribed { uid, of, .. }
            | HistoryStep::Unsubscribed { uid, of, .. }
            | HistoryStep::PlayEnded { uid, of, .. }
            | HistoryStep::PlayCut { uid, of, .. } => (Some(*uid), Some(*of)),
            HistoryStep::UrlIssued { uid, of, .. }
            | HistoryStep::MediaAllowed { uid, of, .. }
            | HistoryStep::LevelChanged { uid, of, .. } => (Some(*uid), *of),
            HistoryStep::MediaRefused { uid, of, .. } => (*uid, Some(*of)),
            HistoryStep::JoinRefused { uid, .. } | HistoryStep::Missed { uid, .. } => (*uid, None),
            HistoryStep::Quality(quality) => (Some(quality.uid), quality.of),
        }
    }
}

/// Figures of a push or play.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quality {
    /// The member that pushes, or plays.
    pub uid: UserId,
    /// The membership.
    pub mid: Mid,
    /// Push or play.
    pub direction: Direction,
    /// The publisher, for a play.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<UserId>,
    /// The stream.
    pub stream: Gen,
    /// What the stream carries: `av`, `screenShare` or `slaveAudio`.
    pub carries: String,
    /// When the window began.
    pub from: WallTime,
    /// Figures that the server measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerFigures>,
    /// Figures that the client's media component reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientFigures>,
}

/// The mean of some figures, and their range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FigureRange {
    /// The least.
    pub least: u64,
    /// The mean.
    pub mean: u64,
    /// The most.
    pub most: u64,
}

/// Figures that the server measured of a push or play.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServerFigures {
    /// kbit/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kbps: Option<FigureRange>,
    /// Frames per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fps: Option<FigureRange>,
    /// The longest time between two keyframes, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keyframe_ms: Option<u64>,
    /// Number of gaps of half a second or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gaps: Option<u64>,
    /// The longest gap, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest_gap_ms: Option<u64>,
    /// Age of the oldest data that waits for the player, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_ms: Option<FigureRange>,
    /// Codec of the sound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio: Option<String>,
    /// Codec of the picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video: Option<String>,
}

/// Figures that a client's media component reported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientFigures {
    /// Number of reports.
    pub reports: u64,
    /// kbit/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kbps: Option<FigureRange>,
    /// Frames per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fps: Option<FigureRange>,
    /// Round trips in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<FigureRange>,
    /// The worst level: 1 excellent to 5 bad, 6 down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worst_level: Option<u8>,
    /// Codes of its states and errors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<Code>,
}

/// A code of a component, and how often it was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// The code.
    pub code: i64,
    /// Number of reports with it.
    pub count: u64,
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: the format of entries.

    use super::*;

    fn read_again(entry: HistoryEntry) -> String {
        let kind = entry.kind();
        let record = HistoryRecord { at: WallTime(4), cid: Cid(5), entry };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<HistoryRecord>(&text).unwrap(), record, "{text}");
        assert!(text.contains(&format!(r#""type":"{kind}""#)), "{text}");
        text
    }

    #[test]
    fn an_entry_reads_as_it_was_written() {
        let (uid, mid) = (UserId(u64::MAX), Mid([1; 12]));
        let stream = Gen { route: 7, random: [2; 12] };
        let text = read_again(HistoryEntry::Event(Event::ChannelOpened));
        assert_eq!(text, r#"{"at":4,"cid":"5","type":"channelOpened"}"#);
        let (of, direction) = (Some(UserId(7)), Direction::Pull);
        let text = read_again(HistoryEntry::Step(HistoryStep::UrlIssued {
            uid,
            mid,
            direction,
            of,
            stream,
        }));
        assert!(text.contains(r#""of":"7""#) && text.contains(r#""direction":"pull""#), "{text}");
        let media_type = MediaKind::ScreenShare;
        let text =
            read_again(HistoryEntry::Step(HistoryStep::Muted { uid, mid, media_type, by: None }));
        assert!(text.contains(r#""mediaType":"screenShare""#), "{text}");
        let quality = Quality {
            uid,
            mid,
            direction: Direction::Push,
            of: None,
            stream,
            carries: "av".to_owned(),
            from: WallTime(3),
            server: Some(ServerFigures {
                kbps: Some(FigureRange { least: 1, mean: 2, most: 3 }),
                longest_gap_ms: Some(4),
                ..ServerFigures::default()
            }),
            client: Some(ClientFigures {
                reports: 1,
                codes: vec![Code { code: -1307, count: 2 }],
                ..ClientFigures::default()
            }),
        };
        let text = read_again(HistoryEntry::Step(HistoryStep::Quality(Box::new(quality))));
        assert!(text.contains(r#""longestGapMs":4"#) && text.contains("-1307"), "{text}");
    }

    #[test]
    fn an_entry_names_its_uids() {
        let (uid, mid) = (UserId(1), Mid([1; 12]));
        let record = |entry| HistoryRecord { at: WallTime(1), cid: Cid(1), entry };
        let media_type = MediaKind::Audio;
        let step = HistoryStep::Subscribed { uid, mid, of: UserId(2), media_type };
        assert_eq!(record(HistoryEntry::Step(step)).uids(), (Some(UserId(1)), Some(UserId(2))));
        let role = lianmai_protocol::Role::Audience;
        let joined = Event::MemberJoined { uid, mid, role };
        assert_eq!(record(HistoryEntry::Event(joined)).uids(), (Some(UserId(1)), None));
        assert_eq!(record(HistoryEntry::Event(Event::ChannelEnded)).uids(), (None, None));
    }
}
