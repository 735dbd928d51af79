// Converts uids between apps and the protocol. In: a number, a string of digits, a BigInt, or an object of a big-number
// library. Out: the canonical string of digits, or an error that names the problem; and the way back.

import { failure } from './errors.js'

/** The methods that big-number libraries have in common. */
export interface BigNumberLike {
  toFixed?(): string
  toString(): string
}

/** A uid as apps pass it: 0 to 18446744073709551615. */
export type UidInput = number | string | bigint | BigNumberLike

/** A uid as the SDK returns it: a number if that is exact, otherwise a string; `isBigNumber` tells which. */
export type Uid = number | string

const MAX = '18446744073709551615'
const MAX_SAFE = 9007199254740991

/** The uid as in the protocol. Throws the error with which the call must be rejected. */
export function toWire(uid: unknown, field = 'uid'): string {
  const text = spell(uid)
  if (!/^(0|[1-9]\d*)$/.test(text)) throw failure('badUid', { field })
  if (text.length > MAX.length || (text.length === MAX.length && text > MAX)) throw failure('uidOutOfRange', { field })
  return text
}

function spell(uid: unknown): string {
  try {
    switch (typeof uid) {
      case 'number':
        // A number that is not exact would be the uid of another user.
        return uid <= MAX_SAFE ? String(uid) : ''
      case 'string':
      case 'bigint':
        return String(uid)
      case 'object': {
        const big = uid as BigNumberLike
        if (typeof big.toFixed === 'function') return big.toFixed()
        return Array.isArray(uid) ? '' : String(uid)
      }
    }
  } catch (_) {
    // An object that cannot be converted is not a uid.
  }
  return ''
}

/** Adds a uid in the form for apps to a payload. Without a uid, as for a task of the app's server, the payload stays as it is. */
export function told<T extends object>(uid: string | undefined, more?: T): { uid: Uid; isBigNumber: boolean } & T {
  if (uid === undefined) return more as { uid: Uid; isBigNumber: boolean } & T
  const isBigNumber = Number(uid) > MAX_SAFE
  return Object.assign({}, more, { uid: isBigNumber ? uid : Number(uid), isBigNumber }) as { uid: Uid; isBigNumber: boolean } & T
}
