// Measures the cost of one event across the WebAssembly boundary, with the same steps as `runtime.ts`: pass the frame, take the
// item, parse it. The context has only what a phone has: no TextDecoder, no WebAssembly. No test depends on the results.

import { build } from 'esbuild'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import vm from 'node:vm'
import { built, js } from './test/support/package.mjs'

/** Number of events in each round. */
const EVENTS = 10_000
const ROUNDS = 31
const EPOCH = 'ujzdegxdncf32epf3dha'

const { outputFiles } = await build({
  entryPoints: [join(js, 'src/glue.ts')], bundle: true, write: false, format: 'iife', globalName: 'glue', target: 'es2017',
  define: { __WASM_IMPORTS__: '{"from":"","names":[]}' },
})
const wasm = new WebAssembly.Module(readFileSync(join(built, 'lianmai.wasm')))
const imports = {}
for (const { module, name } of WebAssembly.Module.imports(wasm)) {
  imports[module] = { ...imports[module], [name]: () => { throw new Error(name) } }
}
const context = vm.createContext({ exports: new WebAssembly.Instance(wasm, imports).exports })
vm.runInContext('delete globalThis.WebAssembly', context)
vm.runInContext(`${outputFiles[0].text}
  const module = new glue.Module().link(exports)
  const core = module.create('{"urls":["ws://fake/v1/signal"],"seed":"0123456789abcdef"}')
  const ask = (method, args) => {
    const text = module.call(method, [core].concat(args))
    return text ? JSON.parse(text) : null
  }
  function say(method, ...args) {
    const commands = ask(method, args)
    const items = []
    for (let item; (item = ask('next', [])); ) items.push(item)
    return { commands, items }
  }`, context)
const run = (code) => vm.runInContext(code, context)

run(`say('call', 1, 1, 'join', '{"appkey":"demo","channelName":"room","joinId":"k7wq3m5p2x"}')`)
const [[, , request]] = run(`say('opened', 2, 1)`).commands
const rights = { publish: ['audio', 'video'], subscribe: ['audio', 'video'], broadcast: true, tasks: true, message: true, moderate: false }
const mid = (letter) => `${letter.repeat(19)}q`
const result = {
  cid: '1', uid: '100', mid: mid('b'), sessionId: mid('c'), ticket: 't', k: 1, deploymentId: 'd', epoch: EPOCH, seq: 10,
  self: { uid: '100', mid: mid('b'), role: 'broadcaster', rights, muted: [], published: [], subscriptions: [] },
  channel: { name: 'room', creator: '100', attributes: {}, tasks: [] },
  members: [], memberCount: 1, timers: { pingIntervalMs: 60000, deadAfterMs: 600000, graceMs: 30000, mediaCapMs: 3600000 },
}
const answer = JSON.stringify({ jsonrpc: '2.0', id: JSON.parse(request).id, result })
const joined = run(`say('frame', 3, 1, ${JSON.stringify(answer)})`).items
if (!joined.some((item) => item.call === 1 && item.result)) throw new Error(`not joined: ${JSON.stringify(joined)}`)

run(`let heard = 0
  function round(from, count) {
    for (let seq = from; seq < from + count; seq++) {
      const { items } = say('frame', 4, 1, '{"jsonrpc":"2.0","method":"message","params":{"epoch":"${EPOCH}","seq":' + seq + ',"uid":"200","data":"hello"}}')
      heard += items.length
    }
  }`)
// Measures processor time: wall-clock time rises on a busy machine. There are many rounds because the speed of a shared
// processor varies. The first round is a warm-up for the JavaScript engine.
const rounds = []
for (let round = 0; round <= ROUNDS; round++) {
  const before = process.cpuUsage()
  run(`round(${11 + round * EVENTS}, ${EVENTS})`)
  const { user, system } = process.cpuUsage(before)
  if (round) rounds.push((user + system) / EVENTS)
}
const heard = run('heard')
if (heard !== (ROUNDS + 1) * EVENTS) throw new Error(`${heard} events were heard`)
rounds.sort((a, b) => a - b)
const [fastest, median] = [rounds[0], rounds[ROUNDS >> 1]].map((each) => each.toFixed(2))
console.log(`WebAssembly: ${median} us (median of ${ROUNDS} rounds, fastest ${fastest}) for one event, from its frame to its payload`)
