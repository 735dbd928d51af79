// Calls into the WebAssembly module. In: texts and numbers. Out: the same. It is what wasm-bindgen's own glue does for a
// class whose methods take and return nothing else, in a tenth of the size and without what phones lack; the build
// checks that the module asks for nothing more. Strings go over as UTF-8, and who gets one frees it.

import type { WasmExports, WasmImports } from './host.js'
import { decode, encode } from './utf8.js'

/** Names that the module imports, all of one namespace; the build knows them. Each takes the address and length of a text. */
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

/** One instance of the module. A session is a number. */
export class Module {
  private exports!: Exports
  private bytes!: Uint8Array
  private words!: Int32Array
  /** What the module said last before it threw. */
  private said = ''

  /** What the module is instantiated with. */
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

  /** A new session; what it says is wrong with the configuration is thrown. */
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

  /** When a session is due; -1 for never. */
  deadline(core: number): number {
    return this.exports.deadline(core)
  }

  free(core: number): void {
    this.exports.end(core, 0)
  }

  /** Calls a method. It leaves up to three numbers on the module's stack; the answer says which word is the first. */
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
    // No method takes more, and what it does not take is ignored: that is faster than a call with a list.
    exports[method](raw[0], raw[1], raw[2], raw[3], raw[4], raw[5], raw[6], raw[7])
    exports.stack(16)
    this.look()
    return result >>> 2
  }

  /** Memory that grew is another one. */
  private look(): void {
    const { buffer } = this.exports.memory
    if (this.bytes && this.bytes.buffer === buffer) return
    this.bytes = new Uint8Array(buffer)
    this.words = new Int32Array(buffer)
  }
}
