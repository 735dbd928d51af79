// UTF-8 without TextDecoder and TextEncoder, which phones do not have. `escape` and `unescape` will stay in the language.
// Combined with `encodeURIComponent` and `decodeURIComponent` they convert between text and UTF-8 at the speed of the engine.
// The module returns only valid UTF-8. Lone surrogates of a text become U+FFFD, as the standard requires.

declare function escape(text: string): string
declare function unescape(text: string): string

// Looking up a global is slow on phones.
const { fromCharCode } = String

/** Bytes per call of `fromCharCode`: engines limit the number of arguments. */
const CHUNK = 8192

/** Decodes the bytes in `at..end`. */
export function decode(bytes: Uint8Array, at: number, end: number): string {
  let text = ''
  for (; at < end; at += CHUNK) {
    text += fromCharCode.apply(null, bytes.subarray(at, Math.min(at + CHUNK, end)) as unknown as number[])
  }
  return isPlain(text) ? text : decodeURIComponent(escape(text))
}

/** Encodes a text: returns a string with one character up to 255 per byte. */
export function encode(text: string): string {
  return isPlain(text) ? text : unescape(encodeURIComponent(text.replace(/[\ud800-\udfff]/gu, '\ufffd')))
}

function isPlain(text: string): boolean {
  return !/[^\0-\x7f]/.test(text)
}
