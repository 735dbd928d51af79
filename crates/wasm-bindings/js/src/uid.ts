// Users as an app names them and as the wire does. In: number, string of digits, BigInt, or an object of a library of
// big numbers. Out: the canonical string of digits, or the error that says what is wrong; and back.

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

/** The spelling of the wire; throws what the call has to be rejected with. */
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
        // What is not exact is somebody else's uid.
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
    // An object that cannot be spelled is no uid.
  }
  return ''
}

/** How an app is told who it is about, and what more there is to say. */
export function told<T extends object>(uid: string, more?: T): { uid: Uid; isBigNumber: boolean } & T {
  const isBigNumber = Number(uid) > MAX_SAFE
  return Object.assign({}, more, { uid: isBigNumber ? uid : Number(uid), isBigNumber }) as { uid: Uid; isBigNumber: boolean } & T
}
