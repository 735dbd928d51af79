// The errors that the SDK creates itself. In: a name. Out: an `Error` with `code`, `name`, `reason`. Deliberately
// absent: the sentences of server errors; the answers of the server contain them.

/** The reason why a call was rejected. Several errors share a number: compare `name`. */
export interface LianmaiError extends Error {
  /** Name of the error, for instance `notJoined`. Programs compare it. */
  name: string
  /** A number: NERTC's code if it has one. */
  code: number
  /** The same sentence as `message`: the problem and the remedy. */
  reason: string
  /** The call that was rejected. */
  method?: string
  /** The wrong parameter, for instance `uid` or `rtmpTasks[0].layout`. */
  field?: string
  /** Milliseconds after which another attempt may succeed. */
  retryAfterMs?: number
  /** The action to take, if the server knows it: `renewToken`, `rejoin`, `redirect`, `reconnect`, `none`. */
  action?: string
  /** Close code of the connection, if its end is the reason. */
  closeCode?: number
  /** NERTC's string for a failed task call: '434' add, '435' delete, '436' update. */
  legacyCode?: string
}

/**
 * Code and sentence of the errors that are created here or by the core, which has no sentences. Servers choose error names, so
 * the table has no prototype: a name finds only entries of the table.
 */
const TABLE: { [name: string]: [number, string] } = {
  __proto__: null as never,
  invalidParams: [-32602, 'A parameter is missing or wrong.'],
  internalError: [-32603, 'The client failed: join again.'],
  timeout: [408, 'No answer in time: try again.'],
  badUid: [414, 'A uid is a whole number from 0, above 9007199254740991 as a string.'],
  uidOutOfRange: [414, 'The uid is greater than 18446744073709551615.'],
  badChannelName: [414, 'A channelName has 1 to 64 ASCII characters.'],
  badRole: [414, "A role is 'broadcaster' or 'audience'."],
  badAppkey: [417, 'An appkey has 1 to 64 letters, digits, _, - or .'],
  alreadyJoined: [434, 'In a channel already: leave first, or use createClient.'],
  notJoined: [434, 'In no channel: join first.'],
  tooManyInFlight: [20003, 'Too many calls at once: wait for answers.'],
  frameTooLarge: [20010, 'The call is too large.'],
  superseded: [20015, 'The membership or stream ended while the call waited.'],
  outcomeUnknown: [20022, 'The call was sent, and nobody knows whether it took effect.'],
  notConnected: [20023, 'No connection to the server.'],
  notSupported: [20100, 'This server has no captions: leave the call out.'],
  wasmUnavailable: [20101, ''],
  badServer: [20103, "No usable server: configure({server: 'wss://host'})."],
  destroyed: [20104, 'The client was destroyed: get a new one with Client.'],
  randomUnavailable: [20105, 'No random numbers: WeChat needs base library 2.15.0.'],
}

/** Creates an error. */
export function failure(name: string, more: Partial<LianmaiError> = {}): LianmaiError {
  const [code, sentence] = TABLE[name] || [0, `The call failed: ${name}.`]
  const error = new Error(more.message || (more.field ? `${more.field}: ${sentence}` : sentence)) as LianmaiError
  return Object.assign(error, { code }, more, { name, message: error.message, reason: error.message })
}

/** Creates an error about one parameter. */
export function wrong(field: string, expected: string): LianmaiError {
  return failure('invalidParams', { field, message: `${field} must be ${expected}.` })
}
