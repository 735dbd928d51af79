//! Proves no rule of the protocol: that the guide for apps of NERTC names what there is, says in both languages the same,
//! and that what it says of calls, codes and events is so.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { js, project, repository } from './support/package.mjs'
import { startServer } from './support/server.mjs'

const { require } = project()
const sdk = require('lianmai/node')
const read = (file) => readFileSync(join(repository, file), 'utf8')
const guides = ['docs/migrating-from-nertc.md', 'docs/migrating-from-nertc.zh-CN.md'].map(read)
const names = (text) => Array.from(text.matchAll(/`([\w.-]+)`/g), (match) => match[1])

/** The rows of each table of a guide. */
const tables = (guide) => guide.replace(/^```[^]*?^```$/gm, '').split(/\n\n/).filter((block) => block.trim().startsWith('|'))
  .map((block) => block.trim().split('\n').slice(2).map((row) => row.split(/(?<!\\)\|/).slice(1, -1).map((cell) => cell.trim())))

const [methods, events] = tables(guides[0])
let server
before(async () => (server = await startServer()))
after(() => server.stop())

test('both languages have the same rows, names and codes', () => {
  const [english, chinese] = guides.map(tables)
  assert.equal(english.length, chinese.length)
  for (const [at, table] of english.entries()) {
    assert.deepEqual(chinese[at].map(([first]) => names(first)), table.map(([first]) => names(first)))
    for (const [row, cells] of table.entries()) {
      const codes = (of) => of.join(' ').match(/`[^`]+`|(?<![\w'])'\d+'|[-−]?\d{3,}/g)?.sort() || []
      assert.deepEqual(codes(chinese[at][row]), codes(cells), `${cells[0]} of table ${at + 1}`)
    }
  }
  const headings = (guide) => Array.from(guide.matchAll(/^#+ /gm), (match) => match[0])
  assert.deepEqual(headings(guides[1]), headings(guides[0]))
})

test('every call of NERTC has its row, and what is said to be there is', () => {
  const source = readFileSync(join(js, 'src/facade/client.ts'), 'utf8')
  const part = source.slice(source.indexOf('  // Events\n'), source.indexOf('  // Beyond NERTC'))
  const listed = methods.map(([first]) => names(first)[0])
  for (const [, name] of part.matchAll(/^ {2}(\w+)[<(][^]*?{$/gm)) {
    // `end` ends one of several clients; NERTC has no such call.
    if (name !== 'end') assert.ok(listed.includes(name), name)
  }
  const client = sdk.createClient({ appkey: 'demo' })
  for (const [first, here] of methods) {
    const name = names(first)[0].split('.')
    const owner = name.length > 1 ? sdk : client
    assert.equal(name.at(-1) in owner, here !== 'not there', first)
  }
})

test('every event of NERTC has its row', () => {
  const all = readFileSync(join(js, 'src/facade/events.ts'), 'utf8').split('export interface ClientEvents {')[1].split('\n}')[0]
  const known = Array.from(all.matchAll(/^ {2}'?([\w-]+)'?:/gm), (match) => match[1])
  const listed = events.map(([first]) => names(first)[0])
  for (const event of listed) assert.ok(known.includes(event), event)
  // Events that are not in the table are described below it.
  for (const event of known) assert.ok(listed.includes(event) || guides.every((guide) => guide.includes(`\`${event}\``)), event)
})

test('errors have the names and codes of the reference', () => {
  const reference = read('docs/javascript.md')
  const rows = tables(guides[0]).find((table) => table.some(([, name]) => names(name || '').includes('tokenMissing')))
  let count = 0
  for (const [, name, code] of rows) {
    const errors = /^`/.test(name) ? names(name.split(';')[0]).filter((name) => name !== 'legacyCode') : []
    const codes = code.split(', ')
    for (const [at, error] of errors.entries()) {
      assert.ok(reference.includes(`| \`${error}\` | ${codes[at] || codes[0]} |`), `${error} ${code}`)
      count++
    }
  }
  assert.ok(count > 20)
})

const at = (channelName, uid, more) => ({ channelName, uid, ...more })
const named = (name, code, more) => (error) => {
  assert.ok(error instanceof Error)
  assert.deepEqual({ name: error.name, code: error.code, ...more && { legacyCode: error.legacyCode } }, { name, code, ...more })
  assert.ok(error.reason.length > 10)
  return true
}

test('what the tables say of calls', async () => {
  const [one, two] = [1, 2].map(() => sdk.createClient({ appkey: 'demo', server: server.url }))
  await assert.rejects(one.leave(), named('notJoined', 434))
  await assert.rejects(one.publish(), named('notJoined', 434))
  await assert.rejects(one.join(at('calls', 100, { token: 'x' })), named('tokenUnexpected', 414))
  await assert.rejects(one.join(at('calls', -1)), named('badUid', 414))
  await assert.rejects(one.join(at('calls', 2 ** 53)), named('badUid', 414))
  await assert.rejects(one.join(at('calls', '18446744073709551616')), named('uidOutOfRange', 414))
  await assert.rejects(sdk.createClient({ appkey: 'nobody', server: server.url }).join(at('calls', 1)), named('badAppkey', 417))
  // No server listens on this port.
  sdk.configure({ commandTimeoutMs: 500 })
  await assert.rejects(sdk.createClient({ appkey: 'demo', server: 'ws://127.0.0.1:1' }).join(at('calls', 1)), named('notConnected', 20023))
  sdk.configure({ commandTimeoutMs: 10000 })
  const joined = await one.join(at('calls', 100, { token: null, liveEnable: 0, rtmpRecord: 0, recordType: 0, isHostSpeaker: 1, edgeAddr: 'x' }))
  assert.deepEqual(Object.keys(joined).sort(), ['cid', 'code', 'isBigNumber', 'uid'])
  assert.equal(joined.uid, 100)
  assert.deepEqual(Object.keys(one._info).sort(), ['cid', 'joinChannelParam', 'uid'])
  await assert.rejects(one.join(at('calls', 100)), named('alreadyJoined', 434))
  const { uid } = await two.join(at('calls', null))
  assert.ok(uid > 2 ** 32)
  const url = await two.publish()
  assert.equal(await two.publish(''), url)
  assert.equal(await two.publish('audio'), url)
  await two.publish('slaveAudio')
  await assert.rejects(one.subscribe(7, 'audio'), named('noSuchMember', 434))
  await assert.rejects(one.subscribe(100, 'audio'), named('selfTarget', 434))
  await assert.rejects(one.subscribe(uid, 'film'), named('badMediaType', 414))
  await assert.rejects(one.subscribe(uid, 'screenShare'), named('notPublished', 434))
  await assert.rejects(one.subscribe(), (error) => error.field === 'uid')
  const playing = await one.subscribe(uid, 'slaveAudio')
  assert.deepEqual(Object.keys(playing).sort(), ['isBigNumber', 'mediaType', 'uid', 'url', 'urls'])
  assert.deepEqual(Object.keys(playing.urls).sort(), ['flv', 'hls', 'rtmp', 'wsFlv'])
  await one.mute()
  await one.unmute('')
  await one.setRole('audience')
  await assert.rejects(one.publish(), named('notBroadcaster', 434))
  await one.setRole('broadcaster')
  const task = { taskId: 't', streamUrl: 'rtmp://x', layout: { canvas: { width: 2, height: 2 }, users: [] } }
  await assert.rejects(one.addTasks({ rtmpTasks: [task] }), named('methodNotFound', -32601, { legacyCode: '434' }))
  await assert.rejects(one.updateTasks({ rtmpTasks: [task] }), named('methodNotFound', -32601, { legacyCode: '436' }))
  await assert.rejects(one.deleteTasks({ taskIds: ['t'] }), named('methodNotFound', -32601, { legacyCode: '435' }))
  await assert.rejects(one.deleteTasks({ rtmpTasks: ['t'] }), named('methodNotFound', -32601, { legacyCode: '435' }))
  for (const method of ['startAsrCaptions', 'stopAsrCaptions', 'aiManualInterrupt']) await assert.rejects(one[method](), named('notSupported', 20100))
  await one.setVoiceBeautifierPreset(7)
  assert.equal(one.pusherAttributes().audioReverbType, 1)
  await one.setAudioEffectPreset(1)
  assert.deepEqual([one.pusherAttributes().audioReverbType, one.pusherAttributes().voiceChangerType], [0, 10])
  await assert.rejects(one.setLocalVoicePitch(3), named('invalidParams', -32602))
  await one.leave()
  await one.leave()
  await one.destroy()
  await one.join(at('calls', 100))
  await Promise.all([one.destroy(), two.destroy()])
})

test('what the tables say of events', async () => {
  const [one, two] = [1, 2].map(() => sdk.createClient({ appkey: 'demo', server: server.url }))
  const heard = []
  let runs = 0
  one.init()
  one.on('clientJoin', () => runs++)
  one.on('clientJoin', () => runs++)
  const until = (event) => new Promise((resolve) => one.once(event, resolve))
  one.off('open', () => {})
  await two.join(at('events', 9007199254740993n, { name: 'Mei' }))
  await two.publish('audio')
  await two.mute('audio')
  const first = Promise.all(['open', 'clientJoin', 'stream-added', 'mute-audio'].map(until))
  await one.join(at('events', 100))
  const big = { uid: '9007199254740993', isBigNumber: true }
  const [open, ...told] = await first
  assert.deepEqual(Object.keys(open), ['code', 'desc'])
  assert.deepEqual(told, [{ ...big, name: 'Mei', attributes: {} }, { ...big, mediaType: 'audio' }, { ...big, mediaType: 'audio' }])
  assert.equal(runs, 2)
  one.init()
  one.on('*', (event, payload) => heard.push([event, payload]))
  const role = until('role-Changed')
  await two.setRole('audience')
  assert.deepEqual(await role, { ...big, role: 'audience' })
  // In the app `demo` the creator of a channel is its moderator.
  const end = until('disconnect')
  await two.kick(100, { reason: 'enough' })
  await end
  const of = (...events) => heard.filter(([event]) => events.includes(event))
  assert.deepEqual(of('stream-removed', 'clientLeave', 'kicked', 'disconnect').map(([event, { reason }]) => [event, reason]), [
    ['stream-removed', undefined], ['clientLeave', 'roleChanged'], ['kicked', 'kicked'], ['disconnect', 'kicked'],
  ])
  assert.equal(of('disconnect')[0][1].code, '405')
  assert.equal(of('error').length, 0)

  heard.length = 0
  await one.join(at('events2', 100))
  const three = sdk.createClient({ appkey: 'demo', server: server.url })
  const replaced = until('disconnect')
  await three.join(at('events2', 100))
  assert.equal((await replaced).code, '405')
  assert.equal(of('kicked')[0][1].reason, 'replaced')
  const four = await two.leave().then(() => two.join(at('events2', 4)))
  assert.equal(four.uid, 4)
  await three.leave()
  await two.leave()

  heard.length = 0
  await one.join(at('events3', 100))
  const closed = until('disconnect')
  await one.closeChannel({ holdS: 0 })
  assert.equal((await closed).code, '417')
  assert.equal(of('liveRoomClose').length, 1)
  heard.length = 0
  await one.join(at('events4', 100))
  await one.leave()
  await Promise.all([one, two, three].map((client) => client.destroy()))
  assert.deepEqual(of('disconnect', 'error', 'kicked'), [])
})
