//! Proves no rule of the protocol: that consumers compile with `tsc --strict`, and that payloads have types.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { js, project } from './support/package.mjs'

const APP = `
const client = YunXinMiniappSDK.Client({ debug: true, appkey: 'demo' })
client.init()
client.on('stream-added', ({ uid, mediaType, isBigNumber }) => {
  const id: number | string = uid
  const kind: 'audio' | 'video' | 'screenShare' | 'slaveAudio' = mediaType
  const big: boolean = isBigNumber
  client.subscribe(uid, mediaType).then((data) => { const url: string = data.url; return [url, id, kind, big] })
})
client.on('syncDone', (data) => data.userlist.find((item) => item.uid === 100)!.url.length + data.url.length)
client.on('error', (error) => { const code: number = error.code; const reason: string = error.reason; return [code, reason] })
client.on('clientLeave', async (event) => event.reason.length)
client.on('*', (event, payload) => { const name: string = event; return [name, payload] })
client.on('clientUpdate', () => {})
client.join({ channelName: 'x', uid: '12345678901234567890', token: null, recordType: '0', isHostSpeaker: 0 })
  .then((data) => { const code: 200 = data.code; return code })
client.publish().then((url: string) => url)
client.publish('audio')
client.mute()
client.dataReporter('push', 'bindstatechange', { code: 1 })
const name: string | undefined = client.members()[0]?.name
const info = client._info.joinChannelParam?.channelName
const pusher: boolean = client.pusherAttributes().enableMic
const action: 'none' | 'restart' | 'refresh' | 'rejoin' | 'permission' = YunXinMiniappSDK.pusherAdvice(1002).action
YunXinMiniappSDK.configure({ server: ['wss://a', 'wss://b'], reannounce: 'all', host: { now: () => 1 } })
export default [name, info, pusher, action]
`

const WRONG = `
const client = YunXinMiniappSDK.Client()
client.on('stream-added', (e) => e.kind)
client.on('no such event', () => {})
client.publish('film')
client.subscribe(1)
client.setRole('host')
client.join({ uid: 1 })
YunXinMiniappSDK.configure({ reannounce: 'some' })
`

const TYPES = `
const event: StreamEvent = { uid: 1, isBigNumber: false, mediaType: 'audio' }
const handler = (payload: ClientEvents['kicked']): string => payload.reason
let client: Client | undefined
export { event, handler, client }
`

/** Compiles without the DOM types, because mini-programs have none. */
function compile(files, options) {
  const { folder } = project()
  for (const [file, text] of Object.entries(files)) writeFileSync(join(folder, file), text)
  const { stdout } = spawnSync(process.execPath, [
    join(js, 'node_modules/typescript/bin/tsc'), '--strict', '--noEmit', '--target', 'ES2017', '--lib', 'ES2017', '--types', '', ...options, ...Object.keys(files),
  ], { cwd: folder, encoding: 'utf8' })
  return stdout.trim().split('\n').filter(Boolean)
}

for (const entry of ['wechat', 'web', 'node']) {
  const from = `import YunXinMiniappSDK from 'lianmai/${entry}'\nimport type { Client, ClientEvents, StreamEvent } from 'lianmai/${entry}'\n`
  for (const options of [
    ['--module', 'ESNext', '--moduleResolution', 'bundler'],
    ['--module', 'NodeNext', '--moduleResolution', 'NodeNext', '--esModuleInterop'],
  ]) {
    test(`lianmai/${entry} with ${options.join(' ')}`, () => {
      const [value, type] = from.split('\n')
      const files = { 'app.ts': value + APP, 'types.mts': type + TYPES, 'types.cts': type + TYPES }
      if (options.includes('NodeNext')) {
        files['app.mts'] = files['app.ts']
        files['required.cts'] = `import YunXinMiniappSDK = require('lianmai/${entry}')\n${APP.replace('export default', 'export =')}`
      }
      assert.deepEqual(compile(files, options), [])
    })
  }
}

test('what is wrong does not compile', () => {
  const errors = compile({ 'wrong.ts': `import YunXinMiniappSDK from 'lianmai/wechat'${WRONG}` }, ['--module', 'ESNext', '--moduleResolution', 'bundler'])
  const lines = new Set(errors.map((error) => /^wrong.ts\((\d+)/.exec(error)?.[1]).filter(Boolean))
  assert.equal(lines.size, WRONG.trim().split('\n').length - 1, errors.join('\n'))
})
