// When the app is told what. In: work, in the order in which it was found out. Out: the same, one at a time, never
// inside a call of the app. Behind a settlement everything waits until the promise's callbacks ran, also where
// promises are built on setTimeout. Deliberately absent: what is told.

import type { Host } from '../host.js'

export class Delivery {
  /** For handlers that came late: before everything else, and in a turn of its own. */
  private replays: Array<() => void> = []
  /** Before the next item of the core. */
  private jobs: Array<() => void> = []
  /** Once the core has no more items. */
  private later: Array<() => void> = []
  private isScheduled = false
  private isRunning = false

  /** `step` takes one item: 0 there was none, 1 it was an event, 2 a settlement. */
  constructor(private host: () => Host, private step: () => number, private drained: () => void) {}

  replay(run: () => void): void {
    this.replays.push(run)
    this.wake()
  }

  next(run: () => void): void {
    this.jobs.push(run)
    this.wake()
  }

  last(run: () => void): void {
    this.later.push(run)
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
    } finally {
      this.isRunning = false
    }
    if (settled) {
      // Callbacks of the promise were queued before this one, whatever queues them.
      this.isScheduled = true
      Promise.resolve().then(() => this.schedule())
    } else if (this.replays.length) {
      this.schedule()
    } else {
      this.drained()
    }
  }

  /** Whether it stopped at a settlement. */
  private work(): boolean {
    for (const run of this.replays.splice(0)) run()
    // A handler that was registered meanwhile hears what it missed before anything newer.
    while (!this.replays.length) {
      const job = this.jobs.shift()
      if (job) {
        job()
        continue
      }
      const step = this.step()
      if (step > 1) return true
      if (step) continue
      const last = this.later.shift()
      if (!last) return false
      last()
    }
    return false
  }
}
