// Members that publish a picture and a tone, and one member that subscribes. In: the address of a server, and the number of
// members. Out: the URLs that the subscriber received. Deliberately absent: the SDK, which has its own tests.

import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const folder = mkdtempSync(join(tmpdir(), 'lianmai-players-'))
const pushes = []
process.on('exit', () => {
  pushes.forEach((push) => push.kill('SIGKILL'))
  rmSync(folder, { recursive: true, force: true })
})

function ffmpeg(...words) {
  return ['-v', 'error', '-nostdin', ...words.flatMap((word) => word.split(' '))]
}

/** A minute of H.264 and AAC with a keyframe each second. */
const sample = join(folder, 'sample.flv')
export function makeSample() {
  const made = spawnSync('ffmpeg', [...ffmpeg(
    '-f lavfi -i testsrc2=size=160x90:rate=25 -f lavfi -i sine=sample_rate=44100 -t 60',
    '-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 25 -sc_threshold 0 -c:a aac -f flv',
  ), sample], { stdio: ['ignore', 'ignore', 'inherit'] })
  if (made.status !== 0) throw new Error(`ffmpeg: ${made.status}`)
}

/** The codecs that ffprobe detects. */
export function probe(url) {
  const words = '-v error -show_entries stream=codec_name -of csv=p=0'
  const probed = spawnSync('ffprobe', [...words.split(' '), url], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
  return [...new Set(probed.stdout.split(/\W+/).filter(Boolean))].sort()
}

/** Creates a certificate for this machine; returns the server settings that use it. */
export function certify() {
  const [cert, key] = ['cert.pem', 'key.pem'].map((file) => join(folder, file))
  const words = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1'
  const made = spawnSync('openssl', [...words.split(' '), '-out', cert, '-keyout', key], { stdio: ['ignore', 'ignore', 'pipe'] })
  if (made.status !== 0) throw new Error(`openssl: ${made.stderr}`)
  return { LIANMAI_TLS__CERT: cert, LIANMAI_TLS__KEY: key }
}

/** Enters the channel `room` as a member. */
export async function enter(WebSocket, server, uid) {
  const socket = new WebSocket(server, 'lianmai.v1', { rejectUnauthorized: false })
  const waiting = new Map()
  let id = 0
  socket.on('message', (data) => {
    for (const message of [JSON.parse(data)].flat()) waiting.get(message.id)?.(message)
  })
  await new Promise((done, fail) => socket.on('open', done).on('error', fail))
  const call = async (method, params) => {
    const answer = new Promise((done) => waiting.set(++id, done))
    socket.send(JSON.stringify({ jsonrpc: '2.0', id, method, params }))
    const { result, error } = await answer
    if (error) throw new Error(`${method}: ${JSON.stringify(error)}`)
    return result
  }
  await call('join', { appkey: 'demo', channelName: 'room', uid: String(uid) })
  return { call, close: () => socket.terminate() }
}

/** Starts `count` publishing members and a subscriber; returns the URLs of each member. */
export async function startRoom(WebSocket, server, count) {
  const members = []
  const urls = []
  const watcher = await enter(WebSocket, server, 1000)
  for (let uid = 1; uid <= count; uid++) {
    const member = await enter(WebSocket, server, uid)
    members.push(member)
    const { url } = await member.call('publish', { mediaType: '' })
    const push = spawn('ffmpeg', [...ffmpeg('-re -stream_loop -1 -i'), sample, ...'-c copy -f flv'.split(' '), url], { stdio: 'ignore' })
    pushes.push(push)
    for (const mediaType of ['audio', 'video']) {
      const subscribed = await watcher.call('subscribe', { uid: String(uid), mediaType })
      urls[uid - 1] = subscribed.urls
    }
  }
  const stop = () => {
    pushes.splice(0).forEach((push) => push.kill('SIGKILL'))
    for (const member of [...members, watcher]) member.close()
  }
  return { urls, members, watcher, stop }
}
