// The host for browsers. It uses no browser API before a client is created, so that a server can import it to render pages.
//
// Browsers may delay the timers of hidden pages to one a minute. So timers only serve to wait: events of sockets wake the
// session, and events for the app are delivered through a MessageChannel.

import { failure } from '../errors.js'
import { monotonic, type Host, type HostSocket, type SocketListener } from '../host.js'

/** Opens a WebSocket with the browser's interface. The class of `ws` has the same interface. */
export function connectBy(type: new (url: string, protocol: string) => WebSocket, url: string, protocol: string, listener: SocketListener): HostSocket {
  const socket = new type(url, protocol)
  // A server that does not select the sub-protocol is not one of ours.
  socket.onopen = () => {
    if (socket.protocol === protocol) return listener.open()
    socket.close(1000)
    listener.close(1006, `the server does not speak ${protocol}`)
  }
  socket.onmessage = (event) => listener.message(event.data)
  socket.onclose = (event) => listener.close(event.code, event.reason)
  // The event `close` follows and has a code.
  socket.onerror = () => {}
  return {
    send: (text) => socket.send(text),
    close: (code) => socket.close(code),
  }
}

/** Decodes base64. */
export function bytes(base64: string): Uint8Array<ArrayBuffer> {
  const text = atob(base64)
  const out = new Uint8Array(text.length)
  for (let at = 0; at < text.length; at++) out[at] = text.charCodeAt(at)
  return out
}

interface Timer {
  isCleared: boolean
  id: ReturnType<typeof setTimeout> | undefined
}

const tasks: Array<() => void> = []
/** Both ports of a channel. In Node (rendering, tests) a listening port keeps the process alive; `unref` prevents that. */
let inlet: MessagePort | undefined
let outlet: MessagePort & { ref?(): void; unref?(): void }

function macrotask(run: () => void): void {
  if (!inlet) {
    const { port1, port2 } = new MessageChannel()
    inlet = port2
    outlet = port1
    outlet.onmessage = () => {
      const task = tasks.shift()
      if (!tasks.length && outlet.unref) outlet.unref()
      if (task) task()
    }
  }
  tasks.push(run)
  if (outlet.ref) outlet.ref()
  inlet.postMessage(0)
}

/** `url` is where the bundler put the file, `inline` loads it as text. */
export function web(url: string | undefined, inline: () => Promise<{ default: string }>): Host {
  return {
    now: monotonic(Date.now),
    random: (length) => typeof crypto === 'undefined'
      ? Promise.reject(failure('randomUnavailable', { message: 'There is no crypto.getRandomValues here.' }))
      : Promise.resolve(crypto.getRandomValues(new Uint8Array(length))),
    connect: (url, protocol, listener) => connectBy(WebSocket, url, protocol, listener),
    // In a hidden page, a timer set by a timer fires once a minute, a timer set by a message once a second.
    setTimer(run, ms) {
      const timer: Timer = { isCleared: false, id: undefined }
      macrotask(() => {
        if (!timer.isCleared) timer.id = setTimeout(run, ms)
      })
      return timer
    },
    clearTimer(timer) {
      if (!timer) return
      ;(timer as Timer).isCleared = true
      clearTimeout((timer as Timer).id)
    },
    macrotask,
    async loadWasm(path, imports, attempt) {
      const from = path === undefined ? url : path
      let source: BufferSource
      // Without `wasmPath`, the second attempt uses the inline copy: development servers may not find the file.
      if (from === undefined || (path === undefined && attempt)) {
        source = bytes((await inline()).default)
      } else {
        const response = await fetch(from)
        if (!response.ok) throw new Error(`HTTP ${response.status}`)
        source = await response.arrayBuffer()
      }
      return (await WebAssembly.instantiate(source, imports)).instance.exports
    },
    lifecycle(listener) {
      if (typeof document === 'undefined') return () => {}
      const shown = () => (document.visibilityState === 'visible' ? listener.resume() : listener.suspend())
      const restored = () => listener.resume()
      const online = () => listener.network()
      document.addEventListener('visibilitychange', shown)
      window.addEventListener('pageshow', restored)
      window.addEventListener('online', online)
      return () => {
        document.removeEventListener('visibilitychange', shown)
        window.removeEventListener('pageshow', restored)
        window.removeEventListener('online', online)
      }
    },
    console,
  }
}
