//! Proves no rule of the protocol: the logic of the page, without a browser. The SDK, timers and the library that
//! plays are stand-ins, so that a test can make them fail.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const page = join(dirname(fileURLToPath(import.meta.url)), '../../crates/signal-server/page')
const { build } = createRequire(join(page, 'package.json'))('esbuild')

/** Like the one of a browser. The one of Node keeps the process alive. */
globalThis.MessageChannel = class {
  port1 = {}
  port2 = { postMessage: (data) => setImmediate(() => this.port1.onmessage({ data })) }
}

let modules = 0

/** Loads a module of the page anew. `lianmai/web` is `globalThis.sdk`, and the library that plays comes from `globalThis.loadPlayer()`. */
async function source(file) {
  const standIns = {
    name: 'stand-ins',
    setup(bundler) {
      bundler.onResolve({ filter: /^lianmai\/web$/ }, () => ({ path: 'sdk', namespace: 'stand-in' }))
      bundler.onLoad({ filter: /.*/, namespace: 'stand-in' }, () => ({ contents: 'export default globalThis.sdk' }))
      bundler.onLoad({ filter: /player\.ts$/ }, ({ path }) => ({
        contents: readFileSync(path, 'utf8').replace("import('mpegts.js')", 'globalThis.loadPlayer()'), loader: 'ts',
      }))
    },
  }
  const { outputFiles } = await build({
    entryPoints: [join(page, 'src/room', file)], bundle: true, write: false, format: 'esm', target: 'es2022', plugins: [standIns],
  })
  return import(`data:text/javascript,${encodeURIComponent(`${outputFiles[0].text}//${++modules}`)}`)
}

/** Lets all tasks run that wait for no timer. */
async function rest() {
  for (let turn = 0; turn < 12; turn++) await new Promise((done) => setImmediate(done))
}

/** Timers of a page, in virtual time. A timer that is set by a timer fires after a minute, as in a page that was hidden for long. */
class Timers {
  time = 0
  timers = new Map()
  isInTimer = false
  last = 0

  set(run, ms) {
    this.timers.set(++this.last, { at: this.time + (this.isInTimer ? Math.max(ms, 60000) : ms), run })
    return this.last
  }

  async pass(ms) {
    const end = this.time + ms
    await rest()
    for (;;) {
      const due = [...this.timers].filter(([, timer]) => timer.at <= end).sort((a, b) => a[1].at - b[1].at)[0]
      if (!due) break
      this.timers.delete(due[0])
      this.time = due[1].at
      this.isInTimer = true
      due[1].run()
      this.isInTimer = false
      await rest()
    }
    this.time = end
  }

  /** Gives the page these timers until the test ends. */
  install(context) {
    const { clearTimeout } = globalThis
    globalThis.window = { setTimeout: (run, ms) => this.set(run, ms) }
    globalThis.clearTimeout = (timer) => this.timers.delete(timer) || clearTimeout(timer)
    globalThis.document = { visibilityState: 'visible', addEventListener() {}, removeEventListener() {} }
    context.after(() => {
      globalThis.clearTimeout = clearTimeout
      delete globalThis.window
      delete globalThis.document
    })
    return this
  }
}

test('timers of a hidden page are set by messages', async (context) => {
  const timers = new Timers().install(context)
  const { SimulatedNetwork } = await source('network.ts')
  const { setTimer, clearTimer } = new SimulatedNetwork(() => {}).host()
  let fired = 0
  const again = () => ++fired < 10 && setTimer(again, 1000)
  setTimer(again, 1000)
  clearTimer(setTimer(() => assert.fail('it was cleared'), 1000))
  const late = setTimer(() => assert.fail('it was cleared'), 5000)
  await timers.pass(3000)
  clearTimer(late)
  clearTimer(null)
  await timers.pass(7000)
  assert.equal(fired, 10)
  assert.equal(timers.timers.size, 0)
})

/** Makes players that use one library. */
async function players(context, loadPlayer) {
  const timers = new Timers().install(context)
  globalThis.loadPlayer = loadPlayer
  const { Player } = await source('player.ts')
  return { timers, play() {
    const told = []
    const video = { addEventListener() {}, removeEventListener() {} }
    new Player(video, { url: 'ws://x', transport: 'wsFlv', hasAudio: true, hasVideo: true }, (state) => told.push(state), (reason) => told.push(reason))
    return told
  } }
}

/** A stand-in for the library that plays. */
function library(made) {
  const player = { on() {}, attachMediaElement() {}, load() {}, play() {}, destroy() {} }
  return { default: {
    LoggingControl: { applyConfig() {} }, Events: {}, isSupported: () => true,
    createPlayer: () => {
      made.push(player)
      return player
    },
  } }
}

test('a player that fails to load once is loaded again, for every stream', async (context) => {
  const made = []
  let loads = 0
  const { timers, play } = await players(context, async () => {
    if (++loads === 1) throw new TypeError('Failed to fetch')
    return library(made)
  })
  const first = play()
  const second = play()
  await rest()
  assert.deepEqual([first, second], [['the player did not load', 'waiting'], ['the player did not load', 'waiting']])
  await timers.pass(1000)
  assert.equal(made.length, 2)
  play()
  await rest()
  assert.equal(made.length, 3)
  assert.equal(loads, 2)
})

test('a player that never loads is called unplayable in the end', async (context) => {
  const { timers, play } = await players(context, () => Promise.reject(new TypeError('Failed to fetch')))
  const told = play()
  await timers.pass(600000)
  assert.equal(told.at(-1), 'unplayable')
  assert.equal(told.filter((what) => what === 'unplayable').length, 1)
  assert.equal(timers.timers.size, 0)
})

/** A room, and the client of the SDK that it uses. */
async function room() {
  const client = {
    connectionState: 'connected', picture: [],
    on: (_, heard) => (client.tell = heard),
    configure() {},
    join: async () => ({ uid: 7 }),
    leave: async () => {},
    publish: async () => 'rtmp://x',
    mute: async () => {},
    setRole: async (role) => {
      client.picture = client.picture.filter(({ isSelf }) => !isSelf)
      if (role === 'broadcaster') client.picture.push({ uid: 7, isSelf: true, role, muted: [], streams: [] })
    },
    subscribe: async () => ({ urls: { wsFlv: 'ws://x' } }),
    channel: () => null,
    members: () => client.picture.slice(),
    tasks: () => [],
    pusherAttributes: () => ({ url: '' }),
  }
  globalThis.sdk = { configure() {}, createClient: () => client }
  const { Room } = await source('room.ts')
  return { client, room: new Room('ws://x', '/x', () => {}) }
}

const ENTRY = { appkey: 'demo', channel: 'room', uid: '7', name: '', role: 'broadcaster', token: '' }

test('a leave that fails takes nothing of the room into the next one', async () => {
  const { client, room: it } = await room()
  await it.join(ENTRY)
  client.picture = [{ uid: 8, isSelf: false, role: 'broadcaster', muted: [], streams: ['video'] }]
  client.tell('stream-added', { uid: 8, mediaType: 'video' })
  await rest()
  assert.equal(it.tiles.size, 1)
  client.leave = async () => {
    client.picture = []
    client.connectionState = 'disconnected'
    throw Object.assign(new Error('No answer in time.'), { name: 'timeout' })
  }
  await it.leave()
  assert.deepEqual([it.tiles.size, it.members, it.state], [0, [], 'disconnected'])
  assert.deepEqual(it.troubles.map(({ error }) => error.name), ['timeout'])
})

test('the role is the one that one has', async () => {
  const { client, room: it } = await room()
  // A moderator made this uid audience before: the server admits it as audience, whatever it requests.
  await it.join(ENTRY)
  assert.equal(it.role, 'audience')
  await it.setRole('broadcaster')
  assert.equal(it.role, 'broadcaster')
  // A moderator does it again.
  client.picture = []
  client.tell('role-Changed', { uid: 7, role: 'audience' })
  assert.equal(it.role, 'audience')
})

test('mutes outlive a change of the role', async () => {
  const { room: it } = await room()
  await it.join(ENTRY)
  await it.setRole('broadcaster')
  await it.mute('audio', true)
  await it.setRole('audience')
  await it.setRole('broadcaster')
  assert.deepEqual([...it.muted], ['audio'])
})
