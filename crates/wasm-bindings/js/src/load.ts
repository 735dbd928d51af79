// The WebAssembly module: loaded once, tried twice. In: the host and where the file is. Out: the class `Core` of a
// module of the right version. Deliberately absent: how a platform instantiates; that is the host's.

import glue from 'lianmai-glue'
import { failure } from './errors.js'
import type { Host } from './host.js'
import { VERSION } from './version.js'

/** The session. All text is JSON; `now` is the host's clock. Inputs answer with commands for the host. */
export interface Core {
  call(now: number, call: number, method: string, params: string): string
  opened(now: number, socket: number): string
  frame(now: number, socket: number, text: string): string
  unreadable(now: number, socket: number): string
  closed(now: number, socket: number, code: number, reason: string): string
  timeout(now: number): string
  networkChanged(now: number): string
  foreground(now: number): string
  deadline(): number
  next(): string
  picture(): string
  free(): void
}

export interface CoreClass {
  new (config: string): Core
  version(): string
}

/** One module for all clients, until it traps. */
let loaded: { host: Host; path: string | undefined; core: Promise<CoreClass> } | undefined

/** Longer than any phone takes; a platform that never answers must not leave a promise open. */
const PATIENCE_MS = 20000

export function load(host: Host, path: string | undefined): Promise<CoreClass> {
  if (!loaded || loaded.host !== host || loaded.path !== path) {
    const core = attempt(host, path, 0)
    const mine = (loaded = { host, path, core })
    core.catch(() => {
      if (loaded === mine) loaded = undefined
    })
  }
  return loaded.core
}

/** The module trapped: its memory cannot be trusted any more. */
export function unload(): void {
  loaded = undefined
}

function attempt(host: Host, path: string | undefined, tries: number): Promise<CoreClass> {
  return once(host, path, tries).catch((error) => {
    if (tries || error.name === 'versionMismatch') throw error
    return attempt(host, path, 1)
  })
}

function once(host: Host, path: string | undefined, tries: number): Promise<CoreClass> {
  return new Promise<CoreClass>((resolve, reject) => {
    const fail = (cause: unknown) => {
      const text = (cause && ((cause as Error).message || (cause as { errMsg?: string }).errMsg)) || String(cause)
      const where = path === undefined ? '' : ` at ${path}`
      reject(failure('wasmUnavailable', {
        message: `The WebAssembly file${where} cannot be loaded (${text}): check wasmPath and that it is in the package.`,
      }))
    }
    const timer = host.setTimer(() => fail('no answer'), PATIENCE_MS)
    const settled = (run: () => void) => {
      host.clearTimer(timer)
      run()
    }
    try {
      glue((imports) => host.loadWasm(path, imports, tries)).then(
        (core) => settled(() => {
          let version = 'unknown'
          try {
            version = core.version()
          } catch (_) {
            // Another module altogether.
          }
          if (version === VERSION) return resolve(core)
          reject(failure('versionMismatch', {
            message: `The WebAssembly file is version ${version}, the JavaScript ${VERSION}: take both of one package.`,
          }))
        }),
        (cause) => settled(() => fail(cause)),
      )
    } catch (cause) {
      settled(() => fail(cause))
    }
  })
}
