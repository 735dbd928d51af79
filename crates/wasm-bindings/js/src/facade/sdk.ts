// What an app imports: `YunXinMiniappSDK`. In: the host of the platform. Out: one client for apps that know only one, and
// any number of others. The functions hang on one object, so that `require` gives the SDK itself.

import { wrong } from '../errors.js'
import type { Host } from '../host.js'
import { VERSION } from '../version.js'
import { Client } from './client.js'
import { numberOf, objectOf } from './params.js'
import { playerAdvice, pusherAdvice, type MediaAdvice } from './media.js'
import type { ClientOptions, Settings } from './types.js'

/** What holds for all clients. Call `configure` once, before the first client. */
export interface SdkOptions {
  /** Address of the server, `wss://host` for instance; the path is `/v1/signal` unless one is given. Several addresses of one deployment are tried in turn. */
  server?: string | string[]
  /** Where the WebAssembly file is, if not where the package has it: a path in the code package of a mini-program, a URL in a browser, a file in Node. */
  wasmPath?: string
  /** What is told after a reconnect: `'changed'` (at first) only what changed, `'all'` everybody and everything once more, as NERTC does. */
  reannounce?: 'changed' | 'all'
  /** Parts of the platform in place of its own: sockets, timers, randomness, loading. */
  host?: Partial<Host>
  /** Milliseconds until a socket must be open, 5000 at first. */
  connectTimeoutMs?: number
  /** Milliseconds until a call must be answered, 10000 at first. */
  commandTimeoutMs?: number
  /** Milliseconds without a connection after which a membership is given up, 600000 at first. */
  giveUpAfterMs?: number
}

/** What the package is: `require('lianmai/wechat')`, or the default import. */
export interface Sdk {
  /** Sets what holds for all clients. What is not named stays as it is. */
  configure(options: SdkOptions): void
  /** The client of apps that know only one: made once, then the same until `destroy`. Returns at once; the WebAssembly file is loaded behind the scene. */
  Client(options?: ClientOptions): Client
  /** One more client, for a second channel at the same time. Each has a socket of its own. */
  createClient(options?: ClientOptions): Client
  /** The end of the client of `Client`: it leaves, and its calls are rejected with `destroyed`. The next `Client` makes another one. */
  destroy(): void
  /** What an event of `live-pusher` asks for: its code, or the event as it is. */
  pusherAdvice: (state: unknown) => MediaAdvice
  /** The same of `live-player`. */
  playerAdvice: (state: unknown) => MediaAdvice
  /** Version of the package. */
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
