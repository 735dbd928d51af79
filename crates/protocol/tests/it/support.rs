//! Shared by several test modules: decoding of exactly one message, and generators.

use std::collections::BTreeMap;

use lianmai_protocol::codec::{
    Element, ServerMessage, decode_client_frame, decode_server_frame, encode_error, encode_event,
    encode_notice, encode_request, encode_result,
};
use lianmai_protocol::message::event::{
    ChannelMessage, ChannelUpdate, ClientJoin, ClientLeave, ClientUpdate, LeaveReason,
    LiveRoomClose, MuteChange, RoleChanged, RoomCloseReason, StreamChange,
};
use lianmai_protocol::message::media::{
    Mute, Publish, Published, SetRole, Subscribe, Subscribed, Urls,
};
use lianmai_protocol::message::notice::{
    Closing, Direction, Kicked, MemberCount, NetworkQuality, ServerRestarting, SyncDone,
    TargetedMessage, TokenWillExpire,
};
use lianmai_protocol::message::session::{
    AttributeTarget, CloseChannel, Empty, Join, Joined, Kick, Ping, Reconnect, RenewToken, Report,
    ReportDir, ReportType, SendMessage, SetAttributes, Timers, Want,
};
use lianmai_protocol::message::snapshot::{
    ChannelInfo, MemberInfo, OwnStream, SelfInfo, StreamInfo, Subscription,
};
use lianmai_protocol::message::task::{
    AudioParam, Canvas, Layout, LayoutImage, LayoutUser, Task, TaskConfig, TaskIds, TaskInfo,
    TaskState, TaskStatus, Tasks,
};
use lianmai_protocol::message::{Call, ChannelEvent, Notice, Position, Request};
use lianmai_protocol::raw::JsonObject;
use lianmai_protocol::{
    Action, Appkey, Attributes, ChannelName, Cid, CloseCode, Epoch, ErrorName, Gen, KindSet,
    MediaKind, MediaSelector, Mid, Pub, RequestId, Rights, Role, RpcError, SessionId, TaskId,
    UserId,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

/// The only element of a client frame.
pub(crate) fn client_one(frame: &str) -> Element {
    let mut elements = decode_client_frame(frame.as_bytes()).expect("the frame is accepted");
    assert_eq!(elements.len(), 1, "one element in {frame}");
    elements.remove(0)
}

/// The only message of a server frame.
pub(crate) fn server_one(frame: &str) -> ServerMessage {
    let mut messages = decode_server_frame(frame.as_bytes()).expect("the frame is accepted");
    assert_eq!(messages.len(), 1, "one message in {frame}");
    messages.remove(0)
}

/// Encodes a decoded server message again; the result of an answer stays as it is.
pub(crate) fn encode_server(message: &ServerMessage) -> String {
    match message {
        ServerMessage::Answer { id, outcome: Ok(result) } => {
            encode_result(id.expect("a result answers an id"), result)
        }
        ServerMessage::Answer { id, outcome: Err(error) } => encode_error(*id, error),
        ServerMessage::Event(position, event) => encode_event(*position, event),
        ServerMessage::Notice(notice) => encode_notice(notice),
    }
}

/// Encodes a decoded client element again.
pub(crate) fn encode_client(element: &Element) -> String {
    match element {
        Element::Request(request) => encode_request(request),
        Element::Refused { error, .. } => panic!("refused: {error}"),
    }
}

/// Generates a known value of a wire enum, or a name that no version knows yet.
macro_rules! wire_value {
    ($($name:ident => $type:ty;)+) => {
        $(fn $name() -> impl Strategy<Value = $type> {
            prop_oneof![
                4 => proptest::sample::select(<$type>::ALL),
                1 => "x[a-zA-Z]{1,8}".prop_map(|name| <$type>::from(name.as_str())),
            ]
        })+
    };
}

wire_value! {
    role => Role;
    kind => MediaKind;
    leave_reason => LeaveReason;
    close_reason => RoomCloseReason;
    direction => Direction;
    report_dir => ReportDir;
    report_type => ReportType;
    attribute_target => AttributeTarget;
    action => Action;
    error_name => ErrorName;
}

fn uid() -> impl Strategy<Value = UserId> {
    prop_oneof![
        any::<u64>(),
        Just(0),
        Just(u64::MAX),
        Just((1 << 53) - 1),
        Just(1 << 53),
        1u64..1000
    ]
    .prop_map(UserId)
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..100, 0u64..(1 << 53), Just(0u64), Just((1u64 << 53) - 1)]
}

/// Text with everything that JSON must escape.
pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![".{0,24}", "[\"\\\\/\u{0}-\u{1f}\u{7f}你好\u{1f600}]{0,12}", Just(String::new())]
}

fn epoch() -> impl Strategy<Value = Epoch> {
    any::<[u8; 12]>().prop_map(Epoch)
}

fn mid() -> impl Strategy<Value = Mid> {
    any::<[u8; 12]>().prop_map(Mid)
}

fn publication() -> impl Strategy<Value = Pub> {
    any::<[u8; 12]>().prop_map(Pub)
}

fn generation() -> impl Strategy<Value = Gen> {
    (any::<u32>(), any::<[u8; 12]>()).prop_map(|(route, random)| Gen { route, random })
}

fn cid() -> impl Strategy<Value = Cid> {
    (1u64..(1 << 53)).prop_map(Cid)
}

fn appkey() -> impl Strategy<Value = Appkey> {
    "[A-Za-z0-9_.-]{1,64}".prop_filter_map("no segment of a path", |text| text.parse().ok())
}

fn channel_name() -> impl Strategy<Value = ChannelName> {
    r#"[A-Za-z0-9 !#$%&()+\-:;<=.,>?@\[\]^_{}~"|]{1,64}"#
        .prop_filter_map("no segment of a path", |text| text.parse().ok())
}

fn task_id() -> impl Strategy<Value = TaskId> {
    "[A-Za-z0-9_]{1,64}".prop_map(|text| text.parse().unwrap())
}

fn kinds() -> impl Strategy<Value = KindSet> {
    vec(proptest::sample::select(MediaKind::ALL), 0..4).prop_map(KindSet::from_iter)
}

fn selector() -> impl Strategy<Value = MediaSelector> {
    prop_oneof![Just(MediaSelector::Both), kind().prop_map(MediaSelector::Kind)]
}

pub(crate) fn attributes() -> impl Strategy<Value = Attributes> {
    btree_map(text(), text(), 0..4).prop_map(Attributes::from_iter)
}

fn urls() -> impl Strategy<Value = Urls> {
    let url = || option::of(text());
    let all = (url(), url(), url(), url(), url(), url());
    all.prop_map(|(rtmp, rtmps, flv, ws_flv, hls, webrtc)| Urls {
        rtmp,
        rtmps,
        flv,
        ws_flv,
        hls,
        webrtc,
    })
}

fn json_object() -> impl Strategy<Value = JsonObject> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        text().prop_map(Into::into),
    ];
    let value = leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(serde_json::Value::from),
            btree_map(text(), inner, 0..3).prop_map(|map: BTreeMap<_, _>| {
                serde_json::Value::Object(map.into_iter().collect())
            }),
        ]
    });
    btree_map(text(), value, 0..4)
        .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into())
}

fn task() -> impl Strategy<Value = Task> {
    let user = (uid(), any::<[u32; 4]>(), 0u32..2, 0u32..=100, any::<bool>(), any::<bool>())
        .prop_map(|(uid, [x, y, width, height], adaption, z_order, push_audio, push_video)| {
            LayoutUser { uid, x, y, width, height, adaption, z_order, push_audio, push_video }
        });
    let image =
        (text(), any::<[u32; 4]>(), 0u32..2).prop_map(|(url, [x, y, width, height], adaption)| {
            LayoutImage { url, x, y, width, height, adaption }
        });
    let layout = (any::<[u32; 3]>(), vec(user, 0..3), vec(image, 0..2)).prop_map(
        |([width, height, color], users, images)| Layout {
            canvas: Canvas { width, height, color },
            users,
            images,
        },
    );
    let audio = (any::<[u32; 2]>(), 1u32..3, 0u32..2).prop_map(
        |([bit_rate, sample_rate], channels, codec_profile)| AudioParam {
            bit_rate,
            sample_rate,
            channels,
            codec_profile,
        },
    );
    let config = (any::<bool>(), option::of(audio)).prop_map(|(single_video_no_trans, audio)| {
        TaskConfig { single_video_no_trans, audio_param: audio }
    });
    (
        task_id(),
        text(),
        any::<bool>(),
        option::of(uid()),
        (layout, option::of(number())),
        option::of(config),
        option::of(text()),
    )
        .prop_map(
            |(task_id, stream_url, record, host_uid, (layout, revision), config, extra)| Task {
                task_id,
                stream_url,
                record,
                host_uid,
                revision,
                layout,
                config,
                extra_info: extra,
            },
        )
}

fn join() -> impl Strategy<Value = Join> {
    (
        (appkey(), channel_name(), option::of(uid()), option::of(text())),
        (option::of(role()), option::of(text()), option::of(text()), attributes()),
    )
        .prop_map(|((appkey, channel_name, uid, token), (role, join_id, name, attributes))| {
            let continues = token.clone();
            Join { appkey, channel_name, uid, token, role, join_id, continues, name, attributes }
        })
}

fn reconnect() -> impl Strategy<Value = Reconnect> {
    let want = prop_oneof![Just(None), Just(Some(Want::Snapshot))];
    (text(), number(), epoch(), number(), number(), want).prop_map(
        |(ticket, attempt, epoch, seq, n, want)| Reconnect { ticket, attempt, epoch, seq, n, want },
    )
}

/// Any call whose values the codec keeps unchanged.
pub(crate) fn call() -> impl Strategy<Value = Call> {
    let publish = || {
        (selector(), option::of(uid())).prop_map(|(media_type, uid)| Publish { media_type, uid })
    };
    let subscribe = || (uid(), kind()).prop_map(|(uid, media_type)| Subscribe { uid, media_type });
    let mute =
        || (selector(), option::of(uid())).prop_map(|(media_type, uid)| Mute { media_type, uid });
    let tasks = || vec(task(), 0..3).prop_map(|rtmp_tasks| Tasks { rtmp_tasks });
    let first = prop_oneof![
        join().prop_map(Call::Join),
        Just(Call::Leave(Empty {})),
        publish().prop_map(Call::Publish),
        publish().prop_map(Call::Unpublish),
        subscribe().prop_map(Call::Subscribe),
        subscribe().prop_map(Call::Unsubscribe),
        (role(), option::of(uid())).prop_map(|(role, uid)| Call::SetRole(SetRole { role, uid })),
        mute().prop_map(Call::Mute),
        mute().prop_map(Call::Unmute),
        (uid(), any::<u32>(), option::of(text()))
            .prop_map(|(uid, duration_s, reason)| { Call::Kick(Kick { uid, duration_s, reason }) }),
    ];
    let second = prop_oneof![
        (any::<u32>(), option::of(text()))
            .prop_map(|(hold_s, reason)| Call::CloseChannel(CloseChannel { hold_s, reason })),
        tasks().prop_map(Call::AddTasks),
        tasks().prop_map(Call::UpdateTasks),
        vec(task_id(), 0..4).prop_map(|task_ids| Call::DeleteTasks(TaskIds { task_ids })),
        (text(), option::of(vec(uid(), 0..4)))
            .prop_map(|(data, to)| Call::SendMessage(SendMessage { data, to })),
        (
            btree_map(text(), option::of(text()), 0..4),
            option::of(attribute_target()),
            option::of(text())
        )
            .prop_map(|(attributes, target, name)| {
                let attributes = attributes.into_iter().collect();
                Call::SetAttributes(SetAttributes { attributes, target, name })
            }),
        text().prop_map(|token| Call::RenewToken(RenewToken { token })),
        (report_dir(), report_type(), json_object(), option::of(uid()))
            .prop_map(|(dir, kind, data, uid)| Call::Report(Report { dir, kind, data, uid })),
        reconnect().prop_map(Call::Reconnect),
        (option::of(number()), option::of(number())).prop_map(|(k, n)| Call::Ping(Ping { k, n })),
    ];
    prop_oneof![first, second]
}

/// Any request.
pub(crate) fn request() -> impl Strategy<Value = Request> {
    let id = || (1u64..(1 << 53)).prop_map(RequestId);
    (id(), option::of(id()), call()).prop_map(|(id, ack, call)| Request { id, ack, call })
}

/// Any position in a log.
pub(crate) fn position() -> impl Strategy<Value = Position> {
    (epoch(), number()).prop_map(|(epoch, seq)| Position { epoch, seq })
}

/// Any event that this version knows.
pub(crate) fn event() -> impl Strategy<Value = ChannelEvent> {
    let stream = || {
        (uid(), mid(), kind(), publication()).prop_map(|(uid, mid, media_type, publication)| {
            StreamChange { uid, mid, media_type, publication }
        })
    };
    let mute = || {
        (uid(), mid(), kind()).prop_map(|(uid, mid, media_type)| MuteChange {
            uid,
            mid,
            media_type,
        })
    };
    prop_oneof![
        (uid(), mid(), option::of(text()), attributes(), kinds()).prop_map(
            |(uid, mid, name, attributes, muted)| {
                ChannelEvent::ClientJoin(ClientJoin { uid, mid, name, attributes, muted })
            }
        ),
        (uid(), mid(), leave_reason()).prop_map(|(uid, mid, reason)| {
            ChannelEvent::ClientLeave(ClientLeave { uid, mid, reason })
        }),
        (uid(), mid(), option::of(text()), attributes()).prop_map(
            |(uid, mid, name, attributes)| {
                ChannelEvent::ClientUpdate(ClientUpdate { uid, mid, name, attributes })
            }
        ),
        attributes()
            .prop_map(|attributes| ChannelEvent::ChannelUpdate(ChannelUpdate { attributes })),
        (uid(), mid(), role())
            .prop_map(|(uid, mid, role)| ChannelEvent::RoleChanged(RoleChanged { uid, mid, role })),
        stream().prop_map(ChannelEvent::StreamAdded),
        stream().prop_map(ChannelEvent::StreamRemoved),
        mute().prop_map(ChannelEvent::Muted),
        mute().prop_map(ChannelEvent::Unmuted),
        (uid(), text()).prop_map(|(uid, data)| ChannelEvent::Message(ChannelMessage { uid, data })),
        (task_info(), text(), text()).prop_map(|(info, stream_url, msg)| {
            let TaskInfo { task_id, uid, state, code, revision, retries } = info;
            ChannelEvent::RtmpTasksStatus(TaskStatus {
                task_id,
                uid,
                stream_url,
                state,
                code,
                msg,
                revision,
                retries,
            })
        }),
        (cid(), close_reason(), option::of(text())).prop_map(|(cid, reason, text)| {
            ChannelEvent::LiveRoomClose(LiveRoomClose { cid, reason, text })
        }),
    ]
}

/// Any notice that this version knows.
pub(crate) fn notice() -> impl Strategy<Value = Notice> {
    prop_oneof![
        (option::of(text()), any::<u32>())
            .prop_map(|(reason, duration_s)| Notice::Kicked(Kicked { reason, duration_s })),
        (uid(), direction(), kind(), text(), urls()).prop_map(
            |(uid, direction, media_type, url, urls)| {
                Notice::SyncDone(SyncDone { uid, direction, media_type, url, urls })
            }
        ),
        number().prop_map(|expires_in_ms| {
            Notice::TokenWillExpire(TokenWillExpire { expires_in_ms })
        }),
        (number(), number(), number()).prop_map(|(retry_after_ms, jitter_ms, deadline_ms)| {
            Notice::ServerRestarting(ServerRestarting { retry_after_ms, jitter_ms, deadline_ms })
        }),
        number().prop_map(|count| Notice::MemberCount(MemberCount { count })),
        (uid(), direction(), 0u8..7).prop_map(|(uid, direction, level)| {
            Notice::NetworkQuality(NetworkQuality { uid, direction, level })
        }),
        (uid(), text(), number()).prop_map(|(uid, data, n)| Notice::Message(TargetedMessage {
            uid,
            data,
            n
        })),
        (any::<u16>(), text(), action(), option::of(text()), option::of(number())).prop_map(
            |(code, reason, action, url, retry_after_ms)| {
                Notice::Closing(Closing {
                    code: CloseCode(code),
                    reason,
                    action,
                    url,
                    retry_after_ms,
                })
            }
        ),
    ]
}

/// Any error that an answer can carry.
pub(crate) fn error() -> impl Strategy<Value = RpcError> {
    (
        error_name(),
        text(),
        option::of(action()),
        option::of(text()),
        option::of(number()),
        option::of(any::<i32>()),
    )
        .prop_map(|(name, message, action, field, retry_after_ms, code)| {
            let mut error = RpcError::new(name).message(message);
            error.data.action = action;
            error.data.field = field;
            error.data.retry_after_ms = retry_after_ms;
            error.code = code.unwrap_or(error.code);
            error
        })
}

/// Any rights.
pub(crate) fn rights() -> impl Strategy<Value = Rights> {
    (kinds(), kinds(), any::<[bool; 4]>()).prop_map(
        |(publish, subscribe, [broadcast, tasks, message, moderate])| Rights {
            publish,
            subscribe,
            broadcast,
            tasks,
            message,
            moderate,
        },
    )
}

fn member() -> impl Strategy<Value = MemberInfo> {
    let stream = (kind(), publication())
        .prop_map(|(media_type, publication)| StreamInfo { media_type, publication });
    (uid(), mid(), role(), option::of(text()), attributes(), kinds(), vec(stream, 0..3)).prop_map(
        |(uid, mid, role, name, attributes, muted, streams)| MemberInfo {
            uid,
            mid,
            role,
            name,
            attributes,
            muted,
            streams,
        },
    )
}

fn own() -> impl Strategy<Value = SelfInfo> {
    let published =
        (kind(), publication(), generation()).prop_map(|(media_type, publication, generation)| {
            OwnStream { media_type, publication, generation }
        });
    let subscription = (uid(), kind(), publication())
        .prop_map(|(uid, media_type, publication)| Subscription { uid, media_type, publication });
    (
        (uid(), mid(), role(), rights(), option::of(text()), attributes(), kinds()),
        (vec(published, 0..3), vec(subscription, 0..3), option::of(number())),
    )
        .prop_map(
            |(
                (uid, mid, role, rights, name, attributes, muted),
                (published, subscriptions, token_expires_in_ms),
            )| SelfInfo {
                uid,
                mid,
                role,
                rights,
                name,
                attributes,
                muted,
                published,
                subscriptions,
                token_expires_in_ms,
            },
        )
}

fn task_info() -> impl Strategy<Value = TaskInfo> {
    let state = prop_oneof![
        proptest::sample::select(TaskState::ALL),
        text().prop_map(|name| TaskState::from(&*name)),
    ];
    (task_id(), option::of(uid()), option::of(state), any::<u16>(), number(), 0u32..3).prop_map(
        |(task_id, uid, state, code, revision, retries)| TaskInfo {
            task_id,
            uid,
            state,
            code,
            revision,
            retries,
        },
    )
}

/// Any answer of `join`.
pub(crate) fn joined() -> impl Strategy<Value = Joined> {
    let channel = (channel_name(), uid(), attributes(), vec(task_info(), 0..2)).prop_map(
        |(name, creator, attributes, tasks)| ChannelInfo { name, creator, attributes, tasks },
    );
    let timers = any::<[u32; 4]>().prop_map(|[ping, dead, grace, cap]| Timers {
        ping_interval_ms: ping.into(),
        dead_after_ms: dead.into(),
        grace_ms: grace.into(),
        media_cap_ms: cap.into(),
    });
    (
        (cid(), uid(), mid(), any::<[u8; 12]>(), option::of(text()), text(), epoch(), number()),
        (channel, vec(member(), 0..3), own(), number(), timers),
    )
        .prop_map(
            |(
                (cid, uid, mid, session, ticket, deployment_id, epoch, seq),
                (channel, members, own, member_count, timers),
            )| Joined {
                cid,
                uid,
                mid,
                session_id: SessionId(session),
                k: ticket.as_ref().map(|_| seq),
                ticket,
                deployment_id,
                epoch,
                seq,
                channel,
                members,
                own,
                member_count,
                timers,
            },
        )
}

/// Any answer of `publish`.
pub(crate) fn published() -> impl Strategy<Value = Published> {
    (uid(), text(), urls(), generation(), number())
        .prop_map(|(uid, url, urls, generation, seq)| Published { uid, url, urls, generation, seq })
}

/// Any answer of `subscribe`.
pub(crate) fn subscribed() -> impl Strategy<Value = Subscribed> {
    (uid(), text(), urls(), number()).prop_map(|(uid, url, urls, seq)| Subscribed {
        uid,
        url,
        urls,
        seq,
    })
}
