//! Proves no rule of the protocol: the page, as people use it in Chromium, with real media.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test as begin } from 'node:test'
import { countLoads, loads, tone, watch } from './support/media.mjs'
import { PHONE, repository, require, Scene, WIDE } from './support/scene.mjs'

const HOSTS = [[1001, 'Anna', 'bars', 440], [1002, 'Bo 波', 'clock', 554], [1003, 'Chen 晨', 'colours', 659]]
const HURT = '<img src=x onerror="window.hurt=1">'

/** A test that takes this long hangs. */
const HANGS_MS = 600_000
const test = (name, run) => begin(name, { timeout: HANGS_MS }, run)

let scene

before(async () => {
  scene = await Scene.open()
  for (const host of HOSTS) await scene.host('demo', ...host)
})

after(() => scene?.close())

for (const viewport of [WIDE, PHONE]) {
  test(`${viewport.width} px wide: every stream is seen, and heard once a person wants it`, async () => {
    const visitor = await scene.visit({ viewport, hash: '#channel=demo' })
    const { page } = visitor
    // The form is filled in already: one click joins.
    await visitor.button('Join').click()
    await visitor.isIn('demo')
    await page.locator('.tile').nth(2).waitFor()
    for (const [uid] of HOSTS) {
      const { frames, seconds, changed, colours } = await watch(visitor.video(uid), 3)
      assert.ok(frames >= 30, `${uid}: ${frames} frames in ${seconds} s`)
      assert.ok(changed > 100, `${uid}: ${changed} points of the picture changed`)
      assert.ok(colours > 8, `${uid}: ${colours} colours`)
      assert.equal(await visitor.video(uid).evaluate(({ muted }) => muted), true)
    }
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'nothing is beside the screen')
    assert.deepEqual(await page.locator('.tile').evaluateAll((tiles) => tiles.map(({ dataset }) => dataset.transport)), ['wsFlv', 'wsFlv', 'wsFlv'])

    await visitor.button('Turn the sound on').click()
    for (const [uid, name, , hertz] of HOSTS) {
      const heard = await tone(visitor.video(uid))
      assert.ok(Math.abs(heard - hertz) < 8, `${name}: ${heard} Hz, not ${hertz}`)
      const decoded = await visitor.video(uid).evaluate(({ muted, webkitAudioDecodedByteCount }) => ({ muted, webkitAudioDecodedByteCount }))
      assert.equal(decoded.muted, false)
      assert.ok(decoded.webkitAudioDecodedByteCount > 0)
    }
    // One member alone is muted again.
    await visitor.button('Silence Anna').click()
    await visitor.button('Hear Anna').waitFor()
    assert.deepEqual(await page.locator('video').evaluateAll((videos) => videos.map(({ muted }) => muted)), [true, false, false])
    await visitor.assertClean(assert)
    await visitor.close()
  })
}

test('how soon there is a picture', async () => {
  const visitor = await scene.visit({ hash: '#channel=demo' })
  const { page } = visitor
  await visitor.button('Join').waitFor()
  const times = await page.evaluate(() => new Promise((done) => {
    const clicked = performance.now()
    const look = new MutationObserver(() => {
      const video = document.querySelector('video')
      if (!video) return
      look.disconnect()
      video.requestVideoFrameCallback(() => done({ ready: performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN, frame: performance.now() - clicked }))
    })
    look.observe(document.body, { subtree: true, childList: true })
    document.querySelector('button.main').click()
  }))
  const sizes = await page.evaluate(() => performance.getEntriesByType('resource').map(({ name, encodedBodySize }) => [name.replace(/.*\//, ''), encodedBodySize]))
  const sum = sizes.reduce((sum, [, size]) => sum + size, 0)
  console.log(`# page: painted after ${times.ready.toFixed(0)} ms, first frame ${times.frame.toFixed(0)} ms after Join, ${sum} bytes: ${sizes.map((size) => size.join(' ')).join(', ')}`)
  // All files together, compressed.
  assert.ok(sum < 180_000, `${sum} bytes`)
  await visitor.close()
})

/** The value of a field that is meant to be copied. */
const valueOf = (panel, name) => panel.getByRole('textbox', { name, exact: true }).inputValue()

/** Asserts that the numbers of the rows are contiguous and occur once. */
function assertContiguous(rows) {
  let last
  for (const { event, seqs } of rows) {
    if (!seqs) continue
    if (last !== undefined) assert.equal(seqs[0], last + 1, `${event} ${seqs} after ${last}: ${JSON.stringify(rows)}`)
    last = seqs[1]
  }
  assert.ok(last !== undefined, 'there are numbers')
}

/** Buttons that break the connection, and those that repair it; `null` if it repairs itself. */
const BREAKS = [['Pull the plug', 'Plug in again'], ['Suspend the app', 'Wake the app'], ['Cut the socket', null]]
for (const [broken, mended] of BREAKS) {
  test(`${broken}: it heals, nothing is lost and nothing comes twice`, async () => {
    const peer = await scene.peer('demo', 2001)
    const visitor = await scene.enter('demo')
    const { page } = visitor
    for (const [uid] of HOSTS) await watch(visitor.video(uid), 0.5)
    await peer.sendMessage(`before ${broken}`)
    await visitor.heard(`before ${broken}`)
    await countLoads(page)
    await visitor.button(broken).click()
    if (mended) {
      await page.locator('.banner.away').waitFor()
      assert.match(await page.locator('[data-state]').getAttribute('data-state'), /connected|reconnecting/)
      await peer.sendMessage(`during ${broken}`)
      await peer.mute('audio')
      await peer.unmute('audio')
      await visitor.button(mended).click()
    }
    const back = page.locator('.banner.back')
    await back.waitFor()
    assert.equal(await back.getAttribute('data-outcome'), 'replayed')
    const events = Number(await back.getAttribute('data-events'))
    if (mended) assert.ok(events >= 3, `replayed(${events})`)
    await peer.sendMessage(`after ${broken}`)
    await visitor.heard(`after ${broken}`)
    const rows = await visitor.rows()
    assertContiguous(rows)
    const said = rows.filter(({ event }) => event === 'message').map(({ text }) => /data=(\w+)/.exec(text)[1])
    assert.deepEqual(said, mended ? ['before', 'during', 'after'] : ['before', 'after'])
    const muted = rows.filter(({ event, text }) => /mute-audio/.test(event) && text.includes('2001')).map(({ event }) => event)
    assert.deepEqual(muted, mended ? ['mute-audio', 'unmute-audio'] : [])
    assert.ok(rows.some(({ event, text }) => event === 'reconnected' && text.includes('outcome=replayed')))
    // The pictures continued: the same elements, none loaded again.
    for (const [uid] of HOSTS) assert.ok((await watch(visitor.video(uid), 1)).frames >= 10)
    assert.deepEqual(await visitor.reopened(), [])
    assert.deepEqual(await loads(page), { loads: 0, marked: [true, true, true] })
    await visitor.assertClean(assert)
    await visitor.close()
    await peer.leave()
  })
}

test('without FLV over WebSocket it plays HTTP-FLV', async () => {
  const visitor = await scene.visit({
    hash: '#channel=demo',
    // A server that offers fewer protocols, made of this one.
    script: (page) => page.routeWebSocket(/\/v1\/signal$/, (client) => {
      const server = client.connectToServer()
      server.onMessage((text) => client.send(String(text).replace(/"wsFlv":"[^"]*",?/g, '').replace(/,}/g, '}')))
    }),
  })
  await visitor.button('Join').click()
  await visitor.page.locator('.tile').nth(2).waitFor()
  for (const [uid] of HOSTS) assert.ok((await watch(visitor.video(uid), 1)).frames >= 10)
  assert.deepEqual(await visitor.page.locator('.tile').evaluateAll((tiles) => tiles.map(({ dataset }) => dataset.transport)), ['flv', 'flv', 'flv'])
  await visitor.close()
})

test('a second tab is in the same room, and sees the chat', async () => {
  const channel = scene.room()
  const first = await scene.enter(channel, { name: 'First' })
  const address = await valueOf(first.panel('Invite'), 'Address')
  const page = await first.page.context().newPage()
  const second = new first.constructor(page)
  await page.goto(address)
  assert.equal(await page.getByLabel('Channel', { exact: true }).inputValue(), channel)
  await page.getByLabel('Your name').fill('Second')
  // With the keyboard alone.
  await page.keyboard.press('Enter')
  await second.isIn(channel)
  await first.say('from the first')
  await second.heard('from the first')
  await second.say('from the second')
  await first.heard('from the second')
  assert.deepEqual((await first.page.locator('.members .who').allTextContents()).sort(), ['First', 'Second'])
  // Each page shows both messages once.
  for (const visitor of [first, second]) {
    assert.deepEqual(await visitor.page.locator('.said li p').allTextContents(), ['from the first', 'from the second'])
  }
  // To one member alone.
  await page.getByLabel('To', { exact: true }).selectOption({ label: 'First' })
  await second.say('between us')
  await first.heard('between us')
  await first.panel('Chat').getByText('only to you').waitFor()
  // A tab that is closed leaves at once, without grace.
  await page.close({ runBeforeUnload: true })
  await first.page.locator('[data-event=clientLeave]').getByText('reason=left').waitFor()
  await first.assertClean(assert)
  await first.close()
})

test('who is kicked sees why, and what to do when it is refused', async () => {
  const channel = scene.room()
  const creator = await scene.enter(channel, { name: 'Creator' })
  const victim = await scene.enter(channel, { name: 'Victim', uid: 77 })
  await creator.page.getByText('Moderate Victim').click()
  await creator.button('Kick …').click()
  await creator.page.getByLabel('Reason, which Victim reads').fill(`too loud ${HURT}`)
  await creator.page.getByLabel('Refuse this uid for').selectOption('one minute')
  await creator.button('Kick').click()
  const ending = victim.page.locator('.ending')
  await ending.waitFor()
  const text = await ending.innerText()
  for (const part of ['You were kicked', `too loud ${HURT}`, '60 s']) assert.ok(text.includes(part), text)
  assert.equal(await ending.locator('img').count(), 0)
  await victim.join(channel, { name: 'Victim', uid: 77 })
  const trouble = victim.page.locator('.trouble[data-error=banned]')
  assert.match(await trouble.innerText(), /another uid/)
  await victim.close()
  await creator.page.locator('[data-event=clientLeave]').waitFor()
  assert.deepEqual(await creator.page.locator('.members .who').allTextContents(), ['Creator'])
  await creator.close()
})

test('what one may not do is said, with who may', async () => {
  const visitor = await scene.enter('demo')
  await visitor.page.getByText('Moderate Anna').click()
  await visitor.page.locator('[data-uid="1001"]').getByRole('button', { name: 'Make audience' }).click()
  assert.match(await visitor.page.locator('.trouble[data-error=forbidden]').innerText(), /creator/)
  await visitor.button('Close').click()
  assert.equal(await visitor.page.locator('.trouble').count(), 0)
  await visitor.close()
})

test('it speaks Chinese and English, keeps the choice, and has its own colours', async () => {
  const visitor = await scene.visit({ locale: 'zh-CN', theme: 'dark' })
  const { page } = visitor
  await page.getByRole('heading', { name: '加入频道' }).waitFor()
  assert.equal(await page.evaluate(() => document.documentElement.lang), 'zh-CN')
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor)
  const dark = await ground()
  await page.getByRole('button', { name: 'English' }).click()
  await page.getByRole('heading', { name: 'Join a channel' }).waitFor()
  assert.equal(await page.evaluate(() => document.documentElement.lang), 'en')
  await page.getByLabel('Colours').selectOption('light')
  const light = page.locator('html[data-theme=light]')
  await light.waitFor()
  assert.notEqual(await ground(), dark)
  await page.reload()
  await page.getByRole('heading', { name: 'Join a channel' }).waitFor()
  await light.waitFor()
  assert.notEqual(await ground(), dark)
  await visitor.join(scene.room())
  await page.getByRole('heading', { name: 'On air' }).waitFor()
  await page.getByRole('button', { name: '中文' }).click()
  for (const name of ['正在直播', '聊天', '成员', '事件', '弄断它']) await page.getByRole('heading', { name }).waitFor()
  await visitor.close()
})

test('markup stays text wherever somebody else writes it', async () => {
  const channel = '<img src=x onerror=hurt=1>?a#b&c'
  const peer = await scene.peer(channel, 5, { name: HURT.slice(0, 64), attributes: { [HURT]: HURT } })
  const visitor = await scene.visit()
  const { page } = visitor
  await visitor.join(channel, { name: HURT.slice(0, 64) })
  await visitor.isIn(channel)
  await peer.sendMessage(HURT)
  await visitor.heard(HURT)
  await peer.setAttributes({ topic: HURT }, { target: 'channel' })
  await page.getByLabel('Whose').selectOption('of the channel')
  await visitor.panel('Attributes').getByText(HURT).waitFor()
  await visitor.panel('Members').getByText(HURT).first().waitFor()
  assert.equal(await valueOf(visitor.panel('Invite'), 'Address'), `${scene.origin}/#${new URLSearchParams({ channel })}`)
  const own = (await page.locator('.members [data-uid]').evaluateAll((rows) => rows.map(({ dataset }) => dataset.uid))).find((uid) => uid !== '5')
  await peer.kick(own, { reason: HURT })
  await page.locator('.ending').getByText(HURT).waitFor()
  assert.deepEqual(await page.evaluate(() => [window.hurt, document.images.length, document.querySelectorAll('script').length]), [undefined, 0, 1])
  await visitor.assertClean(assert)
  await visitor.close()
})

test('a page publishes with ffmpeg, and another sees it', async () => {
  const channel = scene.room()
  const publisher = await scene.enter(channel, { name: 'Publisher', uid: 42 })
  const viewer = await scene.enter(channel)
  const panel = publisher.panel('Publish')
  await panel.getByText('Browsers cannot push RTMP').waitFor()
  await publisher.button('Publish picture and sound').click()
  const server = await valueOf(panel, 'OBS: server')
  const key = await valueOf(panel, 'OBS: stream key')
  const line = await valueOf(panel, 'ffmpeg: a test picture and tone')
  assert.match(server, /^rtmp:\/\/127\.0\.0\.1:\d+\/live$/)
  assert.ok(line.endsWith(`'${server}/${key}'`), line)
  assert.equal(await panel.locator('.qr').count(), 0, 'a phone cannot reach this machine’s own address')
  // Published, but not pushed yet.
  await viewer.page.locator('.tile[data-uid="42"]').getByText('Waiting for media').waitFor()
  const ffmpeg = spawn('sh', ['-c', `exec ${line}`], { stdio: ['ignore', 'ignore', 'ignore'] })
  try {
    assert.ok((await watch(viewer.video(42), 1)).frames >= 10)
    await publisher.button('Stop publishing').click()
    await viewer.page.locator('.tile').waitFor({ state: 'detached' })
    await publisher.button('Publish picture and sound').waitFor()
  } finally {
    ffmpeg.kill('SIGKILL')
  }
  await publisher.button('Become audience').click()
  await panel.getByText('The audience publishes nothing').waitFor()
  await publisher.assertClean(assert)
  await publisher.close()
  await viewer.close()
})

test('a phone gets codes to scan where it can reach the server', async (context) => {
  const other = await Scene.open({ LIANMAI_SERVER__PUBLIC_HOST: '192.0.2.1' })
  context.after(() => other.close())
  const visitor = await other.enter('room')
  await visitor.button('Publish picture and sound').click()
  const panel = visitor.panel('Publish')
  const url = `${await valueOf(panel, 'OBS: server')}/${await valueOf(panel, 'OBS: stream key')}`
  const { path, size } = await panel.locator('.qr svg').evaluate((svg) => ({ path: svg.querySelector('path').getAttribute('d'), size: svg.viewBox.baseVal.width }))
  assert.equal(readQr(path, size), url)
  await visitor.close()
})

/** Reads a QR code as a camera does. */
function readQr(path, size) {
  const scale = 4
  const width = size * scale
  const pixels = new Uint8ClampedArray(width * width * 4).fill(255)
  for (const [, x, y] of path.matchAll(/M(\d+) (\d+)/g)) {
    for (let dy = 0; dy < scale; dy++) {
      for (let dx = 0; dx < scale; dx++) {
        const at = ((Number(y) * scale + dy) * width + Number(x) * scale + dx) * 4
        pixels[at] = pixels[at + 1] = pixels[at + 2] = 0
      }
    }
  }
  return require('jsqr')(pixels, width, width)?.data
}

test('of many streams so many play, and the next one comes when one goes', async () => {
  const channel = scene.room()
  const peers = []
  for (let uid = 1; uid <= 18; uid++) {
    const peer = await scene.peer(channel, uid)
    await peer.publish()
    peers.push(peer)
  }
  const visitor = await scene.enter(channel)
  const shown = () => visitor.page.locator('.tile').evaluateAll((tiles) => tiles.map(({ dataset }) => Number(dataset.uid)))
  await visitor.panel('On air').getByText('2 more are on air').waitFor()
  assert.deepEqual(await shown(), Array.from({ length: 16 }, (_, at) => at + 1))
  await peers[2].leave()
  await visitor.panel('On air').getByText('1 more').waitFor()
  assert.deepEqual(await shown(), [1, 2, ...Array.from({ length: 14 }, (_, at) => at + 4)])
  await visitor.page.locator('.tile[data-uid="17"][data-transport=wsFlv]').waitFor()
  await visitor.close()
  for (const peer of peers) await peer.leave()
})

const SAFE = { LIANMAI_APPS: '[{ appkey = "live", creator_moderates = true, jwt = [{ kid = "k", secret = "0123456789abcdef0123456789abcdef" }] }]', LIANMAI_SERVER__PAGE: 'true' }

test('safe mode: a wrong token says what to do, and a right one opens', async (context) => {
  const safe = await Scene.open(SAFE)
  context.after(() => safe.close())
  const visitor = await safe.visit({ hash: '#channel=show&appkey=live' })
  const { page } = visitor
  const token = page.getByLabel('Token')
  await token.fill('nonsense')
  await visitor.button('Join').click()
  const trouble = page.locator('.trouble[data-error=tokenInvalid]')
  assert.match(await trouble.innerText(), /gen-token .*--appkey live --channel show/)
  const made = await safe.token('live', 'other', 7)
  await token.fill(made)
  await visitor.button('Join').click()
  assert.match(await page.locator('.trouble[data-error=channelMismatch]').innerText(), /another channel/)
  await token.fill(await safe.token('live', 'show', 7))
  await visitor.button('Join').click()
  await visitor.isIn('show')
  const kept = await page.evaluate(() => JSON.stringify([location.href, { ...localStorage }, { ...sessionStorage }, document.cookie]))
  assert.ok(!kept.includes('eyJ'), kept)
  await visitor.assertClean(assert)
  await visitor.close()
})

/** Checks accessibility with axe: there may be no finding at all, serious or not. */
const axe = require('axe-core').source
const check = async (page, what) => {
  await page.evaluate(axe)
  const { violations, passes } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations', 'passes'] }))
  assert.deepEqual(violations.map(({ id, nodes }) => `${what}: ${id} ${nodes.map(({ target }) => target).join(' ')}`), [])
  assert.ok(passes.length > 10, `${what}: ${passes.length} rules passed`)
}
for (const [viewport, theme] of [[WIDE, 'light'], [PHONE, 'dark']]) {
  test(`no serious fault for those who read it otherwise: ${viewport.width} px, ${theme}`, async () => {
    const peer = await scene.peer('demo', 2002, { role: 'audience' })
    const visitor = await scene.visit({ viewport, theme, hash: '#channel=demo' })
    const { page } = visitor
    await page.getByText('More').click()
    await check(page, `join ${theme}`)
    await visitor.button('Join').click()
    await watch(visitor.video(1001), 0.5)
    await visitor.button('Publish picture and sound').click()
    await visitor.panel('Publish').getByRole('textbox', { name: 'OBS: server' }).waitFor()
    await page.getByText('Moderate Anna').click()
    await visitor.say('hello')
    await visitor.heard('hello')
    await check(page, `room ${theme}`)
    await visitor.button('Pull the plug').click()
    await page.locator('.banner.away').waitFor()
    await check(page, `away ${theme}`)
    await visitor.button('Plug in again').click()
    await page.locator('.banner.back').waitFor()
    await page.locator('[data-uid="1001"]').getByRole('button', { name: 'Kick …' }).click()
    await check(page, `kick ${theme}`)
    await visitor.button('Kick').click()
    await page.locator('.trouble').waitFor()
    await check(page, `trouble ${theme}`)
    await visitor.close()
    await peer.leave()
  })
}

/** Pictures for the documents: kept only if a folder for them is set. */
const images = process.env.LIANMAI_IMAGES
const SHOTS = [['page', WIDE, 'en-GB', 'light'], ['page-zh', WIDE, 'zh-CN', 'light'], ['page-phone', PHONE, 'en-GB', 'dark']]
for (const [name, viewport, locale, theme] of SHOTS) {
  test(`a picture of it: ${name}`, async () => {
    const visitor = await scene.visit({ viewport, locale, theme, hash: '#channel=demo' })
    const { page } = visitor
    await page.locator('[name=name]').fill('Dora')
    await page.locator('form button.main').click()
    await page.locator('.tile').nth(2).waitFor()
    for (const [uid] of HOSTS) await watch(visitor.video(uid), 1)
    const peer = await scene.peer('demo', 2003, { name: 'Eve' })
    await page.locator('.members [data-uid="2003"]').waitFor()
    await peer.sendMessage('你好 hello')
    await page.getByRole('log').getByText('hello').waitFor()
    await page.locator('.say input').fill('Good to see you all')
    await page.locator('.say button').click()
    await page.getByRole('log').getByText('Good to see').waitFor()
    await page.evaluate(() => scrollTo(0, 0))
    const picture = await page.screenshot()
    assert.ok(picture.length <= 300_000, `${picture.length} bytes`)
    if (images) {
      mkdirSync(join(repository, images), { recursive: true })
      writeFileSync(join(repository, images, `${name}.png`), picture)
    }
    await visitor.close()
    await peer.leave()
  })
}
