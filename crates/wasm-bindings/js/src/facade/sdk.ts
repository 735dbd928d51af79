// What an app imports: `YunXinMiniappSDK`. In: the host of the platform. Out: one shared client for apps that need only
// one, and any number of further clients. The functions are properties of one object, so that `require` returns the SDK itself.

import { wrong } from '../errors.js'
import type { Host } from '../host.js'
import { VERSION } from '../version.js'
import { Client } from './client.js'
import { numberOf, objectOf } from './params.js'
import { playerAdvice, pusherAdvice, type MediaAdvice } from './media.js'
import type { ClientOptions, Settings } from './types.js'

/** Options that apply to all clients. Call `configure` once, before the first client. */
export interface SdkOptions {
  /** Address of the server, for instance `wss://host`. The path is `/v1/signal` unless the address has one. Several addresses of one deployment are tried in turn. */
  server?: string | string[]
  /** Location of the WebAssembly file, if it is not where the package has it: a path in the code package of a mini-program, a URL in a browser, a file in Node. */
  wasmPath?: string
  /** Which events follow a reconnect: `'changed'` (default) only the changes, `'all'` all members and streams once more, as NERTC does. */
  reannounce?: 'changed' | 'all'
  /** Replacements for parts of the platform: sockets, timers, randomness, loading. */
  host?: Partial<Host>
  /** Milliseconds until a socket must be open; default 5000. */
  connectTimeoutMs?: number
  /** Milliseconds until a call must be answered; default 10000. */
  commandTimeoutMs?: number
  /** Milliseconds without a connection after which the client gives up a membership; default 600000. */
  giveUpAfterMs?: number
}

/** The package itself: the result of `require('lianmai/wechat')`, or the default import. */
export interface Sdk {
  /** Sets options for all clients. Options that are not named keep their values. */
  configure(options: SdkOptions): void
  /** The client for apps that use only one. It is created once, and then every call returns the same client until `destroy`. Returns at once; the WebAssembly file is loaded in the background. */
  Client(options?: ClientOptions): Client
  /** Creates a further client, for a second channel at the same time. Each client has its own socket. */
  createClient(options?: ClientOptions): Client
  /** Ends the client that `Client` returned: it leaves, and its calls are rejected with `destroyed`. The next call of `Client` creates a new one. */
  destroy(): void
  /** Returns the action that a state of `live-pusher` requires. Takes the code, or the whole event. */
  pusherAdvice: (state: unknown) => MediaAdvice
  /** The same for `live-player`. */
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
    // A plain function, because apps may call it with `new`.
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
