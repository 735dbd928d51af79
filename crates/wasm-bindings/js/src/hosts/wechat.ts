// A mini-program of WeChat. In: `wx`, `WXWebAssembly`, timers and the console, and nothing else: a phone has no
// WebAssembly, TextDecoder, fetch, URL, crypto, performance or queueMicrotask.
//
// Sockets of WeChat: `success` of connectSocket only says that a task was made; onError and onClose come in either
// order, late after the background, and 1000 "interrupted" is no wish of anybody. The runtime takes the first report
// and no other.

import { failure } from '../errors.js'
import { monotonic, type Host, type HostSocket, type SocketListener, type WasmExports, type WasmImports } from '../host.js'

interface SocketTask {
  send(options: { data: string; fail?: (error: Failure) => void }): void
  close(options: { code?: number; reason?: string; fail?: () => void }): void
  onOpen(run: (event: unknown) => void): void
  onMessage(run: (event: { data: unknown }) => void): void
  onClose(run: (event: { code?: number; reason?: string }) => void): void
  onError(run: (event: Failure) => void): void
}

interface Failure {
  errMsg?: string
}

type Listener = (event: any) => void

/** What is used of `wx`; that of uni-app and Taro has the same shape. */
export interface Wx {
  connectSocket(options: {
    url: string
    protocols: string[]
    tcpNoDelay: boolean
    success: () => void
    fail: (error: Failure) => void
  }): SocketTask
  getRandomValues?(options: {
    length: number
    success: (result: { randomValues: ArrayBuffer }) => void
    fail: (error: Failure) => void
  }): void
  /** `onAppHide`, `onAppShow`, `onNetworkStatusChange` and their `off..`, as far as there are any. */
  [listen: string]: any
}

declare const wx: Wx
declare const WXWebAssembly: {
  instantiate(path: string, imports: WasmImports): Promise<{ instance?: { exports: WasmExports }; exports: WasmExports }>
}

/** Opens a socket of WeChat's shape. */
export function connectBy(connectSocket: Wx['connectSocket'], url: string, protocol: string, listener: SocketListener): HostSocket {
  let isOpen = false
  let isClosed = false
  const fail = (error: Failure) => listener.close(1006, (error && error.errMsg) || '')
  const task = connectSocket({ url, protocols: [protocol], tcpNoDelay: true, success: () => {}, fail })
  // Where there are too many already there is none, and `fail` says so.
  if (!task) return { send: () => {}, close: () => {} }
  const close = (code: number) => task.close({ code, reason: '', fail: () => {} })
  task.onOpen(() => {
    isOpen = true
    // Closed while it was being opened: WeChat does not always manage that.
    if (isClosed) return close(1000)
    listener.open()
  })
  task.onMessage((event) => listener.message(event.data))
  task.onError(fail)
  task.onClose((event) => listener.close((event && event.code) || 1006, (event && event.reason) || ''))
  return {
    send: (data) => task.send({ data, fail }),
    close(code) {
      if (isClosed) return
      isClosed = true
      // Before the socket is open WeChat takes only 1000.
      close(isOpen ? code : 1000)
    },
  }
}

function listen(event: string, run: Listener): () => void {
  const set = (how: string) => wx[how + event] && wx[how + event](run)
  set('on')
  return () => set('off')
}

/** `defaultPath` is where the package has the file of WebAssembly. */
export function wechat(defaultPath: string): Host {
  return {
    now: monotonic(Date.now),
    random: (length) => new Promise((resolve, reject) => {
      if (!wx.getRandomValues) throw failure('randomUnavailable')
      wx.getRandomValues({
        length,
        success: (result) => resolve(new Uint8Array(result.randomValues)),
        fail: () => reject(failure('randomUnavailable')),
      })
    }),
    connect: (url, protocol, listener) => connectBy((options) => wx.connectSocket(options), url, protocol, listener),
    setTimer: (run, ms) => setTimeout(run, ms),
    clearTimer: (timer) => clearTimeout(timer as number),
    macrotask: (run) => {
      setTimeout(run, 0)
    },
    loadWasm: (path, imports) => WXWebAssembly.instantiate(path === undefined ? defaultPath : path, imports)
      .then((result) => (result.instance || result).exports),
    lifecycle(listener) {
      let network: unknown
      const ends = [
        listen('AppHide', () => listener.suspend()),
        listen('AppShow', () => listener.resume()),
        listen('NetworkStatusChange', (event) => {
          // Without a network there is nowhere to go. The same kind again may have kept the socket, or not.
          if (!event.isConnected) return
          if (event.networkType === network) return listener.resume()
          network = event.networkType
          listener.network()
        }),
      ]
      return () => ends.forEach((end) => end())
    },
    console,
  }
}
