// The connection between this page and the server, with switches: the user operates them to see how a room recovers. In: what
// the SDK asks of its host, and the switches. Out: sockets, timers and lifecycle reports that follow the switches. Deliberately
// absent: the SDK's reaction, and media, which uses its own connections.

import type { Host, HostSocket, LifecycleListener, SocketListener } from 'lianmai/web'

/** `up`: works normally. `unplugged`: no socket opens. `suspended`: acts like a phone that freezes an app in the background. */
export type LineState = 'up' | 'unplugged' | 'suspended'

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

export class Line {
  state: LineState = 'up'
  private drop: ((code: number) => void) | null = null
  /** Callbacks that became due while the app was suspended. */
  private held: Array<() => void> = []
  private life: LifecycleListener | null = null

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
    this.move('unplugged')
    this.cut()
  }

  plug(): void {
    this.move('up')
    this.life?.network()
  }

  suspend(): void {
    this.life?.suspend()
    this.move('suspended')
    // WeChat closes the sockets of an app in the background; the app learns of it when it is shown again.
    this.drop?.(1000)
  }

  wake(): void {
    this.move('up')
    for (const run of this.held.splice(0)) run()
    this.life?.resume()
  }

  private move(state: LineState): void {
    this.state = state
    this.changed()
  }

  private whenAwake(run: () => void): void {
    if (this.state === 'suspended') this.held.push(run)
    else run()
  }

  private connect(url: string, protocol: string, listener: SocketListener): HostSocket {
    if (this.state !== 'up') {
      setTimeout(() => this.whenAwake(() => listener.close(1006, 'unplugged')))
      return { send() {}, close() {} }
    }
    const socket = new WebSocket(url, protocol)
    let isOver = false
    const over = (code: number, reason: string) => {
      if (isOver) return
      isOver = true
      this.whenAwake(() => listener.close(code, reason))
    }
    this.drop = (code) => {
      over(code, 'interrupted')
      socket.close(1000)
    }
    socket.onopen = () => {
      // A server that does not select the sub-protocol is not one of ours.
      if (socket.protocol !== protocol) this.drop?.(1006)
      else if (!isOver) listener.open()
    }
    socket.onmessage = (event) => isOver || listener.message(event.data)
    socket.onclose = (event) => over(event.code, event.reason)
    return {
      send: (text) => isOver || socket.send(text),
      close(code) {
        isOver = true
        socket.close(code)
      },
    }
  }

  private watch(listener: LifecycleListener): () => void {
    this.life = listener
    const shown = () => {
      if (this.state === 'suspended') return
      if (document.visibilityState === 'visible') listener.resume()
      else listener.suspend()
    }
    const online = () => this.state === 'up' && listener.network()
    document.addEventListener('visibilitychange', shown)
    window.addEventListener('pageshow', shown)
    window.addEventListener('online', online)
    return () => {
      this.life = null
      document.removeEventListener('visibilitychange', shown)
      window.removeEventListener('pageshow', shown)
      window.removeEventListener('online', online)
    }
  }
}
