// Every event and its payload. This file is types only; `docs/javascript.md` is made from it.

import type { LianmaiError } from '../errors.js'
import type { Uid } from '../uid.js'

/** A kind of media: `screenShare` is a shared screen, `slaveAudio` a second audio. */
export type MediaType = 'audio' | 'video' | 'screenShare' | 'slaveAudio'

/** Only a broadcaster is visible to others and may publish. */
export type Role = 'broadcaster' | 'audience'

/** Attributes of a member or of the channel. */
export type Attributes = { [key: string]: string }

/** URLs of one stream by protocol; each may be missing. Use a URL exactly as it is. */
export interface Urls {
  /** For `live-pusher`, `live-player`, OBS and ffmpeg. */
  rtmp?: string
  /** RTMP over TLS, where the server has it, for OBS and ffmpeg; the pushers and players of WeChat do not know it. */
  rtmps?: string
  /** HTTP-FLV, for players in browsers. */
  flv?: string
  /** FLV over WebSocket, for pages that show more streams than a browser opens HTTP connections to one server. */
  wsFlv?: string
  /** HLS, for players that read nothing else; some seconds behind the others. */
  hls?: string
  /** Only of media servers that offer it. */
  webrtc?: string
}

/** Who an event is about. */
export interface UserEvent {
  /** A number, or a string of digits above 9007199254740991. */
  uid: Uid
  /** Whether `uid` is a string. */
  isBigNumber: boolean
}

export interface StreamEvent extends UserEvent {
  /** Which kind of media. */
  mediaType: MediaType
}

export interface JoinEvent extends UserEvent {
  /** Display name. */
  name?: string
  /** Attributes, `{}` when there are none. */
  attributes: Attributes
}

export interface LeaveEvent extends UserEvent {
  /** Why: `left`, `timeout`, `kicked`, `replaced`, `roleChanged`, `tokenExpired`, `serverRestart`, `channelClosed`, or `whileAway` where it happened during a gap and nobody remembers why. */
  reason: string
}

export interface RoleEvent extends UserEvent {
  /** The new role. */
  role: Role
}

/** A URL that changed. */
export interface SyncedUrl extends UserEvent {
  /** The new one, `''` when there is none any more. */
  url: string
}

export interface SyncEvent extends UserEvent {
  /** The own push URL as of now, `''` when there is none. `uid` is always the own one. */
  url: string
  /** Only those whose URL changed: oneself for a push, somebody else for a pull. Always an array. */
  userList: SyncedUrl[]
  /** The same array in the spelling that some apps read. */
  userlist: SyncedUrl[]
}

export interface UrlEvent extends UserEvent {
  /** `push`: the own one. `pull`: that of the member `uid`. */
  direction: 'push' | 'pull'
  /** Audio and video share one URL; the event names one of them. */
  mediaType: MediaType
  /** The new URL, `''` when a push URL is gone. */
  url: string
  /** The same by protocol. */
  urls: Urls
}

export interface KickedEvent extends UserEvent {
  /** Id of the channel. */
  cid: number | string
  /** `kicked` by a moderator, or `replaced` by a login of the same uid elsewhere. */
  reason: 'kicked' | 'replaced'
  /** What the moderator said, `''` for nothing. */
  text: string
  /** The uid is refused for so many seconds. */
  durationS: number
}

export interface RoomCloseEvent {
  /** Id of the channel. */
  cid: number | string
  /** `closed` by a moderator, `admin` by the server's interface, or `creatorLeft`. */
  reason: string
  /** What the moderator said, `''` for nothing. */
  text: string
}

export interface DisconnectEvent {
  /** NERTC's: '403' no connection for too long, '405' kicked or replaced, '406' the way back was refused, '417' channel closed, '401' any other. */
  code: string
  /** What happened: `kicked`, `replaced`, `channelClosed`, `tokenExpired`, `gaveUp`, .., or the name of the error that refused the way back. */
  reason: string
  /** Close code of the connection, as in `docs/protocol.md`; 1006 where nothing came. */
  closeCode: number
  /** Whether joining again at once is pointless or unwanted. */
  terminal: boolean
}

/** `connecting` and `connected` belong to `join`; who is `reconnecting` is a member still, and calls wait. */
export type ConnectionState = 'disconnected' | 'connecting' | 'connected' | 'reconnecting' | 'disconnecting'

export interface ConnectionEvent {
  /** What it is now. */
  state: ConnectionState
  /** What it was before. The same where only an attempt or a limit is told. */
  previous: ConnectionState
  /**
   * Why: `joinCalled`, `joined`, `joinRefused`, `resumed`, `rejoined`, `refused`, `wrongDeployment`, `gaveUp`, `left`, `timeout`,
   * `serverClosing`, `socketClosed`, `gap`, `deadPeer`, `networkChanged`, `woken` (the app was frozen), `crashed`; `attempt` for an
   * attempt to connect, `socketLimit` where the platform allows no more sockets.
   */
  reason: string
  /** Number of the attempt since the connection was lost. */
  attempt?: number
  /** `state` in the spelling of NERTC's web SDK, where `reconnecting` is `CONNECTING`. */
  curState: string
  /** `previous` likewise. */
  prevState: string
  /** Whether this is about coming back. */
  reconnect: boolean
}

export interface ReconnectedEvent {
  /** `replayed`: nothing was missed. `snapshot`: the difference was told. `rejoined`: a new membership, others saw a leave and a join. */
  outcome: 'replayed' | 'snapshot' | 'rejoined'
  /** Why it was not `replayed`. */
  reason?: string
  /** Of `replayed`: how many events of the channel were told since `willreconnect`. */
  events?: number
  /** Of `replayed`: how many messages to this client alone were told since then. */
  messages?: number
  /** Messages to all that may have been missed, by the numbers of the channel's events. */
  missed?: { fromSeq: number; toSeq?: number }
  /** Messages to this client alone that were lost. */
  messagesLost: number
}

export interface MessageEvent extends UserEvent {
  /** What was said. */
  data: string
  /** Whether it was for this client and few others. */
  targeted: boolean
}

/** A push task of the channel. */
export interface TaskInfo {
  /** Who owns it; absent for a task of the app's server. */
  uid?: Uid
  /** Whether `uid` is a string. */
  isBigNumber?: boolean
  /** Which task. */
  taskId: string
  /** `idle`, `starting`, `pushing`, `retrying` or `failed`. */
  state?: string
  /** 505 pushing, 506 failed, 512 a picture could not be used, 0 all else. */
  code: number
  /** Counts the changes of the task. */
  revision: number
  /** How often in a row it was tried again; absent for never. */
  retries?: number
}

export interface TaskEvent {
  /** Who owns it; absent for a task of the app's server. */
  uid?: Uid
  /** Whether `uid` is a string. */
  isBigNumber?: boolean
  /** Which task. */
  taskId: string
  /** Where it pushes to, without the secret part. */
  streamUrl: string
  /** `idle`, `starting`, `pushing`, `retrying`, `failed` or `ended`. */
  state?: string
  /** 505 pushing, 506 failed, 511 ended, 512 a picture could not be used, 0 all else. */
  code: number
  /** The same in words. */
  msg: string
  /** Counts the changes of the task. */
  revision: number
  /** How often in a row it was tried again; absent for never. */
  retries?: number
}

export interface AttributesEvent {
  /** Whose: a member's or the channel's. */
  target: 'member' | 'channel'
  /** Of a member: who. */
  uid?: Uid
  /** Of a member: whether `uid` is a string. */
  isBigNumber?: boolean
  /** Of a member: the display name. */
  name?: string
  /** All of them as of now, not the difference. */
  attributes: Attributes
}

export interface QualityEvent extends UserEvent {
  /** What `uid` pushes, or what is pulled from it. */
  direction: 'push' | 'pull'
  /** 0 unknown, 1 excellent .. 5 bad, 6 down. */
  level: number
}

/** Payloads by event. */
export interface ClientEvents {
  /** The client cannot go on: join again. A call that fails is only a rejection, never this event. */
  error: LianmaiError
  /** A socket is open, by `join` or by coming back. */
  open: { code: '200'; desc: string }
  /** The membership ended, and not by `leave`: clear pusher and players. */
  disconnect: DisconnectEvent
  /** The connection is lost, and the client comes back by itself. `count` is 1: it is told once for each loss. */
  willreconnect: { count: number }
  /** The client is back. What changed meanwhile was told before, unless `reannounce` is `'all'`. */
  reconnected: ReconnectedEvent
  /** A call had no answer in time; its rejection follows. */
  sendCommandOverTime: { method: string }
  /** A broadcaster is there: one who was there before, who came, or who was audience. */
  clientJoin: JoinEvent
  /** A broadcaster is gone, or became audience. `stream-removed` for each of its kinds came before. */
  clientLeave: LeaveEvent
  /** Somebody publishes a kind: `subscribe` to play it. */
  'stream-added': StreamEvent
  /** A kind is not published any more; the subscription to it ended. */
  'stream-removed': StreamEvent
  /** A role changed. The own one only where a moderator changed it. */
  'role-Changed': RoleEvent
  /** The audio of a member is muted: it says so, or a moderator did it. With the own uid only where a moderator did. */
  'mute-audio': StreamEvent
  /** The audio of a member is not muted any more. */
  'unmute-audio': StreamEvent
  /** The video of a member is muted, likewise. */
  'mute-video': StreamEvent
  /** The video of a member is not muted any more. */
  'unmute-video': StreamEvent
  /** The URL of audio and video is another one: the own push URL, or that of somebody who is played. */
  syncDone: SyncEvent
  /** A moderator removed this client, or the same uid joined elsewhere. `disconnect` follows. */
  kicked: KickedEvent
  /** The channel was closed for all. `disconnect` follows. */
  liveRoomClose: RoomCloseEvent
  /** A push task changed its state. */
  'rtmp-tasks-status': TaskEvent
  /** The connection: its state, attempts, limits. */
  'connection-state-change': ConnectionEvent
  /** One URL is another one, of any kind of media. */
  'url-updated': UrlEvent
  /** Name or attributes of a member, or attributes of the channel. */
  'attributes-updated': AttributesEvent
  /** Somebody else said something, audience included: `sendMessage`. One's own comes only where it names oneself in `to`. */
  message: MessageEvent
  /** How many are in the channel, audience included; at most once a second. */
  'member-count': { count: number }
  /** How well a stream travels; only of servers that measure it. */
  'network-quality': QualityEvent
  /** Own media is published, and not by a call that just succeeded: a call that was given up took effect after all. */
  published: StreamEvent
  /** Own media was taken back, and not by a call: by a moderator, a token with fewer rights, or a crash of the server. */
  unpublished: StreamEvent
  /** The token ends soon: call `renewToken`. */
  'token-will-expire': { expiresInMs: number }
  /** The token ended, and with it the membership. `disconnect` follows. */
  'token-expired': { reason: string }
  /** The server is about to restart. The client comes back by itself. */
  'server-restarting': { retryAfterMs: number; jitterMs: number; deadlineMs: number }
  /** The server is about to close the connection. */
  closing: { code: number; reason: string; action: string; url?: string; retryAfterMs?: number }
  /** A handler threw. All other handlers ran. */
  'handler-error': { event: string; error: unknown }
  /** A message of a newer server. */
  unknown: { method: string; params: unknown }

  // Names of NERTC's web SDK, told besides.
  /** With `clientJoin`. */
  'peer-online': JoinEvent
  /** With `clientLeave`: 0 left, 1 the server restarted, 2 kicked, 3 timeout. */
  'peer-leave': UserEvent & { reason: number }
  /** With `kicked`, where the same uid joined elsewhere. */
  'uid-duplicate': KickedEvent
  /** With `kicked`, where a moderator did it. */
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

  // NERTC has these; nothing here causes them, so that handlers do no harm.
  /** See `attributes-updated`. */
  clientUpdate: UserEvent
  /** No captions here. */
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
