// Shared by the tests of the page: a server, hosts that push, members without a page, and visitors with one. In: the settings
// of a test. Out: handles. Nothing outlives the run.

import { execFileSync, spawn } from 'node:child_process'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { startServer } from '../../../crates/wasm-bindings/js/test/support/server.mjs'
import { launch } from '../../packaging/support/browser.mjs'

const here = join(dirname(fileURLToPath(import.meta.url)), '..')
export const repository = join(here, '../..')
export const require = createRequire(join(here, 'index.js'))
export const built = process.env.LIANMAI_PACKAGE || join(repository, 'target/npm/lianmai')
export const program = (name, variable) => process.env[variable] || join(repository, 'target/debug', name)

export const WIDE = { width: 1280, height: 800 }
export const PHONE = { width: 360, height: 740 }

/** A member without a page. */
const sdk = require(join(built, 'node.js'))

export class Scene {
  #ends = []
  #rooms = 0

  static async open(settings) {
    const scene = new Scene()
    scene.settings = settings
    scene.server = await startServer(settings)
    scene.#ends.push(() => scene.server.stop())
    scene.origin = scene.server.url.replace(/^ws/, 'http').replace(/\/v1\/signal$/, '')
    scene.browser = await launch(require('playwright-core'))
    scene.#ends.push(() => scene.browser.close())
    return scene
  }

  /** Ends everything, the newest first. */
  async close() {
    for (const end of this.#ends.reverse()) await end()
  }

  /** The output of `gen-token`. */
  token(appkey, channel, uid) {
    const words = ['gen-token', '--appkey', appkey, '--channel', channel, '--uid', String(uid)]
    return execFileSync(program('signal-server', 'LIANMAI_SERVER'), words, { env: { ...process.env, ...this.settings }, encoding: 'utf8' }).trim()
  }

  room() {
    return `room ${++this.#rooms}`
  }

  /** A member that pushes a picture and a tone; returns when it is on air. */
  async host(channel, uid, name, picture, tone) {
    const { host } = new URL(this.origin)
    const words = ['--server', `ws://${host}`, '--channel', channel, '--uid', uid, '--name', name, '--picture', picture, '--tone', tone]
    const child = spawn(program('bot', 'LIANMAI_BOT'), [...words.map(String), '--stop-with-stdin'], { stdio: ['pipe', 'pipe', 'inherit'] })
    const ended = new Promise((done) => child.once('exit', done))
    this.#ends.push(async () => {
      child.stdin.end()
      await ended
    })
    await new Promise((done, failed) => {
      child.once('exit', (code) => failed(new Error(`the host ended with ${code}`)))
      createInterface({ input: child.stdout }).on('line', (line) => line.startsWith('publishing') && done())
    })
  }

  /** A member without a page, in the channel. */
  async peer(channelName, uid, more = {}) {
    const client = sdk.createClient({ appkey: 'demo', server: this.server.url })
    this.#ends.push(() => client.destroy())
    await client.join({ channelName, uid, ...more })
    return client
  }

  /** Opens a separate browser context. */
  async visit({ viewport = WIDE, hash = '', locale = 'en-GB', theme = 'light', script } = {}) {
    const context = await this.browser.newContext({ viewport, locale, colorScheme: theme })
    // The test itself has a time limit; shorter limits must not decide.
    context.setDefaultTimeout(0)
    const page = await context.newPage()
    const visitor = new Visitor(page)
    page.on('pageerror', (error) => visitor.wrong.push(String(error)))
    // A refusal of the server logs a line as well; a test that expects it removes the line.
    page.on('console', (message) => message.type() === 'error' && visitor.wrong.push(message.text()))
    await page.addInitScript(() => {
      window.violations = []
      document.addEventListener('securitypolicyviolation', (event) => window.violations.push(`${event.effectiveDirective} ${event.blockedURI}`))
    })
    if (script) await script(page)
    await page.goto(`${this.origin}/${hash}`)
    return visitor
  }

  /** A visitor in a channel. */
  async enter(channel, { name = '', uid = '', ...more } = {}) {
    const visitor = await this.visit(more)
    await visitor.join(channel, { name, uid })
    await visitor.isIn(channel)
    return visitor
  }
}

export class Visitor {
  wrong = []

  constructor(page) {
    this.page = page
  }

  async join(channel, { name = '', uid = '' } = {}) {
    const { page } = this
    await page.getByLabel('Channel', { exact: true }).fill(channel)
    await page.getByLabel('Your name').fill(name)
    if (uid) {
      await page.getByText('More').click()
      await page.getByLabel('Your uid').fill(String(uid))
    }
    await page.getByRole('button', { name: 'Join', exact: true }).click()
  }

  isIn(channel) {
    return this.page.getByRole('heading', { name: `Channel ${channel}` }).waitFor()
  }

  panel(name) {
    return this.page.getByRole('region', { name, exact: true })
  }

  button(name) {
    return this.page.getByRole('button', { name, exact: true })
  }

  /** The video of a member. */
  video(uid) {
    return this.page.locator(`.tile[data-uid="${uid}"] video`)
  }

  async say(text) {
    await this.page.getByLabel('Message').fill(text)
    await this.button('Send').click()
  }

  /** Waits until a message is shown. */
  heard(text) {
    return this.page.getByRole('log').getByText(text, { exact: true }).first().waitFor()
  }

  /** The rows of the event log: the events and their numbers. */
  rows() {
    return this.page.locator('#events ~ .scroll tbody tr').evaluateAll((rows) => rows.map((row) => ({
      event: row.dataset.event, seqs: row.dataset.seqs?.split('-').map(Number), text: row.cells[3].textContent,
    })))
  }

  /** The reasons why streams were opened again. */
  async reopened() {
    return (await this.rows()).filter(({ event }) => event === 'stream-reopened').map(({ text }) => text)
  }

  /** Asserts that there were no errors and no violations of the policy. */
  async assertClean(assert) {
    assert.deepEqual([this.wrong, await this.page.evaluate(() => window.violations)], [[], []])
  }

  /** Leaves the channel, so that the next test finds no member there. */
  async close() {
    const leave = this.page.locator('header button').nth(1)
    if (await leave.count()) {
      await leave.click()
      await this.page.locator('main.join').waitFor()
    }
    await this.page.context().close()
  }
}
