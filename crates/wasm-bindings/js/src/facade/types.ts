// What goes into a client, and what its calls answer. Types only.

import type { Host } from '../host.js'
import type { Uid } from '../uid.js'
import type { Attributes, MediaType, Urls } from './events.js'

/** Options of one client; each wins over `configure`. */
export interface ClientOptions {
  /** Which app of the server. */
  appkey?: string
  /** Logs the names of calls and events. */
  debug?: boolean
  /** Address of the server, `wss://host` for instance; several are tried in turn. */
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

export interface JoinResult {
  code: 200
  cid: number | string
  uid: Uid
  isBigNumber: boolean
}

export interface SubscribeResult {
  uid: Uid
  isBigNumber: boolean
  mediaType: MediaType
  /** The preferred URL. */
  url: string
  /** All of them: browsers play `flv`, `live-player` plays `rtmp`. */
  urls: Urls
}

/** The channel, as of the event that was told last. */
export interface Channel {
  cid: number | string
  channelName: string
  creator: Uid
  attributes: Attributes
  /** Audience included. */
  memberCount: number
}

/** What NERTC's own apps read. */
export interface Info {
  cid?: number | string
  uid?: Uid
  joinChannelParam?: { channelName: string; uid: unknown; token?: string | null }
}
