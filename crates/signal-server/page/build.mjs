// Builds the page: `node build.mjs --sdk DIR`. In: `src/`, and the npm package `lianmai` that `cargo xtask wasm` built. Out:
// `dist/`, which the build of the server embeds: each file, plain and compressed, and `files.txt`, which lists them. File names
// contain a hash of the content, so that browsers may cache them; only `index.html` has a fixed name.

import { build } from 'esbuild'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, extname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { brotliCompressSync, constants, gzipSync } from 'node:zlib'

const here = dirname(fileURLToPath(import.meta.url))
const { values } = parseArgs({ options: { sdk: { type: 'string' } } })
if (!values.sdk) throw new Error('usage: node build.mjs --sdk DIR')
const sdk = resolve(values.sdk)
const dist = join(here, 'dist')

/** The path under which the server serves the files. */
const PREFIX = '/page/'
const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
  '.txt': 'text/plain; charset=utf-8',
}
const hashOf = (bytes) => createHash('sha256').update(bytes).digest('hex').slice(0, 16)
const named = (name, bytes) => name.replace(/(\.\w+)$/, `-${hashOf(bytes)}$1`)

const files = new Map()
/** Adds a file; returns the path under which the page finds it. */
function add(name, bytes) {
  const unique = named(name, bytes)
  files.set(unique, Buffer.from(bytes))
  return PREFIX + unique
}

const wasm = add('lianmai.wasm', readFileSync(join(sdk, 'lianmai.wasm')))
const result = await build({
  absWorkingDir: here,
  entryPoints: { page: 'src/main.tsx' },
  outdir: 'dist',
  bundle: true,
  splitting: true,
  format: 'esm',
  target: 'es2022',
  minify: true,
  write: false,
  metafile: true,
  charset: 'utf8',
  legalComments: 'none',
  jsx: 'automatic',
  jsxImportSource: 'preact',
  entryNames: '[name]-[hash]',
  chunkNames: '[name]-[hash]',
  alias: { 'lianmai/web': join(sdk, 'web.mjs') },
  // The WebAssembly module as text is for pages that cannot fetch the file. This page can.
  external: ['./inline.mjs'],
  define: { __WASM_PATH__: JSON.stringify(wasm) },
  logLevel: 'warning',
})
let script
for (const { path, contents } of result.outputFiles) {
  const name = path.slice(dist.length + 1)
  files.set(name, Buffer.from(contents))
  if (name.startsWith('page-')) script = PREFIX + name
}
const css = await build({ absWorkingDir: here, entryPoints: ['src/page.css'], minify: true, write: false, target: 'es2022' })
const html = readFileSync(join(here, 'src/index.html'), 'utf8')
  .replace('ICON', add('icon.svg', readFileSync(join(here, 'src/icon.svg'))))
  .replace('STYLE', add('page.css', css.outputFiles[0].contents))
  .replace('SCRIPT', script)
  .replace(/>\s+</g, '><')
files.set('index.html', Buffer.from(html))
// The licences require that their text is distributed with the code.
const licences = ['preact', 'mpegts.js', 'uqr', 'es6-promise', 'events'].map((name) => {
  const { version, license } = JSON.parse(readFileSync(join(here, 'node_modules', name, 'package.json'), 'utf8'))
  return `${name} ${version} (${license})\n\n${readFileSync(join(here, 'node_modules', name, 'LICENSE'), 'utf8').trim()}\n`
})
files.set('licences.txt', Buffer.from(licences.join(`\n${'-'.repeat(80)}\n\n`)))

const brotli = (bytes) => brotliCompressSync(bytes, {
  params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length },
})
const sorted = Array.from(files).sort(([a], [b]) => (a < b ? -1 : 1))
const list = sorted.map(([name, bytes]) => `${name}\t${TYPES[extname(name)]}\t${hashOf(bytes)}\n`).join('')
const listed = join(dist, 'files.txt')
// Cargo rebuilds the server whenever a file changes, so unchanged files are not written again.
if (!existsSync(listed) || readFileSync(listed, 'utf8') !== list) {
  for (const file of readdirSync(dist)) if (file !== '.gitignore') rmSync(join(dist, file), { recursive: true })
  for (const [name, bytes] of sorted) {
    writeFileSync(join(dist, name), bytes)
    writeFileSync(join(dist, `${name}.gz`), gzipSync(bytes, { level: 9 }))
    writeFileSync(join(dist, `${name}.br`), brotli(bytes))
  }
  // The list is written last: the server has no page without it.
  writeFileSync(listed, list)
}

const sum = [0, 0, 0]
for (const [name] of sorted) {
  const sizes = ['', '.gz', '.br'].map((end) => statSync(join(dist, name + end)).size)
  if (name !== 'licences.txt') sizes.forEach((size, at) => (sum[at] += size))
  console.log(name.padEnd(34), ...sizes.map((size) => String(size).padStart(9)))
}
console.log('the page together'.padEnd(34), ...sum.map((size) => String(size).padStart(9)))
