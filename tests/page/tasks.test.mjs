//! Proves no rule of the protocol: push tasks in the page, as people use them in Chromium. The pushes go to another server,
//! whose page shows them.

import assert from 'node:assert/strict'
import { after, before, test as begin } from 'node:test'
import { watch } from './support/media.mjs'
import { PHONE, require, Scene } from './support/scene.mjs'

const ANNA = [1001, 'Anna', 'bars', 440]
const BO = [1002, 'Bo 波', 'clock', 554]

/** A test that takes this long hangs. */
const HANGS_MS = 600_000
const test = (name, run) => begin(name, { timeout: HANGS_MS }, run)

let scene
let cdn

before(async () => {
  scene = await Scene.open({ LIANMAI_TASKS__SERVE: 'true', LIANMAI_TASKS__CPU_PERCENT: '800' })
  cdn = await Scene.open()
  for (const host of [ANNA, BO]) await scene.host('show', ...host)
})

after(async () => {
  await scene?.close()
  await cdn?.close()
})

/** Waits until a member's window is drawn at this place, on air or not. */
function isDrawn(picture, [uid], [x, y, width, height], is = 'window') {
  return picture.locator(`g[data-uid="${uid}"] rect[class="${is}"][x="${x}"][y="${y}"][width="${width}"][height="${height}"]`).waitFor()
}

/**
 * Waits for this many frames, however long a compositor with little processor time takes for them. Returns the number of
 * colours of the last one.
 */
async function advances(video, frames) {
  let last = { frames: 0, colours: 0 }
  for (let seen = 0; seen < frames; seen += last.frames) last = await watch(video, 0.5)
  return last.colours
}

/** Fills in fields of a group. */
async function fill(group, fields) {
  for (const [name, value] of Object.entries(fields)) await group.getByLabel(name, { exact: true }).fill(String(value))
}

/** Checks accessibility with axe: there may be no finding at all. */
async function judge(page, what) {
  await page.evaluate(require('axe-core').source)
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }))
  assert.deepEqual(violations.map(({ id, nodes }) => `${what}: ${id} ${nodes.map(({ target }) => target).join(' ')}`), [])
}

test('a task is added, drawn, changed and ended, and what it pushes is seen elsewhere', async () => {
  const receiver = await cdn.peer('cdn', 1)
  const url = await receiver.publish()
  const secret = url.split('/').at(-1)
  const visitor = await scene.enter('show', { name: 'Dora' })
  const { page } = visitor
  const panel = visitor.panel('Push to a CDN')
  await panel.getByText('No task.').waitFor()

  // Members on air are placed side by side until the user changes the layout.
  const planned = panel.getByRole('img', { name: 'Layout of a new task' })
  await isDrawn(planned, ANNA, [0, 0, 640, 720])
  await isDrawn(planned, BO, [640, 0, 640, 720])
  await panel.getByText('Change the layout of a new task').click()
  const window = (name) => panel.getByRole('group', { name: `${name} in the layout` })
  await fill(window('Anna'), { width: 320, height: 180 })
  await fill(window('Bo 波'), { x: 320, width: 320, height: 180, 'in front': 2 })
  await fill(panel, { 'Width of the canvas': 640, 'Height of the canvas': 360 })
  await isDrawn(planned, ANNA, [0, 0, 320, 180])
  await isDrawn(planned, BO, [320, 0, 320, 180])

  // The error is shown, and the form keeps its values.
  const add = { 'Name of the task': 'cdn_1', 'Push to': 'rtmp://127.0.0.1/live' }
  await fill(panel, add)
  await visitor.button('Push').click()
  await page.locator('.trouble[data-error=badTask]').waitFor()
  await visitor.button('Close').click()
  await isDrawn(planned, BO, [320, 0, 320, 180])

  await fill(panel, { 'Push to': url })
  await visitor.button('Push').click()
  const task = panel.locator('[data-task=cdn_1]')
  await panel.locator('[data-task=cdn_1][data-state=pushing]').waitFor()
  await task.getByText('pushing', { exact: true }).waitFor()
  await task.getByText('of Dora').waitFor()
  await task.getByText(`${url.slice(0, url.lastIndexOf('/'))}/***`).waitFor()
  assert.ok(!(await page.content()).includes(secret), 'the page shows a secret')
  const drawn = task.getByRole('img', { name: 'Layout of cdn_1' })
  await isDrawn(drawn, ANNA, [0, 0, 320, 180])

  const viewer = await cdn.enter('cdn')
  const colours = await advances(viewer.video(1), 20)
  assert.ok(colours > 8, `${colours} colours`)

  // Drawn while it is changed, and applied on request.
  await task.getByText('Change the layout of cdn_1').click()
  await fill(task.getByRole('group', { name: 'Anna in the layout' }), { y: 180, width: 640 })
  await isDrawn(drawn, ANNA, [0, 180, 640, 180])
  await task.getByRole('button', { name: 'Apply', exact: true }).click()
  await page.locator('[data-event=rtmp-tasks-status]').getByText('revision=2').first().waitFor()
  // A change of the layout stops nothing.
  await advances(viewer.video(1), 10)
  assert.deepEqual(await viewer.reopened(), [])

  // A later visitor sees the task, but knows neither its layout nor its address.
  const other = await scene.enter('show', { name: 'Eve' })
  const seen = other.panel('Push to a CDN').locator('[data-task=cdn_1][data-state=pushing]')
  await seen.getByText('Only the page that added a task knows its layout.').waitFor()
  assert.equal(await seen.getByRole('button').count(), 0, 'it is somebody else’s')
  await other.close()

  await visitor.button('End cdn_1').click()
  await panel.getByText('No task.').waitFor()
  await visitor.assertClean(assert)
  await viewer.close()
  await visitor.close()
  await receiver.leave()
})

test('who is not on air has an empty frame, and a phone shows all of it', async () => {
  const visitor = await scene.enter('show', { name: 'Finn', viewport: PHONE })
  const { page } = visitor
  const panel = visitor.panel('Push to a CDN')
  await panel.getByText('Change the layout of a new task').click()
  await panel.getByLabel('Add to the layout').selectOption({ label: 'Finn' })
  const planned = panel.getByRole('img', { name: 'Layout of a new task' })
  const own = await page.locator('.members [data-uid]').evaluateAll((rows) => rows.map(({ dataset }) => dataset.uid).find((uid) => uid !== '1001' && uid !== '1002'))
  await isDrawn(planned, [own], [0, 0, 320, 180], 'window away')
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'nothing is beside the screen')
  await judge(page, 'tasks')
  await panel.getByRole('button', { name: 'Take Finn out', exact: true }).click()
  await planned.locator(`g[data-uid="${own}"]`).waitFor({ state: 'detached' })
  await visitor.assertClean(assert)
  await visitor.close()
})
