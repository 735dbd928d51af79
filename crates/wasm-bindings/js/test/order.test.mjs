//! Proves no rule of the protocol: when an app is told what, and which handlers hear it.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { mid, World } from './support/world.mjs'

const names = (events) => events.map(([event, payload]) => [event, payload.uid, payload.mediaType].filter((part) => part !== undefined).join(' '))
const room = (events) => names(events).filter((name) => !/^(open|connection|member)/.test(name))

test('who is there comes after the callbacks of join, members before their streams and mutes', async () => {
  const world = new World()
  world.members = [
    { uid: '200', role: 'broadcaster', streams: ['audio', 'video'], muted: ['video'] },
    { uid: '201', role: 'broadcaster', streams: [] },
  ]
  const seen = []
  world.client.on('*', (event, { uid, mediaType }) => seen.push([event, uid, mediaType].filter(Boolean).join(' ')))
  await world.client.join({ channelName: 'room1', uid: 100 }).then(() => seen.push('then')).then(() => seen.push('then again'))
  await world.rest()
  assert.deepEqual(seen.slice(seen.indexOf('then')), [
    'then', 'then again', 'clientJoin 200', 'stream-added 200 audio', 'stream-added 200 video', 'mute-video 200 video', 'clientJoin 201',
  ])
})

test('what follows a settlement waits for its callbacks', async () => {
  const world = new World()
  await world.join()
  const seen = []
  world.answers.setAttributes = () => {
    setImmediate(() => {
      // Both frames arrive in the same task.
      world.event('clientJoin', { uid: '8', mid: mid(8) })
    })
    return { seq: world.seq }
  }
  world.client.on('clientJoin', () => seen.push('event'))
  await world.rest()
  seen.splice(0)
  const called = world.client.setAttributes({ a: '1' }).then(() => seen.push('then')).then(() => seen.push('then again'))
  await called
  await world.rest()
  assert.deepEqual(seen, ['then', 'then again', 'event'])
})

test('no handler runs inside of a call of the app', async () => {
  const world = new World()
  await world.join()
  world.heard()
  let inside = true
  const heard = []
  world.client.on('connection-state-change', () => heard.push(inside))
  const left = world.client.leave()
  inside = false
  await left
  assert.deepEqual(heard, [false])
})

test('a late handler hears what is so, alone, once, before what is newer', async () => {
  const world = new World()
  world.members = [{ uid: '200', role: 'broadcaster', streams: ['audio'], muted: ['audio'] }]
  await world.join()
  await world.rest()
  world.heard()
  const heard = []
  for (const event of ['clientJoin', 'stream-added', 'mute-audio', 'mute-video', 'unmute-audio', 'clientLeave']) {
    world.client.on(event, ({ uid }) => heard.push([event, uid]))
  }
  world.client.once('clientJoin', ({ uid }) => heard.push(['once', uid]))
  world.event('clientJoin', { uid: '8', mid: mid(8) })
  assert.deepEqual(heard, [])
  await world.rest()
  assert.deepEqual(heard, [['clientJoin', 200], ['stream-added', 200], ['mute-audio', 200], ['clientJoin', 8], ['once', 8]])
  // The handlers that were there before receive only the new event.
  assert.deepEqual(room(world.heard()), ['clientJoin 8'])
})

test('a handler that comes with the callback of join hears everything once', async () => {
  const world = new World()
  const heard = []
  const joined = world.client.join({ channelName: 'room1', uid: 100 }).then(() => {
    world.client.on('stream-added', ({ mediaType }) => heard.push(mediaType))
  })
  await world.rest()
  await joined
  assert.deepEqual(heard, ['audio', 'video'])
})

test('a handler that comes while who is there is told misses nothing and hears nothing twice', async () => {
  const world = new World()
  const heard = []
  world.client.once('stream-added', () => {
    world.client.on('stream-added', ({ mediaType }) => heard.push(mediaType))
    world.client.on('clientJoin', ({ uid }) => heard.push(uid))
  })
  await world.join()
  await world.rest()
  assert.deepEqual(heard, ['audio', 200, 'video'])
})

test('a handler that is gone before its turn hears nothing', async () => {
  const world = new World()
  await world.join()
  await world.rest()
  let heard = 0
  const handler = () => heard++
  world.client.on('clientJoin', handler)
  world.client.off('clientJoin', handler)
  await world.rest()
  assert.equal(heard, 0)
  // A handler that another handler of the same event removes is not called either.
  world.client.once('member-count', () => world.client.off('member-count', handler)).on('member-count', handler)
  world.notice('memberCount', { count: 3 })
  await world.rest()
  assert.equal(heard, 0)
})

test('who leaves is not told that it is out', async () => {
  const world = new World()
  await world.join()
  await world.rest()
  world.heard()
  await world.client.leave()
  await world.rest()
  assert.deepEqual(names(world.heard()), ['connection-state-change'])
})

test('a host that reports from within a command', async () => {
  const world = new World()
  const answers = []
  world.sdk.configure({ host: { connect: (url, protocol, listener) => {
    const socket = { listener, closed: null, sent: [] }
    world.sockets.push(socket)
    listener.open()
    return { close: (code) => (socket.closed = code), send: (text) => {
      const request = JSON.parse(text)
      answers.push(request.method)
      socket.sent.push(request)
      world.answer(socket, request)
    } }
  } } })
  const client = world.sdk.createClient({ appkey: 'demo' })
  // The socket opens before `connect` returns, and the answer arrives before `send` returns.
  const joined = client.join({ channelName: 'room1', uid: 100 })
  await world.rest()
  assert.equal((await joined).uid, 100)
  assert.deepEqual(answers, ['join'])
  const failing = world.sdk.createClient({ appkey: 'demo' })
  const closed = []
  world.sdk.configure({ host: { connect: (url, protocol, listener) => {
    listener.close(1006, 'at once')
    return { send() {}, close: (code) => closed.push(code) }
  } } })
  const refused = assert.rejects(failing.join({ channelName: 'room1' }), { name: 'notConnected' })
  await world.pass(20000)
  await refused
  assert.ok(closed.length > 1 && closed.every((code) => code === 1000))
})

test('one of several handlers can be removed, or all of an event', async () => {
  const world = new World()
  await world.join()
  const heard = []
  const one = () => heard.push('one')
  const two = () => heard.push('two')
  world.client.on('member-count', one).on('member-count', two)
  world.client.off('member-count', one)
  world.notice('memberCount', { count: 3 })
  await world.rest()
  world.client.off('member-count')
  world.notice('memberCount', { count: 4 })
  await world.rest()
  assert.deepEqual(heard, ['two'])
})

test('a handler that throws stops no other, and is told', async () => {
  const world = new World()
  await world.join()
  world.heard()
  const fault = new Error('of the app')
  let heard = 0
  world.client.on('member-count', () => {
    throw fault
  })
  world.client.on('member-count', () => heard++)
  world.client.on('handler-error', () => {
    throw fault
  })
  world.notice('memberCount', { count: 3 })
  await world.rest()
  assert.equal(heard, 1)
  assert.deepEqual(world.heard(), [['handler-error', { event: 'member-count', error: fault }], ['member-count', { count: 3 }]])
  assert.equal(world.logged.length, 2)
})

test('an asynchronous handler that fails is told as one that throws', async () => {
  const world = new World()
  await world.join()
  await world.rest()
  world.heard()
  const fault = new Error('of the app')
  // The test fails on an unhandled rejection.
  for (const event of ['member-count', 'handler-error', '*']) {
    world.client.on(event, async () => {
      throw fault
    })
  }
  world.notice('memberCount', { count: 3 })
  await world.rest()
  const error = ['handler-error', { event: 'member-count', error: fault }]
  assert.deepEqual(world.heard(), [['member-count', { count: 3 }], error, error])
  assert.equal(world.logged.length, 6)
})

test('there is one client, whose handlers a second init removes', async () => {
  const world = new World()
  const again = world.sdk.Client({ appkey: 'other' })
  assert.equal(again, world.client)
  assert.equal(new world.sdk.Client({}), world.client)
  world.client.init()
  const heard = []
  world.client.on('open', () => heard.push('first'))
  world.client.init()
  world.client.on('open', () => heard.push('second'))
  await world.join()
  assert.deepEqual(heard, ['second'])
  assert.equal(world.sent('join')[0].params.appkey, 'other')
  assert.notEqual(world.sdk.createClient({}), world.client)
})

test('after destroy handlers are still there, and join works', async () => {
  const world = new World()
  await world.join()
  await world.client.destroy()
  await world.rest()
  assert.equal(world.socket.closed, 1000)
  assert.equal(world.timers.size, 0)
  assert.equal(world.lifecycle, null)
  world.heard()
  await world.join()
  await world.rest()
  assert.deepEqual(room(world.heard()), ['clientJoin 200', 'stream-added 200 audio', 'stream-added 200 video'])
  assert.equal(world.sockets.length, 2)
})

test('join right after destroy waits for the leave', async () => {
  const world = new World()
  await world.join()
  world.client.destroy()
  const joined = world.client.join({ channelName: 'room2', uid: 100 })
  await world.rest()
  await joined
  assert.deepEqual(world.sockets.map(({ closed }) => closed), [1000, null])
})

test('destroy of the SDK is final for its client', async () => {
  const world = new World()
  await world.join()
  world.sdk.destroy()
  await world.rest()
  assert.notEqual(world.sdk.Client({}), world.client)
  await assert.rejects(world.client.join({ channelName: 'room1' }), { name: 'destroyed' })
  await assert.rejects(world.client.publish(), { name: 'destroyed', method: 'publish' })
})

async function lose(world, meanwhile) {
  world.heard()
  world.socket.listener.close(1006, 'gone')
  const { answers } = world
  world.answers = { ...answers, reconnect: () => (meanwhile(), world.usual({ method: 'reconnect' })) }
  await world.pass(2000)
  await world.rest()
}

test('after a reconnect what changed is told, and then that it is back', async () => {
  const world = new World()
  await world.join()
  await world.rest()
  await lose(world, () => setImmediate(() => {
    world.event('streamRemoved', { uid: '200', mid: mid(200), mediaType: 'video', pub: 'kq4mzt7xw2h6yb3nrs5a' })
    world.event('clientJoin', { uid: '8', mid: mid(8) })
  }))
  await world.pass(2000)
  assert.deepEqual(names(world.heard()), [
    'connection-state-change', 'willreconnect', 'connection-state-change', 'open', 'connection-state-change',
    'stream-removed 200 video', 'clientJoin 8', 'reconnected',
  ])
})

test('with reannounce all, everybody is told again behind it, and nobody twice', async () => {
  const world = new World({ reannounce: 'all' })
  await world.join()
  await world.rest()
  await lose(world, () => setImmediate(() => {
    world.event('streamRemoved', { uid: '200', mid: mid(200), mediaType: 'video', pub: 'kq4mzt7xw2h6yb3nrs5a' })
    world.event('clientJoin', { uid: '8', mid: mid(8) })
    world.event('clientJoin', { uid: '9', mid: mid(9) })
    world.event('clientLeave', { uid: '9', mid: mid(9), reason: 'left' })
  }))
  await world.pass(2000)
  assert.deepEqual(room(world.heard()), ['willreconnect', 'stream-removed 200 video', 'reconnected', 'clientJoin 8', 'clientJoin 200', 'stream-added 200 audio'])
})

test('attempts and the limit of sockets are changes of the connection', async () => {
  const world = new World()
  await world.join()
  await world.rest()
  world.heard()
  world.isDown = true
  world.socket.listener.close(1006, 'gone')
  await world.pass(1000)
  world.socket.listener.close(1006, 'too many')
  await world.pass(1500)
  const changes = world.heard().filter(([event]) => event === 'connection-state-change').map(([, { state, reason, attempt }]) => [state, reason, attempt])
  assert.deepEqual(changes, [
    ['reconnecting', 'socketClosed', undefined], ['reconnecting', 'attempt', 1], ['reconnecting', 'socketLimit', 1], ['reconnecting', 'attempt', 2],
  ])
})

test('late reports of a dead socket change nothing', async () => {
  const world = new World()
  await world.join()
  await world.rest()
  const [dead] = world.sockets
  await lose(world, () => {})
  await world.pass(1000)
  world.heard()
  dead.listener.message(JSON.stringify({ jsonrpc: '2.0', method: 'memberCount', params: { count: 9 } }))
  dead.listener.open()
  dead.listener.close(1000, 'interrupted')
  dead.listener.close(1006, '')
  await world.rest()
  assert.deepEqual(world.heard(), [])
  assert.equal(world.client.connectionState, 'connected')
})

test('an app that is hidden gives a sign of life, and one that is shown asks for one', async () => {
  const world = new World()
  await world.join()
  const pings = () => world.sent('ping').length
  await world.pass(9000)
  assert.equal(pings(), 0)
  world.lifecycle.suspend()
  await world.rest()
  assert.equal(pings(), 1)
  await world.pass(4000)
  world.answers.ping = () => undefined
  world.lifecycle.resume()
  assert.equal(pings(), 2)
  assert.equal(world.client.connectionState, 'connected')
  // The time limit for an answer to this ping is shorter than usual.
  await world.pass(3000)
  assert.equal(world.client.connectionState, 'reconnecting')
})

test('an app that is hidden or shown comes back no sooner than the server asked for', async () => {
  const world = new World()
  await world.join()
  await world.rest()
  world.isDown = true
  const until = world.time + 30000
  world.notice('closing', { code: 4003, reason: 'serverRestart', action: 'reconnect', retryAfterMs: 30000 })
  world.socket.listener.close(4003, 'serverRestart')
  while (world.time + 1000 < until) {
    await world.pass(1000)
    for (const hint of ['suspend', 'resume', 'network']) world.lifecycle[hint]()
    await world.rest()
  }
  assert.equal(world.sockets.length, 1)
  await world.pass(33000)
  assert.ok(world.sockets.length > 1)
})

test('an app that is hidden while it waits for an attempt makes none for that', async () => {
  const world = new World()
  await world.join()
  await world.rest()
  world.isDown = true
  world.socket.listener.close(1006, 'gone')
  await world.rest()
  world.lifecycle.suspend()
  await world.rest()
  assert.equal(world.sockets.length, 1)
  world.lifecycle.resume()
  await world.rest()
  assert.equal(world.sockets.length, 2)
})

test('a module that traps ends the membership, and the next join loads another', async () => {
  let isBroken = false
  const world = new World()
  const { loadWasm } = world.host
  world.sdk.destroy()
  let loads = 0
  world.sdk.configure({ host: { loadWasm: async (...args) => {
    loads++
    const exports = await loadWasm(...args)
    return { ...exports, frame: (...frame) => {
      if (isBroken) throw new WebAssembly.RuntimeError('unreachable')
      return exports.frame(...frame)
    } }
  } } })
  world.client = world.sdk.Client({ appkey: 'demo' })
  world.client.on('*', (event, payload) => world.events.push([event, payload]))
  await world.join()
  await world.rest()
  world.heard()
  isBroken = true
  world.answers.mute = () => undefined
  const call = world.client.mute('audio')
  world.notice('memberCount', { count: 3 })
  await assert.rejects(call, { name: 'internalError', method: 'mute' })
  await world.rest()
  assert.deepEqual(names(world.heard()), ['error', 'connection-state-change', 'disconnect'])
  assert.equal(world.sockets.at(-1).closed, 1000)
  isBroken = false
  await world.join()
  assert.equal(loads, 2)
  assert.equal(world.client.connectionState, 'connected')
})
