//! Proves no rule of the protocol: that the browser's half needs no timers to stay, and that servers can import it.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { project } from './support/package.mjs'
import { startServer } from './support/server.mjs'
import { World } from './support/world.mjs'

const app = project()
let server

before(async () => (server = await startServer()))
after(() => server.stop())

test('a page whose timers fire once a minute stays a member', async () => {
  const world = new World()
  const { setTimer } = world.host
  world.sdk.configure({ host: { setTimer: (run, ms) => setTimer(run, Math.ceil((world.time + ms) / 60000) * 60000 - world.time) } })
  const client = world.sdk.createClient({ appkey: 'demo' })
  const joined = client.join({ channelName: 'room1', uid: 100 })
  await world.pass(0)
  await joined
  let disconnects = 0
  client.on('disconnect', () => disconnects++)
  // The scripted server closes a connection after 25 s of silence; 30 s after that the member has left.
  let heard = world.time
  let away = null
  let returns = 0
  const { answer } = world
  world.answer = function (socket, request) {
    heard = world.time
    if (request.method === 'reconnect') {
      // A delayed timer of the client may fire first.
      assert.ok(away === null || world.time - away < 30000, `away for ${world.time - away} ms`)
      away = null
      returns++
    }
    answer.call(this, socket, request)
  }
  for (const end = world.time + 600000; world.time < end; ) {
    await world.pass(1000)
    if (world.socket.closed === null && world.time - heard >= 25000) {
      away = world.time
      world.socket.listener.close(4002, 'idle')
      await world.rest()
    }
    assert.ok(away === null || world.time - away < 30000, 'a member that was away for too long')
  }
  assert.ok(returns > 5)
  assert.equal(client.connectionState, 'connected')
  assert.equal(disconnects, 0)
  await client.destroy()
})

/** Runs a script in the project. */
function run(file, code) {
  writeFileSync(join(app.folder, file), code)
  return execFileSync(process.execPath, [file, server.url], { cwd: app.folder, encoding: 'utf8', timeout: 60000 }).trim()
}

test('a server can import it, by both kinds of modules, and nothing is touched', () => {
  assert.equal(run('import.mjs', `
    import sdk from 'lianmai/web'
    console.log(typeof sdk.Client, sdk.version === (await import('lianmai/package.json', { with: { type: 'json' } })).default.version)
  `), 'function true')
  assert.equal(run('require.cjs', `console.log(typeof require('lianmai/web').Client, require('lianmai/web').default)`), 'function undefined')
})

const PAGE = `
  globalThis.WebSocket = WS
  const client = sdk.Client({ appkey: 'demo', server: process.argv[2] })
  client.join({ channelName: 'web', uid: 7 }).then(() => client.publish()).then((url) => {
    console.log(url.slice(0, 7))
    return client.destroy()
  })
`

test('where no file can be fetched, the module comes with the code, and the process ends by itself', () => {
  assert.equal(run('page.mjs', `import sdk from 'lianmai/web'\nimport { WebSocket as WS } from 'ws'\n${PAGE}`), 'rtmp://')
  assert.equal(run('page.cjs', `const sdk = require('lianmai/web')\nconst { WebSocket: WS } = require('ws')\n${PAGE}`), 'rtmp://')
})

test('import and require of the Node entry are one SDK', () => {
  assert.equal(run('node.mjs', `
    import sdk from 'lianmai/node'
    import { createRequire } from 'node:module'
    const require = createRequire(import.meta.url)
    console.log(require('lianmai/node') === sdk, require('lianmai') === sdk)
  `), 'true true')
})
