// UTF-8 for the glue of WebAssembly: phones have neither TextDecoder nor TextEncoder. The same on every platform, so
// that one implementation is tested. In: bytes of the module's memory, or text. Out: the other. Broken input becomes
// U+FFFD, as the standard says; the module itself never produces any.

/** Characters per call of `fromCharCode`: engines limit the number of arguments. */
const CHUNK = 4096

export class Utf8Decoder {
  decode(bytes?: Uint8Array): string {
    if (!bytes) return ''
    const end = bytes.length
    const units: number[] = []
    let text = ''
    for (let at = 0; at < end; ) {
      const first = bytes[at++]!
      let point = first
      if (first > 0x7f) {
        // Bytes that must follow, and the range of the first of them.
        let more = first < 0xc2 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : first < 0xf5 ? 3 : 0
        let low = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80
        let high = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf
        point = more ? first & (0x3f >> more) : 0xfffd
        while (more) {
          const next = at < end ? bytes[at]! : 0
          if (next < low || next > high) {
            point = 0xfffd
            break
          }
          point = (point << 6) | (next & 0x3f)
          at++
          more--
          low = 0x80
          high = 0xbf
        }
      }
      if (point > 0xffff) {
        units.push(0xd7c0 + (point >> 10), 0xdc00 + (point & 0x3ff))
      } else {
        units.push(point)
      }
      if (units.length >= CHUNK) {
        text += String.fromCharCode.apply(null, units)
        units.length = 0
      }
    }
    return text + String.fromCharCode.apply(null, units)
  }
}

export class Utf8Encoder {
  /** Writes as much as fits; a character is written whole or not at all. */
  encodeInto(text: string, bytes: Uint8Array): { read: number; written: number } {
    let at = 0
    let read = 0
    while (read < text.length) {
      let point = text.codePointAt(read)!
      if (point >= 0xd800 && point < 0xe000) point = 0xfffd
      const more = point < 0x80 ? 0 : point < 0x800 ? 1 : point < 0x10000 ? 2 : 3
      if (at + more >= bytes.length) break
      bytes[at++] = more ? ((0xf00 >> more) & 0xff) | (point >> (6 * more)) : point
      for (let left = more; left--; ) bytes[at++] = 0x80 | ((point >> (6 * left)) & 0x3f)
      read += more > 2 ? 2 : 1
    }
    return { read, written: at }
  }

  encode(text: string): Uint8Array {
    const bytes = new Uint8Array(text.length * 3)
    return bytes.slice(0, this.encodeInto(text, bytes).written)
  }
}
