// Loads the WebAssembly module of a client: once, with two attempts. In: the host, and the path of the file. Out: an instance
// of the right version that only this client uses: a trap in one instance does not affect other clients. Deliberately absent: the
// instantiation itself, which differs by platform; the host does it.

import { failure } from './errors.js'
import { Module } from './glue.js'
import type { Host } from './host.js'
import { VERSION } from './version.js'

/** No phone needs longer. Without this limit, a platform that never answers would leave a promise pending. */
const LOAD_TIMEOUT_MS = 20000

export class Loader {
  private loaded: { host: Host; path: string | undefined; module: Promise<Module> } | null = null

  get(host: Host, path: string | undefined): Promise<Module> {
    const { loaded } = this
    if (loaded && loaded.host === host && loaded.path === path) return loaded.module
    const mine = (this.loaded = { host, path, module: once(host, path, 0).catch(() => once(host, path, 1)) })
    mine.module.catch(() => {
      if (this.loaded === mine) this.drop()
    })
    return mine.module
  }

  /** Forgets the instance: the next `get` loads another one. */
  drop(): void {
    this.loaded = null
  }
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
      message: `The WebAssembly file${path ? ` ${path}` : ''} cannot be loaded (${text}): check wasmPath.`,
    })
  })
}

/** Rejects if the host does not answer in time. An exception of the host is a rejection, too. */
export function within<T>(host: Host, run: () => Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = host.setTimer(() => reject(new Error('no answer')), LOAD_TIMEOUT_MS)
    const ran = new Promise<T>((done) => done(run()))
    ran.then(resolve, reject).then(() => host.clearTimer(timer))
  })
}
