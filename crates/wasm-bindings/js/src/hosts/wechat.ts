// The host for WeChat mini-programs. In: `wx`, `WXWebAssembly`, timers and the console, and nothing else: a phone has no
// WebAssembly, TextDecoder, fetch, URL, crypto, performance or queueMicrotask.
//
// Sockets in WeChat: `success` of connectSocket only means that the task was created. onError and onClose come in either
// order, and late after the app was in the background. Code 1000 "interrupted" does not mean that anybody closed the socket. The
// runtime uses only the first report.

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

/** The functions of `wx` that are used. Those of uni-app and Taro have the same interface. */
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
  /** `onAppHide`, `onAppShow`, `onNetworkStatusChange` and the `off..` functions, if they exist. */
  [listen: string]: any
}

declare const wx: Wx
declare const WXWebAssembly: {
  instantiate(path: string, imports: WasmImports): Promise<{ instance?: { exports: WasmExports }; exports: WasmExports }>
}

/** Opens a socket with WeChat's interface. */
export function connectBy(connectSocket: Wx['connectSocket'], url: string, protocol: string, listener: SocketListener): HostSocket {
  let isOpen = false
  let isClosed = false
  const fail = (error: Failure) => listener.close(1006, (error && error.errMsg) || '')
  const task = connectSocket({ url, protocols: [protocol], tcpNoDelay: true, success: () => {}, fail })
  // If too many sockets are open, WeChat returns no task, and `fail` reports it.
  if (!task) return { send: () => {}, close: () => {} }
  const close = (code: number) => task.close({ code, reason: '', fail: () => {} })
  task.onOpen(() => {
    isOpen = true
    // The socket was closed while it was connecting. WeChat sometimes opens it nevertheless.
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
      // Before the socket is open, WeChat accepts only 1000.
      close(isOpen ? code : 1000)
    },
  }
}

function listen(event: string, run: Listener): () => void {
  const set = (how: string) => wx[how + event] && wx[how + event](run)
  set('on')
  return () => set('off')
}

/** `defaultPath` is the location of the WebAssembly file in the package. */
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
          // Without a network a reconnect is pointless. With the same network type, the socket may have survived or not.
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
