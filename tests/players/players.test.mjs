//! Players of web pages in Chromium. A page may hold six HTTP connections to one host, and more streams than that.
//! Proves URL-2, URL-16.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { startServer } from '../../crates/wasm-bindings/js/test/support/server.mjs'
import { launch } from '../packaging/support/browser.mjs'
import { startSite } from '../packaging/support/site.mjs'
import { certify, makeSample, probe, startRoom } from './support/room.mjs'

const here = dirname(fileURLToPath(import.meta.url))
const require = createRequire(import.meta.url)
const WebSocket = require('ws')
const packaged = (file) => dirname(require.resolve(file))
/** Number of seconds that are played, and the minimum number of frames (at 25 a second): a busy machine may drop some. */
const SECONDS = 3
const PICTURES = 30
const HOSTS = 8

let site
let browser

before(async () => {
  makeSample()
  site = await startSite({ '/mpegts/': packaged('mpegts.js/dist/mpegts.js'), '/hls/': packaged('hls.js/dist/hls.js'), '/': join(here, 'pages') })
  browser = await launch(require('playwright-core'))
})

after(async () => {
  await browser?.close()
  site?.stop()
})

/** A page that plays, until the test ends. */
async function open(context, file, urls) {
  const contexts = await browser.newContext({ ignoreHTTPSErrors: true })
  context.after(() => contexts.close())
  const page = await contexts.newPage()
  const wrong = []
  page.on('pageerror', (error) => wrong.push(String(error)))
  await page.goto(`${site.origin}/${file}`)
  await page.evaluate((urls) => window.play(urls), urls)
  return { page, wrong }
}

async function start(context, settings, hosts) {
  const server = await startServer({ LIANMAI_SERVER__ORIGINS: JSON.stringify([site.origin]), ...settings })
  context.after(() => server.stop())
  const room = await startRoom(WebSocket, server.url, hosts)
  context.after(() => room.stop())
  return room
}

for (const scheme of ['ws', 'wss']) {
  test(`${HOSTS} hosts play in one page over ${scheme}`, async (context) => {
    const { urls } = await start(context, scheme === 'wss' ? certify() : {}, HOSTS)
    const flv = urls.map(({ wsFlv }) => wsFlv)
    assert.deepEqual(flv.filter((url) => !url.startsWith(`${scheme}://`)), [])
    const { page, wrong } = await open(context, 'flv.html', flv)
    const seen = await page.evaluate((seconds) => window.goOn(seconds), SECONDS)
    assert.deepEqual([seen.wrong, wrong], [[], []])
    assert.equal(seen.frames.length, HOSTS)
    assert.deepEqual(seen.frames.filter((frames) => frames < PICTURES), [], seen.frames.join())
  })
}

test('HLS plays, and who has left is refused', async (context) => {
  const { urls: [{ hls }], watcher } = await start(context, {}, 1)
  const { page, wrong } = await open(context, 'hls.html', [hls])
  const seen = await page.evaluate((seconds) => window.goOn(seconds), SECONDS)
  assert.deepEqual([seen.wrong, wrong], [[], []])
  assert.ok(seen.frames[0] >= PICTURES, `${seen.frames[0]} pictures`)
  assert.deepEqual(probe(hls), ['aac', 'h264'])
  const playlist = await (await fetch(hls)).text()
  const [segment] = playlist.split('\n').filter((line) => line && !line.startsWith('#'))
  const asked = async (url) => (await fetch(url)).status
  assert.deepEqual([await asked(hls), await asked(new URL(segment, hls))], [200, 200])
  await watcher.call('leave', {})
  assert.deepEqual([await asked(hls), await asked(new URL(segment, hls))], [403, 403])
  await page.waitForFunction(() => window.answers.some((answer) => answer.endsWith(' 403')), null, { timeout: 0 })
})
