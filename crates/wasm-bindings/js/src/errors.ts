// Every error that the SDK makes itself. In: a name. Out: an `Error` with `code`, `name`, `reason`. Deliberately
// absent: the sentences of a server, which come with its answers.

/** Why a call was rejected. `name` is what programs compare; numbers repeat. */
export interface LianmaiError extends Error {
  /** What happened, `notJoined` for instance. */
  name: string
  /** NERTC's number where it has one. */
  code: number
  /** The same sentence as `message`: what is wrong and what to do. */
  reason: string
  /** The call that was rejected. */
  method?: string
  /** The parameter that is wrong, `uid` or `rtmpTasks[0].layout` for instance. */
  field?: string
  /** Milliseconds after which another attempt may succeed. */
  retryAfterMs?: number
  /** What to do, where the server knows: `renewToken`, `rejoin`, `redirect`, `reconnect`, `none`. */
  action?: string
  /** Close code of the connection, where its end is the reason. */
  closeCode?: number
  /** NERTC's string for a failed task call: '434' add, '435' delete, '436' update. */
  legacyCode?: string
}

/** Number and sentence of the errors that are made here or by the core, which has no sentences. */
const TABLE: { [name: string]: [number, string] } = {
  invalidRequest: [-32600, 'The call cannot be expressed.'],
  methodNotFound: [-32601, 'This server does not serve the method.'],
  invalidParams: [-32602, 'A parameter is missing or has the wrong type or range.'],
  internalError: [-32603, 'The client failed inside and left the channel: join again.'],
  timeout: [408, 'No answer in time: look at the network and try again.'],
  badUid: [414, 'A uid is a whole number from 0 on; above 9007199254740991 pass it as a string of digits.'],
  uidOutOfRange: [414, 'The uid is greater than 18446744073709551615.'],
  badChannelName: [414, 'A channelName has 1 to 64 characters: letters, digits, space, punctuation of ASCII.'],
  badMediaType: [414, 'The media type is not one that the method takes.'],
  badRole: [414, "A role is 'broadcaster' or 'audience'."],
  badAppkey: [417, 'An appkey has 1 to 64 characters: letters, digits, "_", "-", ".".'],
  alreadyJoined: [434, 'The client is in a channel already: leave first, or use createClient for a second one.'],
  notJoined: [434, 'The client is in no channel: join first.'],
  tooManyInFlight: [20003, 'Too many calls wait for an answer: wait for some of them.'],
  frameTooLarge: [20010, 'The call is too large.'],
  tooDeep: [20011, 'The data is nested too deep.'],
  superseded: [20015, 'The membership or publication ended while the call waited.'],
  outcomeUnknown: [20022, 'The call was sent and nobody knows whether it took effect.'],
  notConnected: [20023, 'There is no connection to the server: check its address and the network.'],
  notSupported: [20100, 'The server has no speech recognition: leave the call out.'],
  wasmUnavailable: [20101, 'The WebAssembly file cannot be loaded: check wasmPath and that it is in the package.'],
  badServer: [20103, "No usable server: configure({server: 'wss://host'}) or Client({server})."],
  destroyed: [20104, 'The client was destroyed for good: get a new one with Client or createClient.'],
  randomUnavailable: [20105, 'The platform gives no random numbers; WeChat needs base library 2.15.0.'],
}

/** Makes an error. */
export function failure(name: string, more?: Partial<LianmaiError>): LianmaiError {
  const [code, sentence] = TABLE[name] || [0, `The call failed: ${name}.`]
  const error = new Error((more && more.message) || sentence) as LianmaiError
  Object.assign(error, { code }, more, { name, reason: error.message })
  return error
}

/** An error about one parameter. */
export function wrong(field: string, expected: string): LianmaiError {
  return failure('invalidParams', { field, message: `${field} must be ${expected}.` })
}
