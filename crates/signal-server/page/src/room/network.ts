// The connection between this page and the server, with switches: the user operates them to see how a room recovers. In: what
// the SDK asks of its host, and the switches. Out: sockets, timers and lifecycle reports that follow the switches. Deliberately
// absent: the SDK's reaction, and media, which uses its own connections.

import type { Host, HostSocket, LifecycleListener, SocketListener } from 'lianmai/web'

/** `up`: works normally. `unplugged`: no socket opens. `suspended`: acts like a phone that freezes an app in the background. */
export type NetworkState = 'up' | 'unplugged' | 'suspended'

interface Timer {
  isCleared: boolean
  id: number
}

const { port1, port2 } = new MessageChannel()
const tasks: Array<() => void> = []
port1.onmessage = () => tasks.shift()?.()

/** Runs a function soon, outside of any timer callback. */
function macrotask(run: () => void): void {
  tasks.push(run)
  port2.postMessage(0)
}

export class SimulatedNetwork {
  state: NetworkState = 'up'
  private drop: ((code: number) => void) | null = null
  /** Callbacks that became due while the app was suspended. */
  private deferred: Array<() => void> = []
  private lifecycle: LifecycleListener | null = null

  constructor(private changed: () => void) {}

  /** The parts of the platform that the switches control. */
  host(): Partial<Host> {
    return {
      connect: (url, protocol, listener) => this.connect(url, protocol, listener),
      setTimer: (run, ms) => {
        const timer: Timer = { isCleared: false, id: 0 }
        // The SDK's own host does the same: in a hidden page, a timer set by a timer fires once a minute, a timer set by a
        // message once a second.
        macrotask(() => {
          if (!timer.isCleared) timer.id = window.setTimeout(() => this.whenAwake(() => timer.isCleared || run()), ms)
        })
        return timer
      },
      clearTimer: (timer) => {
        if (!timer) return
        ;(timer as Timer).isCleared = true
        clearTimeout((timer as Timer).id)
      },
      lifecycle: (listener) => this.watch(listener),
    }
  }

  /** Drops the present socket. The next socket opens normally. */
  cut(): void {
    this.drop?.(1006)
  }

  unplug(): void {
    this.setState('unplugged')
    this.cut()
  }

  plug(): void {
    this.setState('up')
    this.lifecycle?.network()
  }

  suspend(): void {
    this.lifecycle?.suspend()
    this.setState('suspended')
    // WeChat closes the sockets of an app in the background; the app learns of it when it is shown again.
    this.drop?.(1000)
  }

  wake(): void {
    this.setState('up')
    for (const run of this.deferred.splice(0)) run()
    this.lifecycle?.resume()
  }

  private setState(state: NetworkState): void {
    this.state = state
    this.changed()
  }

  private whenAwake(run: () => void): void {
    if (this.state === 'suspended') this.deferred.push(run)
    else run()
  }

  private connect(url: string, protocol: string, listener: SocketListener): HostSocket {
    if (this.state !== 'up') {
      setTimeout(() => this.whenAwake(() => listener.close(1006, 'unplugged')))
      return { send() {}, close() {} }
    }
    const socket = new WebSocket(url, protocol)
    let isClosed = false
    const reportClose = (code: number, reason: string) => {
      if (isClosed) return
      isClosed = true
      this.whenAwake(() => listener.close(code, reason))
    }
    this.drop = (code) => {
      reportClose(code, 'interrupted')
      socket.close(1000)
    }
    socket.onopen = () => {
      // A server that does not select the sub-protocol is not one of ours.
      if (socket.protocol !== protocol) this.drop?.(1006)
      else if (!isClosed) listener.open()
    }
    socket.onmessage = (event) => isClosed || listener.message(event.data)
    socket.onclose = (event) => reportClose(event.code, event.reason)
    return {
      send: (text) => isClosed || socket.send(text),
      close(code) {
        isClosed = true
        socket.close(code)
      },
    }
  }

  private watch(listener: LifecycleListener): () => void {
    this.lifecycle = listener
    const onVisibilityChange = () => {
      if (this.state === 'suspended') return
      if (document.visibilityState === 'visible') listener.resume()
      else listener.suspend()
    }
    const onOnline = () => this.state === 'up' && listener.network()
    document.addEventListener('visibilitychange', onVisibilityChange)
    window.addEventListener('pageshow', onVisibilityChange)
    window.addEventListener('online', onOnline)
    return () => {
      this.lifecycle = null
      document.removeEventListener('visibilitychange', onVisibilityChange)
      window.removeEventListener('pageshow', onVisibilityChange)
      window.removeEventListener('online', onOnline)
    }
  }
}
