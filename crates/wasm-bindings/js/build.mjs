// Builds the package: `node build.mjs --wasm DIR --out DIR`.
//
// In: `lianmai.wasm` and `glue.js` of the WebAssembly half, and `src/`. Out: a folder for `npm pack`. Deliberately
// absent: building the WebAssembly file; `cargo xtask wasm` does that first.

import { build } from 'esbuild'
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { brotliCompressSync, constants, gzipSync } from 'node:zlib'

const here = dirname(fileURLToPath(import.meta.url))
const { values } = parseArgs({ options: { wasm: { type: 'string' }, out: { type: 'string' } } })
if (!values.wasm || !values.out) throw new Error('usage: node build.mjs --wasm DIR --out DIR')
const wasm = resolve(values.wasm)
const out = resolve(values.out)
const { name, version, description, license } = JSON.parse(readFileSync(join(here, 'package.json'), 'utf8'))

rmSync(out, { recursive: true, force: true })
for (const folder of ['', 'miniprogram', 'copy', 'maps']) mkdirSync(join(out, folder), { recursive: true })

// `src/glue.ts` supports two kinds of imports: one throws a text, one stores a text. Any other import is an error.
const module = new WebAssembly.Module(readFileSync(join(wasm, 'lianmai.wasm')))
const imports = WebAssembly.Module.imports(module)
const glue = readFileSync(join(wasm, 'glue.js'), 'utf8')
for (const { name, module, kind } of imports) {
  const body = glue.slice(glue.indexOf(`${name}: function(arg0, arg1) {`)).split('},')[0]
  const isKnown = /throw new Error\(getStringFromWasm0\(arg0, arg1\)\)|const ret = getStringFromWasm0\(arg0, arg1\);\s*return addHeapObject\(ret\);/.test(body)
  if (kind !== 'function' || module !== imports[0].module || !isKnown) throw new Error(`src/glue.ts cannot give the module its import ${name}`)
}
const wasmImports = JSON.stringify({ from: imports.length ? imports[0].module : '', names: imports.map((of) => of.name) })

// esbuild shortens the names of private members, unless the same name is also used for something else.
const sources = readdirSync(join(here, 'src'), { recursive: true }).filter((path) => path.endsWith('.ts'))
  .map((path) => readFileSync(join(here, 'src', path), 'utf8').replace(/\/\*[^]*?\*\/|\/\/.*/g, ''))
const privates = new Set(sources.flatMap((text) => Array.from(text.matchAll(/private (?:readonly )?(\w+)/g), (match) => match[1])))
const isElsewhere = (name) => {
  const use = new RegExp(`(?<!this)\\.${name}\\b|(?<![\\w.'])${name}\\??:|[{,] ${name} ?[,}]`)
  return sources.some((text) => use.test(text.replace(/private [^\n]*/g, '')))
}
/** Members that classes use among each other and apps never see. Public types must not have them; the check is below. */
const INTERNAL = [
  'pushUrl', 'pullUrl', 'isSent', 'pushes', 'pushesNoMore', 'pulls', 'owed', 'restrict', 'changeState', 'entered', 'isLeaving', 'isAll', 'isIdle', 'isDead',
  'dispose', 'settle', 'crashed', 'disconnected', 'connecting', 'limit', 'items', 'wake', 'drop', 'promise', 'link', 'emit', 'remove',
]
const short = new RegExp(`^(${Array.from(privates).filter((name) => !isElsewhere(name)).concat(INTERNAL).join('|')})$`)

const plugin = {
  name: 'inline',
  setup(build) {
    build.onResolve({ filter: /^lianmai-inline$/ }, () => ({
      path: build.initialOptions.format === 'esm' ? './inline.mjs' : './inline.js',
      external: true,
    }))
  },
}

/** Makes a source map independent of the build folder: sources are named relative to this folder. It contains their text. */
function portable(text) {
  const map = JSON.parse(text)
  map.sources = map.sources.map((source) => source.replace(/^.*?\b(src|node_modules)\//, '$1/'))
  return JSON.stringify(map)
}

/** Bundles one JavaScript file. In a CommonJS file, `module.exports` is the SDK itself. */
async function bundle(file, entry, options = {}) {
  const { wasmPath, esm, platform, map = `${file}.map` } = options
  const common = {
    bundle: true,
    write: false,
    outfile: join(out, file),
    absWorkingDir: here,
    target: 'es2017',
    platform: platform || 'neutral',
    mainFields: ['module', 'main'],
    minify: true,
    // The entry for Node contains third-party code, whose names must stay.
    mangleProps: platform === 'node' ? undefined : short,
    legalComments: 'none',
    charset: 'utf8',
    sourcemap: map === `${file}.map` ? true : 'external',
    plugins: [plugin],
    supported: esm ? { 'import-meta': true, 'dynamic-import': true } : {},
    define: { __WASM_IMPORTS__: wasmImports, __VERSION__: JSON.stringify(version), __WASM_PATH__: JSON.stringify(wasmPath || '') },
    // Optional dependencies of `ws`.
    external: ['bufferutil', 'utf-8-validate'],
  }
  const isNode = platform === 'node' || entry === 'web-require.ts'
  const result = await build({
    ...common,
    entryPoints: [join(here, 'src/entries', entry)],
    format: isNode ? 'cjs' : 'esm',
    footer: isNode ? { js: 'module.exports = module.exports.default' } : {},
  })
  for (const { path, text } of result.outputFiles) {
    // This is shorter than the CommonJS output of esbuild.
    const classic = esm || isNode ? text : text.replace(/export *\{(\w+) as default\};?/, 'module.exports=$1;')
    if (classic === text && !esm && !isNode && !path.endsWith('.map')) throw new Error(`${path} exports something else`)
    writeFileSync(path.endsWith('.map') ? join(out, map) : path, path.endsWith('.map') ? portable(text) : classic)
  }
}

await Promise.all([
  // For bundlers. Apps tell them where to copy the WebAssembly file.
  bundle('wechat.js', 'wechat.ts', { wasmPath: '/lianmai.wasm' }),
  bundle('wechat.mjs', 'wechat.ts', { wasmPath: '/lianmai.wasm', esm: true }),
  // For "build npm" of the developer tools.
  bundle('miniprogram/wechat.js', 'wechat.ts', { wasmPath: '/miniprogram_npm/lianmai/lianmai.wasm', map: 'maps/miniprogram.js.map' }),
  // For copying by hand into the folder `sdk`.
  bundle('copy/lianmai.js', 'wechat.ts', { wasmPath: '/sdk/lianmai.wasm', map: 'maps/copy.js.map' }),
  bundle('web.mjs', 'web.ts', { esm: true }),
  bundle('web.js', 'web-require.ts'),
  bundle('node.js', 'node.ts', { platform: 'node' }),
])
const file = readFileSync(join(wasm, 'lianmai.wasm'))
for (const folder of ['', 'miniprogram', 'copy']) copyFileSync(join(wasm, 'lianmai.wasm'), join(out, folder, 'lianmai.wasm'))
// These parameters give the smallest output for this file. Every brotli decoder accepts them.
const compress = (bytes) => brotliCompressSync(bytes, {
  params: {
    [constants.BROTLI_PARAM_QUALITY]: 11,
    [constants.BROTLI_PARAM_LGWIN]: 18,
    [constants.BROTLI_PARAM_LGBLOCK]: 16,
    [constants.BROTLI_PARAM_NPOSTFIX]: 2,
    [constants.BROTLI_PARAM_NDIRECT]: 32,
  },
})
const base64 = JSON.stringify(file.toString('base64'))
const write = (path, text) => writeFileSync(join(out, path), text)
// WeChat decompresses `.wasm.br` files itself.
write('lianmai.wasm.br', compress(file))
write('inline.mjs', `export default ${base64}\n`)
write('inline.js', `module.exports = ${base64}\n`)
write('node.mjs', `import sdk from './node.js'\nexport default sdk\n`)
write('miniprogram/index.js', `module.exports = require('./wechat')\n`)

// Types: one set for all entries, declared for both module systems.
execFileSync(process.execPath, [
  join(here, 'node_modules/typescript/bin/tsc'), '-p', join(here, 'tsconfig.json'),
  '--noEmit', 'false', '--declaration', '--emitDeclarationOnly', '--stripInternal', '--outDir', join(out, 'types'),
], { stdio: 'inherit' })
for (const what of ['hosts', 'entries', 'glue.d.ts', 'load.d.ts', 'runtime.d.ts', 'utf8.d.ts', 'version.d.ts']) rmSync(join(out, 'types', what), { recursive: true })
// The names that apps use must not be shortened.
for (const path of readdirSync(join(out, 'types'), { recursive: true }).filter((path) => path.endsWith('.d.ts'))) {
  const blocks = readFileSync(join(out, 'types', path), 'utf8').matchAll(/^export (?:interface|declare class Client) [^]*?^}/gm)
  for (const [block] of blocks) {
    for (const [, member] of block.matchAll(/^ {4}(?:readonly |get )?'?(\w+)'?\??[(:<;]/gm)) {
      if (short.test(member) && !/^export interface (?:Observer|Surroundings|Registration|Picture|Open)\b/.test(block)) throw new Error(`${path}: ${member} must not be shortened`)
    }
  }
}
const types = Array.from(readFileSync(join(here, 'src/index.ts'), 'utf8').matchAll(/export type \{ ([^}]+) \}/g)).flatMap((match) => match[1].split(', '))
const events = Array.from(readFileSync(join(here, 'src/facade/events.ts'), 'utf8').matchAll(/^export (?:type|interface) (\w+)/gm)).map((match) => match[1])
const namespace = [...types, ...events].map((type) => `  export type ${type} = types.${type}\n`).join('')
for (const entry of ['wechat', 'web', 'node']) {
  write(`${entry}.d.ts`, `import type * as types from './types/index.js'
declare const YunXinMiniappSDK: types.Sdk
declare namespace YunXinMiniappSDK {
${namespace}}
export = YunXinMiniappSDK
`)
  write(`${entry}.d.mts`, `import type { Sdk } from './types/index.js'
export type * from './types/index.js'
declare const YunXinMiniappSDK: Sdk
export default YunXinMiniappSDK
`)
}

const both = (entry) => ({
  import: { types: `./${entry}.d.mts`, default: `./${entry}.mjs` },
  require: { types: `./${entry}.d.ts`, default: `./${entry}.js` },
})
write('package.json', `${JSON.stringify({
  // No dependencies: "build npm" would copy each of them into every mini-program.
  name, version, description, license,
  main: './node.js',
  browser: './web.mjs',
  types: './node.d.ts',
  miniprogram: 'miniprogram',
  sideEffects: false,
  engines: { node: '>=20' },
  exports: {
    '.': { browser: both('web'), node: both('node'), default: both('wechat') },
    './wechat': both('wechat'),
    './web': both('web'),
    './node': both('node'),
    './lianmai.wasm': './lianmai.wasm',
    './lianmai.wasm.br': './lianmai.wasm.br',
    './package.json': './package.json',
  },
}, null, 2)}\n`)
copyFileSync(join(here, 'README.md'), join(out, 'README.md'))
copyFileSync(join(here, '../../../LICENSE'), join(out, 'LICENSE'))
copyFileSync(join(here, 'node_modules/ws/LICENSE'), join(out, 'LICENSE.ws'))

// Prints the size of each entry.
const weigh = (what, files) => {
  const sizes = files.map((path) => readFileSync(join(out, path)))
  const sum = (measure) => sizes.map(measure).reduce((a, b) => a + b)
  console.log(what.padEnd(22), ...[(b) => b.length, (b) => gzipSync(b, { level: 9 }).length, (b) => compress(b).length].map((m) => String(sum(m)).padStart(9)))
}
console.log(''.padEnd(22), ...['raw', 'gzip', 'brotli'].map((word) => word.padStart(9)))
weigh('lianmai.wasm', ['lianmai.wasm'])
weigh('wechat JavaScript', ['miniprogram/wechat.js'])
weigh('wechat together', ['miniprogram/wechat.js', 'lianmai.wasm'])
weigh('web JavaScript', ['web.mjs'])
weigh('node JavaScript', ['node.js'])
