// The promises of pending calls. In: calls with their numbers, and the results from the core. Out: each promise settles
// once. An exception becomes a rejection, and each rejection names the called method. Deliberately absent: the order.

import { failure, type LianmaiError } from '../errors.js'
import type { Item } from '../runtime.js'

/** Settles one call. */
interface Open {
  resolve(result?: any): void
  reject(error: LianmaiError): void
}

/** NERTC's strings for task calls that fail. */
const LEGACY: { [method: string]: string } = { addTasks: '434', deleteTasks: '435', updateTasks: '436' }

export class Calls {
  /** Whether the client was destroyed and rejects all calls. */
  isDead = false
  private pending = new Map<number, Open>()
  private lastNumber = 0

  constructor(private log: (...what: string[]) => void) {}

  promise<T>(method: string, run: (resolve: (result: T) => void, reject: (error: LianmaiError) => void) => void): Promise<T> {
    return new Promise((resolve, reject) => {
      const fail = (cause: LianmaiError) => {
        // An error without `reason` was thrown by a value of the app or by its host.
        const error = cause && cause.reason ? cause : failure('invalidParams', { message: String((cause && cause.message) || cause) })
        this.log(method, error.name)
        reject(Object.assign(error, { method, legacyCode: LEGACY[method] }))
      }
      try {
        if (this.isDead) throw failure('destroyed')
        run(resolve, fail)
      } catch (error) {
        fail(error as LianmaiError)
      }
    })
  }

  /** Registers a call and returns its number. */
  add(resolve: Open['resolve'], reject: Open['reject']): number {
    this.pending.set(++this.lastNumber, { resolve, reject })
    return this.lastNumber
  }

  /** Settles the call of an item. Returns false if the call is not pending. */
  settle(item: Item): boolean {
    const call = this.pending.get(item.call!)
    this.pending.delete(item.call!)
    if (!call) return false
    if (item.error) call.reject(failure(item.error.name, item.error))
    else call.resolve(item.result)
    return true
  }

  /** Rejects all pending calls: no answer will come. */
  drop(name: string): void {
    this.pending.forEach((call) => call.reject(failure(name)))
    this.pending.clear()
  }
}
