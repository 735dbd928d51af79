//! Proves no rule of the protocol: that wrong input is a rejection with a name, a number and a sentence, and harms nothing.

import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { test } from 'node:test'
import { project, source } from './support/package.mjs'
import { mid, World } from './support/world.mjs'

const { toWire, told } = await source('uid.ts')
const { decode, encode } = await source('utf8.ts')

/** Checks the properties that every rejection has. */
function isError(name, more = {}) {
  return (error) => {
    assert.ok(error instanceof Error)
    assert.equal(error.name, name, error.message)
    assert.equal(typeof error.code, 'number')
    assert.notEqual(error.code, 0)
    assert.equal(error.reason, error.message)
    assert.ok(error.reason.length > 10, error.reason)
    for (const [key, value] of Object.entries(more)) assert.equal(error[key], value, key)
    return true
  }
}

test('uids in every form', () => {
  class BigNumber {
    constructor(text) {
      this.text = text
    }
    toFixed() {
      return this.text
    }
    toJSON() {
      return 'not this'
    }
  }
  for (const [uid, wire] of [
    [0, '0'], [100, '100'], [9007199254740991, '9007199254740991'], ['100', '100'], ['18446744073709551615', '18446744073709551615'],
    [18446744073709551615n, '18446744073709551615'], [new BigNumber('12345678901234567890'), '12345678901234567890'],
    [{ toString: () => '42' }, '42'],
  ]) assert.equal(toWire(uid), wire)
  for (const uid of [
    -1, 1.5, NaN, Infinity, 9007199254740992, '', ' 1', '01', '-1', '1e3', 'abc', '１', true, [7], {}, () => 7, Symbol('7'),
    new BigNumber('1.5'), { toString: null }, { toString() { throw new Error('no') } },
  ]) assert.throws(() => toWire(uid), isError('badUid', { code: 414, field: 'uid' }))
  for (const uid of ['18446744073709551616', '99999999999999999999', 2n ** 64n, '1'.repeat(1000)]) {
    assert.throws(() => toWire(uid), isError('uidOutOfRange', { code: 414 }))
  }
  assert.deepEqual(told('9007199254740991'), { uid: 9007199254740991, isBigNumber: false })
  assert.deepEqual(told('9007199254740992'), { uid: '9007199254740992', isBigNumber: true })
})

test('text goes to UTF-8 and back as by the platform', () => {
  const platform = new TextEncoder()
  const long = 'ß'.repeat(5000) + '会'.repeat(5000) + '😀'.repeat(5000)
  for (const text of ['', 'plain', 'ß', '会议', '😀', 'a\u0000b', '\ud800', 'a\udc00b', '\ud800\ud800', '😀\ud83d', '\uffff', long]) {
    const bytes = Uint8Array.from(encode(text), (unit) => unit.charCodeAt(0))
    assert.deepEqual(bytes, platform.encode(text))
    assert.equal(decode(bytes, 0, bytes.length), new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes))
  }
  assert.equal(decode(platform.encode('xx会议xx'), 2, 8), '会议')
})

test('parameters of join', async () => {
  const world = new World()
  const join = (params) => world.client.join(params)
  await assert.rejects(join(), isError('invalidParams', { method: 'join' }))
  await assert.rejects(join('room1'), isError('invalidParams'))
  await assert.rejects(join({}), isError('invalidParams', { field: 'channelName' }))
  await assert.rejects(join({ channelName: 5 }), isError('invalidParams', { field: 'channelName' }))
  await assert.rejects(join({ channelName: '' }), isError('badChannelName', { code: 414 }))
  await assert.rejects(join({ channelName: '房间' }), isError('badChannelName'))
  await assert.rejects(join({ channelName: 'x', uid: -1 }), isError('badUid', { field: 'uid' }))
  await assert.rejects(join({ channelName: 'x', uid: '18446744073709551616' }), isError('uidOutOfRange'))
  await assert.rejects(join({ channelName: 'x', token: 5 }), isError('invalidParams', { field: 'token' }))
  await assert.rejects(join({ channelName: 'x', role: 'host' }), isError('badRole', { field: 'role' }))
  await assert.rejects(join({ channelName: 'x', attributes: { a: 1 } }), isError('invalidParams', { field: 'attributes.a' }))
  await assert.rejects(join({ channelName: 'x', name: 5 }), isError('invalidParams', { field: 'name' }))
  assert.equal(world.sockets.length, 0)
  for (const token of ['', null, undefined]) {
    await join({ channelName: 'x', token, uid: null, recordType: 0, liveEnable: 1 })
    assert.equal(world.sent('join').at(-1).params.token, undefined)
    await world.client.leave()
  }
})

test('what an app hands in may throw', async () => {
  const world = new World()
  const thrower = { get channelName() {
    throw new TypeError('thrown by the app')
  } }
  await assert.rejects(world.client.join(thrower), isError('invalidParams', { message: 'thrown by the app', method: 'join' }))
  await assert.rejects(world.client.join({ channelName: 'x', uid: { toFixed() {
    throw null
  } } }), isError('badUid'))
  await assert.rejects(world.client.join({ channelName: 1n }), isError('invalidParams'))
  assert.equal((await world.join()).uid, 100)
})

test('an appkey and a server are needed', async () => {
  const world = new World({}, {})
  await assert.rejects(world.client.join({ channelName: 'x' }), isError('invalidParams', { field: 'appkey' }))
  for (const server of [undefined, '', 'live.example.com', 'ftp://x', 'ws://', 'ws://a b', 5, [], ['ws://a', 5], 'ws://x?y']) {
    world.sdk.configure({ server })
    await assert.rejects(world.sdk.createClient({ appkey: 'demo' }).join({ channelName: 'x' }), isError('badServer', { code: 20103 }))
  }
  for (const [server, url] of [['https://x/', 'wss://x/v1/signal'], ['ws://x:8600', 'ws://x:8600/v1/signal'], ['wss://x/deep', 'wss://x/deep'], [['http://[::1]:1'], 'ws://[::1]:1/v1/signal']]) {
    world.sdk.configure({ server })
    const client = world.sdk.createClient({ appkey: 'demo' })
    await client.join({ channelName: 'x', uid: 1 })
    assert.equal(world.socket.url, url)
    await client.leave()
  }
  assert.throws(() => world.sdk.Client(null), isError('invalidParams'))
  assert.throws(() => world.sdk.createClient('demo'), isError('invalidParams'))
  for (const options of [undefined, 'x', { reannounce: 'some' }, { wasmPath: 5 }, { connectTimeoutMs: -1 }, { giveUpAfterMs: 1.5 }]) {
    assert.throws(() => world.sdk.configure(options), isError('invalidParams'))
  }
})

/** Calls that need a channel, each with valid parameters. */
const CALLS = [
  ['leave', 'leave'], ['publish', 'publish'], ['unpublish', 'unpublish'], ['subscribe', 'subscribe', 1, 'audio'], ['unsubscribe', 'unsubscribe', 1, 'audio'],
  ['mute', 'mute', 'audio'], ['unmute', 'unmute', 'audio'], ['dataReporter', 'report', 'push', 'binderror', {}], ['kick', 'kick', 1],
  ['addTasks', 'addTasks', { rtmpTasks: [task()] }], ['updateTasks', 'updateTasks', { rtmpTasks: [task()] }],
  ['deleteTasks', 'deleteTasks', { taskIds: ['a'] }], ['closeChannel', 'closeChannel'], ['sendMessage', 'sendMessage', 'x'],
  ['setAttributes', 'setAttributes', {}], ['renewToken', 'renewToken', 'x'], ['setRole', 'setRole', 'audience', 7],
]

function task(more) {
  return { taskId: 'a', streamUrl: 'rtmp://x/y', layout: { canvas: { width: 2, height: 2 }, users: [] }, ...more }
}

test('calls before join, after leave and after destroy', async () => {
  const world = new World()
  for (const [name, method, ...args] of CALLS) await assert.rejects(world.client[name](...args), isError('notJoined', { code: 434, method }))
  await world.join()
  await world.client.leave()
  for (const [name, method, ...args] of CALLS.slice(1)) await assert.rejects(world.client[name](...args), isError('notJoined', { method }))
  // `leave` and `destroy` succeed, because the client is out of the channel already.
  await world.client.leave()
  await world.client.destroy()
  for (const [name, method, ...args] of CALLS) await assert.rejects(world.client[name](...args), isError('notJoined', { method }))
  await world.join()
})

test('join twice', async () => {
  const world = new World()
  const first = world.client.join({ channelName: 'room1', uid: 100 })
  await assert.rejects(world.client.join({ channelName: 'room1', uid: 100 }), isError('alreadyJoined', { code: 434, method: 'join' }))
  await first
  await assert.rejects(world.client.join({ channelName: 'room1', uid: 100 }), isError('alreadyJoined'))
  assert.equal(await world.client.publish('audio'), 'rtmp://media/push-main')
})

test('leave gives a join up that waits for the module', async () => {
  const ready = []
  const world = new World({ host: { random: () => new Promise((resolve) => ready.push(() => resolve(new Uint8Array(24)))) } })
  const rejected = assert.rejects(world.client.join({ channelName: 'room1', uid: 100 }), isError('superseded', { method: 'join' }))
  await world.client.leave()
  await rejected
  const again = world.client.join({ channelName: 'room2', uid: 100 })
  await world.rest()
  // Completes what the first `join` waited for.
  ready[0]()
  await world.rest()
  assert.equal(world.sent('join').length, 0)
  ready[1]()
  await again
  assert.deepEqual(world.sent('join').map(({ params }) => params.channelName), ['room2'])
})

const room2 = { channelName: 'room2', uid: 100 }

for (const calls of ['leave destroy', 'leave leave', 'leave destroy leave', 'leave join leave', 'leave join destroy']) {
  test(`join after ${calls} waits until the app is out`, async () => {
    const world = new World()
    await world.join()
    let answer
    world.answers.leave = ({ id }) => {
      answer = () => world.frame({ jsonrpc: '2.0', id, result: { seq: world.seq } })
    }
    const given = []
    for (const call of calls.split(' ')) {
      const called = world.client[call](room2)
      if (call === 'join') given.push(assert.rejects(called, isError('superseded', { method: 'join' })))
      else called.catch(() => {})
      // Calls that need no answer of the server settle now.
      await world.rest()
    }
    const joined = world.client.join(room2)
    await world.rest()
    assert.equal(world.sent('join').length, 1)
    answer()
    await world.rest()
    assert.equal((await joined).code, 200)
    await Promise.all(given)
    assert.equal(world.sent('join').length, 2)
    assert.equal(world.client.connectionState, 'connected')
  })
}

test('join, leave and join, again and again in one tick', async () => {
  const world = new World()
  const { client } = world
  const given = []
  for (let time = 0; time < 3; time++) {
    given.push(assert.rejects(client.join({ channelName: 'room1', uid: 100 }), isError('superseded')))
    client.leave()
  }
  assert.equal((await client.join(room2)).code, 200)
  await Promise.all(given)
  assert.deepEqual(world.sent('join').map(({ params }) => params.channelName), ['room2'])
  // The end of the earlier calls did not affect the last one.
  await assert.rejects(client.join(room2), isError('alreadyJoined'))
})

test('a client is out when its destroy is done', async () => {
  const world = new World()
  await world.join()
  world.client.leave()
  await world.client.destroy()
  assert.equal(world.client.connectionState, 'disconnected')
  assert.equal((await world.client.join(room2)).code, 200)
})

test('a join that leave gives up while it connects says so, and the next one may follow at once', async () => {
  const world = new World()
  world.isDown = true
  const rejected = assert.rejects(world.client.join({ channelName: 'room1', uid: 100 }), isError('superseded', { method: 'join' }))
  await world.rest()
  assert.equal(world.sockets.length, 1)
  const left = world.client.leave()
  const joined = world.client.join(room2)
  await Promise.all([rejected, left])
  world.isDown = false
  await world.rest()
  assert.equal((await joined).code, 200)
})

test('a configuration that the module refuses rejects each join and no other call hangs', async () => {
  const world = new World()
  await world.join()
  await world.client.leave()
  world.client.configure({ server: Array.from({ length: 17 }, (_, at) => `ws://host${at}`) })
  for (let time = 0; time < 2; time++) await assert.rejects(world.client.join(room2), isError('invalidParams', { method: 'join' }))
  await assert.rejects(world.client.publish(), isError('notJoined'))
  await world.client.leave()
  world.client.configure({ server: 'ws://fake' })
  assert.equal((await world.client.join(room2)).code, 200)
})

test('leave after a join that was refused, and after the client failed', async () => {
  const world = new World()
  world.answers.join = () => ({ error: { code: 20007, message: 'The uid was kicked from this channel.', data: { name: 'banned', retryable: false, retryAfterMs: 500 } } })
  await assert.rejects(world.client.join({ channelName: 'room1', uid: 100 }), isError('banned', { code: 20007, retryAfterMs: 500, method: 'join' }))
  await assert.rejects(world.client.leave(), isError('notJoined'))
})

test('what a component reports too late needs no catch', async () => {
  const world = new World()
  // The test fails on an unhandled rejection.
  world.client.dataReporter('push', 'binderror', {})
  await world.rest()
})

test('leave while join is on its way', async () => {
  const world = new World()
  let joined
  world.answers.join = () => undefined
  joined = world.client.join({ channelName: 'room1', uid: 100 })
  const rejected = assert.rejects(joined)
  await world.rest()
  const left = world.client.leave()
  world.socket.listener.close(1006, '')
  await world.pass(30000)
  await rejected
  await left
  assert.equal(world.client.connectionState, 'disconnected')
})

test('wrong parameters in a channel, which goes on', async () => {
  const world = new World()
  await world.join()
  const { client } = world
  world.answers.subscribe = (request) => ['audio', 'video'].includes(request.params.mediaType) ? world.usual(request) : { error: {
    code: 414, message: 'The media type is unknown or does not fit the method.', data: { name: 'badMediaType', retryable: false, field: 'mediaType' },
  } }
  await assert.rejects(client.subscribe(undefined, 'audio'), isError('badUid', { method: 'subscribe', field: 'uid' }))
  await assert.rejects(client.subscribe(200, 'film'), isError('badMediaType', { field: 'mediaType', method: 'subscribe' }))
  await assert.rejects(client.subscribe(200, 5), isError('invalidParams', { field: 'mediaType' }))
  await assert.rejects(client.subscribe(200), isError('invalidParams', { field: 'mediaType' }))
  await assert.rejects(client.publish(5), isError('invalidParams', { field: 'mediaType' }))
  await assert.rejects(client.mute({}), isError('invalidParams', { field: 'mediaType' }))
  await assert.rejects(client.setRole('host'), isError('badRole'))
  await assert.rejects(client.setRole(), isError('badRole'))
  await assert.rejects(client.kick(), isError('badUid'))
  await assert.rejects(client.kick(1, { durationS: 'long' }), isError('invalidParams', { field: 'durationS' }))
  await assert.rejects(client.sendMessage(5), isError('invalidParams', { field: 'data' }))
  await assert.rejects(client.sendMessage('x', { to: 5 }), isError('invalidParams', { field: 'to' }))
  await assert.rejects(client.sendMessage('x', { to: [1, -1] }), isError('badUid', { field: 'to[1]' }))
  await assert.rejects(client.setAttributes(), isError('invalidParams', { field: 'attributes' }))
  await assert.rejects(client.setAttributes({ a: 5 }), isError('invalidParams', { field: 'attributes.a' }))
  await assert.rejects(client.renewToken(), isError('invalidParams', { field: 'token' }))
  await assert.rejects(client.dataReporter('up', 'binderror', {}), isError('invalidParams', { field: 'dir' }))
  await assert.rejects(client.dataReporter('push', 'bind', {}), isError('invalidParams', { field: 'type' }))
  await assert.rejects(client.dataReporter('push', 'binderror', 5), isError('invalidParams', { field: 'data' }))
  const loop = {}
  loop.loop = loop
  await assert.rejects(client.dataReporter('push', 'binderror', loop), isError('invalidParams'))
  await assert.rejects(client.sendMessage('x'.repeat(70000)), isError('frameTooLarge'))
  for (const params of [undefined, {}, { rtmpTasks: {} }, { rtmpTasks: [] }]) {
    await assert.rejects(client.addTasks(params), isError('invalidParams', { legacyCode: '434' }))
    await assert.rejects(client.updateTasks(params), isError('invalidParams', { legacyCode: '436' }))
    await assert.rejects(client.deleteTasks(params), isError('invalidParams', { legacyCode: '435' }))
  }
  await assert.rejects(client.addTasks({ rtmpTasks: [task({ layout: undefined })] }), isError('invalidParams', { field: 'rtmpTasks[0].layout' }))
  await assert.rejects(client.addTasks({ rtmpTasks: [task({ hostUid: -1 })] }), isError('badUid'))
  await assert.rejects(client.deleteTasks({ taskIds: [5] }), isError('invalidParams', { field: 'taskIds[0]' }))
  assert.throws(() => client.on('open'), isError('invalidParams', { field: 'handler' }))
  assert.throws(() => client.on('', () => {}), isError('invalidParams', { field: 'event' }))
  assert.throws(() => client.once(5, () => {}), isError('invalidParams'))
  assert.equal(client.off('never registered'), client)
  assert.equal(world.sockets.length, 1)
  assert.equal((await client.subscribe(200, 'audio')).url, 'rtmp://media/pull-200-main')
  assert.equal(await client.publish(null), 'rtmp://media/push-main')
})

test('names of a server find nothing that belongs to every object', async () => {
  const world = new World()
  world.members.push({ uid: '201', role: 'broadcaster' })
  await world.join()
  await world.rest()
  world.heard()
  for (const name of ['constructor', 'toString', '__proto__']) {
    world.answers.kick = () => ({ error: { code: 1, message: 'It says so.', data: { name, retryable: false } } })
    await assert.rejects(world.client.kick(200), isError(name, { method: 'kick', reason: 'It says so.' }))
  }
  const reasons = []
  world.client.on('peer-leave', ({ reason }) => reasons.push(reason))
  world.event('clientLeave', { uid: '201', mid: mid(201), reason: 'constructor' })
  await world.rest()
  assert.deepEqual(reasons, [0])
})

test('work that throws stops nothing that comes after it', async () => {
  const { Delivery, FIRST, NEXT, LAST } = await source('facade/delivery.ts')
  const done = []
  const logged = []
  let steps = 3
  const drained = new Promise((resolve) => {
    const host = { macrotask: setImmediate, console: { error: (...what) => logged.push(what[1].message) } }
    const delivery = new Delivery(() => host, () => {
      if (!steps) return 0
      if (steps-- === 3) throw new Error('step')
      done.push('step')
      return 1
    }, resolve)
    for (const [queue, name] of [[FIRST, 'first'], [NEXT, 'next'], [LAST, 'last']]) {
      delivery.add(queue, () => {
        throw new Error(name)
      })
      delivery.add(queue, () => done.push(name))
    }
  })
  await drained
  assert.deepEqual(done, ['first', 'next', 'step', 'step', 'last'])
  assert.deepEqual(logged, ['first', 'next', 'step', 'last'])
})

test('tasks with the shapes of the guide', async () => {
  const world = new World()
  await world.join()
  await world.client.addTasks({ rtmpTasks: [task({
    hostUid: 18446744073709551615n, layout: { canvas: { width: 2, height: 2 }, users: [{ uid: 100, pushAudio: true }] },
    config: { audioParam: { bitRate: 64, singleVideoNoTrans: true } },
  })] })
  const [sent] = world.sent('addTasks')[0].params.rtmpTasks
  assert.equal(sent.hostUid, '18446744073709551615')
  assert.equal(sent.layout.users[0].uid, '100')
  assert.equal(sent.config.singleVideoNoTrans, true)
  await world.client.deleteTasks({ rtmpTasks: ['a'] })
  assert.deepEqual(world.sent('deleteTasks')[0].params, { taskIds: ['a'] })
})

test('voice and captions', async () => {
  const world = new World()
  const { client } = world
  for (const [method, ...args] of [
    ['setVoiceBeautifierPreset', 12], ['setVoiceBeautifierPreset', 1.5], ['setVoiceBeautifierPreset', '1'], ['setAudioEffectPreset', -1],
    ['setLocalVoicePitch', 0.4], ['setLocalVoicePitch', NaN], ['setLocalVoiceEqualization', 10, 0], ['setLocalVoiceEqualization', 0, 16], ['setLocalVoiceEqualization'],
  ]) await assert.rejects(client[method](...args), isError('invalidParams', { code: -32602, method }))
  await client.setVoiceBeautifierPreset(7)
  assert.equal(client.pusherAttributes().audioReverbType, 1)
  await client.setAudioEffectPreset(1)
  assert.deepEqual([client.pusherAttributes().audioReverbType, client.pusherAttributes().voiceChangerType], [0, 10])
  await client.setLocalVoicePitch(2)
  assert.equal(client.pusherAttributes().voiceChangerType, 0)
  await client.setLocalVoiceEqualization(9, -15)
  for (const method of ['startAsrCaptions', 'stopAsrCaptions', 'aiManualInterrupt']) {
    await assert.rejects(client[method](), isError('notSupported', { method }))
  }
})

test('a module of another version, a file that is none, a host that never answers', async () => {
  const world = new World()
  const { loadWasm } = world.host
  const other = async (...args) => {
    const exports = await loadWasm(...args)
    return { ...exports, version: (at) => {
      exports.version(at)
      new Uint8Array(exports.memory.buffer)[new Int32Array(exports.memory.buffer, at, 1)[0]] = 57
    } }
  }
  const never = () => new Promise(() => {})
  for (const [load, reason] of [[other, /it is version 9/], [never, /no answer/], [async () => ({}), /cannot be loaded/], [() => { throw { errMsg: 'of the host' } }, /of the host/]]) {
    world.sdk.configure({ host: { loadWasm: load } })
    const joined = world.client.join({ channelName: 'x', uid: 1 })
    const rejected = assert.rejects(joined, (error) => isError('wasmUnavailable')(error) && reason.test(error.reason))
    await world.pass(50000)
    await rejected
  }
  world.sdk.configure({ host: { loadWasm, random: never } })
  const joined = assert.rejects(world.client.join({ channelName: 'x', uid: 1 }), isError('randomUnavailable'))
  await world.pass(50000)
  await joined
  world.sdk.configure({ host: { random: world.host.random } })
  assert.equal((await world.join()).uid, 100)
})

test('a socket is closed with codes that browsers take', async () => {
  const world = new World()
  // Browsers throw for the same codes.
  const { connect } = world
  world.connect = function (...args) {
    const socket = connect.apply(this, args)
    return { ...socket, close(code) {
      if (code !== 1000 && !(code >= 3000 && code < 5000)) throw new Error('InvalidAccessError')
      socket.close(code)
    } }
  }
  await world.join()
  for (const code of [1001, 1006, 2999, 5000]) {
    world.notice('closing', { code, reason: 'goingAway', action: 'reconnect' })
    // The server does not close the socket itself, so the client must.
    await world.pass(20000)
    assert.equal(world.client.connectionState, 'connected')
  }
  assert.deepEqual(world.sockets.map(({ closed }) => closed), [1000, 1000, 1000, 1000, null])
})

test('sockets of the platforms', async () => {
  const { monotonic } = await source('host.ts')
  let wall = 100
  const now = monotonic(() => wall)
  const start = now()
  const steps = [200, 150, 160, 1000].map((at) => {
    wall = at
    return now() - start
  })
  // If the wall clock is set back, the clock stands still; if it is set forward, the clock follows.
  assert.deepEqual(steps, [100, 100, 110, 950])

  const wechat = await source('hosts/wechat.ts')
  const on = {}
  const closed = []
  const task = { send() {}, close: ({ code }) => closed.push(code) }
  for (const event of ['Open', 'Message', 'Close', 'Error']) task[`on${event}`] = (run) => (on[event] = run)
  const told = []
  const listener = { open: () => told.push('open'), message: (data) => told.push(data), close: (...what) => told.push(what) }
  let socket = wechat.connectBy((options) => (told.push([options.url, options.protocols]), task), 'ws://x', 'p', listener)
  // A socket that is not open yet accepts only 1000, and may open nevertheless.
  socket.close(4005)
  on.Open()
  assert.deepEqual([closed.splice(0), told.splice(0)], [[1000, 1000], [['ws://x', ['p']]]])
  socket = wechat.connectBy(() => task, 'ws://x', 'p', listener)
  on.Open()
  on.Message({ data: 'text' })
  on.Error({ errMsg: 'broken' })
  on.Close({ code: 1006, reason: '' })
  socket.close(4005)
  socket.close(4005)
  assert.deepEqual([closed, told.splice(0)], [[4005], ['open', 'text', [1006, 'broken'], [1006, '']]])

  const web = await source('hosts/web.ts')
  const sockets = []
  class Fake {
    constructor(url, protocol) {
      sockets.push(Object.assign(this, { url, asked: protocol, protocol: '', closed: [] }))
    }
    close(code) {
      this.closed.push(code)
    }
  }
  web.connectBy(Fake, 'ws://x', 'lianmai.v1', listener)
  sockets[0].onopen()
  assert.deepEqual([sockets[0].closed, told.splice(0)], [[1000], [[1006, 'the server does not speak lianmai.v1']]])
  web.connectBy(Fake, 'ws://x', 'lianmai.v1', listener)
  sockets[1].protocol = 'lianmai.v1'
  sockets[1].onopen()
  assert.deepEqual(told, ['open'])
})

test('a server that is none, and one that is not there', async (context) => {
  const sdk = project().require('lianmai/node')
  const server = createServer((_, response) => response.end('hello')).listen(0, '127.0.0.1')
  context.after(() => server.close())
  await new Promise((done) => server.on('listening', done))
  const { port } = server.address()
  sdk.configure({ commandTimeoutMs: 300 })
  for (const address of [`ws://127.0.0.1:${port}`, 'ws://127.0.0.1:1']) {
    const client = sdk.createClient({ appkey: 'demo', server: address })
    await assert.rejects(client.join({ channelName: 'x' }), (error) => isError('notConnected', { method: 'join' })(error) && error.reason.includes(address))
    assert.equal(client.connectionState, 'disconnected')
    await client.destroy()
  }
})
