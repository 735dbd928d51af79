//! The picture of the channel as text. In: a picture. Out: JSON, as the getters of the app show it. Deliberately
//! absent: generations, and the expiry of the token.

use alloc::string::String;

use lianmai_client_sdk::session::{Member, Own, Picture};
use lianmai_protocol::wire::{Write, Writer};
use lianmai_protocol::{Attributes, KindSet, Map, MediaKind, Mid, Pub, Role, UserId};

/// Writes the whole picture.
pub fn picture(picture: &Picture) -> String {
    let mut writer = Writer::default();
    let out = &mut writer;
    out.begin('{');
    out.field("cid", &picture.cid);
    out.field("channel", &picture.channel);
    out.field("creator", &picture.creator);
    out.field("attributes", &picture.attributes);
    list(out, "tasks", picture.tasks.values().map(|task| task as &dyn Write));
    out.name("members");
    out.begin('[');
    for member in picture.members.values() {
        out.next();
        self::member(member, out);
    }
    out.end(']');
    out.name("own");
    own(&picture.own, out);
    out.field("memberCount", &picture.member_count);
    out.field("epoch", &picture.epoch);
    out.field("seq", &picture.seq);
    out.end('}');
    writer.into_text()
}

fn list<'a>(writer: &mut Writer, name: &str, items: impl Iterator<Item = &'a dyn Write>) {
    writer.name(name);
    writer.begin('[');
    for item in items {
        writer.element(item);
    }
    writer.end(']');
}

/// The fields that members and the app itself have in common.
struct SharedFields<'a> {
    uid: &'a UserId,
    mid: &'a Mid,
    role: &'a Role,
    name: &'a Option<String>,
    attributes: &'a Attributes,
    muted: &'a KindSet,
}

fn shared_fields(shared: &SharedFields<'_>, writer: &mut Writer) {
    writer.field("uid", shared.uid);
    writer.field("mid", shared.mid);
    writer.field("role", shared.role);
    if let Some(name) = shared.name {
        writer.field("name", name);
    }
    writer.field("attributes", shared.attributes);
    writer.field("muted", shared.muted);
}

fn stream(kind: &MediaKind, publication: &Pub, writer: &mut Writer) {
    writer.field("mediaType", kind);
    writer.field("pub", publication);
}

fn member(member: &Member, writer: &mut Writer) {
    let Member { uid, mid, role, name, attributes, muted, streams } = member;
    writer.begin('{');
    shared_fields(&SharedFields { uid, mid, role, name, attributes, muted }, writer);
    publications(writer, "streams", streams);
    writer.end('}');
}

fn publications(writer: &mut Writer, name: &str, streams: &Map<MediaKind, Pub>) {
    writer.name(name);
    writer.begin('[');
    for (kind, publication) in streams {
        writer.next();
        writer.begin('{');
        stream(kind, publication, writer);
        writer.end('}');
    }
    writer.end(']');
}

fn own(own: &Own, writer: &mut Writer) {
    let Own { uid, mid, role, rights, name, attributes, muted, .. } = own;
    writer.begin('{');
    shared_fields(&SharedFields { uid, mid, role, name, attributes, muted }, writer);
    writer.field("rights", rights);
    let published = own.published.iter().map(|(kind, own)| (kind.clone(), own.publication));
    publications(writer, "published", &Map::from_iter(published));
    writer.name("subscriptions");
    writer.begin('[');
    for ((uid, kind), publication) in &own.subscriptions {
        writer.next();
        writer.begin('{');
        writer.field("uid", uid);
        stream(kind, publication, writer);
        writer.end('}');
    }
    writer.end(']');
    writer.end('}');
}
