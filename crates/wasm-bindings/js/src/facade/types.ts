// What goes into a client, and what its calls answer. Types only.

import type { Host } from '../host.js'
import type { Uid } from '../uid.js'
import type { Attributes, MediaType, Urls } from './events.js'

/** Options of one client. Others are taken and mean nothing. */
export interface ClientOptions {
  /** Which app of the server: 1 to 64 letters, digits, `_`, `-` or `.`. */
  appkey?: string
  /** Logs the names of calls and events, never their contents. */
  debug?: boolean
  /** Address of the server, in place of that of `configure`. */
  server?: string | string[]
  [more: string]: unknown
}

/** What `configure` has set. */
export interface Settings {
  server?: string | string[]
  wasmPath?: string
  host: Host
  reannounce: 'changed' | 'all'
  connectTimeoutMs?: number
  commandTimeoutMs?: number
  giveUpAfterMs?: number
}

/** What `join` answers. */
export interface JoinResult {
  /** Always 200, as in NERTC. */
  code: 200
  /** Id of the channel in its present life. */
  cid: number | string
  /** The own uid, `===` the joined number. */
  uid: Uid
  /** Whether `uid` is a string. */
  isBigNumber: boolean
}

/** What `subscribe` answers. */
export interface SubscribeResult {
  /** Who is played. */
  uid: Uid
  /** Whether `uid` is a string. */
  isBigNumber: boolean
  /** Which kind. */
  mediaType: MediaType
  /** The preferred URL: RTMP, where the server has it. */
  url: string
  /** All of them: browsers play `flv`, `live-player` plays `rtmp`. */
  urls: Urls
}

/** The channel, as of the event that was told last. */
export interface Channel {
  /** Id of the channel in its present life. */
  cid: number | string
  /** Its name. */
  channelName: string
  /** Who made it. */
  creator: Uid
  /** Attributes, `{}` when there are none. */
  attributes: Attributes
  /** How many are in it, audience included. */
  memberCount: number
  /** Number of the channel's last event that was told; events of a channel are numbered without a gap. */
  seq: number
}

/** What NERTC's own apps read. */
export interface Info {
  /** Id of the channel. */
  cid?: number | string
  /** The own uid. */
  uid?: Uid
  /** What `join` was called with; the token is the newest. */
  joinChannelParam?: { channelName: string; uid: unknown; token?: string | null }
}
