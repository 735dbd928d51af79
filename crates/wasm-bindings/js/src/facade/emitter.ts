// Event handlers. In: registrations of the app, and events in their order. Out: calls of handlers, one after the other.
// A handler that throws does not stop the others. Deliberately absent: when an event is emitted.

import { wrong } from '../errors.js'
import type { Host } from '../host.js'

type Handler = (...args: any[]) => unknown

export interface Registration {
  run: Handler
  once: boolean
}

/** The event name of handlers that receive all events. */
export const ANY = '*'

export class Emitter {
  private handlers: { [event: string]: Registration[] } = Object.create(null)

  constructor(private console: () => Host['console']) {}

  add(event: string, run: unknown, once: boolean): Registration {
    if (typeof event !== 'string' || !event) throw wrong('event', 'a name')
    if (typeof run !== 'function') throw wrong('handler', 'a function')
    const entry = { run: run as Handler, once }
    this.handlers[event] = this.of(event).concat(entry)
    return entry
  }

  /** Removes one handler, all handlers of an event, or all handlers. */
  remove(event?: string, run?: unknown): void {
    if (event === undefined) this.handlers = Object.create(null)
    else if (run === undefined) delete this.handlers[event]
    else this.handlers[event] = this.of(event).filter((entry) => entry.run !== run)
  }

  has(event: string, entry: Registration): boolean {
    return this.of(event).indexOf(entry) >= 0
  }

  /** Emits an event, then its alias, and then calls the handlers of all events. */
  emit(event: string, payload: unknown, alias?: string, data?: unknown): void {
    this.tell(event, [payload], event)
    if (alias) this.tell(alias, [data], alias)
    this.tell(ANY, [event, payload], event)
  }

  /** Calls one handler. */
  run(entry: Registration, args: unknown[], event: string): void {
    const failed = (error: unknown) => {
      this.console().error(`lianmai: a handler of ${event} threw`, error)
      if (event !== 'handler-error') this.emit('handler-error', { event, error })
    }
    try {
      const result: any = entry.run(...args)
      // An asynchronous handler fails later.
      if (result && result.then) result.then(null, failed)
    } catch (error) {
      failed(error)
    }
  }

  private tell(key: string, args: unknown[], event: string): void {
    // Iterates over the handlers registered now, and skips those that an earlier handler removes.
    for (const entry of this.of(key)) {
      if (!this.has(key, entry)) continue
      if (entry.once) this.handlers[key] = this.of(key).filter((other) => other !== entry)
      this.run(entry, args, event)
    }
  }

  private of(event: string): Registration[] {
    return this.handlers[event] || []
  }
}
