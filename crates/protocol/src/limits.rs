//! Every maximum of the protocol beyond which a request is refused (LIM-1). A deployment may change the values of
//! [`Limits`]; the constants are fixed because both sides rely on them. Deliberately absent: bounds of queues and
//! buffers that drop or wait (as RES-8), which are constants beside their queue.

/// Longest client-to-server frame in bytes.
pub const MAX_CLIENT_FRAME_BYTES: usize = 64 * 1024;
/// Longest server-to-client frame in bytes: the largest snapshot fits, see [`Limits::snapshot_bytes`].
pub const MAX_SERVER_FRAME_BYTES: usize = 1024 * 1024;
/// Deepest nesting of JSON arrays and objects.
pub const MAX_JSON_DEPTH: usize = 32;
/// Most elements of one frame that is an array (FRM-6).
pub const MAX_BATCH: usize = 32;
/// Most commands of one session without an answer (IDS-5).
pub const MAX_IN_FLIGHT: usize = 32;
/// Longest channel name in bytes.
pub const MAX_CHANNEL_NAME_BYTES: usize = 64;
/// Longest appkey in bytes.
pub const MAX_APPKEY_BYTES: usize = 64;
/// Longest task id in bytes.
pub const MAX_TASK_ID_BYTES: usize = 64;
/// Longest display name of a member in bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// Longest free-text reason (kick, closeChannel) in bytes.
pub const MAX_REASON_BYTES: usize = 256;
/// Longest token or ticket in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// Greatest request id: integers above it are not exact in JavaScript.
pub const MAX_REQUEST_ID: u64 = (1 << 53) - 1;
/// Longest ban in seconds that `kick` accepts: 7 days (KIC-2).
pub const MAX_BAN_S: u32 = 7 * 24 * 3600;
/// Longest hold in seconds that `closeChannel` accepts.
pub const MAX_HOLD_S: u32 = 3600;
/// Most keys of one attribute map.
pub const MAX_ATTRIBUTE_KEYS: usize = 64;
/// Most keys of a patch of attributes: as many to remove as to set (ATT-4).
pub const MAX_PATCH_KEYS: usize = 2 * MAX_ATTRIBUTE_KEYS;
/// Longest attribute key in bytes.
pub const MAX_ATTRIBUTE_KEY_BYTES: usize = 64;
/// Most recipients of a targeted message.
pub const MAX_MESSAGE_RECIPIENTS: usize = 64;

/// Longest `data` of a `report` in bytes of JSON.
pub const MAX_REPORT_BYTES: usize = 4 * 1024;

/// Longest URL in a push task in bytes.
pub const MAX_TASK_URL_BYTES: usize = 2 * 1024;
/// Longest `extraInfo` of a push task in bytes.
pub const MAX_EXTRA_INFO_BYTES: usize = 1024;
/// Most members that a push task shows.
pub const MAX_TASK_VIDEOS: usize = 7;
/// Most members in the layout of a push task, those that are only heard included.
pub const MAX_TASK_USERS: usize = 21;
/// Most images in the layout of a push task.
pub const MAX_TASK_IMAGES: usize = 8;
/// Longest side of the canvas of a push task in pixels.
pub const MAX_CANVAS_SIDE: u32 = 1920;

/// Limits of one deployment. Each has its own error when it is hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most members of a channel, audience included (`channelFull`).
    pub members: usize,
    /// Most broadcasters of a channel (`tooManyBroadcasters`).
    pub broadcasters: usize,
    /// Most channels of one shard (`tooManyChannels`).
    pub channels: usize,
    /// Most subscriptions of one member (`tooManySubscriptions`).
    pub subscriptions: usize,
    /// Most push tasks of a channel (`taskLimitExceeded`).
    pub tasks: usize,
    /// Most bytes of one attribute map as JSON (`attributesTooLarge`).
    pub attribute_bytes: usize,
    /// Most bytes of the names and attributes of all broadcasters of a channel as JSON (`attributesTooLarge`), so that
    /// a snapshot fits into a frame. The audience has the same amount of its own.
    pub channel_attribute_bytes: usize,
    /// Most bytes of a message's `data` as JSON (`messageTooLarge`).
    pub message_bytes: usize,
    /// Commands per second of one session in the long run (`rateLimited`).
    pub commands_per_second: u32,
    /// Commands that may come in one burst.
    pub command_burst: u32,
    /// Bytes per second of all events of a channel in the long run. Beyond that the members that cause the most bytes
    /// are `rateLimited` first.
    pub channel_bytes_per_second: u32,
    /// Most bans, holds and demotions of one shard (`tooManyBans`); apps and moderators have shares of it.
    pub bans: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            members: 10_000,
            broadcasters: 2_000,
            channels: 100_000,
            subscriptions: 256,
            tasks: 6,
            attribute_bytes: 4 * 1024,
            channel_attribute_bytes: 192 * 1024,
            message_bytes: 8 * 1024,
            commands_per_second: 20,
            command_burst: 40,
            channel_bytes_per_second: 2 * 1024 * 1024,
            bans: 100_000,
        }
    }
}

/// Longest encoding of a broadcaster in a snapshot without its name and attributes: a uid of 20 digits, both kinds
/// muted, four streams.
const MEMBER_BYTES: usize = 364;
/// Longest encoding of a push task in a snapshot.
const TASK_BYTES: usize = 256;
/// Longest encoding of the rest of a snapshot, without names and attributes.
const SNAPSHOT_REST_BYTES: usize = 16 * 1024;

impl Limits {
    /// Bytes of the largest snapshot that these limits permit; at most [`MAX_SERVER_FRAME_BYTES`].
    #[must_use]
    pub fn snapshot_bytes(&self) -> usize {
        // A subscription of the receiver takes no more space than a stream.
        let subscriptions = self.subscriptions.saturating_mul(96);
        // The receiver's name and attributes occur twice, and the channel has attributes of its own.
        let own = self.attribute_bytes.saturating_mul(2).saturating_add(6 * MAX_NAME_BYTES);
        self.broadcasters
            .saturating_mul(MEMBER_BYTES)
            .saturating_add(self.channel_attribute_bytes)
            .saturating_add(own)
            .saturating_add(self.tasks.saturating_mul(TASK_BYTES))
            .saturating_add(subscriptions)
            .saturating_add(SNAPSHOT_REST_BYTES)
    }
}
