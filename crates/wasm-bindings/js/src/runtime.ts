// Connects one session to its platform. In: calls of the facade, reports of the host. Out: items for the facade, one at a
// time. It executes the commands of the core and manages its timer and its socket; it decides nothing.

import type { Module } from './glue.js'
import type { Host, HostSocket } from './host.js'

export const PROTOCOL = 'lianmai.v1'

/** An event or a result from the core for the app. */
export interface Item {
  event?: string
  data?: any
  call?: number
  result?: any
  error?: any
}

export interface Observer {
  /** There may be new items. */
  items(): void
  /** A socket is being opened. */
  connecting(url: string): void
  /** The platform allows no more sockets. */
  limit(): void
  /** The module trapped; this runtime cannot be used any more. */
  crashed(error: unknown): void
}

/** The longest delay that the timers of all platforms support. */
const MAX_TIMER_MS = 0x7fffffff

export class Runtime {
  /** The number of the session; 0 if there is none. */
  private core: number
  private inputs: Array<[string, Array<number | string>]> = []
  private busy = false
  private socket: { id: number; host: HostSocket | null } | null = null
  private timer: unknown = null
  /** The deadline for which the timer is set; -1 if it is not set. */
  private due = -1
  private unwatch: (() => void) | void = undefined

  constructor(private host: Host, private module: Module, config: string, private observer: Observer) {
    this.core = module.create(config)
    const look = () => this.feed('foreground')
    if (host.lifecycle) this.unwatch = host.lifecycle({
      // Sends a last sign of life: the server counts the absence of a frozen member from it. This ends no wait.
      suspend: () => this.socket && look(),
      resume: look,
      network: () => this.feed('networkChanged'),
    })
  }

  call(call: number, method: string, params: string): void {
    this.feed('call', call, method, params)
  }

  next(): Item | null {
    return this.ask('next')
  }

  /** The channel as of the last item; null outside a channel. */
  picture(): any {
    return this.ask('picture')
  }

  /** Whether there is no session, or it has neither a socket nor a deadline. */
  isIdle(): boolean {
    return !this.core || (!this.socket && this.module.deadline(this.core) < 0)
  }

  dispose(): void {
    const core = this.core
    this.shut()
    if (core) this.module.free(core)
  }

  /** Passes an input to the session: what happened, and when. */
  private feed(method: string, ...args: Array<number | string>): void {
    this.inputs.push([method, args])
    // A host may report during a command. Its report is handled after the remaining commands.
    if (this.busy) return
    this.busy = true
    let input
    while ((input = this.inputs.shift())) {
      const commands = this.ask(input[0], [this.host.now() as number | string].concat(input[1]))
      for (const [name, socket, text] of commands || []) this.execute(name, socket, text)
    }
    this.busy = false
    this.arm()
    this.observer.items()
  }

  /** Calls a method of the module and parses its answer. A trap ends the runtime. */
  private ask(method: string, args?: Array<number | string>): any {
    if (!this.core) return null
    try {
      const text = this.module.call(method, [this.core as number | string].concat(args || []))
      return text ? JSON.parse(text) : null
    } catch (error) {
      // The session is not freed, because the memory of the module is in an unknown state.
      this.shut()
      this.observer.crashed(error)
      return null
    }
  }

  private shut(): void {
    this.core = 0
    this.inputs = []
    this.host.clearTimer(this.timer)
    if (this.unwatch) this.unwatch()
    this.unwatch = undefined
    this.closeSocket(1000)
  }

  private execute(name: string, id: number, text: any): void {
    if (name === 'connect') {
      this.openSocket(id, text)
    } else if (this.socket && this.socket.id === id) {
      if (name === 'close') {
        this.closeSocket(text)
      } else if (this.socket.host) {
        this.guarded(id, () => this.socket!.host!.send(text))
      }
    }
  }

  private openSocket(id: number, url: string): void {
    // Normally the core has closed the previous socket. Any other socket must not stay open either.
    this.closeSocket(1000)
    const socket = (this.socket = { id, host: null as HostSocket | null })
    this.observer.connecting(url)
    this.guarded(id, () => {
      const opened = this.host.connect(url, PROTOCOL, {
        // The core recognizes late reports by the socket's number.
        open: () => this.feed('opened', id),
        message: (data) => typeof data === 'string' ? this.feed('frame', id, data) : this.feed('unreadable', id),
        close: (code, reason) => this.lost(id, code, reason),
      })
      // The socket may have been lost already.
      if (this.socket !== socket) opened.close(1000)
      else socket.host = opened
    })
  }

  /** Runs an operation of the host's socket. If it throws, the socket is lost. */
  private guarded(id: number, run: () => void): void {
    try {
      run()
    } catch (error) {
      this.lost(id, 1006, String((error as Error).message || error))
    }
  }

  private lost(id: number, code: number, reason: string): void {
    if (!this.socket || this.socket.id !== id) return
    this.closeSocket(1000)
    // Platforms have no code for this case, and each has its own text.
    if (code === 1006 && /exceed|too many|max/i.test(reason)) this.observer.limit()
    this.feed('closed', id, code >= 1000 && code < 5000 ? code : 1006, String(reason || ''))
  }

  private closeSocket(code: number): void {
    const socket = this.socket
    this.socket = null
    if (!socket || !socket.host) return
    try {
      // Browsers accept no other codes.
      socket.host.close(code >= 3000 && code < 5000 ? code : 1000)
    } catch (_) {
      // The socket is closed already.
    }
  }

  private arm(): void {
    const deadline = this.core ? this.module.deadline(this.core) : -1
    // Frames are frequent, but rarely change the deadline.
    if (deadline === this.due) return
    this.due = deadline
    this.host.clearTimer(this.timer)
    if (deadline < 0) return
    const wait = Math.min(Math.max(Math.ceil(deadline - this.host.now()), 0), MAX_TIMER_MS)
    this.timer = this.host.setTimer(() => {
      this.due = -1
      this.feed('timeout')
    }, wait)
  }
}
