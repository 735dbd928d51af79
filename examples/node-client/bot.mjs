// A bot: greets who comes, answers, and plays somebody's stream into a file if asked to.
//
//   node bot.mjs [--server ws://127.0.0.1:8600] [--channel demo] [--token T] [--record FILE.flv]
//
// In: a channel. Out: messages, lines, and maybe a file that any player opens. Ctrl-C ends it.
import { createWriteStream } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { parseArgs } from 'node:util'
import YunXinMiniappSDK from 'lianmai/node'

const { values } = parseArgs({
  options: {
    server: { type: 'string', default: 'ws://127.0.0.1:8600' },
    appkey: { type: 'string', default: 'demo' },
    channel: { type: 'string', default: 'demo' },
    token: { type: 'string' },
    record: { type: 'string' },
  },
})

const client = YunXinMiniappSDK.Client({ server: values.server, appkey: values.appkey })
const stop = new AbortController()
let isRecording = false

/** HTTP-FLV is a file that goes on for as long as the stream does. */
async function record(url) {
  isRecording = true
  const response = await fetch(url, { signal: stop.signal })
  if (!response.ok) throw new Error(`HTTP ${response.status}`)
  await pipeline(Readable.fromWeb(response.body), createWriteStream(values.record))
}

client.on('clientJoin', ({ uid, name }) => console.log(`${name ?? uid} is here`))
client.on('clientLeave', ({ uid, reason }) => console.log(`${uid} is gone (${reason})`))
client.on('stream-added', async ({ uid, mediaType }) => {
  console.log(`${uid} is on air with ${mediaType}`)
  if (!values.record || isRecording) return
  const { urls } = await client.subscribe(uid, mediaType).catch(() => ({ urls: {} }))
  if (urls.flv && !isRecording) record(urls.flv).catch((error) => stop.signal.aborted || console.log(error.message))
})
client.on('message', ({ uid, data }) => {
  if (!/^hello\b/i.test(data)) return
  client.sendMessage(`hello ${uid}, I am a bot of Node`, { to: [uid] }).catch((error) => console.log(error.reason))
})
client.on('reconnected', ({ outcome, events }) => console.log(`back: ${outcome}${events === undefined ? '' : `(${events})`}`))
client.on('disconnect', ({ reason }) => {
  console.log(`the end: ${reason}`)
  process.exitCode = 1
  stop.abort()
})
process.once('SIGINT', async () => {
  stop.abort()
  await client.destroy()
})

try {
  const { uid } = await client.join({ channelName: values.channel, token: values.token, role: 'audience' })
  console.log(`in channel ${values.channel} as ${uid}`)
} catch (error) {
  console.error(error.reason)
  process.exitCode = 1
}
