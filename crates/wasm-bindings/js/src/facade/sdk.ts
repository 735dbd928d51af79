// What an app imports: `YunXinMiniappSDK`. In: the host of the platform. Out: one client for apps that know only one, and
// any number of others. The functions hang on one object, so that `require` gives the SDK itself.

import { wrong } from '../errors.js'
import type { Host } from '../host.js'
import { VERSION } from '../version.js'
import { Client } from './client.js'
import { numberOf, objectOf } from './params.js'
import { playerAdvice, pusherAdvice } from './media.js'
import type { ClientOptions, Settings } from './types.js'

/** What holds for all clients. Call `configure` once, before the first client. */
export interface SdkOptions {
  /** Address of the server, `wss://host` for instance; several of one deployment are tried in turn. */
  server?: string | string[]
  /** Where the WebAssembly file is, if not where the package has it. */
  wasmPath?: string
  /** What is told after a reconnect: what changed, or, as by NERTC, everybody and everything. */
  reannounce?: 'changed' | 'all'
  /** Other sockets, timers, randomness or loading than the platform's. */
  host?: Partial<Host>
  /** Milliseconds until a socket must be open: 5000. */
  connectTimeoutMs?: number
  /** Milliseconds until a call must be answered: 10000. */
  commandTimeoutMs?: number
  /** Milliseconds without a connection after which a membership is given up: 600000. */
  giveUpAfterMs?: number
}

export interface Sdk {
  /** Sets what holds for all clients. */
  configure(options: SdkOptions): void
  /** The client of apps that know only one: made once, then the same until `destroy`. */
  Client(options?: ClientOptions): Client
  /** One more client, for a second channel at the same time. */
  createClient(options?: ClientOptions): Client
  /** The end of the client of `Client`; the next `Client` makes another one. */
  destroy(): void
  /** What a state of `live-pusher` asks for. */
  pusherAdvice: typeof pusherAdvice
  /** What a state of `live-player` asks for. */
  playerAdvice: typeof playerAdvice
  readonly version: string
}

export function createSdk(platform: Host): Sdk {
  const settings: Settings = { host: platform, reannounce: 'changed' }
  let single: Client | null = null

  function create(options: ClientOptions = {}): Client {
    return new Client(settings, objectOf(options, 'options'))
  }

  return {
    configure(options) {
      const { reannounce, wasmPath } = objectOf(options, 'options') as SdkOptions
      if (reannounce !== undefined && reannounce !== 'changed' && reannounce !== 'all') throw wrong('reannounce', "'changed' or 'all'")
      if (wasmPath !== undefined && typeof wasmPath !== 'string') throw wrong('wasmPath', 'a string')
      for (const name of ['connectTimeoutMs', 'commandTimeoutMs', 'giveUpAfterMs'] as const) {
        if (options[name] !== undefined) numberOf(options[name], name, 1, 86400000, true)
      }
      const host = options.host ? Object.assign({}, settings.host, options.host) : settings.host
      Object.assign(settings, options, { host, reannounce: reannounce || settings.reannounce })
    },
    // A function, not a method: apps may write `new`.
    Client: function (options: ClientOptions = {}) {
      if (single) single.configure(objectOf(options, 'options'))
      else single = create(options)
      return single
    },
    createClient: create,
    destroy() {
      if (single) single.end()
      single = null
    },
    pusherAdvice,
    playerAdvice,
    version: VERSION,
  }
}
