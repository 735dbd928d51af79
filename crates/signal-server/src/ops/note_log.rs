//! Log lines about the notes of the engines. Names are escaped, as `Debug` text. Deliberately absent: secrets; notes
//! hold none.

use lianmai_media_plane::LogLimiter;
use lianmai_protocol::{CloseCode, ErrorName};
use lianmai_signal_engine::Note;
use tracing::{Level, debug, info, warn};

use super::peer_addresses::{NoteAddresses, PeerAddresses};
use crate::notes::NoteReader;

/// Logs notes until the last sender of notes is dropped, within the log limit of each address. Notes without a known
/// address share one limit.
pub(crate) async fn log(mut notes: NoteReader, lines: LogLimiter, peers: PeerAddresses) {
    let mut addresses = NoteAddresses::new(peers);
    while let Some(note) = notes.next().await {
        let origin = addresses.of(&note);
        let is_loud = level(&note) < Level::DEBUG;
        if !is_loud || origin.map_or_else(|| lines.allow_any(), |address| lines.allow(address)) {
            line(&note);
        }
    }
}

/// The level of a note. Debug lines have no limit.
fn level(note: &Note) -> Level {
    match note {
        Note::JoinRefused { .. } | Note::CommandRefused { error: ErrorName::Forbidden, .. } => {
            Level::WARN
        }
        Note::CommandRefused { .. } | Note::Closing { code: CloseCode::NORMAL, .. } => Level::DEBUG,
        _ => Level::INFO,
    }
}

fn line(note: &Note) {
    match note {
        Note::ChannelOpened { channel, cid } => {
            info!(appkey = %channel.appkey, channel = ?channel.name.as_str(), %cid, "channel opened");
        }
        Note::ChannelEnded { channel, cid } => {
            info!(appkey = %channel.appkey, channel = ?channel.name.as_str(), %cid, "channel ended");
        }
        Note::MemberJoined { channel, cid, uid, mid, role, conn } => {
            info!(appkey = %channel.appkey, channel = ?channel.name.as_str(), %cid, %uid, %mid, %role, conn = conn.0, "joined");
        }
        Note::MemberLeft { channel, cid, uid, mid, reason } => {
            info!(appkey = %channel.appkey, channel = ?channel.name.as_str(), %cid, %uid, %mid, %reason, "left");
        }
        Note::RoleChanged { channel, cid, uid, mid, role } => {
            info!(appkey = %channel.appkey, channel = ?channel.name.as_str(), %cid, %uid, %mid, %role, "role changed");
        }
        Note::StreamAdded { channel, cid, uid, mid, kind, publication } => {
            info!(appkey = %channel.appkey, channel = ?channel.name.as_str(), %cid, %uid, %mid, %kind, %publication, "published");
        }
        Note::StreamRemoved { channel, cid, uid, mid, kind, publication } => {
            info!(appkey = %channel.appkey, channel = ?channel.name.as_str(), %cid, %uid, %mid, %kind, %publication, "unpublished");
        }
        Note::TaskAdded { channel, cid, task, owner } => {
            let owner = owner.map(tracing::field::display);
            info!(appkey = %channel.appkey, channel = ?channel.name.as_str(), %cid, %task, uid = owner, "task added");
        }
        Note::TaskChanged { channel, cid, info, msg } => {
            let (task, state) = (&info.task_id, info.state.as_ref().map(tracing::field::display));
            info!(appkey = %channel.appkey, channel = ?channel.name.as_str(), %cid, %task, state, retries = info.retries, msg, "task");
        }
        Note::TaskEnded { channel, cid, task, msg } => {
            info!(appkey = %channel.appkey, channel = ?channel.name.as_str(), %cid, %task, msg, "task ended");
        }
        Note::JoinRefused { channel, conn, error } => {
            warn!(appkey = %channel.appkey, channel = ?channel.name.as_str(), conn = conn.0, %error, "join refused");
        }
        Note::Resumed { channel, uid, conn, outcome, reason, .. } => {
            let reason = reason.as_ref().map(ToString::to_string);
            info!(appkey = %channel.appkey, channel = ?channel.name.as_str(), %uid, %outcome, reason, conn = conn.0, "resumed");
        }
        Note::CommandRefused { conn, method, error } => {
            // Clients can cause any number of the other errors. They are counted.
            if *error == ErrorName::Forbidden {
                warn!(conn = conn.0, method, %error, "command refused");
            } else {
                debug!(conn = conn.0, method, %error, "command refused");
            }
        }
        Note::Closing { conn, code } => {
            let reason = code.row().map(|row| row.name);
            if *code == CloseCode::NORMAL {
                debug!(conn = conn.0, reason, "closing");
            } else {
                info!(conn = conn.0, reason, "closing");
            }
        }
    }
}
