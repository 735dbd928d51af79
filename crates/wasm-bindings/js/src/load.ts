// The WebAssembly module of a client: loaded once, tried twice. In: the host and where the file is. Out: an instance of
// the right version, for this client alone: one that traps takes no other with it. Deliberately absent: how a platform
// instantiates; that is the host's.

import { failure } from './errors.js'
import { Module } from './glue.js'
import type { Host } from './host.js'
import { VERSION } from './version.js'

/** Longer than any phone takes; a platform that never answers must not leave a promise open. */
const PATIENCE_MS = 20000

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

  /** The next one gets another instance. */
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

/** What a host does not answer must not leave a promise open. One that throws has failed, too. */
export function within<T>(host: Host, run: () => Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = host.setTimer(() => reject(new Error('no answer')), PATIENCE_MS)
    const ran = new Promise<T>((done) => done(run()))
    ran.then(resolve, reject).then(() => host.clearTimer(timer))
  })
}
