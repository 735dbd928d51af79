// UTF-8 in the memory of WebAssembly: phones have neither TextDecoder nor TextEncoder. The same on every platform, so
// that one implementation is tested. What is broken becomes U+FFFD, as the standard says; the module produces none.

/** Units per call of `fromCharCode`: engines limit the number of arguments. */
const CHUNK = 4096

/** The text at `at..end`. */
export function decode(bytes: Uint8Array, at: number, end: number): string {
  const units: number[] = []
  let text = ''
  while (at < end) {
    const first = bytes[at++]!
    let point = first
    if (first > 0x7f) {
      // Bytes that must follow, and the range of the first of them.
      let more = first < 0xc2 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : first < 0xf5 ? 3 : 0
      let low = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80
      let high = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf
      point = more ? first & (0x3f >> more) : 0xfffd
      for (; more; more--) {
        const next = at < end ? bytes[at]! : 0
        if (next < low || next > high) {
          point = 0xfffd
          break
        }
        point = (point << 6) | (next & 0x3f)
        at++
        low = 0x80
        high = 0xbf
      }
    }
    if (point > 0xffff) units.push(0xd7c0 + (point >> 10), 0xdc00 + (point & 0x3ff))
    else units.push(point)
    if (units.length >= CHUNK) text += String.fromCharCode.apply(null, units.splice(0))
  }
  return text + String.fromCharCode.apply(null, units)
}

/** Bytes that a text takes. */
export function sizeOf(text: string): number {
  let size = text.length
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at)
    if (unit > 0x7f) size++
    // Half of a pair takes two bytes; one without its other half becomes U+FFFD, which takes three.
    if (unit > 0x7ff && !isPaired(text, at, unit)) size++
  }
  return size
}

/** Writes a text; there must be room. */
export function encode(text: string, bytes: Uint8Array, to: number): void {
  for (let at = 0; at < text.length; at++) {
    let point = text.charCodeAt(at)
    if (point > 0xd7ff && point < 0xe000) point = isPaired(text, at, point) ? text.codePointAt(at++)! : 0xfffd
    const more = point < 0x80 ? 0 : point < 0x800 ? 1 : point < 0x10000 ? 2 : 3
    bytes[to++] = more ? ((0xf00 >> more) & 0xff) | (point >> (6 * more)) : point
    for (let left = more; left--; ) bytes[to++] = 0x80 | ((point >> (6 * left)) & 0x3f)
  }
}

/** Whether the unit at `at` is half of a pair. */
function isPaired(text: string, at: number, unit: number): boolean {
  // Not found is NaN, which is not in any range.
  const isLow = (other: number) => other > 0xdbff && other < 0xe000
  const isHigh = (other: number) => other > 0xd7ff && other < 0xdc00
  return isHigh(unit) ? isLow(text.charCodeAt(at + 1)) : isLow(unit) && isHigh(text.charCodeAt(at - 1))
}
