//! Proves no rule of the protocol: the examples of JavaScript work as they are.

import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, watch as watchFolder, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, test as begin } from 'node:test'
import { Phone } from '../../crates/wasm-bindings/js/test/support/phone.mjs'
import { buildNpm } from '../packaging/support/miniprogram.mjs'
import { startSite } from '../packaging/support/site.mjs'
import { watch } from './support/media.mjs'
import { built, repository, Scene } from './support/scene.mjs'
import { elements, names } from './support/wxml.mjs'

/** A test that takes this long hangs. */
const HANGS_MS = 600_000
const test = (name, run) => begin(name, { timeout: HANGS_MS }, run)
/** The largest package that WeChat accepts, in bytes. */
const MAX_PACKAGE = 2 * 1024 * 1024

let scene
let site
const folder = mkdtempSync(join(tmpdir(), 'lianmai-examples-'))

/** An example with its dependencies, as after an installation. */
function installed(name) {
  const root = join(folder, name)
  cpSync(join(repository, 'examples', name), root, { recursive: true, filter: (path) => !path.endsWith('node_modules') })
  cpSync(built, join(root, 'node_modules/lianmai'), { recursive: true })
  return root
}

before(async () => {
  site = await startSite({ '/': join(folder, 'web') })
  scene = await Scene.open({ LIANMAI_SERVER__ORIGINS: JSON.stringify([site.origin]) })
  await scene.host('demo', 1001, 'Anna', 'bars', 440)
})

after(async () => {
  await scene?.close()
  site?.stop()
  rmSync(folder, { recursive: true, force: true })
})

const miniprogram = () => installed('wechat-miniprogram')
const read = (root, path) => readFileSync(join(root, path), 'utf8')
const files = (root) => readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath ?? entry.path, entry.name))

/** The definition of a page or app: the argument of its call of `Page` or `App`. */
function defined(phone, path, constructor) {
  let definition
  phone.context[constructor] = (given) => (definition = given)
  phone.modules[path] = undefined
  phone.require(path)
  return definition
}

function phoneOf(root, wx = {}, kind = {}) {
  return new Phone({ ...kind, wx, files: { '/miniprogram_npm/lianmai/': join(root, 'miniprogram_npm/lianmai/'), '/': `${root}/` } })
}

test('mini-program: every path exists, every handler is a method, and it is small enough', (context) => {
  const root = miniprogram()
  assert.deepEqual(buildNpm(root), ['lianmai'])
  const phone = phoneOf(root)
  context.after(() => phone.stop())
  const app = JSON.parse(read(root, 'app.json'))
  assert.ok(existsSync(join(root, app.sitemapLocation)))
  JSON.parse(read(root, 'project.config.json'))
  let handlers = 0
  for (const page of app.pages) {
    const { usingComponents = {} } = JSON.parse(read(root, `${page}.json`))
    for (const path of Object.values(usingComponents)) assert.ok(existsSync(join(root, `${path}.js`)), path)
    assert.ok(existsSync(join(root, `${page}.wxss`)), page)
    const definition = defined(phone, `/${page}.js`, 'Page')
    const markup = read(root, `${page}.wxml`)
    const known = new Set([...Object.keys(definition.data), 'item', 'index'])
    for (const name of names(markup)) assert.ok(known.has(name), `${page}: {{${name}}} is nowhere`)
    for (const { name, attributes } of elements(markup)) {
      for (const [key, value] of Object.entries(attributes)) {
        if (/^(bind|catch)/.test(key)) {
          assert.equal(typeof definition[value], 'function', `${page}: ${key}="${value}" of ${name}`)
          handlers++
        }
        if (/^(src|url)$/.test(key) && !value.includes('{{')) assert.ok(existsSync(join(root, value)), `${page}: ${value}`)
      }
    }
  }
  assert.ok(handlers > 15, `${handlers} handlers`)
  for (const file of files(root).filter((file) => file.endsWith('.js') && !file.includes('node_modules') && !file.includes('miniprogram_npm'))) {
    for (const [, path] of readFileSync(file, 'utf8').matchAll(/require\('(\.[^']+)'\)/g)) assert.ok(existsSync(join(dirname(file), path)), `${file}: ${path}`)
    for (const [, path] of readFileSync(file, 'utf8').matchAll(/url: '(\/[^'?]+)/g)) assert.ok(app.pages.includes(path.slice(1)), `${file}: ${path}`)
  }
  const bytes = files(root).filter((file) => !file.includes('node_modules')).map((file) => statSync(file).size).reduce((a, b) => a + b)
  assert.ok(bytes < MAX_PACKAGE, `${bytes} bytes`)
})

/** A page as WeChat runs it; `until` waits for a state of its data. */
class Opened {
  #waiting = []

  constructor(definition) {
    Object.assign(this, definition, { data: JSON.parse(JSON.stringify(definition.data)) })
  }

  setData(changes) {
    for (const [key, value] of Object.entries(changes)) {
      assert.ok(key in this.data, `${key} is no data of the page`)
      assert.notEqual(value, undefined, `${key}: WeChat refuses undefined`)
      // WeChat passes data to the other thread as text.
      this.data[key] = JSON.parse(JSON.stringify(value))
    }
    for (const look of [...this.#waiting]) look()
  }

  until(isSo) {
    return new Promise((done) => {
      const look = () => {
        if (!isSo(this.data)) return
        this.#waiting = this.#waiting.filter((other) => other !== look)
        done(this.data)
      }
      this.#waiting.push(look)
      look()
    })
  }
}

for (const kind of [{}, { hasGlobalThis: false, isSlow: true }]) {
  test(`mini-program: from the join page into the room and out, ${JSON.stringify(kind)}`, async (context) => {
    const root = miniprogram()
    buildNpm(root)
    writeFileSync(join(root, 'config.js'), `module.exports = { server: '${scene.server.url}', appkey: 'demo' }`)
    const asked = []
    const note = (name) => (options) => asked.push([name, options])
    const live = (name) => () => Object.fromEntries(['start', 'play', 'switchCamera'].map((what) => [what, () => asked.push([`${name}.${what}`])]))
    const wx = {
      navigateTo: note('navigateTo'), navigateBack: note('navigateBack'), setKeepScreenOn: note('setKeepScreenOn'),
      createLivePusherContext: live('pusher'), createLivePlayerContext: live('player'),
    }
    const phone = phoneOf(root, wx, kind)
    context.after(() => phone.stop())
    const app = defined(phone, '/app.js', 'App')
    phone.context.getApp = () => app
    app.onLaunch()
    const channel = scene.room()
    const peer = await scene.peer(channel, 900, { name: 'Peer' })
    await peer.publish()
    const heard = (event, isIt) => new Promise((done) => peer.on(event, (payload) => isIt(payload) && done(payload)))

    const entrance = new Opened(defined(phone, '/pages/join/join.js', 'Page'))
    entrance.onChannel({ detail: { value: channel } })
    entrance.onName({ detail: { value: 'Phone 手机' } })
    entrance.onJoin()
    const url = new URL(asked.find(([name]) => name === 'navigateTo')[1].url, 'http://weapp')
    assert.equal(url.pathname, '/pages/room/room')
    const room = new Opened(defined(phone, `${url.pathname}.js`, 'Page'))
    const came = heard('stream-added', ({ mediaType }) => mediaType === 'video')
    // WeChat passes the query of the address without decoding it.
    room.onLoad(Object.fromEntries(url.search.slice(1).split('&').map((pair) => pair.split('='))))
    await room.until(({ pusher }) => pusher.url)
    assert.match(room.data.pusher.url, /^rtmp:/)
    assert.deepEqual([room.data.pusher.enableCamera, room.data.pusher.enableMic], [true, true])
    const { uid } = await came
    assert.equal(peer.members().find((member) => member.uid === uid).name, 'Phone 手机')
    const [player] = (await room.until(({ players }) => players.length && !players[0].muteVideo && !players[0].muteAudio)).players
    assert.match(player.src, /^rtmp:/)
    assert.equal(player.name, 'Peer')

    // Mute, in both directions.
    const muted = heard('mute-audio', () => true)
    await room.onMicTap()
    await muted
    assert.equal(room.data.pusher.enableMic, false)
    await peer.mute('video')
    await room.until(({ players }) => players[0].isCameraMuted)
    await room.onMicTap()

    // Chat, in both directions.
    room.onDraft({ detail: { value: '你好' } })
    const said = heard('message', ({ data }) => data === '你好')
    await room.onSend()
    await said
    await peer.sendMessage('hello')
    await room.until(({ messages }) => messages.some(({ who, text }) => who === 'Peer' && text === 'hello'))
    assert.equal(room.data.draft, '')
    assert.deepEqual(room.data.messages.map(({ who }) => who), ['我 You', 'Peer'])

    // Becomes audience and broadcaster again, with another URL.
    const before = room.data.pusher.url
    await room.onRoleTap()
    assert.deepEqual([room.data.role, room.data.pusher.url], ['audience', ''])
    await room.onRoleTap()
    await room.until(({ pusher }) => pusher.url && pusher.url !== before)

    // Events of the components.
    const event = (code) => ({ detail: { code }, currentTarget: { id: `player-${player.key}`, dataset: { uid: player.uid } } })
    room.onPusherState(event(-1307))
    room.onPlayerState(event(2006))
    room.onPlayerState(event(-2301))
    room.onPlayerNet({ detail: { info: {} }, currentTarget: { dataset: { uid: player.uid } } })
    room.onPusherNet({ detail: { info: {} } })
    room.onPusherError({ detail: { errCode: 1 } })
    assert.deepEqual(asked.filter(([name]) => /^(pusher|player)/.test(name)).map(([name]) => name), ['pusher.start', 'player.play'])

    // In the background and back: a banner until the connection is back.
    phone.hide()
    await peer.unmute('video')
    const away = room.until(({ banner }) => banner.includes('Coming back'))
    phone.show(20_000)
    await away
    await room.until(({ banner, players }) => !banner && !players[0].isCameraMuted)

    // Kicked, with the reason.
    await peer.kick(uid, { reason: 'bye' })
    await room.until(({ ended }) => ended.includes('bye'))
    assert.deepEqual([room.data.players, room.data.pusher.url, room.data.trouble], [[], '', ''])
    room.onLeaveTap()
    room.onUnload()
    assert.deepEqual(asked.at(-2), ['navigateBack', undefined])
    await peer.leave()
  })
}

test('web-call: a page in 60 lines plays and talks', async () => {
  const html = readFileSync(join(repository, 'examples/web-call/index.html'), 'utf8')
  assert.ok(html.trim().split('\n').length <= 60)
  const pageRequire = createRequire(join(repository, 'crates/signal-server/page/index.js'))
  const { build } = pageRequire('esbuild')
  const web = join(folder, 'web')
  mkdirSync(web)
  const [script, code] = /<script type="module">([^]*)<\/script>/.exec(html)
  // Bundles the code, as its user would.
  await build({
    stdin: { contents: code.replace('ws://127.0.0.1:8600', scene.server.url), resolveDir: join(repository, 'crates/signal-server/page') },
    bundle: true, format: 'esm', outfile: join(web, 'main.js'), alias: { 'lianmai/web': join(built, 'web.mjs') }, external: ['./inline.mjs'],
  })
  cpSync(join(built, 'lianmai.wasm'), join(web, 'lianmai.wasm'))
  writeFileSync(join(web, 'index.html'), html.replace(script, '<script type="module" src="main.js"></script>'))
  const context = await scene.browser.newContext()
  context.setDefaultTimeout(0)
  const page = await context.newPage()
  const wrong = []
  page.on('pageerror', (error) => wrong.push(String(error)))
  await page.goto(`${site.origin}/index.html`)
  await page.getByRole('button', { name: 'Join' }).click()
  const video = page.locator('video')
  await video.first().waitFor()
  await page.getByLabel('Message').waitFor()
  assert.ok((await watch(page.locator('video').last(), 1)).frames >= 10)
  assert.equal(await page.locator('video').count(), 1)
  await page.getByLabel('Message').fill('hi there')
  await page.getByRole('button', { name: 'Send' }).click()
  await page.getByText('You: hi there').waitFor()
  assert.deepEqual(wrong, [])
  await context.close()
})

test('node-client: a bot greets, answers and records', async (context) => {
  const root = installed('node-client')
  const file = join(root, 'out.flv')
  const peer = await scene.peer('demo', 901, { name: 'Asker' })
  const bot = spawn(process.execPath, ['bot.mjs', '--server', scene.server.url, '--channel', 'demo', '--record', file], { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] })
  context.after(() => bot.kill('SIGKILL'))
  const ended = new Promise((done) => bot.once('exit', (code) => done(code)))
  const lines = []
  let own
  await new Promise((done) => createInterface({ input: bot.stdout }).on('line', (line) => {
    lines.push(line)
    own ??= /^in channel demo as (\d+)/.exec(line)?.[1]
    if (own && lines.includes('1001 is on air with video')) done()
  }))
  const answer = new Promise((done) => peer.on('message', ({ uid, data, targeted }) => targeted && String(uid) === own && done(data)))
  await peer.sendMessage('hello bot')
  assert.equal(await answer, 'hello 901, I am a bot of Node')
  // Waits until there is enough to probe.
  await new Promise((done) => {
    const isEnough = () => existsSync(file) && statSync(file).size >= 200_000
    const watcher = watchFolder(root, () => isEnough() && done(watcher.close()))
    if (isEnough()) done(watcher.close())
  })
  bot.kill('SIGINT')
  assert.equal(await ended, 0)
  const probed = JSON.parse(execFileSync('ffprobe', ['-v', 'error', '-show_streams', '-of', 'json', file], { encoding: 'utf8' }))
  assert.deepEqual(probed.streams.map(({ codec_name }) => codec_name).sort(), ['aac', 'h264'])
  await peer.leave()
})
