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
  const module = new Module()
  return within(host, () => host.loadWasm(path, module.imports(), attempt)).then((exports) => {
    const version = module.link(exports).call('version', [])
    if (version !== VERSION) throw new Error(`it is version ${version}, the JavaScript is ${VERSION}`)
    return module
  }).catch((cause) => {
    const text = (cause && (cause.message || cause.errMsg)) || cause
    throw failure('wasmUnavailable', {
      message: `The WebAssembly file${path ? ` ${path}` : ''} cannot be loaded (${text}): check wasmPath and that the file is there.`,
    })
  })
}

/** What a host does not answer must not leave a promise open. One that throws has failed, too. */
export function within<T>(host: Host, run: () => Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = host.setTimer(() => reject(new Error('no answer')), PATIENCE_MS)
    const settle = <V>(run: (value: V) => void) => (value: V) => {
      host.clearTimer(timer)
      run(value)
    }
    new Promise<T>((done) => done(run())).then(settle(resolve), settle(reject))
  })
}
