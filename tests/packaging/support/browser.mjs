// Starts Chromium. In: the page to open. Out: the page, and the errors that occurred in it.

import { accessSync, constants } from 'node:fs'
import { join } from 'node:path'

const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
  '--disable-sync',
]
/** Without these flags Chromium slows down hidden pages, as it does for users. */
const UNTHROTTLED = ['--disable-background-timer-throttling', '--disable-renderer-backgrounding', '--disable-backgrounding-occluded-windows']

function executable() {
  for (const folder of (process.env.PATH || '').split(':')) {
    const path = join(folder, 'chromium')
    try {
      accessSync(path, constants.X_OK)
      return path
    } catch {
      // The browser is in another folder.
    }
  }
  throw new Error('no chromium: apt-get install chromium')
}

/** `isThrottled`: Chromium slows down the timers of hidden pages, after `graceS` seconds to one a minute. */
export function launch({ chromium }, { isThrottled = false, graceS = 300 } = {}) {
  return chromium.launch({
    executablePath: executable(),
    ignoreDefaultArgs: isThrottled ? UNTHROTTLED : [],
    args: [...FLAGS, ...(isThrottled ? [`--enable-features=IntensiveWakeUpThrottling:grace_period_seconds/${graceS}`] : [])],
  })
}

/** Opens a page and collects its errors. */
export async function open(browser, url) {
  const context = await browser.newContext()
  const page = await context.newPage()
  const wrong = []
  page.on('pageerror', (error) => wrong.push(String(error)))
  page.on('console', (message) => message.type() === 'error' && wrong.push(message.text()))
  await page.goto(url)
  return { page, wrong, close: () => context.close() }
}
