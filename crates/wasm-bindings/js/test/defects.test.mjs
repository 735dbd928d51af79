//! Proves no rule of the protocol: that what is known to be wrong with NERTC's mini-program SDK is right here. One test for
//! each; where a list of shapes or codes is behind it, that list has its own test elsewhere.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { project } from './support/package.mjs'
import { startServer } from './support/server.mjs'
import { mid, World } from './support/world.mjs'

const sdk = project().require('lianmai/node')
const BIG = '9007199254740993'
let server
let rooms = 0

before(async () => {
  server = await startServer()
  sdk.configure({ server: server.url })
})
after(() => server.stop())

/** Clients in a new channel, each with the list of events that it received. */
async function channel(...uids) {
  const channelName = `defects${++rooms}`
  const members = uids.map(() => {
    const client = sdk.createClient({ appkey: 'demo' })
    const heard = []
    const waiting = new Set()
    client.on('*', (event, payload) => {
      heard.push([event, payload])
      for (const look of waiting) look()
    })
    /** Resolves with the payload of an event that was received already or will be. */
    const hears = (event, isIt = () => true) => new Promise((done) => {
      const look = () => {
        const found = heard.find(([name, payload]) => name === event && isIt(payload))
        if (!found) return
        waiting.delete(look)
        done(found[1])
      }
      waiting.add(look)
      look()
    })
    return { client, heard, hears }
  })
  for (const [at, uid] of uids.entries()) await members[at].client.join({ channelName, uid })
  members.end = () => Promise.all(members.map(({ client }) => client.destroy()))
  return members
}

test('1: syncDone has one shape, which is each of the three that are documented', async () => {
  const world = new World()
  await world.join()
  await world.client.publish()
  world.heard()
  world.notice('syncDone', { uid: '100', direction: 'push', mediaType: 'video', url: 'rtmp://media/new', urls: {} })
  await world.rest()
  const { uid, url, isBigNumber, userList, userlist } = world.heard().find(([event]) => event === 'syncDone')[1]
  assert.deepEqual({ uid, url, isBigNumber }, { uid: 100, url: 'rtmp://media/new', isBigNumber: false })
  assert.deepEqual(userList, [{ uid: 100, url: 'rtmp://media/new', isBigNumber: false }])
  assert.equal(userlist, userList)
})

test('2: a uid is never a bare argument or an object, and slaveAudio is announced only where it is published', async () => {
  const members = await channel(BIG, 7)
  const [big, other] = members
  await big.client.publish('audio')
  await big.client.mute('audio')
  await other.hears('mute-audio')
  const late = sdk.createClient({ appkey: 'demo' })
  const heard = []
  late.on('*', (event, payload) => heard.push([event, payload]))
  await late.join({ channelName: `defects${rooms}`, uid: 8 })
  const told = new Promise((done) => late.once('message', done))
  await big.client.unmute('audio')
  await big.client.sendMessage('done')
  await told
  await big.client.leave()
  await other.hears('clientLeave')
  const own = [...heard, ...other.heard].filter(([, { uid }]) => uid === BIG)
  assert.deepEqual(new Set(own.map(([event]) => event)), new Set(['clientJoin', 'stream-added', 'mute-audio', 'unmute-audio', 'message', 'stream-removed', 'clientLeave']))
  assert.ok(own.every(([, { isBigNumber }]) => isBigNumber === true))
  assert.deepEqual(own.filter(([, { mediaType }]) => mediaType !== undefined && mediaType !== 'audio'), [])
  await late.destroy()
  await members.end()
})

test('3: a role is a word', async () => {
  const members = await channel(1, 2)
  const [one, two] = members
  await one.client.setRole('audience')
  assert.equal((await two.hears('role-Changed')).role, 'audience')
  await one.client.setRole('broadcaster')
  assert.equal((await two.hears('role-Changed', ({ role }) => role !== 'audience')).role, 'broadcaster')
  await members.end()
})

test("4: unpublish('') is told to others", async () => {
  const members = await channel(1, 2)
  const [one, two] = members
  await one.client.publish()
  await one.client.unpublish('')
  await Promise.all(['audio', 'video'].map((kind) => two.hears('stream-removed', ({ mediaType }) => mediaType === kind)))
  await members.end()
})

test('5: slaveAudio can be subscribed, at a URL of its own', async () => {
  const members = await channel(1, 2)
  const [one, two] = members
  await one.client.publish('audio')
  await one.client.publish('slaveAudio')
  await two.hears('stream-added', ({ mediaType }) => mediaType === 'slaveAudio')
  const [main, slave] = [await two.client.subscribe(1, 'audio'), await two.client.subscribe(1, 'slaveAudio')]
  assert.match(slave.url, /^rtmp:/)
  assert.notEqual(slave.url, main.url)
  await members.end()
})

test('6: a call without an answer is rejected', async () => {
  const world = new World()
  await world.join()
  for (const method of ['publish', 'unpublish', 'subscribe', 'unsubscribe', 'mute', 'unmute', 'setRole', 'report', 'addTasks']) world.answers[method] = () => undefined
  const { client } = world
  const task = { taskId: 'a', streamUrl: 'rtmp://x/y', layout: { canvas: { width: 2, height: 2 }, users: [] } }
  const calls = [
    client.publish(), client.unpublish(), client.subscribe(200, 'audio'), client.unsubscribe(200, 'audio'), client.mute(), client.unmute(),
    client.setRole('audience'), client.dataReporter('push', 'binderror', {}), client.addTasks({ rtmpTasks: [task] }),
  ].map((call) => assert.rejects(call, ({ name }) => ['outcomeUnknown', 'timeout'].includes(name)))
  await world.pass(11000)
  await Promise.all(calls)
})

test('7: a code is a number, names tell errors of one code apart, and no error is shared', async () => {
  const client = sdk.createClient({ appkey: 'demo' })
  const errors = await Promise.all([client.publish(), client.publish(), client.addTasks({ rtmpTasks: [] })].map((call) => call.catch((error) => error)))
  assert.deepEqual(errors.map(({ name, code }) => [name, code]), [['notJoined', 434], ['notJoined', 434], ['invalidParams', -32602]])
  assert.notEqual(errors[0], errors[1])
  errors[0].code = 0
  assert.equal((await client.publish().catch((error) => error)).code, 434)
})

test('8: a socket that does not open is given up after 5 s', async () => {
  const world = new World()
  world.isDown = true
  const joined = assert.rejects(world.client.join({ channelName: 'room1', uid: 100 }), ({ name, reason }) => name === 'notConnected' && /ws:\/\/fake.*check server/.test(reason))
  await world.pass(4999)
  assert.deepEqual(world.sockets.map(({ closed }) => closed), [null])
  await world.pass(1)
  assert.notEqual(world.sockets[0].closed, null)
  await world.pass(20000)
  await joined
})

test('9: attempts to come back are further and further apart, not at the same moments for all, and go to every address', async () => {
  const times = []
  for (const byte of [7, 8]) {
    const world = new World({ host: { random: async (length) => new Uint8Array(length).fill(byte) }, server: ['ws://one', 'ws://two'] })
    await world.join()
    await world.pass(120000)
    world.isDown = true
    const before = world.sockets.length
    const from = world.time
    const at = []
    const { connect } = world
    world.connect = function (...args) {
      at.push(this.time - from)
      const socket = connect.apply(this, args)
      const { listener } = this.socket
      setImmediate(() => listener.close(1006, 'refused'))
      return socket
    }
    world.socket.listener.close(1006, 'gone')
    await world.pass(120000)
    assert.deepEqual(new Set(world.sockets.slice(before).map(({ url }) => new URL(url).host)), new Set(['one', 'two']))
    const pauses = at.slice(1).map((time, index) => time - at[index])
    assert.ok(Math.max(...pauses.slice(0, 10)) <= 2000 && Math.max(...pauses) > 10000, pauses.join())
    times.push(at)
  }
  assert.notDeepEqual(times[0], times[1])
})

test('10: mute without a kind is both kinds', async () => {
  const members = await channel(1, 2)
  const [one, two] = members
  await one.client.mute()
  await Promise.all(['mute-audio', 'mute-video'].map((event) => two.hears(event)))
  await one.client.unmute('')
  await Promise.all(['unmute-audio', 'unmute-video'].map((event) => two.hears(event)))
  await members.end()
})

test('11: ids of tasks are taken by both names, all tasks go in one call, and no field is misspelt', async () => {
  const world = new World()
  await world.join()
  await world.client.deleteTasks({ taskIds: ['a', 'b'] })
  await world.client.deleteTasks({ rtmpTasks: ['a', 'b'] })
  assert.deepEqual(world.sent('deleteTasks').map(({ params }) => params), [{ taskIds: ['a', 'b'] }, { taskIds: ['a', 'b'] }])
  const task = (taskId) => ({ taskId, streamUrl: 'rtmp://x/y', layout: { canvas: { width: 2, height: 2 }, users: [] } })
  await world.client.addTasks({ rtmpTasks: [task('a'), task('b')] })
  assert.deepEqual(world.sent('addTasks').map(({ params }) => params.rtmpTasks.map(({ taskId }) => taskId)), [['a', 'b']])
  world.heard()
  world.event('rtmpTasksStatus', { uid: '100', taskId: 'a', streamUrl: 'rtmp://x/***', code: 505, msg: 'pushing', revision: 1 })
  await world.rest()
  const [[, status]] = world.heard().filter(([event]) => event === 'rtmp-tasks-status')
  assert.deepEqual(Object.keys(status).sort(), ['code', 'isBigNumber', 'msg', 'revision', 'streamUrl', 'taskId', 'uid'])
})

test('12: a token that lacks and one that is too much have names, and recordType is a number or a text', async () => {
  const client = sdk.createClient({ appkey: 'demo' })
  await assert.rejects(client.join({ channelName: 'defects', uid: 1, token: 'x' }), { name: 'tokenUnexpected', code: 414 })
  const world = new World()
  world.answers.join = () => ({ error: { code: 403, message: 'The app needs a token.', data: { name: 'tokenMissing', retryable: false } } })
  await assert.rejects(world.join(), { name: 'tokenMissing', code: 403 })
  world.answers = {}
  for (const recordType of [0, '0', 2]) {
    assert.equal((await world.join({ recordType, isHostSpeaker: 1, rtmpRecord: 1 })).code, 200)
    await world.client.leave()
  }
  await client.destroy()
})

test('13: one handler of several can be removed, and one app be in two channels', async () => {
  const [[one], [two]] = [await channel(1), await channel(1)]
  assert.notEqual(one.client.channel().cid, two.client.channel().cid)
  const heard = []
  const first = () => heard.push('first')
  one.client.on('clientLeave', first).on('clientLeave', () => heard.push('second'))
  one.client.off('clientLeave', first)
  const other = sdk.createClient({ appkey: 'demo' })
  await other.join({ channelName: one.client.channel().channelName, uid: 2 })
  await other.destroy()
  await one.hears('clientLeave')
  assert.deepEqual(heard, ['second'])
  await Promise.all([one.client.destroy(), two.client.destroy()])
})

test('14: a handler that comes late is told who is there', async () => {
  const members = await channel(1, 2)
  const [one, two] = members
  await one.client.publish('video')
  await two.hears('stream-added')
  const late = []
  const told = new Promise((done) => two.client.on('clientJoin', ({ uid }) => late.push(uid)).on('stream-added', ({ mediaType }) => done(late.push(mediaType))))
  await told
  assert.deepEqual(late, [1, 'video'])
  assert.deepEqual(two.client.members().find(({ uid }) => uid === 1).streams, ['video'])
  await members.end()
})

test('15: reasons, the state of the connection, renewal of tokens, messages and quality are told', async () => {
  const members = await channel(1, 2)
  const [one, two] = members
  await one.client.sendMessage('hello')
  assert.equal((await two.hears('message')).data, 'hello')
  await one.client.leave()
  assert.equal((await two.hears('clientLeave')).reason, 'left')
  assert.equal((await two.hears('connection-state-change', ({ state }) => state === 'connected')).reason, 'joined')
  assert.equal(two.client.connectionState, 'connected')
  await members.end()
  const world = new World()
  await world.join()
  world.heard()
  world.notice('tokenWillExpire', { expiresInMs: 30000 })
  world.notice('networkQuality', { uid: '200', direction: 'pull', level: 3 })
  await world.rest()
  assert.deepEqual(world.heard().map(([event]) => event), ['token-will-expire', 'network-quality'])
  assert.deepEqual(await world.client.renewToken('newer'), { expiresInMs: 60000 })
})

test('16: members have names and attributes, and the audience is counted', async () => {
  const members = await channel(1)
  const [one] = members
  const named = sdk.createClient({ appkey: 'demo' })
  const silent = sdk.createClient({ appkey: 'demo' })
  await named.join({ channelName: `defects${rooms}`, uid: 2, name: 'Mei', attributes: { seat: '1' } })
  const { name, attributes } = await one.hears('clientJoin')
  assert.deepEqual({ name, attributes }, { name: 'Mei', attributes: { seat: '1' } })
  await silent.join({ channelName: `defects${rooms}`, uid: 3, role: 'audience' })
  assert.deepEqual(await one.hears('member-count', ({ count }) => count === 3), { count: 3 })
  assert.equal(one.client.channel().memberCount, 3)
  assert.deepEqual(one.heard.filter(([event, { uid }]) => event === 'clientJoin' && uid === 3), [])
  await Promise.all([named.destroy(), silent.destroy()])
  await members.end()
})
