//! Proves no rule of the protocol: that the reference has every call, event and error.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { js } from './support/package.mjs'
import { World } from './support/world.mjs'

const reference = execFileSync(process.execPath, [join(js, 'docs.mjs')], { encoding: 'utf8' })
const client = new World().client

test('every call and event is in the reference', () => {
  const source = readFileSync(join(js, 'src/facade/client.ts'), 'utf8')
  // Private members have short names in the package.
  const isPrivate = (name) => new RegExp(`private ${name}\\b`).test(source) || name.length < 3
  for (const name of Object.getOwnPropertyNames(Object.getPrototypeOf(client))) {
    if (['constructor', 'configure', 'on'].includes(name) || isPrivate(name)) continue
    assert.match(reference, new RegExp(`\n(get )?${name}\\(`), name)
  }
  const events = readFileSync(join(js, 'src/facade/events.ts'), 'utf8').split('export interface ClientEvents {')[1].split('\n}')[0]
  for (const [, event] of events.matchAll(/^ {2}'?([\w-]+)'?:/gm)) assert.ok(reference.includes(`| \`${event}\` |`), event)
})

test('no cell is torn', () => {
  for (const line of reference.split('\n')) {
    if (!line.startsWith('|')) continue
    assert.equal(line.replace(/\\\|/g, '').split('|').length, 5, line)
    assert.doesNotMatch(line, /[({]` \|/)
  }
})
