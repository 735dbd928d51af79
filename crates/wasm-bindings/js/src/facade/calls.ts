// Promises of calls that are open. In: calls with their numbers, and how the core settled them. Out: each promise settled
// once; what is thrown is a rejection, and each rejection says what was called. Deliberately absent: order.

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
  /** Nothing is to be called any more. */
  isDead = false
  private pending = new Map<number, Open>()
  private lastNumber = 0

  constructor(private log: (...what: string[]) => void) {}

  promise<T>(method: string, run: (resolve: (result: T) => void, reject: (error: LianmaiError) => void) => void): Promise<T> {
    return new Promise((resolve, reject) => {
      const fail = (cause: LianmaiError) => {
        // What is not ours was thrown by what the app or its host handed in.
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

  /** The number of a new call. */
  add(resolve: Open['resolve'], reject: Open['reject']): number {
    this.pending.set(++this.lastNumber, { resolve, reject })
    return this.lastNumber
  }

  /** Whether it was one that is open. */
  settle(item: Item): boolean {
    const call = this.pending.get(item.call!)
    this.pending.delete(item.call!)
    if (!call) return false
    if (item.error) call.reject(failure(item.error.name, item.error))
    else call.resolve(item.result)
    return true
  }

  /** Nothing will answer what is open. */
  drop(name: string): void {
    this.pending.forEach((call) => call.reject(failure(name)))
    this.pending.clear()
  }
}
