// Handlers by event. In: registrations of the app, events in their order. Out: calls of handlers, one after the other;
// one that throws stops no other. Deliberately absent: when an event is told.

import { wrong } from '../errors.js'
import type { Host } from '../host.js'

type Handler = (...args: any[]) => unknown

export interface Registration {
  run: Handler
  once: boolean
}

/** Hears everything, each event once. */
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

  /** Removes one handler, or all of the event, or all. */
  remove(event?: string, run?: unknown): void {
    if (event === undefined) this.handlers = Object.create(null)
    else if (run === undefined) delete this.handlers[event]
    else this.handlers[event] = this.of(event).filter((entry) => entry.run !== run)
  }

  has(event: string, entry: Registration): boolean {
    return this.of(event).indexOf(entry) >= 0
  }

  /** Tells an event, then its alias, then those who hear all. */
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
      // An asynchronous handler throws later.
      if (result && result.then) result.then(null, failed)
    } catch (error) {
      failed(error)
    }
  }

  private tell(key: string, args: unknown[], event: string): void {
    // Those of this moment, but for those that one of them removes.
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
