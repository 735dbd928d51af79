// UTF-8 without TextDecoder and TextEncoder, which phones do not have. `escape` and `unescape` are part of the language
// for good: between UTF-8 and text they make of `%C3%A9` what is needed, at the speed of the engine. The module has
// valid UTF-8 only; a text with half a character gets U+FFFD there, as the standard says.

declare function escape(text: string): string
declare function unescape(text: string): string

// A phone looks a global up in a slow way each time.
const { fromCharCode } = String

/** Bytes per call of `fromCharCode`: engines limit the number of arguments. */
const CHUNK = 8192

/** The text at `at..end`. */
export function decode(bytes: Uint8Array, at: number, end: number): string {
  let text = ''
  for (; at < end; at += CHUNK) {
    text += fromCharCode.apply(null, bytes.subarray(at, Math.min(at + CHUNK, end)) as unknown as number[])
  }
  return isPlain(text) ? text : decodeURIComponent(escape(text))
}

/** The bytes of a text, as a string of characters up to 255. */
export function encode(text: string): string {
  return isPlain(text) ? text : unescape(encodeURIComponent(text.replace(/[\ud800-\udfff]/gu, '\ufffd')))
}

function isPlain(text: string): boolean {
  return !/[^\0-\x7f]/.test(text)
}
