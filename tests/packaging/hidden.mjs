// A page in a hidden tab of Chromium, whose timers fire once in a minute, and another member that watches it. In: the
// installed package and the page's address, the server's timers, and when to stop. Out: what the watcher, the wire and the page saw.
//
// Playwright makes each of its pages believe that it is in front. So this page is of a browser context that Playwright
// does not know, and tells what it went through by a message of the channel.

import { startServer } from '../../crates/wasm-bindings/js/test/support/server.mjs'
import { launch } from './support/browser.mjs'
import { startProxy } from './support/proxy.mjs'

/** How soon a hidden page is slowed down to one timer in a minute; Chromium's own choice is 5 minutes. */
const GRACE_S = 10
const PAGE = 100

/** `isPlain`: the page uses its browser's timers as they are. `isOver` is asked after each frame of the page, with the seconds that it is hidden; `silent` counts the pongs behind the last frame of its own. */
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
  // That the watcher itself loses its connection, on a machine that stands still for seconds, is no leave of the page.
  const seen = []
  for (const name of ['clientJoin', 'clientLeave', 'stream-added', 'stream-removed', 'disconnect']) {
    watcher.on(name, (event) => {
      seen.push(`${name} ${event.uid}`)
      // Who sees it go waits for nothing more.
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
    // Who is no member any more answers nothing.
    const answer = watcher.members().some(({ uid }) => uid === PAGE) && watcher.sendMessage('how are you?', { to: [PAGE] }).then(() => answered)
    return { seconds: spent, wire, seen: before, page: answer ? JSON.parse((await answer).data) : null }
  } finally {
    await browser.close()
    await watcher.destroy()
    proxy.stop()
    server.stop()
  }
}
