//! Proves no rule of the protocol: that each message of a server reaches the app in the shape that is documented.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { repository } from './support/package.mjs'
import { EPOCH, mid, World } from './support/world.mjs'

const BIG = '18446744073709551615'
const text = readFileSync(join(repository, 'docs/protocol.md'), 'utf8')
const vectors = Array.from(text.matchAll(/```json (event|notice):(\w+)\n([^]*?)```/g), ([, kind, name, json]) => ({ kind, name, message: JSON.parse(json) }))

const seven = { uid: 7, isBigNumber: false }
const big = { uid: BIG, isBigNumber: true }
const cid = 4503599627370497
const pull = JSON.parse(text.match(/```json notice:syncDone\n([^]*?)```/)[1]).params

/** By vector: the events that the app receives, aliases included. */
const EXPECTED = {
  'event:clientJoin': [
    ['clientJoin', { ...big, name: 'Mei', attributes: { seat: '1' } }],
    ['peer-online', { ...big, name: 'Mei', attributes: { seat: '1' } }],
    ['mute-audio', { ...big, mediaType: 'audio' }],
    ['mute-video', { ...big, mediaType: 'video' }],
  ],
  'event:clientLeave': [['clientLeave', { ...seven, reason: 'left' }], ['peer-leave', { ...seven, reason: 0 }]],
  'event:clientUpdate': [['attributes-updated', { ...seven, target: 'member', name: 'Wei L.', attributes: { seat: '4' } }]],
  'event:channelUpdate': [['attributes-updated', { target: 'channel', attributes: { topic: 'chairs' } }]],
  'event:roleChanged': [['role-Changed', { ...seven, role: 'audience' }]],
  'event:streamAdded': [['stream-added', { ...seven, mediaType: 'screenShare' }]],
  'event:streamRemoved': [['stream-removed', { ...seven, mediaType: 'slaveAudio' }]],
  'event:muted': [['mute-audio', { ...seven, mediaType: 'audio' }]],
  'event:unmuted': [['unmute-audio', { ...seven, mediaType: 'audio' }]],
  'event:message': [
    ['message', { ...seven, data: 'on air', targeted: false }],
    ['custom-data', { ...seven, data: 'on air', targeted: false }],
  ],
  'event:rtmpTasksStatus': ['rtmp-tasks-status', 'rtmp-state'].map((event) => [event, {
    ...seven, taskId: 'cdn_1', streamUrl: 'rtmp://push.example.com/live/***', state: 'pushing', code: 505, msg: 'pushing', revision: 1,
  }]),
  'event:liveRoomClose': [
    ['liveRoomClose', { cid, reason: 'closed', text: 'good night' }],
    ['channel-closed', { cid, reason: 'closed', text: 'good night' }],
  ],
  'notice:kicked': ['kicked', 'client-banned'].map((event) => [event, {
    uid: 100, isBigNumber: false, cid, reason: 'kicked', text: 'spam', durationS: 60,
  }]),
  'notice:syncDone': [
    ['url-updated', { ...big, direction: 'pull', mediaType: 'video', url: pull.url, urls: pull.urls }],
    ['syncDone', {
      uid: 100, isBigNumber: false, url: '', userList: [{ ...big, url: pull.url }], userlist: [{ ...big, url: pull.url }],
    }],
  ],
  'notice:tokenWillExpire': [['token-will-expire', { expiresInMs: 30000 }], ['permkey-will-expire', { expiresInMs: 30000 }]],
  'notice:serverRestarting': [['server-restarting', { retryAfterMs: 500, jitterMs: 2000, deadlineMs: 10000 }]],
  'notice:memberCount': [['member-count', { count: 31 }]],
  'notice:networkQuality': [['network-quality', { ...seven, direction: 'push', level: 2 }]],
  'notice:message': [['message', { ...seven, data: 'hello', targeted: true }], ['custom-data', { ...seven, data: 'hello', targeted: true }]],
  'notice:closing': [
    ['closing', { code: 1000, reason: 'left', action: 'none' }],
    ['closing', { code: 4503, reason: 'joinRefused', action: 'renewToken' }],
    ['closing', { code: 4503, reason: 'joinRefused', action: 'redirect', url: 'wss://node2.example.com/v1/signal', retryAfterMs: 2000 }],
  ],
}

const NAMES = new Set(Object.values(EXPECTED).flat().map(([event]) => event))

test('there is a row for each vector', () => {
  const names = new Set(vectors.map(({ kind, name }) => `${kind}:${name}`))
  assert.deepEqual(new Set(Object.keys(EXPECTED)), names)
})

let closings = 0
for (const { kind, name, message } of vectors) {
  test(`${kind}:${name}`, async () => {
    const world = new World()
    const { params } = message
    world.seq = params.seq ? params.seq - 1 : 10
    // The member that the vector names must be present, with the stream or mute that the vector ends.
    world.members = kind === 'event' && name === 'clientJoin' ? [] : [
      { uid: '7', mid: params.mid || mid(7), role: 'broadcaster', streams: name === 'streamRemoved' ? ['slaveAudio'] : [], muted: name === 'unmuted' ? ['audio'] : undefined },
      { uid: BIG, role: 'broadcaster', streams: ['video'] },
    ]
    await world.join()
    const heard = []
    for (const event of NAMES) world.client.on(event, (payload) => heard.push([event, payload]))
    await world.rest()
    heard.splice(0)
    if (name === 'streamRemoved') {
      // The publication id of the scripted server.
      params.pub = 'kq4mzt7xw2h6yb3nrs5a'
    }
    world.frame(message)
    await world.rest()
    const expected = EXPECTED[`${kind}:${name}`]
    const all = kind === 'event' ? heard.filter(([event]) => event !== 'closing') : heard
    assert.deepEqual(all, name === 'closing' ? [expected[closings++]] : expected)
    assert.equal(message.params.epoch === undefined || message.params.epoch === EPOCH, true)
  })
}

test('what a wildcard hears once, an alias hears besides', async () => {
  const world = new World()
  await world.join()
  await world.rest()
  const aliases = []
  world.client.on('peer-online', ({ uid }) => aliases.push(uid))
  await world.rest()
  world.heard()
  world.event('clientJoin', { uid: '8', mid: mid(8) })
  await world.rest()
  assert.deepEqual(world.heard().map(([event]) => event), ['clientJoin'])
  assert.deepEqual(aliases, [200, 8])
})

test('a push URL that changed is in syncDone, and in the list as oneself', async () => {
  const world = new World()
  await world.join()
  assert.equal(await world.client.publish(), 'rtmp://media/push-main')
  world.heard()
  world.notice('syncDone', { uid: '100', direction: 'push', mediaType: 'audio', url: 'rtmp://media/new', urls: { rtmp: 'rtmp://media/new' } })
  await world.rest()
  const own = { uid: 100, isBigNumber: false, url: 'rtmp://media/new' }
  assert.deepEqual(world.heard().filter(([event]) => event === 'syncDone'), [['syncDone', { ...own, userList: [own], userlist: [own] }]])
})

test('audio and video of one member change their URL together', async () => {
  const world = new World()
  await world.join()
  await world.client.publish()
  await world.client.subscribe(200, 'audio')
  await world.client.subscribe(200, 'video')
  world.heard()
  for (const mediaType of ['audio', 'video']) {
    world.notice('syncDone', { uid: '200', direction: 'pull', mediaType, url: 'rtmp://media/new', urls: {} })
  }
  await world.rest()
  const synced = world.heard().filter(([event]) => event === 'syncDone')
  assert.equal(synced.length, 1)
  assert.deepEqual(synced[0][1].userList, [{ uid: 200, isBigNumber: false, url: 'rtmp://media/new' }])
  assert.equal(synced[0][1].url, 'rtmp://media/push-main')
})

test('a URL of another player is no affair of the one player that syncDone is about', async () => {
  const world = new World()
  await world.join()
  await world.rest()
  world.heard()
  world.notice('syncDone', { uid: '200', direction: 'pull', mediaType: 'screenShare', url: 'rtmp://media/screen', urls: {} })
  await world.rest()
  assert.deepEqual(world.heard(), [['url-updated', { uid: 200, isBigNumber: false, direction: 'pull', mediaType: 'screenShare', url: 'rtmp://media/screen', urls: {} }]])
})

test('what a moderator takes back is told with an empty URL', async () => {
  const world = new World()
  await world.join()
  await world.client.publish()
  world.heard()
  for (const mediaType of ['audio', 'video']) world.event('streamRemoved', { uid: '100', mid: mid(100), mediaType, pub: 'kq4mzt7xw2h6yb3nrs5a' })
  await world.rest()
  assert.deepEqual(world.heard().map(([event, { mediaType, url }]) => [event, mediaType || url]), [
    ['unpublished', 'audio'], ['unpublished', 'video'], ['url-updated', 'audio'], ['syncDone', undefined || ''],
  ])
})

test('a login elsewhere is kicked with a reason of its own', async () => {
  const world = new World()
  await world.join()
  const heard = []
  for (const event of ['kicked', 'uid-duplicate', 'client-banned']) world.client.on(event, (payload) => heard.push([event, payload.reason]))
  world.notice('closing', { code: 4502, reason: 'replaced', action: 'none' })
  world.socket.listener.close(4502, 'replaced')
  await world.rest()
  assert.deepEqual(heard, [['kicked', 'replaced'], ['uid-duplicate', 'replaced']])
  const disconnect = world.heard().at(-1)
  assert.deepEqual(disconnect, ['disconnect', { code: '405', reason: 'replaced', closeCode: 4502, terminal: true }])
})
