// Writes the reference of the package: `node docs.mjs > docs/javascript.md`.
//
// In: the types in `src`, with their comments. Out: Markdown. It reads what is written there line by line; the compiler
// has no interface for that. Deliberately absent: guides, which people write.

import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const here = dirname(fileURLToPath(import.meta.url))
const read = (file) => readFileSync(join(here, 'src', file), 'utf8')

/** Text of a comment, on one line. */
const plain = (comment = '') => comment.replace(/^\s*\/\*\*|\*\/\s*$/g, '').replace(/\n\s*\*/g, ' ').replace(/\s+/g, ' ').trim()
const cell = (text) => text.replace(/\|/g, '\\|').replace(/\s+/g, ' ')

/** Declarations of one block, each with its comment: `[name, signature, comment]`. */
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
  const comment = /\/\*\*(?:[^*]|\*(?!\/))*\*\/\n$/.exec(before)?.[0]
  const rest = text.slice(at)
  const open = rest.indexOf('{')
  const line = rest.slice(0, rest.indexOf('\n'))
  if (open < 0 || open > line.length) return { head: line, body: '', comment: plain(comment) }
  const end = rest.search(/^}/m)
  return { head: rest.slice(0, open).trim(), body: rest.slice(open + 2, end), comment: plain(comment) }
}

/** The signature of a method without its body. */
function signatureOf(text) {
  let depth = 0
  for (let at = 0; at < text.length; at++) {
    if ('(<{['.includes(text[at])) {
      // A body begins at depth 0, behind the type of the result.
      if (text[at] === '{' && depth === 0 && /[)>\]\w] $/.test(text.slice(0, at)) && !/: $/.test(text.slice(0, at))) return text.slice(0, at).trim()
      depth++
    } else if (')>}]'.includes(text[at]) && text.slice(at - 1, at + 1) !== '=>') {
      depth--
    }
  }
  return text.trim()
}

const out = []
const say = (...lines) => out.push(...lines)

function table(file, name, title = name) {
  const { body, comment, head } = declaration(file, name)
  say(`### ${title}`, '')
  if (comment) say(comment, '')
  const extended = /extends (.+)$/.exec(head)?.[1]
  if (extended) say(`With what is in ${extended.split(', ').map((type) => `\`${type}\``).join(', ')}.`, '')
  const rows = members(body)
  if (!rows.length) return
  say('| name | type | meaning |', '|---|---|---|')
  for (const [key, signature, meaning] of rows) {
    const type = signature.replace(/^(readonly )?'?[\w-]+'?/, '').replace(/^\?/, '').replace(/^: ?/, '')
    say(`| \`${key}${/^(readonly )?'?[\w-]+'?\?/.test(signature) ? '?' : ''}\` | \`${cell(type)}\` | ${cell(meaning)} |`)
  }
  say('')
}

say(
  '# JavaScript reference', '',
  'The npm package `lianmai`: entries `lianmai/wechat`, `lianmai/web` and `lianmai/node`, each the SDK itself. Made from the',
  'types by `node docs.mjs` in `crates/wasm-bindings/js`; do not edit.', '',
)

say('## The SDK', '')
table('facade/sdk.ts', 'Sdk')
table('facade/sdk.ts', 'SdkOptions', 'Options of configure')
table('facade/types.ts', 'ClientOptions', 'Options of Client and createClient')

say('## The client', '', 'Every promise settles; a rejection is a [LianmaiError](#lianmaierror).', '')
const client = declaration('facade/client.ts', 'Client').body
const methods = client.slice(client.indexOf('  // Events'), client.indexOf('  private crashed'))
for (const part of methods.split(/^ {2}\/\/ (?=[A-Z])/m).slice(1)) {
  say(`### ${part.slice(0, part.indexOf('\n')).replace(/[:.].*$/, '')}`, '')
  const overloads = new Set()
  for (const [name, text, comment] of members(part)) {
    const signature = signatureOf(text)
    // The implementation of overloads is nobody's business.
    if (overloads.has(name) && /event: string/.test(signature)) continue
    overloads.add(name)
    say('```ts', signature.replace(/_(\w+\?)/g, '$1'), '```', '')
    if (comment) say(comment, '')
  }
}

say('## Events', '', '`on(event, payload => ..)`; payloads are described below.', '', '| event | payload | meaning |', '|---|---|---|')
const payloads = declaration('facade/events.ts', 'ClientEvents').body
for (const part of payloads.split(/^ {2}\/\/ /m)) {
  const title = part === payloads.split(/^ {2}\/\/ /m)[0] ? '' : part.slice(0, part.indexOf('\n'))
  if (title) say(`| | | *${cell(title)}* |`)
  for (const [event, signature, meaning] of members(part)) {
    say(`| \`${event}\` | \`${cell(signature.replace(/^'?[\w-]+'?: ?/, ''))}\` | ${cell(meaning)} |`)
  }
}
say('')

say('## Types', '')
for (const [file, names] of [
  ['facade/types.ts', ['JoinResult', 'SubscribeResult', 'Channel', 'Info']],
  ['facade/params.ts', ['JoinParams']],
  ['facade/room.ts', ['Member']],
  ['facade/media.ts', ['MediaAdvice', 'PusherAttributes', 'PlayerAttributes']],
]) for (const name of names) table(file, name)
for (const [, name] of read('facade/events.ts').matchAll(/^export interface (\w+)/gm)) if (name !== 'ClientEvents') table('facade/events.ts', name)
say('```ts')
const task = declaration('facade/params.ts', 'RtmpTask')
say(`${task.head.replace('export ', '')} {`, task.body.trimEnd(), '}')
for (const [, line] of read('facade/events.ts').matchAll(/^export (type (?!EventName|AnyHandler)[^\n]+)/gm)) say(line)
for (const [, line] of read('uid.ts').matchAll(/^export (type [^\n]+)/gm)) say(line)
say('```', '')

say('## Errors', '')
table('errors.ts', 'LianmaiError')
say('Errors of the server have its number and sentence (`docs/protocol.md`, section 10). These are made by the client:', '', '| name | code | sentence |', '|---|---|---|')
for (const [, name, code, text] of read('errors.ts').matchAll(/^ {2}(\w+): \[(-?\d+), ['"](.*)['"]\],$/gm)) {
  say(`| \`${name}\` | ${code} | ${cell(text || 'The WebAssembly file cannot be loaded: check wasmPath.')} |`)
}
say('')

say('## Hosts', '', '`configure({host})` replaces parts of the platform.', '')
for (const name of ['Host', 'HostSocket', 'SocketListener', 'LifecycleListener']) table('host.ts', name)

process.stdout.write(`${out.join('\n').replace(/\n{3,}/g, '\n\n').trim()}\n`)
