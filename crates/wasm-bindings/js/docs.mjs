// Writes the reference of the package: `node docs.mjs > ../../../docs/javascript.md`. A test compares the two.
//
// In: the types in `src` with their comments, and the errors of `docs/protocol.md`. Out: Markdown. The source is parsed with
// regular expressions, because the compiler has no interface for it. Deliberately absent: guides; people write them.

import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const here = dirname(fileURLToPath(import.meta.url))
const read = (file) => readFileSync(join(here, 'src', file), 'utf8')

/** Types that have a table, by file, in the order of the reference. */
const EVENTS = 'facade/events.ts'
const TYPES = [
  ['facade/types.ts', ['JoinResult', 'SubscribeResult', 'Channel', 'Info']],
  ['facade/params.ts', ['JoinParams']],
  ['facade/room.ts', ['Member']],
  ['facade/media.ts', ['PusherAttributes', 'PlayerAttributes', 'MediaAdvice']],
  [EVENTS, Array.from(read(EVENTS).matchAll(/^export interface (\w+)/gm), (match) => match[1]).filter((name) => name !== 'ClientEvents')],
]
const HOST = ['Host', 'HostSocket', 'SocketListener', 'LifecycleListener']
const TABLES = new Set([...TYPES.flatMap(([, names]) => names), ...HOST, 'Sdk', 'SdkOptions', 'ClientOptions', 'Client', 'LianmaiError', 'RtmpTask'])
/** Short types, printed as code. */
const SHORT = ['Uid', 'UidInput', 'BigNumberLike', 'MediaType', 'Role', 'ConnectionState', 'Attributes']

/** The text of a comment on one line. */
const plain = (comment = '') => comment.replace(/^\s*\/\*\*|\*\/\s*$/g, '').replace(/\n\s*\*/g, ' ').replace(/\s+/g, ' ').trim()
const cell = (text) => text.replace(/\|/g, '\\|').replace(/\s+/g, ' ')
/** A type as code, linked if it has a table. */
const linked = (type) => {
  const base = type.replace(/\[\]$/, '')
  return TABLES.has(base) ? `[\`${type}\`](#${base.toLowerCase()})` : `\`${cell(type)}\``
}

/** Splits a comment into its text and its parameters. */
function parts(comment) {
  const [text, ...params] = comment.split(/ ?@param /)
  return { text, params: params.map((param) => [param.slice(0, param.indexOf(' ')), param.slice(param.indexOf(' ') + 1)]) }
}

/** The declarations of a block, each with its comment: `[name, signature, comment]`. */
function members(text) {
  const found = []
  const pattern = /^ {2}(\/\*\*(?:[^*]|\*(?!\/))*\*\/\n {2})?((?:readonly |get )?'?([\w-]+)'?\??[(<:][^]*?)(?=\n {2}(?:\S)|\n\n|$)/gm
  for (const [, comment, signature, name] of text.matchAll(pattern)) found.push([name, signature.trim(), plain(comment)])
  return found
}

/** The body of an exported declaration, and its comment. */
function declaration(file, name) {
  const text = read(file)
  const at = text.search(new RegExp(`^export (interface|class|type) ${name}\\b`, 'm'))
  if (at < 0) throw new Error(`${file} has no ${name}`)
  const before = text.slice(0, at)
  const comment = plain(/\/\*\*(?:[^*]|\*(?!\/))*\*\/\n$/.exec(before)?.[0])
  const rest = text.slice(at)
  const open = rest.indexOf('{')
  const line = rest.slice(0, rest.indexOf('\n'))
  if (open < 0 || open > line.length) return { head: line, body: '', comment }
  const end = rest.search(/^}/m)
  return { head: rest.slice(0, open).trim(), body: rest.slice(open + 2, end), comment }
}

/** The signature of a method without its body. */
function signatureOf(text) {
  let depth = 0
  for (let at = 0; at < text.length; at++) {
    if ('(<{['.includes(text[at])) {
      // A body begins at depth 0, after the result type.
      if (text[at] === '{' && depth === 0 && /[)>\]\w] $/.test(text.slice(0, at)) && !/: $/.test(text.slice(0, at))) return text.slice(0, at).trim()
      depth++
    } else if (')>}]'.includes(text[at]) && text.slice(at - 1, at + 1) !== '=>') {
      depth--
    }
  }
  return text.trim()
}

/** The members of an interface; inherited members come first. */
function fields(file, name) {
  const { head, body } = declaration(file, name)
  const base = /extends (\w+)$/.exec(head)?.[1]
  return [...(base && base !== 'Error' ? fields(file, base) : []), ...members(body)]
}

const out = []
const say = (...lines) => out.push(...lines)

function table(file, name, title = name) {
  const { comment } = declaration(file, name)
  say(`### ${title}`, '')
  if (comment) say(comment, '')
  say('| name | type | meaning |', '|---|---|---|')
  for (const [key, signature, meaning] of fields(file, name)) {
    const type = signature.replace(/^(readonly )?'?[\w-]+'?/, '').replace(/^\?/, '').replace(/^: ?/, '')
    say(`| \`${key}${/^(readonly )?'?[\w-]+'?\?/.test(signature) ? '?' : ''}\` | ${linked(type)} | ${cell(meaning)} |`)
  }
  say('')
}

say(
  '# JavaScript reference', '',
  'The npm package `lianmai`: the entries `lianmai/wechat`, `lianmai/web` and `lianmai/node` are the same SDK on three platforms.',
  'This text is made from the types by `node docs.mjs` in `crates/wasm-bindings/js`; do not edit it. How to begin is in the',
  '[README](../README.md), frameworks and Content Security Policy in [recipes](javascript-recipes.md), what changes for an app that',
  'was written for NERTC in [migrating](migrating-from-nertc.md).', '',
  '[The SDK](#the-sdk) · [The client](#client) · [Events](#events-and-their-payloads) · [Types](#types) · [Errors](#errors) · [Hosts](#hosts)', '',
)

say('## The SDK', '')
table('facade/sdk.ts', 'Sdk')
table('facade/sdk.ts', 'SdkOptions')
table('facade/types.ts', 'ClientOptions')

say(
  '## Client', '',
  'What `Client` and `createClient` return. Every promise settles, and a rejection is a [`LianmaiError`](#lianmaierror). A call that is made',
  'while the client comes back waits for it, as long as calls may wait.', '',
)
const client = declaration('facade/client.ts', 'Client').body
const methods = client.slice(client.indexOf('  // Events'), client.indexOf('  private crashed'))
for (const part of methods.split(/^ {2}\/\/ (?=[A-Z])/m).slice(1)) {
  say(`### ${part.slice(0, part.indexOf('\n')).replace(/[:.].*$/, '')}`, '')
  const overloads = new Map()
  for (const [name, text, comment] of members(part)) {
    const signature = signatureOf(text).replace(/_(\w+\?)/g, '$1')
    const known = overloads.get(name)
    if (!known) overloads.set(name, { signatures: [signature], comment })
    // The implementation signature of overloads is not public.
    else if (!/event: string/.test(signature)) known.signatures.push(signature)
  }
  for (const [name, { signatures, comment }] of overloads) {
    const { text, params } = parts(comment)
    say(`#### ${name}`, '', '```ts', ...signatures, '```', '')
    if (text) say(text, '')
    for (const [param, meaning] of params) say(`- \`${param.replace(/^_/, '')}\`: ${meaning}`)
    if (params.length) say('')
    const used = new Set(Array.from(signatures.join().matchAll(/\b[A-Z]\w+/g), ([type]) => type).filter((type) => TABLES.has(type)))
    if (used.size) say(`See ${Array.from(used, linked).join(', ')}.`, '')
  }
}

say('## Events and their payloads', '', '`on(event, payload => ..)`.', '', '| event | payload | meaning |', '|---|---|---|')
const payloads = declaration(EVENTS, 'ClientEvents').body
for (const [at, part] of payloads.split(/^ {2}\/\/ /m).entries()) {
  if (at) say(`| | | *${cell(part.slice(0, part.indexOf('\n')))}* |`)
  for (const [event, signature, meaning] of members(part)) {
    say(`| \`${event}\` | ${linked(signature.replace(/^'?[\w-]+'?: ?/, ''))} | ${cell(meaning)} |`)
  }
}
say('')

say('## Types', '', '| name | type | meaning |', '|---|---|---|')
for (const name of SHORT) {
  const file = ['uid.ts', EVENTS].find((file) => new RegExp(`^export (type|interface) ${name}\\b`, 'm').test(read(file)))
  const { head, body, comment } = declaration(file, name)
  const type = / = (.*)$/.exec(read(file).split('\n').find((line) => line.startsWith(`export type ${name} =`)) || head)?.[1]
  say(`| \`${name}\` | ${linked(type || `{ ${members(body).map((member) => member[1]).join('; ')} }`)} | ${cell(comment)} |`)
}
say('')
for (const [file, names] of TYPES) for (const name of names) table(file, name)
const task = declaration('facade/params.ts', 'RtmpTask')
say('### RtmpTask', '', task.comment, '', '```ts', `${task.head.replace('export ', '')} {`, task.body.trimEnd(), '}', '```', '')

say(
  '## Errors', '',
  '```js joined', "client.subscribe(7, 'video').catch((error) => {",
  "  if (error.name === 'notPublished') return // it ended meanwhile", '  console.log(error.method, error.name, error.code, error.reason)', '})', '```', '',
)
table('errors.ts', 'LianmaiError')
const own = Array.from(read('errors.ts').matchAll(/^ {2}(\w+): \[(-?\d+), ['"](.*)['"]\],$/gm))
say('These are made by the client, some of them by the server as well, in its own words:', '', '| name | code | sentence |', '|---|---|---|')
for (const [, name, code, text] of own) say(`| \`${name}\` | ${code} | ${cell(text || 'The WebAssembly file cannot be loaded: check wasmPath.')} |`)
say('', 'All others come from the server:', '', '| name | code | again? | sentence |', '|---|---|---|---|')
const protocol = readFileSync(join(here, '../../../docs/protocol.md'), 'utf8')
const served = Array.from(protocol.slice(protocol.indexOf('\n## 10. ')).matchAll(/^\| `(\w+)` \| (-?\d+) \| (yes|no) \| (.*) \|$/gm))
for (const [, name, code, again, text] of served) if (!own.some((error) => error[1] === name)) say(`| \`${name}\` | ${code} | ${again} | ${text} |`)
say('')

say('## Hosts', '')
for (const name of HOST) table('host.ts', name)

process.stdout.write(`${out.join('\n').replace(/\n{3,}/g, '\n\n').trim()}\n`)
