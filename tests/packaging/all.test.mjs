//! Proves no rule of the protocol: that the packed package works in every kind of project that installs it.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { startServer } from '../../crates/wasm-bindings/js/test/support/server.mjs'
import { hide } from './hidden.mjs'
import { launch, open } from './support/browser.mjs'
import { buildVite, buildVitePages, buildWebpack, serveVite } from './support/build.mjs'
import { buildNpm } from './support/miniprogram.mjs'
import { install } from './support/project.mjs'
import { startSite } from './support/site.mjs'

const project = install()
// The simulated phone of the package's own tests loads the package that was installed here.
process.env.LIANMAI_PACKAGE = project.package
const { Phone } = await import('../../crates/wasm-bindings/js/test/support/phone.mjs')

const PEER = 900
let site
let dev
let server
let browser
let packed
let sdk
let rooms = 0
const peers = []

before(async () => {
  await buildVite(project)
  packed = await buildWebpack(project)
  site = await startSite({ '/vite/': project.consumer('web/dist'), '/webpack/': project.consumer('web/packed') })
  dev = await serveVite(project)
  server = await startServer({ LIANMAI_SERVER__ORIGINS: JSON.stringify([site.origin, dev.origin]) })
  browser = await launch(project.require('playwright-core'))
  sdk = project.require('lianmai/node')
  sdk.configure({ server: server.url })
})

after(async () => {
  await Promise.all(peers.map((peer) => peer.destroy()))
  await browser?.close()
  await dev?.stop()
  site?.stop()
  server?.stop()
})

/** The Content Security Policy that README.md requires, and nothing more. */
function policy(script = "'self' 'wasm-unsafe-eval'") {
  return `default-src 'none'; script-src ${script}; connect-src 'self' ${server.url}`
}

/** A member that publishes in a new channel, and a promise of the first stream that it receives. */
async function channel() {
  const channelName = `packed${++rooms}`
  const peer = sdk.createClient({ appkey: 'demo' })
  peers.push(peer)
  const heard = new Promise((done) => peer.on('stream-added', ({ uid, mediaType }) => done(`${uid} ${mediaType}`)))
  await peer.join({ channelName, uid: PEER })
  await peer.publish('audio')
  return { channelName, peer, heard }
}

/** Opens a page that joins. Returns what the page did; the test checks it. */
async function visit(address, more = {}) {
  const { channelName, peer, heard } = await channel()
  site.asked.length = 0
  const query = new URLSearchParams({ server: server.url, channelName, uid: 7, ...more })
  const { page, wrong, close } = await open(browser, `${address}?${query}`)
  const room = await page.evaluate(() => window.room)
  const violations = await page.evaluate(() => window.violations)
  await close()
  // A page without a uid has not joined, and publishes nothing.
  const stream = room.uid === undefined ? '' : await heard
  await peer.destroy()
  return { room, violations, wrong, stream, asked: site.asked.slice() }
}

/** Asserts that a page published and subscribed without errors. */
function assertRoom({ room, violations, wrong, stream }) {
  assert.deepEqual([violations, wrong], [[], []])
  assert.equal(room.uid, 7, JSON.stringify(room))
  assert.match(room.push, /^rtmp:/)
  assert.match(room.pull, /^(rtmp|http):/)
  assert.equal(stream, '7 audio')
}

/** Whether a file is the inline copy of the WebAssembly module, whatever name the bundler gave it. */
const isInline = (path) => /inline/.test(path) || holdsModule(path)
const folderOf = (path) => (path.startsWith('/vite/') ? ['web/dist', path.slice(6)] : ['web/packed', path.slice(9)])
/** Whether a script contains the WebAssembly module as text. */
function holdsModule(path) {
  const [folder, file] = folderOf(path)
  return path.endsWith('.js') && readFileSync(join(project.consumer(folder), file), 'utf8').includes('AGFzbQEAAAA')
}

test('the package brings nothing along', () => {
  const manifest = JSON.parse(readFileSync(join(project.package, 'package.json'), 'utf8'))
  assert.deepEqual(Object.keys(manifest).filter((key) => /ependencies|scripts/.test(key)), [])
  // The package contains no source files except inside its source maps.
  assert.deepEqual(readdirSync(project.package).filter((file) => /\.ts$/.test(file) && !file.endsWith('.d.ts')), [])
})

test('every file that package.json names is there', () => {
  const manifest = JSON.parse(readFileSync(join(project.package, 'package.json'), 'utf8'))
  const named = (value) => (typeof value === 'string' ? [value] : Object.values(value).flatMap(named))
  const files = [manifest.main, manifest.browser, manifest.types, ...named(manifest.exports)]
  assert.deepEqual(files.filter((file) => !existsSync(join(project.package, file))), [])
})

test('scripts for phones and pages are ES2017, but for what bundlers and browsers take as modules', () => {
  const { parse } = project.require('acorn')
  const read = (file) => readFileSync(join(project.package, file), 'utf8')
  for (const file of ['wechat.js', 'miniprogram/wechat.js', 'miniprogram/index.js', 'copy/lianmai.js', 'inline.js']) {
    parse(read(file), { ecmaVersion: 2017, sourceType: 'script' })
  }
  for (const file of ['wechat.mjs', 'inline.mjs']) parse(read(file), { ecmaVersion: 2017, sourceType: 'module' })
  // ES modules reference the WebAssembly file by URL, or import the inline copy as a separate chunk.
  const modern = (file, list) => {
    const found = /import\.meta\.url|import\(/g
    assert.deepEqual(read(file).match(found).sort(), list)
    parse(read(file).replace(found, (what) => (what === 'import(' ? 'String(' : '""')), { ecmaVersion: 2017, sourceType: 'module' })
  }
  modern('web.mjs', ['import(', 'import.meta.url'])
  modern('web.js', ['import('])
})

test('each script has a map to sources that it holds', () => {
  const read = (file) => readFileSync(join(project.package, file), 'utf8')
  for (const file of ['wechat.js', 'wechat.mjs', 'web.js', 'web.mjs', 'node.js', 'miniprogram/wechat.js', 'copy/lianmai.js']) {
    const isApart = file.includes('/')
    const map = isApart ? `maps/${file.split('/')[0]}.js.map` : `${file}.map`
    if (!isApart) assert.ok(read(file).endsWith(`//# sourceMappingURL=${map}\n`), file)
    const { sources, sourcesContent, mappings } = JSON.parse(read(map))
    assert.ok(sources.includes('src/facade/client.ts') && mappings.length > 1000, file)
    assert.deepEqual(sources.filter((source) => !/^(src|node_modules)\/|^<define/.test(source)), [], file)
    assert.equal(sourcesContent.filter(Boolean).length, sources.length, file)
  }
})

for (const [name, file] of [['node-esm', 'app.mjs'], ['node-cjs', 'app.cjs']]) {
  test(`${name}: two members, and the process ends by itself`, () => {
    const { isOne, push, pull, ...event } = JSON.parse(project.node(name, file, server.url, `${name}${++rooms}`))
    assert.equal(isOne, true)
    assert.match(push, /^rtmp:/)
    assert.match(pull, /^rtmp:/)
    assert.deepEqual(event, { uid: 1, mediaType: 'audio' })
  })
}

test('a server renders pages with it, and nothing is touched', () => {
  const { html, ...effects } = JSON.parse(project.node('ssr', 'server.mjs', './page.mjs'))
  assert.match(html, /^<h1>room<\/h1>.*function \d+\.\d+\.\d+/)
  assert.deepEqual(effects, { touched: [], added: [], resources: [] })
})

test('a server renders pages that Vite built, and nothing is touched', async () => {
  await buildVitePages(project)
  const { html, ...effects } = JSON.parse(project.node('ssr', 'server.mjs', './dist/page.js'))
  assert.match(html, /^<h1>room<\/h1>.*function/)
  assert.deepEqual(effects, { touched: [], added: [], resources: [] })
})

test('Vite, development server, strict policy', async () => {
  dev.policy(policy())
  assertRoom(await visit(`${dev.origin}/`))
})

test('Vite, build, strict policy: the module is a file, and comes once', async () => {
  site.policy = policy()
  const seen = await visit(`${site.origin}/vite/`)
  assertRoom(seen)
  assert.deepEqual(seen.asked.filter((path) => path.endsWith('.wasm')).length, 1, seen.asked.join())
  assert.deepEqual(seen.asked.filter(isInline), [])
})

test('webpack builds it without a warning', () => {
  assert.deepEqual([packed.errors, packed.warnings], [[], []])
  assert.equal(packed.assets.filter(({ name }) => name.endsWith('.wasm')).length, 1)
})

/** Writes the HTML page; webpack does not. */
function page(script) {
  writeFileSync(join(project.consumer('web/packed'), `${script}.html`), `<!doctype html><title>room</title><script src="${script}.js"></script>`)
  return `${site.origin}/webpack/${script}.html`
}

test('webpack, import, strict policy: the module is a file, and comes once', async () => {
  site.policy = policy()
  const seen = await visit(page('main'))
  assertRoom(seen)
  assert.deepEqual(seen.asked.filter((path) => path.endsWith('.wasm')).length, 1, seen.asked.join())
  assert.deepEqual(seen.asked.filter(isInline), [])
})

test('webpack, require, strict policy: the module comes with the code', async () => {
  site.policy = policy()
  const seen = await visit(page('required'))
  assertRoom(seen)
  assert.deepEqual(seen.asked.filter((path) => path.endsWith('.wasm')), [])
  assert.ok(seen.asked.some(isInline), seen.asked.join())
})

test('a page can say where the module is', async () => {
  site.policy = policy()
  const [file] = packed.assets.filter(({ name }) => name.endsWith('.wasm'))
  const seen = await visit(`${site.origin}/vite/`, { wasmPath: `/webpack/${file.name}` })
  assertRoom(seen)
  assert.deepEqual(seen.asked.filter((path) => path.endsWith('.wasm')), [`/webpack/${file.name}`])
})

test('a policy that forbids WebAssembly is a rejection that says so', async () => {
  site.policy = policy("'self'")
  const { room, violations } = await visit(`${site.origin}/vite/`)
  assert.equal(room.name, 'wasmUnavailable')
  assert.equal(room.code, 20101)
  assert.match(room.reason, /Content Security Policy|unsafe-eval/)
  assert.ok(violations.some((line) => line.startsWith('script-src')), violations.join())
})

test('a module that is not there is a rejection that says which', async () => {
  site.policy = policy()
  const { room } = await visit(`${site.origin}/vite/`, { wasmPath: '/nowhere.wasm' })
  assert.equal(room.name, 'wasmUnavailable')
  assert.match(room.reason, /\/nowhere\.wasm.*404/)
})

for (const kind of [{}, { hasGlobalThis: false, isSlow: true }]) {
  test(`a mini-program ${JSON.stringify(kind)}`, async (context) => {
    const root = project.consumer('miniprogram')
    assert.deepEqual(buildNpm(root), ['lianmai'])
    const { channelName, peer, heard } = await channel()
    const phone = new Phone({ ...kind, files: { '/miniprogram_npm/lianmai/': join(root, 'miniprogram_npm/lianmai/'), '/': `${root}/` } })
    context.after(() => phone.stop())
    const { enter, isOne } = phone.require('/pages/room/room.js')
    assert.equal(isOne, true)
    const { push, pull, client } = await enter({ server: server.url, channelName, uid: 7 })
    assert.match(push, /^rtmp:/)
    assert.match(pull, /^rtmp:/)
    assert.equal(await heard, '7 audio')
    assert.deepEqual(phone.instantiated, ['/miniprogram_npm/lianmai/lianmai.wasm'])
    await client.leave()
    await peer.destroy()
  })
}

const BUNDLED = ['--module', 'ESNext', '--moduleResolution', 'bundler']
const NODE = ['--module', 'NodeNext', '--moduleResolution', 'NodeNext', '--esModuleInterop']

/** Checks each entry with the types of its platform: mini-programs, Node, browsers. */
for (const [entry, types, lib] of [
  ['lianmai/wechat', 'miniprogram-api-typings', 'ES2017'], ['lianmai/web', '', 'ES2017,DOM'], ['lianmai/node', 'node', 'ES2022'], ['lianmai', '', 'ES2017'],
]) {
  test(`${entry} compiles with tsc --strict`, () => {
    const folder = project.consumer('typescript')
    const name = entry.replace('/', '-')
    const write = (to, from) => writeFileSync(join(folder, to), readFileSync(join(folder, from), 'utf8').replaceAll('ENTRY', entry))
    write(`${name}.ts`, 'app.ts')
    write(`${name}.mts`, 'app.ts')
    write(`${name}.cts`, 'app.cts')
    const tsc = join(project.folder, 'node_modules/typescript/bin/tsc')
    // The declaration files of libraries are checked, too.
    const flags = ['--strict', '--noEmit', '--target', 'ES2017', '--lib', lib, '--types', types, '--skipLibCheck', 'false']
    const compile = (options, ...files) => spawnSync(process.execPath, [tsc, ...flags, ...options, ...files], { cwd: folder, encoding: 'utf8' }).stdout
    assert.equal(compile(BUNDLED, `${name}.ts`), '')
    assert.equal(compile(NODE, `${name}.mts`, `${name}.cts`), '')
  })
}

/** The server ends a connection after 3 s of silence. A timer that fires once a minute is 20 times as slow. */
const SOON = { LIANMAI_SESSION__PING_INTERVAL_MS: '500', LIANMAI_SESSION__DEAD_AFTER_MS: '3000', LIANMAI_SESSION__GRACE_MS: '1000' }
/** The number of pings in four times that period, at one in 550 ms. */
const PONGS = 24

test('a hidden page whose timers fire once in a minute stays a member', async () => {
  site.policy = ''
  const { seen, page } = await hide({ project, site, path: '/vite/', settings: SOON, isPlain: true, isOver: ({ silent }) => silent >= PONGS })
  assert.deepEqual(seen, ['clientJoin 100', 'stream-added 100'])
  assert.equal(page.visibility, 'hidden')
  assert.deepEqual(page.left, [])
})
