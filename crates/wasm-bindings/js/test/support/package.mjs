// The package under test, built by `node build.mjs`: LIANMAI_PACKAGE, or target/npm/lianmai. Tests load it from a folder
// below `node_modules`, as an app would.

import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const js = join(dirname(fileURLToPath(import.meta.url)), '../..')
export const repository = join(js, '../../..')
export const built = process.env.LIANMAI_PACKAGE || join(repository, 'target/npm/lianmai')
if (!existsSync(join(built, 'package.json'))) throw new Error(`no package at ${built}: run node build.mjs --wasm DIR --out ${built}`)

/** A temporary project that depends on the package. */
export function project() {
  const folder = mkdtempSync(join(tmpdir(), 'lianmai-'))
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
  mkdirSync(join(folder, 'node_modules'))
  cpSync(built, join(folder, 'node_modules/lianmai'), { recursive: true })
  symlinkSync(join(js, 'node_modules/ws'), join(folder, 'node_modules/ws'))
  return { folder, package: join(folder, 'node_modules/lianmai'), require: createRequire(join(folder, 'index.js')) }
}

/** Loads a module of `src` to test it alone. */
export async function source(file) {
  const { build } = await import('esbuild')
  const { outputFiles } = await build({
    entryPoints: [join(js, 'src', file)], bundle: true, write: false, format: 'esm', target: 'es2017',
    define: { __VERSION__: '"0.0.0"', __WASM_IMPORTS__: '{"from":"","names":[]}' },
  })
  return import(`data:text/javascript,${encodeURIComponent(outputFiles[0].text)}`)
}
