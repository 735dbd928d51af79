//! Proves no rule of the protocol: that the code in the documents runs as it is printed, but for the server's address,
//! and names calls, events and options that there are.
//!
//! The word after the language selects how a sample runs: `wechat`, `uniapp`, `taro` on a phone; `browser`, `node` as modules;
//! `joined` with a client in a channel. Samples with `config` and `app` (a part of an app) are only checked, not run.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { after, before, test } from 'node:test'
import { transform } from 'esbuild'
import { built, js, project, repository } from './support/package.mjs'
import { Phone } from './support/phone.mjs'
import { startServer } from './support/server.mjs'

const DOCUMENTS = [
  'README.md', 'README.zh-CN.md', 'crates/wasm-bindings/js/README.md', 'docs/javascript.md', 'docs/javascript-recipes.md',
  'docs/javascript-recipes.zh-CN.md', 'docs/migrating-from-nertc.md', 'docs/migrating-from-nertc.zh-CN.md',
]
const KINDS = ['wechat', 'uniapp', 'taro', 'browser', 'node', 'joined', 'config', 'app']
const text = (document) => readFileSync(join(repository, document), 'utf8')

/** The JavaScript blocks: where they are, how they run, and their code. */
const samples = DOCUMENTS.flatMap((document) => Array.from(text(document).matchAll(/^```js ?(\w*)\n([^]*?)^```$/gm), (match) => ({
  kind: match[1],
  code: match[2],
  where: `${document}:${text(document).slice(0, match.index).split('\n').length + 1}`,
})))
const { WebSocket } = createRequire(join(js, 'index.js'))('ws')
const app = project()
let server
let other

before(async () => {
  server = await startServer()
  const node = app.require('lianmai/node')
  other = () => node.createClient({ appkey: 'demo', server: server.url })
})
after(() => server.stop())

/** A promise that resolves once a condition holds. Call `look` after every change. */
function condition(holds) {
  let look
  const met = new Promise((resolve) => (look = () => holds() && resolve()))
  return { met, look }
}

const addressed = (code) => code.replace(/wss?:\/\/(live\.example\.com|127\.0\.0\.1:8600)/g, server.url)

/** A member that publishes in the channel of a sample, and the events that it received. */
async function broadcaster(channelName) {
  const client = other()
  const heard = []
  const listeners = new Set()
  client.on('*', (event, payload) => {
    heard.push([event, payload])
    for (const look of listeners) look()
  })
  await client.join({ channelName, uid: 9000 })
  await client.publish()
  return {
    client,
    /** Resolves once the event came for this uid. */
    hears(event, uid) {
      const { met, look } = condition(() => heard.some(([name, payload]) => name === event && payload.uid === uid))
      listeners.add(look)
      look()
      return met
    },
  }
}

test('each sample says how it runs', () => {
  assert.ok(samples.length > 20, `${samples.length} samples`)
  for (const { kind, where } of samples) assert.ok(KINDS.includes(kind), `${where}: ${kind || 'nothing'}`)
})

test('samples are right JavaScript, and name what there is', async () => {
  const { folder } = app
  const files = []
  writeFileSync(join(folder, 'ambient.d.ts'), `
    declare const client: import('lianmai/wechat').Client
    declare const YunXinMiniappSDK: import('lianmai/wechat').Sdk
    declare const page: any, wx: any, uni: any, Taro: any, play: any, app: any, fetchToken: any, showError: any, showPage: any, room: any
  `)
  for (const [at, { kind, code, where }] of samples.entries()) {
    await assert.doesNotReject(transform(code, { loader: 'js', format: 'esm', target: 'es2022' }), where)
    if (kind === 'config') continue
    const isRequired = /\brequire\(/.test(code)
    const file = `sample${at}.${isRequired ? 'cjs' : 'mjs'}`
    // The file that is copied by hand is the entry itself.
    const known = code.replace(/require\('[./]+\/sdk\/lianmai\.js'\)/, "require('lianmai/wechat')")
    writeFileSync(join(folder, file), isRequired ? `${known}\nmodule.exports = {}\n` : `${known}\nexport {}\n`)
    files.push(file)
  }
  const { stdout } = spawnSync(process.execPath, [
    join(js, 'node_modules/typescript/bin/tsc'), '--strict', '--noImplicitAny', 'false', '--noEmit', '--allowJs', '--checkJs', '--target', 'ES2022',
    '--lib', 'ES2022,DOM', '--types', '', '--module', 'NodeNext', '--moduleResolution', 'NodeNext', '--esModuleInterop', 'ambient.d.ts', ...files,
  ], { cwd: folder, encoding: 'utf8' })
  // TypeScript does not know `require` here.
  const errors = stdout.split('\n').filter((line) => /error TS/.test(line) && !/Cannot find name '(require|module)'/.test(line))
  assert.deepEqual(errors.map((line) => line.replace(/sample(\d+)\.[cm]js\((\d+).*?\)/, (_, at, line) => `${samples[at].where} +${line - 1}`)), [])
})

/** Runs a sample of a mini-program, which ends with a client in a channel or only loads the SDK. */
async function onPhone({ kind, code }, channel) {
  // The output of a bundler: the package in one file, and a copy of the WebAssembly file.
  const phone = new Phone({ files: { '/bundle/': built, '/static/': built, '/lianmai.wasm': join(built, 'lianmai.wasm') } })
  const { client, hears } = await broadcaster(channel)
  const set = {}
  const { met, look } = condition(() => set.url && set.src)
  const page = { setData: (data) => { Object.assign(set, data); look() } }
  const wx = phone.run('() => wx')
  const globals = {
    page,
    uni: kind === 'uniapp' ? wx : undefined,
    Taro: kind === 'taro' ? { ...wx, connectSocket: (options) => Promise.resolve(wx.connectSocket(options)) } : undefined,
  }
  const require = (name) => {
    if (name === 'lianmai/wechat') return phone.require(kind === 'wechat' ? '/miniprogram_npm/lianmai/index.js' : '/bundle/wechat.js')
    assert.equal(name, '../../sdk/lianmai.js')
    return phone.require('/sdk/lianmai.js')
  }
  const classic = addressed(code).replace(/^import (\w+) from '([^']+)'/m, "const $1 = require('$2')")
  const { sdk, used } = phone.run(`function ({ require, page, uni, Taro }) {
    ${classic}
    return { sdk: YunXinMiniappSDK, used: typeof client === 'undefined' ? null : client }
  }`, { require, ...globals })
  try {
    if (used) {
      await met
      assert.match(set.url, /^rtmp:/)
      assert.match(set.src, /^rtmp:/)
    } else {
      const mine = sdk.Client({ appkey: 'demo' })
      await mine.join({ channelName: channel, uid: 100 })
      assert.match(await mine.publish(), /^rtmp:/)
    }
    await hears('clientJoin', 100)
    assert.equal(phone.lines.filter(([level]) => level === 'error').length, 0)
  } finally {
    sdk.destroy()
    await hears('clientLeave', 100).then(() => client.destroy())
    phone.stop()
  }
}

/** Runs a sample that is a module. */
async function asModule({ code, kind }, channel, at) {
  const { client, hears } = await broadcaster(channel)
  // Every browser sample gets a new project, as a page that is loaded again.
  const file = join((kind === 'browser' ? project() : app).folder, `module${at}.mjs`)
  const isWhole = /^const client =/m.test(code)
  writeFileSync(file, `${addressed(code)}\nexport { YunXinMiniappSDK${isWhole ? ', client' : ''} }\n`)
  let played
  const playing = new Promise((resolve) => (played = resolve))
  Object.assign(globalThis, { play: (url) => played(url) })
  if (kind === 'browser') Object.assign(globalThis, { WebSocket })
  const { YunXinMiniappSDK, client: mine = YunXinMiniappSDK.Client({ appkey: 'demo' }) } = await import(pathToFileURL(file).href)
  try {
    if (!isWhole) await mine.join({ channelName: channel, uid: 5 })
    if (/sendMessage/.test(code)) await hears('message', mine._info.uid)
    if (/play\(/.test(code)) assert.match(await playing, /^(http|ws):.*\.flv/)
    await hears('clientJoin', mine._info.uid)
  } finally {
    await mine.destroy()
    await client.destroy()
    YunXinMiniappSDK.destroy()
  }
}

/** Runs a part of an app with a client in a channel that it created, together with another member. */
async function whileJoined({ code }, channel) {
  const YunXinMiniappSDK = app.require('lianmai/node')
  YunXinMiniappSDK.configure({ server: server.url })
  const client = YunXinMiniappSDK.Client({ appkey: 'demo' })
  await client.join({ channelName: channel, uid: 100 })
  const { client: friend } = await broadcaster(channel)
  const failures = []
  client.on('handler-error', ({ event, error }) => failures.push(`${event}: ${error}`))
  const page = { setData() {}, data: {} }
  const wx = { createLivePusherContext: () => ({ start() {} }), navigateBack() {} }
  const AsyncFunction = (async () => {}).constructor
  const run = new AsyncFunction('client', 'YunXinMiniappSDK', 'page', 'wx', 'console', 'fetchToken', 'showError', code)
  const unhandled = (error) => failures.push(String(error))
  process.on('unhandledRejection', unhandled)
  try {
    await run(client, YunXinMiniappSDK, page, wx, { log() {}, warn() {}, error: (...what) => failures.push(what.join(' ')) }, async () => '', () => {})
    // The handlers of present and of new streams have run before `done` arrives.
    const told = new Promise((resolve) => client.on('message', ({ data }) => data === 'done' && resolve()))
    await friend.unpublish('video')
    await friend.publish('video')
    await friend.sendMessage('done')
    await told
    if (page.onPusherStateChange) for (const code of [1002, -1307, 3004]) page.onPusherStateChange({ detail: { code } })
    await client.setAttributes({})
  } finally {
    process.off('unhandledRejection', unhandled)
    await client.destroy()
    await friend.destroy()
    YunXinMiniappSDK.destroy()
  }
  assert.deepEqual(failures, [])
}

for (const [at, sample] of samples.entries()) {
  const run = { wechat: onPhone, uniapp: onPhone, taro: onPhone, browser: asModule, node: asModule, joined: whileJoined }[sample.kind]
  // Every sample has its own channel, because the state of a uid would affect the next sample.
  const named = /channelName: '([^']+)'/.exec(sample.code)?.[1]
  const channel = `${named || 'room'} ${at}`
  const code = named ? sample.code.replaceAll(`channelName: '${named}'`, `channelName: '${channel}'`) : sample.code
  // A sample that waits forever must fail.
  if (run) test(`${sample.where} (${sample.kind})`, { timeout: 120000 }, () => run({ ...sample, code }, channel, at))
}

test('links lead somewhere', () => {
  const anchors = (document) => new Set(Array.from(text(document).replace(/^```[^]*?^```$/gm, '').matchAll(/^#+ (.*)$/gm), (match) =>
    match[1].toLowerCase().replace(/[^\p{L}\p{N}_ -]/gu, '').replace(/ /g, '-')))
  for (const document of DOCUMENTS) {
    for (const [, target] of text(document).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^https?:/.test(target)) continue
      const [file, anchor] = target.split('#')
      const path = file ? join(dirname(document), file) : document
      assert.ok(existsSync(join(repository, path)), `${document}: ${target}`)
      if (anchor) assert.ok(anchors(path).has(decodeURIComponent(anchor)), `${document}: ${target}`)
    }
  }
})
