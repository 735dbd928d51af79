// Decides when the app receives events and results. In: work, in the order in which it arose. Out: the same work, one piece at a
// time, never during a call of the app. After a call settles, all later work waits until the callbacks of its promise ran, also
// with promises based on setTimeout. Work that throws does not stop other work. Deliberately absent: the content of the work.

import type { Host } from '../host.js'

/** For handlers that were added late: runs before everything else, in a separate task. */
export const FIRST = 0
/** Runs before the next item of the core. */
export const NEXT = 1
/** Runs when the core has no more items. */
export const LAST = 2

export class Delivery {
  private queues: Array<Array<() => void>> = [[], [], []]
  private isScheduled = false
  private isRunning = false

  /** `step` takes one item and returns 0 if there was none, 1 for an event, 2 if a call settled. */
  constructor(private host: () => Host, private step: () => number, private drained: () => void) {}

  add(queue: number, run: () => void): void {
    this.queues[queue]!.push(run)
    this.wake()
  }

  wake(): void {
    if (!this.isScheduled && !this.isRunning) this.schedule()
  }

  private schedule(): void {
    this.isScheduled = true
    this.host().macrotask(() => this.turn())
  }

  private turn(): void {
    this.isScheduled = false
    this.isRunning = true
    let settled = false
    try {
      settled = this.work()
    } catch (error) {
      // The remaining work runs in a new task.
      settled = true
      this.host().console.error('lianmai: the client failed', error)
    }
    this.isRunning = false
    if (settled) {
      // The callbacks of the settled promise were queued before this one, however the platform queues them.
      this.isScheduled = true
      Promise.resolve().then(() => this.schedule())
    } else if (this.queues[FIRST]!.length) {
      this.schedule()
    } else {
      this.drained()
    }
  }

  /** Runs queued work. Returns true if it stopped because a call settled. */
  private work(): boolean {
    const [first, next, last] = this.queues as [Array<() => void>, Array<() => void>, Array<() => void>]
    for (let count = first.length; count--; ) first.shift()!()
    // A handler that was added meanwhile receives the past events before any newer one.
    while (!first.length) {
      let run = next.shift()
      if (!run) {
        const step = this.step()
        if (step > 1) return true
        if (step) continue
        run = last.shift()
        if (!run) return false
      }
      run()
    }
    return false
  }
}
