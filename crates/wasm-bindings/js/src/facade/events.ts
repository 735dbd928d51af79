// Every event and its payload. This file contains only types; `docs/javascript.md` is generated from it.

import type { LianmaiError } from '../errors.js'
import type { Uid } from '../uid.js'

/** A kind of media: `screenShare` is a shared screen, `slaveAudio` is a second audio stream. */
export type MediaType = 'audio' | 'video' | 'screenShare' | 'slaveAudio'

/** Only a broadcaster is visible to others and may publish. */
export type Role = 'broadcaster' | 'audience'

/** Attributes of a member or of the channel. */
export type Attributes = { [key: string]: string }

/** URLs of one stream by protocol; each one may be missing. Use a URL exactly as it is. */
export interface Urls {
  /** For `live-pusher`, `live-player`, OBS and ffmpeg. */
  rtmp?: string
  /** RTMP over TLS, if the server has it, for OBS and ffmpeg. The pushers and players of WeChat do not support it. */
  rtmps?: string
  /** HTTP-FLV, for players in browsers. */
  flv?: string
  /** FLV over WebSocket, for pages that show more streams than the number of HTTP connections that a browser opens to one server. */
  wsFlv?: string
  /** HLS, for players that support nothing else. It is some seconds behind the other protocols. */
  hls?: string
  /** Only from media servers that offer it. */
  webrtc?: string
}

/** The member that an event is about. */
export interface UserEvent {
  /** A number, or, above 9007199254740991, a string of digits. */
  uid: Uid
  /** Whether `uid` is a string. */
  isBigNumber: boolean
}

export interface StreamEvent extends UserEvent {
  /** The kind of media. */
  mediaType: MediaType
}

export interface JoinEvent extends UserEvent {
  /** Display name. */
  name?: string
  /** Attributes, `{}` if there are none. */
  attributes: Attributes
}

export interface LeaveEvent extends UserEvent {
  /** The reason: `left`, `timeout`, `kicked`, `replaced`, `roleChanged`, `tokenExpired`, `serverRestart`, `channelClosed`, or `whileAway` if the member left during a gap and the reason is no longer known. */
  reason: string
}

export interface RoleEvent extends UserEvent {
  /** The new role. */
  role: Role
}

/** A URL that changed. */
export interface SyncedUrl extends UserEvent {
  /** The new URL, `''` if there is none any more. */
  url: string
}

export interface SyncEvent extends UserEvent {
  /** The client's present push URL, `''` if there is none. `uid` is always the client's own uid. */
  url: string
  /** Only the members whose URL changed: for a push the client itself, for a pull another member. Always an array. */
  userList: SyncedUrl[]
  /** The same array under the name that some apps read. */
  userlist: SyncedUrl[]
}

export interface UrlEvent extends UserEvent {
  /** `push`: the client's own push URL. `pull`: the pull URL of the member `uid`. */
  direction: 'push' | 'pull'
  /** Audio and video share one URL; the event names one of them. */
  mediaType: MediaType
  /** The new URL, `''` if a push URL has ended. */
  url: string
  /** The new URLs by protocol. */
  urls: Urls
}

export interface KickedEvent extends UserEvent {
  /** Id of the channel. */
  cid: number | string
  /** `kicked`: by a moderator. `replaced`: by a login of the same uid elsewhere. */
  reason: 'kicked' | 'replaced'
  /** Text from the moderator, `''` if there is none. */
  text: string
  /** Number of seconds for which the uid is refused. */
  durationS: number
}

export interface RoomCloseEvent {
  /** Id of the channel. */
  cid: number | string
  /** `closed`: by a moderator. `admin`: through the admin API of the server. `creatorLeft`: the creator left. */
  reason: string
  /** Text from the moderator, `''` if there is none. */
  text: string
}

export interface DisconnectEvent {
  /** NERTC's code: '403' no connection for too long, '405' kicked or replaced, '406' the server refused the reconnect, '417' channel closed, '401' any other. */
  code: string
  /** The reason: `kicked`, `replaced`, `channelClosed`, `tokenExpired`, `gaveUp`, .., or the name of the error with which the server refused the reconnect. */
  reason: string
  /** Close code of the connection, as in `docs/protocol.md`; 1006 if no close frame came. */
  closeCode: number
  /** Whether it is pointless or unwanted to join again at once. */
  terminal: boolean
}

/** `connecting` and `connected` belong to `join`. A client that is `reconnecting` is still a member, and its calls wait. */
export type ConnectionState = 'disconnected' | 'connecting' | 'connected' | 'reconnecting' | 'disconnecting'

export interface ConnectionEvent {
  /** The present state. */
  state: ConnectionState
  /** The previous state. It is the same as `state` if the event reports only an attempt or a limit. */
  previous: ConnectionState
  /**
   * The reason: `joinCalled`, `joined`, `joinRefused`, `resumed`, `rejoined`, `refused`, `wrongDeployment`, `gaveUp`, `left`, `timeout`,
   * `serverClosing`, `socketClosed`, `gap`, `deadPeer`, `networkChanged`, `woken` (the app was frozen), `crashed`; `attempt` for an
   * attempt to connect, `socketLimit` if the platform allows no more sockets.
   */
  reason: string
  /** Number of attempts since the connection was lost. */
  attempt?: number
  /** `state` in the spelling of NERTC's web SDK. There `reconnecting` is `CONNECTING`. */
  curState: string
  /** `previous` in the same spelling. */
  prevState: string
  /** Whether the event belongs to a reconnect. */
  reconnect: boolean
}

export interface ReconnectedEvent {
  /** `replayed`: nothing was missed. `snapshot`: the client emitted the difference. `rejoined`: the client has a new membership; other members saw a leave and a join. */
  outcome: 'replayed' | 'snapshot' | 'rejoined'
  /** The reason why the outcome is not `replayed`. */
  reason?: string
  /** For `replayed`: number of channel events emitted since `willreconnect`. */
  events?: number
  /** For `replayed`: number of messages to this client alone that were emitted since then. */
  messages?: number
  /** Range of messages to all that may have been missed, as numbers of channel events. */
  missed?: { fromSeq: number; toSeq?: number }
  /** Number of lost messages to this client alone. */
  messagesLost: number
}

export interface MessageEvent extends UserEvent {
  /** Text of the message. */
  data: string
  /** Whether the message was sent only to this client and few others. */
  targeted: boolean
}

/** A push task of the channel. */
export interface TaskInfo {
  /** The owner of the task; absent for a task of the app's server. */
  uid?: Uid
  /** Whether `uid` is a string. */
  isBigNumber?: boolean
  /** Id of the task. */
  taskId: string
  /** `idle`, `starting`, `pushing`, `retrying` or `failed`. */
  state?: string
  /** 505 pushing, 506 failed, 512 an image could not be used, otherwise 0. */
  code: number
  /** Counter of the changes of the task. */
  revision: number
  /** Number of retries in a row; absent if there were none. */
  retries?: number
}

export interface TaskEvent {
  /** The owner of the task; absent for a task of the app's server. */
  uid?: Uid
  /** Whether `uid` is a string. */
  isBigNumber?: boolean
  /** Id of the task. */
  taskId: string
  /** The URL that the task pushes to, without the secret part. */
  streamUrl: string
  /** `idle`, `starting`, `pushing`, `retrying`, `failed` or `ended`. */
  state?: string
  /** 505 pushing, 506 failed, 511 ended, 512 an image could not be used, otherwise 0. */
  code: number
  /** The code in words. */
  msg: string
  /** Counter of the changes of the task. */
  revision: number
  /** Number of retries in a row; absent if there were none. */
  retries?: number
}

export interface AttributesEvent {
  /** The owner: a member or the channel. */
  target: 'member' | 'channel'
  /** For a member: its uid. */
  uid?: Uid
  /** For a member: whether `uid` is a string. */
  isBigNumber?: boolean
  /** For a member: the display name. */
  name?: string
  /** All present attributes, not the difference. */
  attributes: Attributes
}

export interface QualityEvent extends UserEvent {
  /** `push`: the stream that `uid` pushes. `pull`: the stream that is pulled from it. */
  direction: 'push' | 'pull'
  /** 0 unknown, 1 excellent .. 5 bad, 6 down. */
  level: number
}

/** Payloads by event. */
export interface ClientEvents {
  /** The client cannot continue: join again. A call that fails is only rejected and never causes this event. */
  error: LianmaiError
  /** A socket is open, for `join` or for a reconnect. */
  open: { code: '200'; desc: string }
  /** The membership ended, and not through `leave`: clear pusher and players. */
  disconnect: DisconnectEvent
  /** The connection is lost, and the client reconnects by itself. `count` is 1: the event comes once for each loss. */
  willreconnect: { count: number }
  /** The client has reconnected. The events for the changes came before, unless `reannounce` is `'all'`. */
  reconnected: ReconnectedEvent
  /** A call received no answer in time; its rejection follows. */
  sendCommandOverTime: { method: string }
  /** A broadcaster is present: it was there before, it joined, or it was audience. */
  clientJoin: JoinEvent
  /** A broadcaster left, or became audience. `stream-removed` for each of its kinds came before. */
  clientLeave: LeaveEvent
  /** A member publishes a kind: call `subscribe` to play it. */
  'stream-added': StreamEvent
  /** A kind is no longer published; the subscription to it ended. */
  'stream-removed': StreamEvent
  /** A role changed. For the client's own role the event comes only if a moderator changed it. */
  'role-Changed': RoleEvent
  /** The audio of a member is muted, by the member or by a moderator. With the client's own uid only if a moderator did it. */
  'mute-audio': StreamEvent
  /** The audio of a member is no longer muted. */
  'unmute-audio': StreamEvent
  /** The video of a member is muted; the same rules apply as for audio. */
  'mute-video': StreamEvent
  /** The video of a member is no longer muted. */
  'unmute-video': StreamEvent
  /** The URL of audio and video changed: the client's own push URL, or the URL of a member that is played. */
  syncDone: SyncEvent
  /** A moderator removed this client, or the same uid joined elsewhere. `disconnect` follows. */
  kicked: KickedEvent
  /** The channel was closed for all. `disconnect` follows. */
  liveRoomClose: RoomCloseEvent
  /** A push task changed its state. */
  'rtmp-tasks-status': TaskEvent
  /** The connection changed: its state, an attempt, a limit. */
  'connection-state-change': ConnectionEvent
  /** One URL changed, of any kind of media. */
  'url-updated': UrlEvent
  /** The name or attributes of a member, or the attributes of the channel changed. */
  'attributes-updated': AttributesEvent
  /** Another member, audience included, sent a message with `sendMessage`. The client's own message comes back only if `to` names the client. */
  message: MessageEvent
  /** Number of members in the channel, audience included; at most once a second. */
  'member-count': { count: number }
  /** Network quality of a stream; only from servers that measure it. */
  'network-quality': QualityEvent
  /** The client's own media is published, but not by a call that just succeeded: a call that the client had given up took effect after all. */
  published: StreamEvent
  /** The client's own media was unpublished, but not by a call: by a moderator, a token with fewer rights, or a crash of the server. */
  unpublished: StreamEvent
  /** The token expires soon: call `renewToken`. */
  'token-will-expire': { expiresInMs: number }
  /** The token expired, and the membership ended with it. `disconnect` follows. */
  'token-expired': { reason: string }
  /** The server is about to restart. The client reconnects by itself. */
  'server-restarting': { retryAfterMs: number; jitterMs: number; deadlineMs: number }
  /** The server is about to close the connection. */
  closing: { code: number; reason: string; action: string; url?: string; retryAfterMs?: number }
  /** A handler threw, or the promise that it returned was rejected. All other handlers ran. */
  'handler-error': { event: string; error: unknown }
  /** A message from a newer server that the SDK does not know. */
  unknown: { method: string; params: unknown }

  // Names of NERTC's web SDK, emitted in addition.
  /** With `clientJoin`. */
  'peer-online': JoinEvent
  /** With `clientLeave`: 0 left, 1 the server restarted, 2 kicked, 3 timeout. */
  'peer-leave': UserEvent & { reason: number }
  /** With `kicked`, if the same uid joined elsewhere. */
  'uid-duplicate': KickedEvent
  /** With `kicked`, if a moderator did it. */
  'client-banned': KickedEvent
  /** With `liveRoomClose`. */
  'channel-closed': RoomCloseEvent
  /** With `token-will-expire`. */
  'permkey-will-expire': { expiresInMs: number }
  /** With `token-expired`. */
  'permkey-timeout': { reason: string }
  /** With `message`. */
  'custom-data': MessageEvent
  /** With `rtmp-tasks-status`. */
  'rtmp-state': TaskEvent

  // Events of NERTC that never occur here. Handlers for them do no harm.
  /** See `attributes-updated`. */
  clientUpdate: UserEvent
  /** There are no captions. */
  'asr-captions': unknown
  /** See `url-updated` and `published`. */
  'media-status': unknown
  /** Calls that are not served are rejected. */
  'ability-not-support': unknown
  /** Internal in NERTC. */
  sessionStart: unknown
  /** Internal in NERTC. */
  sessionEnd: unknown
}

/** The name of an event. */
export type EventName = keyof ClientEvents

/** A handler of every event. */
export type AnyHandler = <E extends EventName>(event: E, payload: ClientEvents[E]) => void
