//! Proves no rule of the protocol: the calls of a client, what they answer, and what helps to drive the media components.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { project } from './support/package.mjs'
import { startServer } from './support/server.mjs'
import { mid, World } from './support/world.mjs'

const { require } = project()
let server

before(async () => (server = await startServer()))
after(() => server.stop())

test('what join answers, and what apps of NERTC read', async () => {
  const world = new World()
  assert.deepEqual(world.client._info, {})
  const cid = 4503599627370497
  assert.deepEqual(await world.join({ token: null }), { code: 200, cid, uid: 100, isBigNumber: false })
  assert.deepEqual(world.client._info, { cid, uid: 100, joinChannelParam: { channelName: 'room1', uid: 100, token: null } })
  world.client._info.joinChannelParam.uid = 7
  world.client._info.cid = 7
  assert.deepEqual(world.client._info, { cid, uid: 100, joinChannelParam: { channelName: 'room1', uid: 100, token: null } })
  await world.client.renewToken('newer')
  assert.equal(world.client._info.joinChannelParam.token, 'newer')
  await world.client.leave()
  assert.deepEqual(await world.join({ uid: '18446744073709551615' }), { code: 200, cid, uid: '18446744073709551615', isBigNumber: true })
  await world.client.leave()
  const { uid } = await world.join({ uid: null })
  assert.equal(uid, 4294967296)
  assert.equal(world.client.members().find(({ isSelf }) => isSelf).uid, uid)
})

test('members and channel are as of the event that was told last', async () => {
  const world = new World()
  await world.join()
  await world.rest()
  const seen = []
  const seqs = []
  world.client.on('clientJoin', () => {
    seen.push(world.client.members().map(({ uid }) => uid))
    seqs.push(world.client.channel().seq - before)
  })
  const before = world.seq
  await world.rest()
  seen.length = seqs.length = 0
  world.frame([8, 9].map((uid) => ({ jsonrpc: '2.0', method: 'clientJoin', params: { epoch: 'ujzdegxdncf32epf3dha', seq: ++world.seq, uid: String(uid), mid: mid(uid) } })))
  await world.rest()
  assert.deepEqual(seen, [[8, 100, 200], [8, 9, 100, 200]])
  assert.deepEqual(seqs, [1, 2])
  assert.deepEqual(world.client.channel(), { cid: 4503599627370497, channelName: 'room1', creator: 100, attributes: {}, memberCount: 2, seq: world.seq })
  await world.client.leave()
  assert.deepEqual([world.client.members(), world.client.channel(), world.client.tasks()], [[], null, []])
})

test('a role before join, while joining, and in the channel', async () => {
  const world = new World()
  await world.client.setRole('audience')
  const joined = world.client.join({ channelName: 'room1', uid: 100 })
  const changed = world.client.setRole('broadcaster')
  await joined
  await changed
  assert.equal(world.sent('join')[0].params.role, 'audience')
  assert.deepEqual(world.sent('setRole').map(({ params }) => params), [{ role: 'broadcaster' }])
  await world.client.publish()
  await world.client.setRole('audience')
  assert.equal(world.client.pusherAttributes().url, '')
  await world.client.leave()
  await world.client.destroy()
  await world.join({})
  assert.equal(world.sent('join')[1].params.role, undefined)
})

test('calls say to the server what they were asked', async () => {
  const world = new World()
  await world.join()
  const { client } = world
  await client.publish('')
  await client.publish('screenShare')
  await client.unpublish(undefined, 7)
  await client.mute()
  await client.unmute('video', '8')
  await client.setRole('audience', 7n)
  await client.kick(7, { durationS: 60, reason: 'spam' })
  assert.deepEqual(await client.sendMessage('hello', { to: [7, '8'] }), { delivered: 2 })
  await client.setAttributes({ seat: '3', hand: null }, { name: 'Wei' })
  await client.setAttributes({ topic: 'x' }, { target: 'channel' })
  await client.dataReporter('pull', 'bindnetstatus', { fps: 15 }, 7)
  assert.deepEqual(await client.renewToken('t'), { expiresInMs: 60000 })
  await client.closeChannel({ holdS: 5 })
  const sent = world.socket.sent.slice(1).filter(({ method }) => method !== 'ping').map(({ method, params }) => [method, params])
  assert.deepEqual(sent, [
    ['publish', { mediaType: '' }], ['publish', { mediaType: 'screenShare' }], ['unpublish', { mediaType: '', uid: '7' }],
    ['mute', { mediaType: '' }], ['unmute', { mediaType: 'video', uid: '8' }], ['setRole', { role: 'audience', uid: '7' }],
    ['kick', { uid: '7', durationS: 60, reason: 'spam' }], ['sendMessage', { data: 'hello', to: ['7', '8'] }],
    ['setAttributes', { attributes: { seat: '3', hand: null }, name: 'Wei' }], ['setAttributes', { attributes: { topic: 'x' }, target: 'channel' }],
    ['report', { dir: 'pull', type: 'bindnetstatus', data: { fps: 15 }, uid: '7' }], ['renewToken', { token: 't' }], ['closeChannel', { holdS: 5 }],
  ])
})

test('attributes of pusher and player follow the calls and the server', async () => {
  const world = new World()
  await world.join()
  await world.rest()
  const { client } = world
  const pusher = () => {
    const { url, enableCamera, enableMic } = client.pusherAttributes()
    return [url, enableCamera, enableMic]
  }
  const player = (...args) => {
    const { src, muteAudio, muteVideo } = client.playerAttributes(...args)
    return [src, muteAudio, muteVideo]
  }
  const push = 'rtmp://media/push-main'
  const pull = 'rtmp://media/pull-200-main'
  assert.deepEqual(pusher(), ['', false, false])
  await client.publish()
  assert.deepEqual(pusher(), [push, true, true])
  await client.mute('audio')
  await client.unpublish('video')
  assert.deepEqual(pusher(), [push, false, false])
  await client.unmute()
  assert.deepEqual(pusher(), [push, false, true])
  await client.unpublish('audio')
  assert.deepEqual(pusher(), ['', false, false])
  assert.deepEqual(player(200), ['', true, true])
  await client.subscribe(200, 'video')
  assert.deepEqual(player('200'), [pull, true, false])
  await client.subscribe(200, 'audio')
  assert.deepEqual(player(200), [pull, false, false])
  await client.subscribe(200, 'screenShare')
  assert.deepEqual(player(200, 'screenShare'), ['rtmp://media/pull-200-screenShare', true, false])
  world.notice('syncDone', { uid: '200', direction: 'pull', mediaType: 'video', url: 'rtmp://media/new', urls: {} })
  await world.rest()
  assert.equal(player(200)[0], 'rtmp://media/new')
  await client.unsubscribe(200, 'video')
  assert.deepEqual(player(200), [pull, false, true])
  world.event('streamRemoved', { uid: '200', mid: mid(200), mediaType: 'audio', pub: 'kq4mzt7xw2h6yb3nrs5a' })
  await world.rest()
  assert.deepEqual(player(200), ['', true, true])
})

test('what a moderator mutes is off at the pusher, too, and so is what oneself mutes by name', async () => {
  const world = new World()
  await world.join()
  const { client } = world
  const pusher = () => {
    const { enableCamera, enableMic } = client.pusherAttributes()
    return [enableCamera, enableMic]
  }
  await client.publish()
  world.heard()
  world.event('muted', { uid: '100', mid: mid(100), mediaType: 'audio' })
  await world.rest()
  assert.deepEqual(pusher(), [true, false])
  world.event('unmuted', { uid: '100', mid: mid(100), mediaType: 'audio' })
  await world.rest()
  assert.deepEqual(pusher(), [true, true])
  assert.deepEqual(world.heard().map(([event, { uid }]) => [event, uid]), [['mute-audio', 100], ['unmute-audio', 100]])
  await client.mute('video', 100)
  assert.deepEqual(pusher(), [false, true])
  await client.mute('audio', 200)
  assert.deepEqual(pusher(), [false, true])
  await client.leave()
  await world.join()
  await client.publish()
  // A new membership begins without mutes.
  assert.deepEqual(pusher(), [true, true])
  await client.unpublish('', 100)
  assert.deepEqual([client.pusherAttributes().url, ...pusher()], ['', false, false])
})

test('what a moderator takes back before the answer of publish is not sent', async () => {
  const world = new World()
  await world.join()
  const { client } = world
  world.answers.publish = (request) => {
    const answer = world.usual(request)
    world.unpublish(['video'])
    return { ...answer, seq: world.seq }
  }
  const url = await client.publish()
  const { enableCamera, enableMic } = client.pusherAttributes()
  assert.deepEqual([enableCamera, enableMic, client.pusherAttributes().url], [false, true, url])
  world.unpublish(['audio'])
  await world.rest()
  assert.deepEqual([client.pusherAttributes().enableMic, client.pusherAttributes().url], [false, ''])
})

test('a URL that a new token does not allow is gone', async () => {
  const world = new World()
  await world.join()
  await world.rest()
  const { client } = world
  await client.subscribe(200, 'audio')
  await client.subscribe(200, 'video')
  world.rights = { ...world.rights, subscribe: ['audio'] }
  await client.renewToken('less')
  const { src, muteAudio, muteVideo } = client.playerAttributes(200)
  assert.deepEqual([src, muteAudio, muteVideo], ['rtmp://media/pull-200-main', false, true])
  assert.equal(client.playerAttributes(200, 'video').src, '')
})

test('a role that was changed in the channel holds for the next join', async () => {
  const world = new World()
  const { client } = world
  await world.join()
  await client.setRole('audience')
  // Neither the role of another member nor a refused change alters the client's own role.
  await client.setRole('broadcaster', 200)
  world.answers.setRole = () => ({ error: { code: 20006, message: 'Only a moderator may do this.', data: { name: 'forbidden', retryable: false } } })
  await assert.rejects(client.setRole('broadcaster'), { name: 'forbidden' })
  delete world.answers.setRole
  await client.leave()
  await world.join()
  await client.setRole('broadcaster', 100)
  await client.leave()
  await world.join()
  await client.leave()
  assert.deepEqual(world.sent('join').map(({ params }) => params.role), [undefined, 'audience', undefined])
})

test('one hears what others say, and oneself only where one names oneself', async () => {
  const sdk = require('lianmai/node')
  const [one, two] = [0, 1].map(() => sdk.createClient({ appkey: 'demo', server: server.url }))
  const heard = [[], []]
  for (const [at, client] of [one, two].entries()) client.on('message', ({ uid, data, targeted }) => heard[at].push([uid, data, targeted]))
  await one.join({ channelName: 'says', uid: 1 })
  await two.join({ channelName: 'says', uid: 2 })
  const told = new Promise((done) => two.on('message', ({ data }) => data === 'last' && done()))
  await one.sendMessage('to all')
  assert.deepEqual(await one.sendMessage('to both', { to: [1, 2] }), { delivered: 2 })
  await one.sendMessage('last', { to: [2] })
  await told
  assert.deepEqual(heard, [[[1, 'to both', true]], [[1, 'to all', false], [1, 'to both', true], [1, 'last', true]]])
  await Promise.all([one.destroy(), two.destroy()])
})

test('what codes of the components ask for', () => {
  const { pusherAdvice, playerAdvice } = require('lianmai/node')
  for (const [advice, state, action] of [
    [pusherAdvice, 1002, 'none'], [pusherAdvice, { detail: { code: '-1307' } }, 'restart'], [pusherAdvice, { detail: { code: 3004 } }, 'refresh'],
    [pusherAdvice, 5000, 'none'], [pusherAdvice, 5001, 'rejoin'], [pusherAdvice, { detail: { errCode: 10002, errMsg: 'x' } }, 'permission'],
    [pusherAdvice, undefined, 'none'], [pusherAdvice, 'nonsense', 'none'], [pusherAdvice, null, 'none'],
    [playerAdvice, 2004, 'none'], [playerAdvice, { detail: { code: -2301 } }, 'refresh'], [playerAdvice, { code: 2006 }, 'restart'],
  ]) assert.equal(advice(state).action, action, JSON.stringify(state))
})

test('a call without an answer is told, and rejected', async () => {
  const world = new World()
  await world.join()
  await world.rest()
  world.heard()
  world.answers.mute = () => undefined
  const muted = assert.rejects(world.client.mute('audio'), { name: 'outcomeUnknown', code: 20022, method: 'mute' })
  await world.pass(11000)
  await muted
  assert.deepEqual(world.heard(), [['sendCommandOverTime', { method: 'mute' }]])
  const { client } = world
  await client.leave()
  world.answers.join = () => undefined
  const joined = assert.rejects(client.join({ channelName: 'x' }), { name: 'outcomeUnknown' })
  await world.pass(11000)
  await joined
  assert.ok(world.heard().some(([event, { method }]) => event === 'sendCommandOverTime' && method === 'join'))
})

test('the end of a token is announced, and told', async () => {
  const world = new World()
  await world.join()
  await world.rest()
  world.heard()
  const aliases = []
  world.client.on('permkey-will-expire', (event) => aliases.push(event)).on('permkey-timeout', (event) => aliases.push(event))
  world.notice('tokenWillExpire', { expiresInMs: 30000 })
  world.notice('closing', { code: 4507, reason: 'tokenExpired', action: 'renewToken' })
  world.socket.listener.close(4507, 'tokenExpired')
  await world.rest()
  const events = world.heard().filter(([event]) => !/connection|closing/.test(event))
  assert.deepEqual(events, [
    ['token-will-expire', { expiresInMs: 30000 }], ['token-expired', { reason: 'tokenExpired' }],
    ['disconnect', { code: '401', reason: 'tokenExpired', closeCode: 4507, terminal: true }],
  ])
  assert.deepEqual(aliases, [{ expiresInMs: 30000 }, { reason: 'tokenExpired' }])
})

test('the log has no secrets', async () => {
  const lines = []
  const world = new World({ host: { console: { log: (...what) => lines.push(what.join(' ')), warn() {}, error() {} } } }, { appkey: 'demo', debug: true })
  await world.join({ token: 'secret-token' })
  await world.client.publish()
  await world.client.kick(-1).catch(() => {})
  await world.rest()
  assert.ok(lines.includes('lianmai join') && lines.includes('lianmai clientJoin') && lines.includes('lianmai kick badUid'), lines.join('\n'))
  assert.doesNotMatch(lines.join('\n'), /secret|rtmp|AWFi|0707/)
})

test('two channels at the same time', async () => {
  const sdk = require('lianmai/node')
  sdk.configure({ server: [server.url] })
  const one = sdk.Client({ appkey: 'demo' })
  const two = sdk.createClient({ appkey: 'demo' })
  await Promise.all([one.join({ channelName: 'one', uid: 1 }), two.join({ channelName: 'two', uid: 1 })])
  assert.deepEqual([one.channel().channelName, two.channel().channelName], ['one', 'two'])
  await one.dataReporter('push', 'bindstatechange', { code: 1002, reason: '' })
  await assert.rejects(one.subscribe(9, 'audio'), { name: 'noSuchMember', code: 434, method: 'subscribe' })
  await assert.rejects(one.publish('film'), { name: 'badMediaType', code: 414 })
  await assert.rejects(one.setRole('broadcaster', 9), { name: 'noSuchMember' })
  await Promise.all([one.destroy(), two.destroy()])
})

test('who is kicked, replaced or in a channel that is closed hears why, and may leave', async () => {
  const sdk = require('lianmai/node')
  const [host, guest, again] = [0, 1, 2].map(() => sdk.createClient({ appkey: 'demo', server: server.url }))
  const heard = []
  const until = (event) => new Promise((done) => guest.once(event, (payload) => done(heard.push([event, payload.reason, payload.code || payload.text]))))
  await host.join({ channelName: 'ends', uid: 1 })
  await guest.join({ channelName: 'ends', uid: 2 })
  let ended = Promise.all([until('kicked'), until('disconnect')])
  await host.kick(2, { reason: 'spam' })
  await ended
  await guest.leave()
  await guest.join({ channelName: 'ends', uid: 2 })
  ended = Promise.all([until('kicked'), until('disconnect')])
  await again.join({ channelName: 'ends', uid: 2 })
  await ended
  await guest.join({ channelName: 'ends', uid: 3 })
  ended = Promise.all([until('liveRoomClose'), until('disconnect')])
  await host.closeChannel({ reason: 'good night', holdS: 0 })
  await ended
  assert.deepEqual(heard, [
    ['kicked', 'kicked', 'spam'], ['disconnect', 'kicked', '405'], ['kicked', 'replaced', ''], ['disconnect', 'replaced', '405'],
    ['liveRoomClose', 'closed', 'good night'], ['disconnect', 'channelClosed', '417'],
  ])
  await Promise.all([host, guest, again].map((client) => client.destroy()))
})
