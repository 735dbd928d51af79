// When the app is told what. In: work, in the order in which it was found out. Out: the same, one at a time, never
// inside a call of the app. Behind a settlement everything waits until the promise's callbacks ran, also where
// promises are built on setTimeout. Work that throws stops no other. Deliberately absent: what is told.

import type { Host } from '../host.js'

/** For handlers that came late: before everything else, and in a turn of its own. */
export const FIRST = 0
/** Before the next item of the core. */
export const NEXT = 1
/** Once the core has no more items. */
export const LAST = 2

export class Delivery {
  private queues: Array<Array<() => void>> = [[], [], []]
  private isScheduled = false
  private isRunning = false

  /** `step` takes one item: 0 there was none, 1 it was an event, 2 a settlement. */
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
      // The rest has a turn of its own.
      settled = true
      this.host().console.error('lianmai: the client failed', error)
    }
    this.isRunning = false
    if (settled) {
      // Callbacks of the promise were queued before this one, whatever queues them.
      this.isScheduled = true
      Promise.resolve().then(() => this.schedule())
    } else if (this.queues[FIRST]!.length) {
      this.schedule()
    } else {
      this.drained()
    }
  }

  /** Whether it stopped at a settlement. */
  private work(): boolean {
    const [first, next, last] = this.queues as [Array<() => void>, Array<() => void>, Array<() => void>]
    for (let count = first.length; count--; ) first.shift()!()
    // A handler that was registered meanwhile hears what it missed before anything newer.
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
