// Options of a client, and the results of its calls. Types only.

import type { Host } from '../host.js'
import type { Uid } from '../uid.js'
import type { Attributes, MediaType, Urls } from './events.js'

/** Options of one client. Other options are accepted and ignored. */
export interface ClientOptions {
  /** The app on the server: 1 to 64 letters, digits, `_`, `-` or `.`. */
  appkey?: string
  /** Logs the names of calls and events, never their contents. */
  debug?: boolean
  /** Address of the server, instead of the one in `configure`. */
  server?: string | string[]
  [more: string]: unknown
}

/** The settings that `configure` changes. */
export interface Settings {
  server?: string | string[]
  wasmPath?: string
  host: Host
  reannounce: 'changed' | 'all'
  connectTimeoutMs?: number
  commandTimeoutMs?: number
  giveUpAfterMs?: number
}

/** The result of `join`. */
export interface JoinResult {
  /** Always 200, as in NERTC. */
  code: 200
  /** Id of the present incarnation of the channel. */
  cid: number | string
  /** The client's own uid, `===` the number passed to `join`. */
  uid: Uid
  /** Whether `uid` is a string. */
  isBigNumber: boolean
}

/** The result of `subscribe`. */
export interface SubscribeResult {
  /** The member that is played. */
  uid: Uid
  /** Whether `uid` is a string. */
  isBigNumber: boolean
  /** The kind of media. */
  mediaType: MediaType
  /** The preferred URL: RTMP, if the server has it. */
  url: string
  /** All of them: browsers play `flv`, `live-player` plays `rtmp`. */
  urls: Urls
}

/** The channel, as of the last emitted event. */
export interface Channel {
  /** Id of the present incarnation of the channel. */
  cid: number | string
  /** Name of the channel. */
  channelName: string
  /** Uid of the creator. */
  creator: Uid
  /** Attributes, `{}` if there are none. */
  attributes: Attributes
  /** Number of members, audience included. */
  memberCount: number
  /** Number of the last emitted event of the channel. Events of a channel are numbered without gaps. */
  seq: number
}

/** Fields that NERTC's own apps read. */
export interface Info {
  /** Id of the channel. */
  cid?: number | string
  /** The client's own uid. */
  uid?: Uid
  /** The parameters of `join`, with the newest token. */
  joinChannelParam?: { channelName: string; uid: unknown; token?: string | null }
}
