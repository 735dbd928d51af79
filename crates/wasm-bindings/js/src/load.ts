// The WebAssembly module: loaded once, tried twice. In: the host and where the file is. Out: an instance of the right
// version. Deliberately absent: how a platform instantiates; that is the host's.

import { failure } from './errors.js'
import { Module } from './glue.js'
import type { Host } from './host.js'
import { VERSION } from './version.js'

/** One instance for all clients, until it traps. */
let loaded: { host: Host; path: string | undefined; module: Promise<Module> } | undefined

/** Longer than any phone takes; a platform that never answers must not leave a promise open. */
const PATIENCE_MS = 20000

export function load(host: Host, path: string | undefined): Promise<Module> {
  if (!loaded || loaded.host !== host || loaded.path !== path) {
    const mine = (loaded = { host, path, module: once(host, path, 0).catch(() => once(host, path, 1)) })
    mine.module.catch(() => {
      if (loaded === mine) loaded = undefined
    })
  }
  return loaded.module
}

/** The instance trapped: its memory cannot be trusted any more. */
export function unload(): void {
  loaded = undefined
}

function once(host: Host, path: string | undefined, attempt: number): Promise<Module> {
  return new Promise<Module>((resolve, reject) => {
    const timer = host.setTimer(() => fail('no answer'), PATIENCE_MS)
    const fail = (cause: any) => {
      host.clearTimer(timer)
      const text = (cause && (cause.message || cause.errMsg)) || cause
      reject(failure('wasmUnavailable', {
        message: `The WebAssembly file ${path || ''} cannot be loaded (${text}): check wasmPath and that the file is there.`,
      }))
    }
    const module = new Module()
    // A host that throws has failed, too.
    new Promise<WebAssembly.Exports>((done) => done(host.loadWasm(path, module.imports(), attempt))).then((exports) => {
      const version = module.link(exports).version()
      if (version === VERSION) {
        host.clearTimer(timer)
        resolve(module)
      } else {
        fail(`it is version ${version}, the JavaScript is ${VERSION}`)
      }
    }).catch(fail)
  })
}
