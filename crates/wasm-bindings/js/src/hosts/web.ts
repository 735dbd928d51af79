// A browser. Nothing is touched before a client is made, so that a server can import this to render pages.
//
// Timers of hidden pages may fire once in a minute, so nothing here hangs on them but waiting: events of sockets wake the
// session, and what it says to the app goes by MessageChannel.

import { failure } from '../errors.js'
import { monotonic, type Host, type HostSocket, type SocketListener } from '../host.js'

/** Opens a WebSocket of the browser's shape; that of `ws` has it, too. */
export function connectBy(type: new (url: string, protocol: string) => WebSocket, url: string, protocol: string, listener: SocketListener): HostSocket {
  const socket = new type(url, protocol)
  // An answer without the sub-protocol is no server of ours.
  socket.onopen = () => {
    if (socket.protocol === protocol) return listener.open()
    socket.close(1000)
    listener.close(1006, `the server does not speak ${protocol}`)
  }
  socket.onmessage = (event) => listener.message(event.data)
  socket.onclose = (event) => listener.close(event.code, event.reason)
  // `close` follows, with a code.
  socket.onerror = () => {}
  return {
    send: (text) => socket.send(text),
    close: (code) => socket.close(code),
  }
}

/** Base64 to bytes. */
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
/** Both ends of a channel. In Node, which may run this to render or to test, a port that listens keeps the process alive. */
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
    // In a hidden page a timer that a timer set fires once in a minute, one that a message set once in a second.
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
      // Where nobody says otherwise the second attempt does without the file: development servers may not find it.
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
