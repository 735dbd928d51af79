//! Proves no rule of the protocol: that the session in the packed WebAssembly file says what the native one says, to the
//! letter. The simulator records 200 sessions of its worlds; each is told the same again here.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { built, repository, source } from './support/package.mjs'

const simulator = process.env.LIANMAI_SIM || join(repository, 'target/debug/lianmai-sim')
if (!existsSync(simulator)) throw new Error(`no simulator at ${simulator}: cargo build -p lianmai-sim --bins`)
const folder = mkdtempSync(join(tmpdir(), 'lianmai-traces-'))
after(() => rmSync(folder, { recursive: true, force: true }))
const { status, stdout, stderr } = spawnSync(simulator, ['--traces', folder], { encoding: 'utf8' })
assert.equal(status, 0, `${stdout}${stderr}`)

const { Module } = await source('glue.ts')
const wasm = new WebAssembly.Module(readFileSync(join(built, 'lianmai.wasm')))
const imports = {}
for (const { module, name } of WebAssembly.Module.imports(wasm)) {
  imports[module] = { ...imports[module], [name]: () => { throw new Error(`the module calls ${name}`) } }
}

function replay(file) {
  const [config, ...inputs] = readFileSync(join(folder, file), 'utf8').split('\n')
  const module = new Module().link(new WebAssembly.Instance(wasm, imports).exports)
  const core = module.create(config)
  inputs.forEach((text, line) => {
    const [now, method, args, ...expected] = JSON.parse(text)
    const commands = module.call(method, [core, now, ...args])
    const items = []
    for (let item; (item = module.call('next', [core])); ) items.push(item)
    const said = [commands, items, module.deadline(core), module.call('picture', [core])]
    assert.deepEqual(said, expected, `${file}, input ${line + 1}: ${method} ${JSON.stringify(args)}`)
  })
  module.free(core)
  return inputs
}

test('200 sessions of the simulator are the same in WebAssembly', () => {
  const files = readdirSync(folder)
  assert.equal(files.length, 200)
  const told = files.flatMap(replay).map((line) => JSON.parse(line)[1])
  // The traces contain every kind of input.
  const kinds = ['call', 'opened', 'frame', 'closed', 'timeout', 'networkChanged', 'foreground']
  for (const kind of kinds) assert.ok(told.includes(kind), `no trace has ${kind}`)
})
