// A page in a hidden tab of Chromium, whose timers fire once a minute, and another member that observes it. In: the installed
// package and the page's address, the server's timers, and when to stop. Out: what the observer, the network and the page saw.
//
// Playwright makes each of its pages believe that it is visible. So this page runs in a browser context that Playwright
// does not control, and sends its observations as a message in the channel.

import { startServer } from '../../crates/wasm-bindings/js/test/support/server.mjs'
import { launch } from './support/browser.mjs'
import { startProxy } from './support/proxy.mjs'

/** Seconds until Chromium limits a hidden page to one timer a minute; its default is 5 minutes. */
const GRACE_S = 10
const PAGE = 100

/**
 * `isPlain`: the page uses the browser's timers. `isOver` is called after each frame of the page, with the seconds since it was
 * hidden; `silent` counts the pongs since its last frame with content.
 */
export async function hide({ project, site, path, settings = {}, isPlain = false, isOver }) {
  const server = await startServer({ LIANMAI_SERVER__ORIGINS: `["${site.origin}"]`, ...settings })
  const wire = { text: 0, pong: 0, silent: 0, longest: 0 }
  let hiddenAt = 0
  const seconds = () => (Date.now() - hiddenAt) / 1000
  let over
  const ended = new Promise((done) => (over = done))
  const proxy = await startProxy(server.url, (kind) => {
    if (!hiddenAt) return
    wire[kind]++
    wire.silent = kind === 'pong' ? wire.silent + 1 : 0
    wire.longest = Math.max(wire.longest, wire.silent)
    if (isOver(wire, seconds())) over()
  })
  const sdk = project.require('lianmai/node')
  const watcher = sdk.createClient({ appkey: 'demo', server: server.url })
  // On a slow machine the observer itself may lose its connection. That must not count as a leave of the page.
  const seen = []
  for (const name of ['clientJoin', 'clientLeave', 'stream-added', 'stream-removed', 'disconnect']) {
    watcher.on(name, (event) => {
      seen.push(`${name} ${event.uid}`)
      // If the page leaves, the test need not wait longer.
      if (name !== 'clientJoin' && name !== 'stream-added') over()
    })
  }
  const once = (event, isIt) => new Promise((done) => watcher.on(event, (payload) => isIt(payload) && done(payload)))
  const published = once('stream-added', ({ uid }) => uid === PAGE)
  const answered = once('message', ({ uid }) => uid === PAGE)
  await watcher.join({ channelName: 'hidden', uid: 1 })
  const browser = await launch(project.require('playwright-core'), { isThrottled: true, graceS: GRACE_S })
  try {
    const chromium = await browser.newBrowserCDPSession()
    const { browserContextId } = await chromium.send('Target.createBrowserContext')
    const show = (url) => chromium.send('Target.createTarget', { url, browserContextId })
    const query = new URLSearchParams({ server: proxy.url, channelName: 'hidden', uid: PAGE, ...(isPlain ? { plain: 1 } : {}) })
    await show(`${site.origin}${path}?${query}`)
    await published
    const front = await show('about:blank')
    await chromium.send('Target.activateTarget', front)
    hiddenAt = Date.now()
    await ended
    const before = seen.slice()
    const spent = seconds()
    // A page that is no longer a member cannot answer.
    const answer = watcher.members().some(({ uid }) => uid === PAGE) && watcher.sendMessage('how are you?', { to: [PAGE] }).then(() => answered)
    return { seconds: spent, wire, seen: before, page: answer ? JSON.parse((await answer).data) : null }
  } finally {
    await browser.close()
    await watcher.destroy()
    proxy.stop()
    server.stop()
  }
}
