//! Proves no rule of the protocol: that each answer of a server, fed as a frame, settles a call as the reference says. The
//! answers are the vectors of `docs/protocol.md`; only their `id` is that of the call.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { repository } from './support/package.mjs'
import { mid, World } from './support/world.mjs'

const BIG = '18446744073709551615'
const text = readFileSync(join(repository, 'docs/protocol.md'), 'utf8')
const blocks = (kind) => Array.from(text.matchAll(new RegExp(`\`\`\`json ${kind}\\n([^]*?)\`\`\``, 'g')), (match) => ({ name: match[1], json: match.at(-1) }))
const results = blocks('result:(\\w+)').map(({ name, json }) => ({ name, message: JSON.parse(json) }))
const errors = blocks('error').map(({ json }) => JSON.parse(json))
const batches = blocks('batch:server').map(({ json }) => JSON.parse(json))

const task = { taskId: 'cdn_1', streamUrl: 'rtmp://push.example.com/live/key', layout: { canvas: { width: 2, height: 2 }, users: [] } }

/** For each method: the call that requests the answer. */
const CALLS = {
  join: (client) => client.join({ channelName: 'room1', uid: 7 }),
  unpublish: (client) => client.unpublish('audio'),
  subscribe: (client) => client.subscribe(BIG, 'video'),
  unsubscribe: (client) => client.unsubscribe(BIG, 'video'),
  setRole: (client) => client.setRole('audience'),
  mute: (client) => client.mute('audio'),
  unmute: (client) => client.unmute('audio'),
  kick: (client) => client.kick(BIG),
  closeChannel: (client) => client.closeChannel(),
  sendMessage: (client) => client.sendMessage('on air', { to: [BIG] }),
  setAttributes: (client) => client.setAttributes({ seat: '4' }),
  renewToken: (client) => client.renewToken('newer'),
  report: (client) => client.dataReporter('push', 'binderror', {}),
  addTasks: (client) => client.addTasks({ rtmpTasks: [task] }),
  updateTasks: (client) => client.updateTasks({ rtmpTasks: [task] }),
  deleteTasks: (client) => client.deleteTasks({ taskIds: ['cdn_1'] }),
}

/** For each method: the expected result of the call, by vector. */
const EXPECTED = {
  join: [{ code: 200, cid: 4503599627370497, uid: 7, isBigNumber: false }, { code: 200, cid: 4503599627370498, uid: 7, isBigNumber: false }],
  subscribe: [(({ url, urls }) => ({ uid: BIG, isBigNumber: true, mediaType: 'video', url, urls }))(results.find(({ name }) => name === 'subscribe').message.result)],
  sendMessage: [{ delivered: 1 }],
  renewToken: [{ expiresInMs: 3605000 }],
}

/** Answers a method with a vector. */
function answer(world, method, message) {
  world.answers[method] = ({ id }) => {
    setImmediate(() => world.frame({ ...message, id }))
  }
}

/** A client in a channel whose last sequence number is `seq`. */
async function joined(seq) {
  const world = new World()
  world.seq = seq === undefined ? world.seq : seq
  world.members = [{ uid: BIG, role: 'broadcaster', streams: ['audio', 'video'] }]
  await world.join({ uid: 7 })
  await world.rest()
  world.heard()
  return world
}

const rows = new Map()
for (const { name, message } of results) {
  // These methods have their own tests.
  if (['reconnect', 'ping', 'publish', 'leave'].includes(name)) continue
  const row = rows.get(name) || 0
  rows.set(name, row + 1)
  test(`result:${name} ${row + 1}`, async () => {
    const world = name === 'join' ? new World() : await joined(message.result.seq)
    answer(world, name, message)
    const called = CALLS[name](world.client)
    await world.rest()
    assert.deepEqual(await called, EXPECTED[name] ? EXPECTED[name][row] : undefined)
    await world.rest()
    const heard = world.heard()
    // The app receives no event about its own call.
    if (name !== 'join') return assert.deepEqual(heard.filter(([event]) => !/connection/.test(event)), [])
    const { members, self, memberCount, channel } = message.result
    assert.deepEqual(world.client.members().map(({ uid, streams, isSelf }) => [String(uid), streams, isSelf]).sort(),
      members.map(({ uid, streams }) => [uid, streams.map(({ mediaType }) => mediaType), uid === self.uid]).sort())
    assert.equal(world.client.channel().memberCount, memberCount)
    assert.equal(world.client.channel().channelName, channel.name)
    const told = heard.filter(([event]) => /clientJoin|stream-added|mute/.test(event)).map(([event, { uid, mediaType }]) => [event, String(uid), mediaType])
    assert.deepEqual(told, members.filter(({ uid }) => uid !== self.uid).flatMap(({ uid, streams, muted = [] }) => [
      ['clientJoin', uid, undefined], ...streams.map(({ mediaType }) => ['stream-added', uid, mediaType]), ...muted.map((kind) => [`mute-${kind}`, uid, kind]),
    ]))
  })
}

test('each answer of the protocol has its call', () => {
  const names = new Set(results.map(({ name }) => name))
  assert.deepEqual(new Set([...Object.keys(CALLS), 'reconnect', 'ping', 'publish', 'leave']), names)
  for (const [name, expected] of Object.entries(EXPECTED)) assert.equal(expected.length, rows.get(name), name)
})

/** Loses the connection of a client with a subscription, and answers its `reconnect` with a vector. */
async function returned(message, { settings, then = () => {} } = {}) {
  const world = await joined(50)
  Object.assign(world, settings)
  await world.client.subscribe(BIG, 'video')
  world.answers.reconnect = ({ id }) => {
    setImmediate(() => {
      world.frame({ ...message, id })
      then(world)
    })
  }
  world.socket.listener.close(1006, 'gone')
  await world.pass(3000)
  return world.heard().filter(([event]) => !/connection|^open$|member/.test(event))
}

const outcomes = Object.fromEntries(results.filter(({ name }) => name === 'reconnect').map(({ message }) => [message.result.outcome, message]))

test('the three answers to a return have a test each', () => {
  assert.deepEqual(Object.keys(outcomes).sort(), ['refused', 'replayed', 'snapshot'])
})

test('result:reconnect replayed: what was missed, then that it is back', async () => {
  const heard = await returned(outcomes.replayed, { then: (world) => {
    for (const uid of [7001, 7002, 7003, 7004]) world.event('clientJoin', { uid: String(uid), mid: mid(uid) })
    world.notice('message', { n: 1, uid: BIG, data: 'to you', targeted: true })
  } })
  assert.deepEqual(heard.map(([event, { uid, data }]) => [event, data || uid]), [
    ['willreconnect', undefined], ...[7001, 7002, 7003, 7004].map((uid) => ['clientJoin', uid]), ['message', 'to you'], ['reconnected', undefined],
  ])
  assert.deepEqual(heard.at(-1)[1], { outcome: 'replayed', events: 4, messages: 1, messagesLost: 0 })
})

test('result:reconnect snapshot: the difference, then that it is back', async () => {
  const { epoch, seq } = outcomes.snapshot.result.snapshot
  const heard = await returned(outcomes.snapshot, { then: (world) => Object.assign(world, { seq, answers: { ...world.answers, ping: { epoch, seq } } }) })
  assert.deepEqual(heard.map(([event, { mediaType, reason }]) => [event, mediaType || reason]), [
    ['willreconnect', undefined], ['stream-removed', 'audio'], ['stream-removed', 'video'], ['clientLeave', 'whileAway'], ['reconnected', 'epochChanged'],
  ])
  assert.deepEqual(heard.at(-1)[1], { outcome: 'snapshot', reason: 'epochChanged', missed: { fromSeq: 51 }, messagesLost: 0 })
})

test('result:reconnect refused: the client joins anew, and says why', async () => {
  const heard = await returned(outcomes.refused)
  assert.deepEqual(heard.map(([event]) => event), ['willreconnect', 'reconnected'])
  assert.deepEqual(heard.at(-1)[1], { outcome: 'rejoined', reason: 'gone', messagesLost: 0 })
})

/** An error by its name. */
const errorOf = (name) => errors.find(({ error }) => error.data.name === name)

/** The call that each error rejects, and the fields of the rejection besides name, code and reason. */
const REJECTIONS = {
  notPublished: [(client) => client.subscribe(BIG, 'screenShare'), {}],
  badUid: [(client) => client.sendMessage('x', { to: [1, 2] }), { field: 'to[1]' }],
  rateLimited: [(client) => client.kick(BIG), { retryAfterMs: 350 }],
  tokenExpired: [(client) => client.join({ channelName: 'room1', uid: 7, token: 'late' }), { action: 'renewToken' }],
}
const METHODS = { notPublished: 'subscribe', badUid: 'sendMessage', rateLimited: 'kick', tokenExpired: 'join' }

for (const [name, [call, more]] of Object.entries(REJECTIONS)) {
  test(`error ${name}`, async () => {
    const world = name === 'tokenExpired' ? new World() : await joined()
    const message = errorOf(name)
    answer(world, METHODS[name], message)
    const rejected = assert.rejects(call(world.client), (error) => {
      const { code, reason, field, retryAfterMs, action, method } = error
      assert.ok(error instanceof Error)
      assert.deepEqual({ name: error.name, code, reason, field, retryAfterMs, action, method }, {
        name, code: message.error.code, reason: message.error.message, field: undefined, retryAfterMs: undefined, action: undefined, method: METHODS[name], ...more,
      })
      return true
    })
    await world.pass(11000)
    await rejected
    // A rejected call does not cause an `error` event.
    assert.deepEqual(world.heard().filter(([event]) => event === 'error'), [])
  })
}

test('error parseError, which answers no call, ends the connection and not the client', async () => {
  const world = await joined()
  world.frame(errorOf('parseError'))
  await world.pass(3000)
  assert.equal(world.client.connectionState, 'connected')
  assert.deepEqual(world.heard().filter(([event]) => event === 'error' || event === 'disconnect'), [])
})

test('every error of the protocol has a test', () => {
  assert.deepEqual(errors.map(({ error }) => error.data.name).sort(), [...Object.keys(REJECTIONS), 'parseError'].sort())
})

test('the session that the protocol shows, frame by frame', async () => {
  const world = new World()
  const of = (name) => results.find((result) => result.name === name).message
  const frames = { join: [of('join')], publish: [batches[0], of('publish')], subscribe: [of('subscribe')], ping: [of('ping')], leave: [batches[1], of('leave'), JSON.parse(blocks('notice:(closing)')[0].json)] }
  for (const method of Object.keys(frames)) {
    world.answers[method] = ({ id }) => {
      assert.equal(id, of(method).id, method)
      setImmediate(() => frames[method].forEach((frame) => world.frame(frame)))
    }
  }
  const { client } = world
  assert.deepEqual(await client.join({ channelName: 'room1', uid: 7 }), { code: 200, cid: 4503599627370497, uid: 7, isBigNumber: false })
  assert.equal(await client.publish(), 'rtmp://127.0.0.1:1935/live/66tfjgvq6kbnxjbtfqxkwovomm?t=opaque')
  const rtmp = 'rtmp://127.0.0.1:1935/live/zom7wbbr6qmw4wxfogo6mvn6a4?v=opaque'
  const flv = 'http://127.0.0.1:8600/live/zom7wbbr6qmw4wxfogo6mvn6a4.flv?v=opaque'
  assert.deepEqual(await client.subscribe(BIG, 'video'), { uid: BIG, isBigNumber: true, mediaType: 'video', url: rtmp, urls: { rtmp, flv } })
  await world.pass(10500)
  assert.equal(world.sent('ping').length, 1)
  const left = client.leave()
  await world.rest()
  await left
  await world.rest()
  assert.deepEqual(world.heard().filter(([event]) => !/connection|^open$/.test(event)).map(([event, { uid, mediaType, reason }]) => [event, uid || reason, mediaType]), [
    ['clientJoin', BIG, undefined], ['stream-added', BIG, 'audio'], ['stream-added', BIG, 'video'],
  ])
  assert.deepEqual(world.sockets.map(({ closed }) => closed), [1000])
})
