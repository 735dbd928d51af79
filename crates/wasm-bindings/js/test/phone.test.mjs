//! Proves no rule of the protocol: that the package works with nothing but what a phone has.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { ALLOWED, Phone } from './support/phone.mjs'
import { startServer } from './support/server.mjs'
import { project } from './support/package.mjs'

const FILES = ['/miniprogram_npm/lianmai/wechat.js', '/miniprogram_npm/lianmai/index.js', '/sdk/lianmai.js']
const node = project().require('lianmai/node')
let server
let rooms = 0

before(async () => {
  server = await startServer()
  node.configure({ server: server.url })
})
after(() => server.stop())

/** Waits until a condition holds. */
async function until(what, isSo) {
  for (const end = Date.now() + 20000; Date.now() < end; await new Promise((done) => setTimeout(done, 2))) if (await isSo()) return
  assert.fail(`never: ${what}`)
}

/** The app of the tests, written as an app for a phone. */
function app({ SDK, server, channelName, uid }) {
  const state = { events: [], urls: {}, push: '', errors: [] }
  SDK.configure({ server })
  const client = SDK.Client({ appkey: 'demo' })
  state.client = client
  client.init()
  const names = ['clientJoin', 'clientLeave', 'stream-added', 'stream-removed', 'willreconnect', 'reconnected', 'disconnect', 'syncDone', 'error']
  names.forEach((name) => client.on(name, (event) => {
    state.events.push([name, event.uid, event.mediaType].filter((part) => part !== undefined).join(' '))
  }))
  client.on('stream-added', (event) => {
    client.subscribe(event.uid, event.mediaType).then((result) => {
      state.urls[event.uid + ' ' + event.mediaType] = result.url
    }, (error) => state.errors.push(error))
  })
  client.on('stream-removed', (event) => {
    delete state.urls[event.uid + ' ' + event.mediaType]
  })
  const joined = client.join({ channelName, uid, token: '' })
  joined.then(() => state.events.push('then')).then(() => state.events.push('then again'))
  state.joined = joined.then((data) => {
    state.data = data
    return client.publish()
  }).then((url) => {
    state.push = url
    return url
  })
  return state
}

test('the context has exactly what a phone has', () => {
  const phone = new Phone()
  assert.deepEqual(Array.from(phone.globals).sort(), ALLOWED.slice().sort())
  assert.throws(() => phone.run('() => new Function("return 1")()'), { name: 'EvalError' })
})

test('the code asks for nothing that a phone lacks', () => {
  for (const path of FILES.filter((file) => !file.endsWith('index.js'))) {
    const code = readFileSync(new Phone().file(path), 'utf8')
    const words = code.match(/\b(?:WebAssembly(?! file)|TextDecoder|TextEncoder|fetch|URL|crypto|performance|queueMicrotask|globalThis|BigInt|WeakRef|FinalizationRegistry|eval|Function|window|document|self|process|require|async)\b(?!['"`])/g)
    assert.deepEqual(words, null, path)
    // Syntax after ES2017: optional chaining, nullish coalescing, object spread, catch without a binding.
    assert.doesNotMatch(code, /\?\.[a-z([]|\?\?|\{\.\.\.|catch\{/)
  }
})

for (const path of FILES) {
  test(`${path} is the SDK itself and finds its module`, async () => {
    const phone = new Phone()
    const SDK = phone.require(path)
    assert.equal(typeof SDK.Client, 'function')
    assert.equal(SDK.default, undefined)
    const state = phone.run(app, { SDK, server: server.url, channelName: `room${++rooms}`, uid: 100 })
    assert.match(await state.joined, /^rtmp:/)
    assert.deepEqual(phone.instantiated, [path.replace(/[^/]*$/, 'lianmai.wasm')])
    await state.client.leave()
    phone.stop()
  })
}

const KINDS = [
  { name: 'a phone' },
  { name: 'without globalThis', hasGlobalThis: false },
  { name: 'with a Promise built on setTimeout', isSlow: true, hasGlobalThis: false },
]

for (const { name, ...options } of KINDS) {
  for (const errorFirst of [false, true]) {
    for (const showFirst of [false, true]) {
      test(`${name}: hidden for 20 s, onError ${errorFirst ? 'before' : 'after'} onClose, onAppShow ${showFirst ? 'first' : 'last'}`, async () => {
        const channelName = `room${++rooms}`
        const other = node.createClient({ appkey: 'demo' })
        const third = node.createClient({ appkey: 'demo' })
        const left = []
        other.on('clientLeave', ({ uid }) => left.push(uid))
        await other.join({ channelName, uid: 200 })
        await other.publish('audio')
        await third.join({ channelName, uid: 300 })
        await third.publish()
        const phone = new Phone({ ...options, errorFirst })
        const SDK = phone.require('/miniprogram_npm/lianmai/wechat.js')
        const state = phone.run(app, { SDK, server: server.url, channelName, uid: 100 })
        const push = await state.joined
        await until('three URLs', () => Object.keys(state.urls).length === 3)
        // The present members are reported after the callbacks of `join`.
        assert.deepEqual(Array.from(state.events), [
          'then', 'then again', 'clientJoin 200', 'stream-added 200 audio', 'clientJoin 300', 'stream-added 300 audio', 'stream-added 300 video',
        ])
        state.events.length = 0
        // In half of the cases the app learns in time that it is hidden.
        if (showFirst) await phone.announceHide()
        phone.hide(showFirst)
        await other.publish('video')
        await third.leave()
        phone.show(20000, showFirst)
        await until('back', () => state.events.includes('reconnected'))
        await until('the new URL', () => state.urls['200 video'])
        assert.deepEqual(Array.from(state.events), [
          'willreconnect', 'stream-added 200 video', 'stream-removed 300 audio', 'stream-removed 300 video', 'clientLeave 300', 'reconnected',
        ])
        assert.deepEqual(Object.keys(state.urls).sort(), ['200 audio', '200 video'])
        assert.equal(await state.client.publish(), push)
        assert.equal((await state.client.subscribe(200, 'audio')).url, state.urls['200 audio'])
        assert.deepEqual(Array.from(state.client.members(), ({ uid, streams }) => [uid, Array.from(streams)]), [[100, ['audio', 'video']], [200, ['audio', 'video']]])
        await until('the leave', () => left.length)
        assert.deepEqual(left, [300])
        assert.equal(phone.sockets.filter(({ isOpen }) => isOpen).length, 1)
        assert.deepEqual(Array.from(state.errors), [])
        await state.client.destroy()
        await other.destroy()
        phone.stop()
      })
    }
  }
}

/** An app that sets up its handlers again whenever its configuration changes, and leaves after every event that ends a call. */
function component({ SDK, server, uid }) {
  SDK.configure({ server })
  const page = { events: [], exits: 0, list: [] }
  page.setUp = () => {
    page.client = SDK.Client({ debug: false, appkey: 'demo' })
    page.client.init()
    page.client.on('stream-added', async (event) => {
      page.events.push('stream-added ' + event.uid)
      const result = await page.client.subscribe(event.uid, event.mediaType)
      page.list.push(result.url)
    })
    page.client.on('syncDone', ({ userlist }) => page.events.push('syncDone ' + userlist.find((item) => item.uid === uid).url))
    page.client.on('kicked', page.exit)
    page.client.on('disconnect', page.exit)
    page.client.on('liveRoomClose', page.exit)
    page.client.on('error', (error) => page.events.push(error))
  }
  page.exit = () => {
    if (page.isOut) return page.left
    page.isOut = true
    page.exits++
    const reset = () => {
      page.client.destroy()
      page.list = []
    }
    page.left = page.client.leave().then(reset).catch(reset)
    return page.left
  }
  page.enter = (channelName) => {
    page.isOut = false
    return page.client.join({ channelName, uid }).then(() => page.client.publish())
  }
  return page
}

test('an app that sets up anew all the time, is kicked, and enters again', async () => {
  const channelName = `room${++rooms}`
  const host = node.createClient({ appkey: 'demo' })
  const left = []
  host.on('clientLeave', ({ uid, reason }) => left.push(`${uid} ${reason}`))
  await host.join({ channelName, uid: 200 })
  await host.publish('audio')
  const phone = new Phone({ isSlow: true })
  const page = phone.run(component, { SDK: phone.require('/sdk/lianmai.js'), server: server.url, uid: 100 })
  page.setUp()
  page.setUp()
  const first = await page.enter(channelName)
  await until('the URL', () => page.list.length)
  // The configuration changes in the channel: only the new handlers receive the present streams again.
  page.setUp()
  await until('the URL again', () => page.list.length === 2)
  assert.deepEqual(Array.from(page.events), ['stream-added 200', 'stream-added 200'])
  await host.kick(100, { reason: 'spam' })
  await until('out', () => page.exits)
  await page.left
  assert.equal(page.exits, 1)
  const second = await page.enter(channelName)
  assert.notEqual(second, first)
  await until('the URL', () => page.list.length)
  await page.exit()
  await until('both leaves', () => left.length === 2)
  assert.deepEqual(left, ['100 kicked', '100 left'])
  assert.equal(phone.sockets.filter(({ isOpen }) => isOpen).length, 0)
  await host.destroy()
  phone.stop()
})

test('another network is another socket, and nobody sees a leave', async () => {
  const channelName = `room${++rooms}`
  const other = node.createClient({ appkey: 'demo' })
  await other.join({ channelName, uid: 200 })
  let left = 0
  other.on('clientLeave', () => left++)
  const phone = new Phone()
  const state = phone.run(app, { SDK: phone.require('/sdk/lianmai.js'), server: server.url, channelName, uid: 100 })
  await state.joined
  phone.changeNetwork('4g')
  await until('back', () => state.events.includes('reconnected'))
  assert.equal(phone.sockets.length, 2)
  // A report of the same network is not a change.
  phone.changeNetwork('4g')
  await state.client.sendMessage('still here')
  assert.equal(phone.sockets.length, 2)
  assert.equal(left, 0)
  await state.client.destroy()
  await other.destroy()
  assert.deepEqual(phone.listeners, { hide: [], show: [], network: [] })
  phone.stop()
})

test('the same network that comes again ends the wait for the next attempt', async () => {
  const phone = new Phone()
  const { wx } = phone.context
  const { connectSocket } = wx
  const state = phone.run(app, { SDK: phone.require('/sdk/lianmai.js'), server: server.url, channelName: `room${++rooms}`, uid: 100 })
  await state.joined
  phone.changeNetwork('wifi')
  await until('back', () => state.events.includes('reconnected'))
  // Without a network all attempts fail, until the pause between two attempts is long.
  let attempts = 0
  wx.connectSocket = ({ fail }) => {
    attempts++
    setImmediate(() => fail({ errMsg: 'connectSocket:fail' }))
  }
  phone.changeNetwork('none', false)
  phone.sockets.at(-1).ws.terminate()
  await until('attempts', () => attempts === 4)
  await new Promise(setImmediate)
  wx.connectSocket = connectSocket
  state.events.length = 0
  const sockets = phone.sockets.length
  phone.changeNetwork('wifi')
  // Callbacks of the simulated phone use setImmediate. Its timers never fire that soon.
  for (let turn = 0; turn < 4; turn++) await new Promise(setImmediate)
  assert.equal(phone.sockets.length, sockets + 1)
  await until('back again', () => state.events.includes('reconnected'))
  await state.client.destroy()
  phone.stop()
})

for (const how of ['fail', 'throw']) {
  test(`a phone that has no socket left says so (${how}), and the next attempt gets one`, async () => {
    const phone = new Phone()
    const { wx } = phone.context
    const { connectSocket } = wx
    const errMsg = 'connectSocket:fail exceed max task count'
    let tries = 0
    wx.connectSocket = (options) => {
      if (tries++) return connectSocket(options)
      if (how === 'throw') throw new Error(errMsg)
      setImmediate(() => options.fail({ errMsg }))
      return undefined
    }
    const SDK = phone.require('/sdk/lianmai.js')
    SDK.configure({ server: server.url })
    const client = SDK.Client({ appkey: 'demo' })
    const reasons = []
    client.on('connection-state-change', ({ reason }) => reasons.push(reason))
    await client.join({ channelName: `room${++rooms}` })
    assert.equal(tries, 2)
    assert.deepEqual(reasons, ['joinCalled', 'attempt', 'socketLimit', 'attempt', 'joined'])
    await client.destroy()
    phone.stop()
  })
}

test('an instantiate that fails once is tried once more', async () => {
  const phone = new Phone()
  phone.failures = 1
  const state = phone.run(app, { SDK: phone.require('/sdk/lianmai.js'), server: server.url, channelName: `room${++rooms}`, uid: 100 })
  assert.match(await state.joined, /^rtmp:/)
  assert.equal(phone.instantiated.length, 2)
  await state.client.destroy()
  phone.stop()
})

test('a module that is missing, or no random numbers, is told, and the client stays usable', async () => {
  const phone = new Phone()
  const SDK = phone.require('/sdk/lianmai.js')
  SDK.configure({ wasmPath: '/nowhere.wasm', server: server.url })
  const client = SDK.Client({ appkey: 'demo' })
  await assert.rejects(client.join({ channelName: 'x' }), ({ name, code, reason }) => {
    assert.equal(name, 'wasmUnavailable')
    assert.equal(code, 20101)
    assert.match(reason, /\/nowhere.wasm cannot be loaded .*: check wasmPath/)
    return true
  })
  SDK.configure({ wasmPath: '/sdk/lianmai.wasm' })
  const random = phone.context.wx.getRandomValues
  delete phone.context.wx.getRandomValues
  await assert.rejects(client.join({ channelName: 'x' }), { name: 'randomUnavailable' })
  phone.context.wx.getRandomValues = random
  assert.equal((await client.join({ channelName: `room${++rooms}` })).code, 200)
  await client.destroy()
  phone.stop()
})
