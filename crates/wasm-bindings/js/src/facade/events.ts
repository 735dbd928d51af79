// Every event and its payload. This file is types only; `docs/javascript.md` is made from it.

import type { LianmaiError } from '../errors.js'
import type { Uid } from '../uid.js'

/** What is published: `slaveAudio` is a second audio. */
export type MediaType = 'audio' | 'video' | 'screenShare' | 'slaveAudio'

export type Role = 'broadcaster' | 'audience'

/** Attributes of a member or of the channel. */
export type Attributes = { [key: string]: string }

/** URLs of one stream by protocol; each may be missing. */
export interface Urls {
  rtmp?: string
  flv?: string
  hls?: string
  webrtc?: string
}

/** Who an event is about: `uid` is a string exactly when `isBigNumber`. */
export interface UserEvent {
  uid: Uid
  isBigNumber: boolean
}

export interface StreamEvent extends UserEvent {
  mediaType: MediaType
}

export interface JoinEvent extends UserEvent {
  /** Display name. */
  name?: string
  attributes: Attributes
}

export interface LeaveEvent extends UserEvent {
  /** `left`, `timeout`, `kicked`, `replaced`, `roleChanged`, `tokenExpired`, `serverRestart`, `channelClosed` or `whileAway`. */
  reason: string
}

export interface RoleEvent extends UserEvent {
  role: Role
}

/** A URL that changed. */
export interface SyncedUrl extends UserEvent {
  url: string
}

export interface SyncEvent extends UserEvent {
  /** Oneself's push URL, `''` when there is none. `uid` is always oneself. */
  url: string
  /** Those whose URL changed: oneself for a push, others for a pull. */
  userList: SyncedUrl[]
  /** The same array. */
  userlist: SyncedUrl[]
}

export interface UrlEvent extends UserEvent {
  direction: 'push' | 'pull'
  mediaType: MediaType
  /** `''` when a push URL is gone. */
  url: string
  urls: Urls
}

export interface KickedEvent extends UserEvent {
  cid: number | string
  /** `kicked` by a moderator, or `replaced` by a login of the same uid elsewhere. */
  reason: 'kicked' | 'replaced'
  /** What the moderator said. */
  text: string
  /** For so many seconds the uid is refused. */
  durationS: number
}

export interface RoomCloseEvent {
  cid: number | string
  /** `closed` by a moderator, `admin`, or `creatorLeft`. */
  reason: string
  text: string
}

export interface DisconnectEvent {
  /** NERTC's: '403' no connection for too long, '405' kicked or replaced, '406' refused, '417' channel closed, '401' other. */
  code: string
  /** What happened: `kicked`, `replaced`, `channelClosed`, `tokenExpired`, `gaveUp`, ... */
  reason: string
  /** Code of the connection. */
  closeCode: number
  /** Whether joining again at once is pointless or unwanted. */
  terminal: boolean
}

/** `connecting` and `connected` belong to `join`; who is `reconnecting` is a member still, and calls wait. */
export type ConnectionState = 'disconnected' | 'connecting' | 'connected' | 'reconnecting' | 'disconnecting'

export interface ConnectionEvent {
  state: ConnectionState
  previous: ConnectionState
  /** Why: `joined`, `socketClosed`, `woken`, ...; `attempt` for an attempt to connect, `socketLimit` where the platform allows no more sockets. */
  reason: string
  /** Number of the attempt since the connection was lost. */
  attempt?: number
  /** `state` in the spelling of NERTC's web SDK, where `reconnecting` is `CONNECTING`. */
  curState: string
  prevState: string
  /** Whether this is about coming back. */
  reconnect: boolean
}

export interface ReconnectedEvent {
  /** `replayed` nothing was missed, `snapshot` the difference was told, `rejoined` others saw a leave and a join. */
  outcome: 'replayed' | 'snapshot' | 'rejoined'
  reason?: string
  /** Messages to all that may have been missed. */
  missed?: { fromSeq: number; toSeq?: number }
  /** Messages to this client alone that were lost. */
  messagesLost: number
}

export interface MessageEvent extends UserEvent {
  data: string
  /** Whether it was for this client and few others. */
  targeted: boolean
}

export interface TaskEvent extends UserEvent {
  taskId: string
  /** Without its secret part. */
  streamUrl: string
  /** 505 pushing, 506 failed, 511 ended. */
  code: number
  msg: string
  revision: number
}

export interface AttributesEvent {
  /** Whose: a member's or the channel's. */
  target: 'member' | 'channel'
  uid?: Uid
  isBigNumber?: boolean
  name?: string
  attributes: Attributes
}

export interface QualityEvent extends UserEvent {
  direction: 'push' | 'pull'
  /** 0 unknown, 1 excellent .. 5 bad, 6 down. */
  level: number
}

/** Payloads by event. */
export interface ClientEvents {
  /** The client cannot go on. Calls that fail are rejections only. */
  error: LianmaiError
  /** The socket is open. */
  open: { code: '200'; desc: string }
  /** The membership ended, and not by `leave`: clear pusher and players. */
  disconnect: DisconnectEvent
  /** The connection is lost, and the client comes back by itself. */
  willreconnect: { count: number }
  /** The client is back; what changed meanwhile was told before. */
  reconnected: ReconnectedEvent
  /** A call had no answer in time; its rejection follows. */
  sendCommandOverTime: { method: string }
  /** A broadcaster is there. */
  clientJoin: JoinEvent
  clientLeave: LeaveEvent
  /** Somebody publishes: `subscribe` to play it. */
  'stream-added': StreamEvent
  'stream-removed': StreamEvent
  'role-Changed': RoleEvent
  'mute-audio': StreamEvent
  'unmute-audio': StreamEvent
  'mute-video': StreamEvent
  'unmute-video': StreamEvent
  /** A push or pull URL is another one. */
  syncDone: SyncEvent
  kicked: KickedEvent
  /** The channel was closed for all. */
  liveRoomClose: RoomCloseEvent
  'rtmp-tasks-status': TaskEvent
  /** The connection: state, attempts, limits. */
  'connection-state-change': ConnectionEvent
  /** One URL is another one. */
  'url-updated': UrlEvent
  /** Name or attributes of a member or of the channel. */
  'attributes-updated': AttributesEvent
  message: MessageEvent
  'member-count': { count: number }
  'network-quality': QualityEvent
  /** Own media was published or taken back, and not by a call: a moderator, or a server that crashed. */
  published: StreamEvent
  unpublished: StreamEvent
  'token-will-expire': { expiresInMs: number }
  'token-expired': { reason: string }
  'server-restarting': { retryAfterMs: number; jitterMs: number; deadlineMs: number }
  /** The server is about to close the connection. */
  closing: { code: number; reason: string; action: string; url?: string; retryAfterMs?: number }
  /** A handler threw. */
  'handler-error': { event: string; error: unknown }
  /** A message of a newer server. */
  unknown: { method: string; params: unknown }

  // Names of NERTC's web SDK, told besides.
  'peer-online': JoinEvent
  'peer-leave': UserEvent & { reason: number }
  'uid-duplicate': KickedEvent
  'client-banned': KickedEvent
  'channel-closed': RoomCloseEvent
  'permkey-will-expire': { expiresInMs: number }
  'permkey-timeout': { reason: string }
  'custom-data': MessageEvent
  'rtmp-state': TaskEvent

  // NERTC has these; nothing here causes them, so that handlers do no harm.
  clientUpdate: UserEvent
  'asr-captions': unknown
  'media-status': unknown
  'ability-not-support': unknown
  sessionStart: unknown
  sessionEnd: unknown
}

export type EventName = keyof ClientEvents

/** A handler of every event. */
export type AnyHandler = <E extends EventName>(event: E, payload: ClientEvents[E]) => void
