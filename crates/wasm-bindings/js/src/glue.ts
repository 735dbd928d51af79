// Calls into the WebAssembly module. In: texts and numbers. Out: texts and numbers. It does the same as the glue of
// wasm-bindgen for a class whose methods use only these types, at a tenth of the size and without APIs that phones lack.
// The build checks that the module imports nothing else. Strings are passed as UTF-8, and the receiver frees them.

import type { WasmExports, WasmImports } from './host.js'
import { decode, encode } from './utf8.js'

/** The module's imports, all in one namespace; the build inserts them. Each takes the address and length of a text. */
declare const __WASM_IMPORTS__: { from: string; names: string[] }

interface Exports {
  memory: { buffer: ArrayBuffer }
  malloc(size: number, align: number): number
  release(at: number, size: number, align: number): void
  stack(by: number): number
  end(core: number, _: number): void
  deadline(core: number): number
  [method: string]: any
}

/** One instance of the module. A number identifies a session. */
export class Module {
  private exports!: Exports
  private bytes!: Uint8Array
  private words!: Int32Array
  /** The last text from the module, such as the reason why it threw. */
  private said = ''

  /** The imports with which the module is instantiated. */
  imports(): WasmImports {
    const { from, names } = __WASM_IMPORTS__
    const functions: { [name: string]: (at: number, size: number) => number } = {}
    for (const name of names) {
      functions[name] = (at, size) => {
        this.look()
        this.said = decode(this.bytes, at, at + size)
        if (/throw/.test(name)) throw new Error(this.said)
        return 0
      }
    }
    return { [from]: functions }
  }

  link(exports: WasmExports): this {
    this.exports = exports as Exports
    return this
  }

  /** Creates a session. Throws what the module reports about a wrong configuration. */
  create(config: string): number {
    const result = this.invoke('new', [config])
    if (this.words[result + 2]) throw new Error(this.said)
    return this.words[result]!
  }

  /** Calls a method that returns a text. */
  call(method: string, args: Array<number | string>): string {
    const result = this.invoke(method, args)
    const at = this.words[result]! >>> 0
    const size = this.words[result + 1]!
    if (!size) return ''
    const text = decode(this.bytes, at, at + size)
    this.exports.release(at, size, 1)
    return text
  }

  /** The deadline of a session; -1 if there is none. */
  deadline(core: number): number {
    return this.exports.deadline(core)
  }

  free(core: number): void {
    this.exports.end(core, 0)
  }

  /** Calls a method. It writes up to three numbers to the module's stack; the return value is the index of the first word. */
  private invoke(method: string, args: Array<number | string>): number {
    const { exports } = this
    const result = exports.stack(-16)
    const raw = [result]
    for (const arg of args) {
      if (typeof arg === 'number') {
        raw.push(arg)
        continue
      }
      const text = encode(arg)
      const at = exports.malloc(text.length, 1) >>> 0
      this.look()
      const { bytes } = this
      for (let byte = 0; byte < text.length; byte++) bytes[at + byte] = text.charCodeAt(byte)
      raw.push(at, text.length)
    }
    // No method takes more arguments. WebAssembly ignores surplus ones, and this is faster than spreading an array.
    exports[method](raw[0], raw[1], raw[2], raw[3], raw[4], raw[5], raw[6], raw[7])
    exports.stack(16)
    this.look()
    return result >>> 2
  }

  /** Creates new views after the memory grew, because growing replaces its buffer. */
  private look(): void {
    const { buffer } = this.exports.memory
    if (this.bytes && this.bytes.buffer === buffer) return
    this.bytes = new Uint8Array(buffer)
    this.words = new Int32Array(buffer)
  }
}
