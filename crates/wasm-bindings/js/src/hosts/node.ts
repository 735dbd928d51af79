// The host for Node. Version 20 has no WebSocket, so `ws` opens the sockets.

import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { WebSocket } from 'ws'
import { monotonic, type Host } from '../host.js'
import { connectBy } from './web.js'

/** Larger than any frame that a server may send. */
const MAX_PAYLOAD = 1048576

class NodeSocket extends WebSocket {
  constructor(url: string, protocol: string) {
    super(url, protocol, { maxPayload: MAX_PAYLOAD, perMessageDeflate: false })
  }
}

export function node(file: string): Host {
  return {
    now: monotonic(Date.now),
    random: async (length) => randomBytes(length),
    connect: (url, protocol, listener) =>
      connectBy(NodeSocket as unknown as new (url: string, protocol: string) => globalThis.WebSocket, url, protocol, listener),
    setTimer: (run, ms) => setTimeout(run, ms),
    clearTimer: (timer) => clearTimeout(timer as NodeJS.Timeout),
    macrotask: (run) => {
      setImmediate(run)
    },
    async loadWasm(path, imports) {
      const source = await readFile(path === undefined ? file : path)
      return (await WebAssembly.instantiate(new Uint8Array(source), imports)).instance.exports
    },
    console,
  }
}
