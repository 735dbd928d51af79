// A receiver of webhooks, without dependencies. Comes in: deliveries. Goes out: a line for each event that is new, `200` for
// what is genuine, `401` for what is not; at the end a summary. It checks what the server promises: numbers of a channel
// without gap, joins and leaves that pair. Deliberately absent: a database. A real receiver keeps `lastSeq` and `members` in
// one, in the transaction that does what an event asks for, so that what comes again has no effect twice. A recorded
// delivery that somebody sends again has none either.
//
//   WEBHOOK_SECRET=whsec_... node receiver.mjs [--port 9000] [--state FILE] [--some]
//
// `--some`: the webhook selects `events`, so numbers are missing and nothing pairs.

import { createHmac, timingSafeEqual } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { parseArgs } from 'node:util'

/** A delivery that is older, or of the future, is refused. */
const TOLERANCE_S = 5 * 60
/** Longest body. */
const MAX_BODY = 64 * 1024

const { values } = parseArgs({
  options: { port: { type: 'string', default: '9000' }, state: { type: 'string' }, some: { type: 'boolean' } }
})
const secret = process.env.WEBHOOK_SECRET ?? ''
if (!secret.startsWith('whsec_')) {
  console.error('WEBHOOK_SECRET is missing: the secret that making the webhook answered')
  process.exit(2)
}
const key = Buffer.from(secret.slice('whsec_'.length), 'base64')

/** Why a delivery is not genuine; nothing if it is. */
export function verify(headers, body, nowS) {
  const id = headers['webhook-id']
  const timestamp = headers['webhook-timestamp']
  const signatures = headers['webhook-signature']
  if (!id || !timestamp || !signatures) return 'a header is missing'
  if (!/^\d{1,12}$/.test(timestamp) || Math.abs(nowS - Number(timestamp)) > TOLERANCE_S) return 'it is too old'
  const expected = createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest()
  const isGenuine = signatures.split(' ').some((signature) => {
    const [version, text] = signature.split(',')
    const presented = Buffer.from(text ?? '', 'base64')
    return version === 'v1' && presented.length === expected.length && timingSafeEqual(presented, expected)
  })
  return isGenuine ? undefined : 'the signature is wrong'
}

/** What is known of each channel: the last number, the members, and whether all since its begin was heard (`whole`). */
let channels = new Map()
const totals = { events: 0, again: 0, joined: 0, left: 0, gaps: 0, unpaired: 0, lost: 0, refused: 0 }

if (values.state) {
  try {
    const { known, counts } = JSON.parse(readFileSync(values.state, 'utf8'))
    channels = new Map(known.map(([name, channel]) => [name, { ...channel, members: new Map(channel.members) }]))
    Object.assign(totals, counts)
  } catch {
    // The first time there is none.
  }
}

function save() {
  if (!values.state) return
  const known = [...channels].map(([name, channel]) => [name, { ...channel, members: [...channel.members] }])
  writeFileSync(values.state, JSON.stringify({ known, counts: totals }))
}

/** Applies an event: once, and in order. */
function apply(event) {
  const name = `${event.appkey}/${event.channelName}`
  let channel = channels.get(name)
  if (!channel) channels.set(name, (channel = { lastSeq: undefined, members: new Map(), whole: false }))
  if (channel.lastSeq !== undefined && event.seq <= channel.lastSeq) {
    totals.again += 1
    return
  }
  const { uid, mid } = event.data
  // A gap may begin with numbers that were heard before.
  const from = Math.max(event.data.from ?? 0, (channel.lastSeq ?? 0) + 1)
  const next = event.type === 'lost' ? from : event.seq
  if (!values.some && channel.lastSeq !== undefined && !event.first && next > channel.lastSeq + 1) {
    totals.gaps += 1
    channel.whole = false
    console.log(`GAP ${name}: ${event.seq} behind ${channel.lastSeq}`)
  }
  channel.lastSeq = event.seq
  totals.events += 1
  switch (event.type) {
    case 'channelOpened':
      channel.members.clear()
      channel.whole = !values.some
      break
    case 'memberJoined':
      totals.joined += 1
      if (channel.whole && channel.members.has(mid)) totals.unpaired += 1
      channel.members.set(mid, uid)
      break
    case 'memberLeft':
      totals.left += 1
      if (!channel.members.delete(mid) && channel.whole) totals.unpaired += 1
      break
    case 'channelEnded':
      if (channel.whole) totals.unpaired += channel.members.size
      channel.members.clear()
      break
    case 'lost':
      // Who is there is unknown now. A real receiver asks with `GET .../members`.
      totals.lost += event.seq - from + 1
      channel.members.clear()
      channel.whole = false
      break
  }
  console.log(`${event.seq} ${name} ${event.type} ${JSON.stringify(event.data)}`)
}

const server = createServer((request, response) => {
  const chunks = []
  let length = 0
  request.on('data', (chunk) => {
    length += chunk.length
    if (length <= MAX_BODY) chunks.push(chunk)
    else request.destroy()
  })
  request.on('end', () => {
    const body = Buffer.concat(chunks)
    const refusal = verify(request.headers, body, Math.floor(Date.now() / 1000))
    if (refusal) {
      totals.refused += 1
      console.log(`REFUSED ${refusal}`)
      response.writeHead(401).end()
      return
    }
    const event = JSON.parse(body.toString('utf8'))
    if (event.type !== 'ping') apply(event)
    // What was applied is written down before it is acknowledged.
    save()
    response.writeHead(200).end()
  })
})

function end() {
  const here = [...channels.values()].reduce((sum, channel) => sum + channel.members.size, 0)
  console.log(`SUMMARY ${JSON.stringify({ ...totals, here })}`)
  process.exit(totals.gaps + totals.unpaired === 0 ? 0 : 1)
}

process.on('SIGTERM', end)
process.on('SIGINT', end)
server.listen(Number(values.port), '127.0.0.1', () => console.log(`LISTENING ${server.address().port}`))
