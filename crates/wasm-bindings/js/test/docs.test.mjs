//! Proves no rule of the protocol: that the reference is what the types say, and says everything.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { js, repository } from './support/package.mjs'
import { World } from './support/world.mjs'

const reference = execFileSync(process.execPath, [join(js, 'docs.mjs')], { encoding: 'utf8' })
const client = new World().client
const source = readFileSync(join(js, 'src/facade/client.ts'), 'utf8')

/** The methods of the client that apps call. */
function calls() {
  // The build shortens the names of private members.
  const isPrivate = (name) => new RegExp(`private ${name}\\b`).test(source) || name.length < 3
  return Object.getOwnPropertyNames(Object.getPrototypeOf(client)).filter((name) => !['constructor', 'configure'].includes(name) && !isPrivate(name))
}

test('docs/javascript.md is what the types say', () => {
  assert.equal(readFileSync(join(repository, 'docs/javascript.md'), 'utf8'), reference, 'run node docs.mjs > ../../../docs/javascript.md')
})

test('every call and event is in the reference', () => {
  for (const name of calls()) assert.match(reference, new RegExp(`\n#### ${name}\n\n\`\`\`ts\n(get )?${name}[(<]`), name)
  const events = readFileSync(join(js, 'src/facade/events.ts'), 'utf8').split('export interface ClientEvents {')[1].split('\n}')[0]
  for (const [, event] of events.matchAll(/^ {2}'?([\w-]+)'?:/gm)) assert.ok(reference.includes(`| \`${event}\` |`), event)
})

test('every parameter of a call is explained', () => {
  for (const part of reference.split('\n#### ').slice(1)) {
    const [name] = part.split('\n', 1)
    const [, signature, text] = /```ts\n(.*)[^]*?```\n([^]*?)(?:\n#|$)/.exec(part)
    const list = signature.slice(0, signature.lastIndexOf('): ')).replace(/^.*?\(/, '').replace(/\([^()]*\)|\{[^}]*\}|<[^>]*>/g, '')
    const parameters = Array.from(list.matchAll(/(?:^|, )(\w+)\??:/g), (match) => match[1])
    assert.deepEqual(Array.from(text.matchAll(/^- `(\w+)`: \S/gm), (match) => match[1]), parameters, name)
    assert.match(text, /^\n[A-Z]/, `${name} says nothing`)
  }
})

test('no cell is torn, and none is empty', () => {
  let columns = 0
  for (const line of reference.split('\n')) {
    if (!line.startsWith('|')) {
      columns = 0
      continue
    }
    const cells = line.replace(/\\\|/g, '').split('|')
    columns ||= cells.length
    assert.equal(cells.length, columns, line)
    assert.doesNotMatch(line, /[({]` \|/)
    assert.notEqual(cells.at(-2).trim(), '', line)
  }
})

test('links inside of the reference lead somewhere', () => {
  const headings = new Set(Array.from(reference.matchAll(/^#+ (.*)$/gm), (match) => match[1].toLowerCase().replace(/[^\w -]/g, '').replace(/ /g, '-')))
  for (const [, anchor] of reference.matchAll(/\]\(#([^)]+)\)/g)) assert.ok(headings.has(anchor), anchor)
})
