// A host in virtual time, and a scripted server behind its sockets. In: actions of a test. Out: the events that an app
// receives. Deliberately absent: the rules of a channel; the test sets the answers of the server.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { project } from './package.mjs'

const { require, package: folder } = project()
const wasm = new WebAssembly.Module(readFileSync(join(folder, 'lianmai.wasm')))

export const EPOCH = 'ujzdegxdncf32epf3dha'
export const PUB = 'kq4mzt7xw2h6yb3nrs5a'

/** A member id of 20 characters, derived from a uid. The last character encodes only one bit. */
export function mid(uid) {
  const letters = 'abcdefghij'
  return String(uid).split('').map((digit) => letters[digit]).join('').padEnd(19, 'q').slice(0, 19) + 'q'
}

const kindsOf = ({ mediaType }) => mediaType ? [mediaType] : ['audio', 'video']

export class World {
  time = 1000
  timers = new Map()
  sockets = []
  logged = []
  lastTimer = 0
  lifecycle = null
  /** The answers of the server by method: a result, or a function of the request that may return undefined. */
  answers = {}
  seq = 10
  members = [{ uid: '200', role: 'broadcaster', streams: ['audio', 'video'] }]
  /** The kinds that the client itself publishes and has muted, and its role. */
  published = new Set()
  muted = new Set()
  role = 'broadcaster'

  constructor(settings = {}, options = { appkey: 'demo' }) {
    // Every world loads the module anew, because the module holds the settings and the shared client.
    delete require.cache[require.resolve('lianmai/node')]
    this.sdk = require('lianmai/node')
    this.host = {
      now: () => this.time,
      random: async (length) => new Uint8Array(length).fill(7),
      connect: (url, protocol, listener) => this.connect(url, protocol, listener),
      setTimer: (run, ms) => {
        this.timers.set(++this.lastTimer, { at: this.time + ms, run })
        return this.lastTimer
      },
      clearTimer: (timer) => this.timers.delete(timer),
      macrotask: setImmediate,
      loadWasm: async (_path, imports) => new WebAssembly.Instance(wasm, imports).exports,
      lifecycle: (listener) => {
        this.lifecycle = listener
        return () => (this.lifecycle = null)
      },
      console: { log() {}, warn() {}, error: (...what) => this.logged.push(what) },
    }
    const { host, ...rest } = settings
    this.sdk.configure({ server: 'ws://fake', host: { ...this.host, ...host }, ...rest })
    this.client = this.sdk.Client(options)
    this.events = []
    this.client.on('*', (event, payload) => this.events.push([event, payload]))
  }

  connect(url, protocol, listener) {
    const socket = { url, protocol, listener, sent: [], closed: null, isOpen: false }
    this.sockets.push(socket)
    setImmediate(() => {
      if (socket.closed === null && !this.isDown) {
        socket.isOpen = true
        listener.open()
      }
    })
    return {
      send: (text) => {
        const request = JSON.parse(text)
        socket.sent.push(request)
        setImmediate(() => this.answer(socket, request))
      },
      close: (code) => (socket.closed = code),
    }
  }

  get socket() {
    return this.sockets.at(-1)
  }

  /** All requests of a method that were sent on any socket. */
  sent(method) {
    return this.sockets.flatMap((socket) => socket.sent).filter((request) => request.method === method)
  }

  answer(socket, request) {
    if (socket.closed !== null) return
    const scripted = this.answers[request.method]
    let result = typeof scripted === 'function' ? scripted(request) : scripted
    if (result === undefined && !scripted) result = this.usual(request)
    if (result === undefined) return
    this.frame(result.error ? { jsonrpc: '2.0', id: request.id, error: result.error } : { jsonrpc: '2.0', id: request.id, result }, socket)
  }

  usual({ method, params }) {
    const { seq } = this
    switch (method) {
      case 'join':
        return this.snapshot(params)
      case 'ping':
        return { epoch: EPOCH, seq }
      case 'publish': {
        const url = `rtmp://media/push-${params.mediaType === 'screenShare' ? 'screen' : 'main'}`
        for (const mediaType of kindsOf(params)) {
          if (!this.published.has(mediaType)) this.event('streamAdded', { uid: this.own, mid: mid(this.own), mediaType, pub: PUB })
          this.published.add(mediaType)
        }
        return { uid: this.own, url, urls: { rtmp: url }, gen: '66tfjgvq6kbnxjbtfqxkwovomm', seq: this.seq }
      }
      case 'unpublish':
        if (this.isOwn(params)) this.unpublish(kindsOf(params))
        return { seq: this.seq }
      case 'mute':
      case 'unmute':
        for (const mediaType of this.isOwn(params) ? kindsOf(params) : []) {
          if (this.muted.has(mediaType) === (method === 'mute')) continue
          this.muted[method === 'mute' ? 'add' : 'delete'](mediaType)
          if (this.role === 'broadcaster') this.event(`${method}d`, { uid: this.own, mid: mid(this.own), mediaType })
        }
        return { seq: this.seq }
      case 'setRole':
        if (this.isOwn(params)) this.setRole(params.role)
        return { seq: this.seq }
      case 'subscribe': {
        const url = `rtmp://media/pull-${params.uid}-${/audio|video/.test(params.mediaType) ? 'main' : params.mediaType}`
        return { uid: params.uid, url, urls: { rtmp: url, flv: `http://media/${params.uid}.flv` }, seq }
      }
      case 'sendMessage':
        return { seq, delivered: (params.to || []).length }
      case 'renewToken':
        return { seq, rights: this.rights, tokenExpiresInMs: 60000 }
      case 'report':
        return {}
      case 'reconnect':
        return { outcome: 'replayed', ticket: 'AWFiZA', k: 2, replayed: 0, messages: 0, messagesLost: 0, restore: false }
      default:
        return { seq }
    }
  }

  /** Whether a command is about the client itself. */
  isOwn({ uid }) {
    return uid === undefined || uid === this.own
  }

  /** Unpublishes kinds of the client. A moderator can cause this, too. */
  unpublish(kinds) {
    for (const mediaType of kinds) {
      if (this.published.delete(mediaType)) this.event('streamRemoved', { uid: this.own, mid: mid(this.own), mediaType, pub: PUB })
    }
  }

  setRole(role) {
    if (role === this.role) return
    this.role = role
    const own = { uid: this.own, mid: mid(this.own) }
    if (role === 'broadcaster') this.event('clientJoin', { ...own, muted: [...this.muted] })
    else this.unpublish([...this.published])
    this.event('roleChanged', { ...own, role })
    if (role === 'audience') this.event('clientLeave', { ...own, reason: 'roleChanged' })
  }

  rights = {
    publish: ['audio', 'video', 'screenShare', 'slaveAudio'], subscribe: ['audio', 'video', 'screenShare', 'slaveAudio'],
    broadcast: true, tasks: true, message: true, moderate: true,
  }

  snapshot(params) {
    if (params) this.own = params.uid === null || params.uid === undefined ? '4294967296' : params.uid
    const role = (this.role = (params && params.role) || 'broadcaster')
    this.published.clear()
    this.muted.clear()
    const self = { uid: this.own, mid: mid(this.own), role }
    const member = ({ streams = [], ...more }) => ({
      mid: mid(more.uid), ...more, streams: streams.map((mediaType) => ({ mediaType, pub: PUB })),
    })
    return {
      cid: '4503599627370497', uid: this.own, mid: mid(this.own), sessionId: 'wb5wkh7dnsipzz7fk4zq', ticket: 'AWFiYw', k: 1,
      deploymentId: 'dep-5b2f', epoch: EPOCH, seq: this.seq, channel: { name: 'room1', creator: this.own },
      members: [...this.members.map(member), ...(role === 'audience' ? [] : [member(self)])],
      self: { ...self, rights: this.rights }, memberCount: this.members.length + 1,
      timers: { pingIntervalMs: 10000, deadAfterMs: 25000, graceMs: 30000, mediaCapMs: 300000 },
    }
  }

  /** Delivers a message of the server. */
  frame(message, socket = this.socket) {
    socket.listener.message(JSON.stringify(message))
  }

  event(method, params) {
    this.frame({ jsonrpc: '2.0', method, params: { epoch: EPOCH, seq: ++this.seq, ...params } })
  }

  notice(method, params) {
    this.frame({ jsonrpc: '2.0', method, params })
  }

  /** Runs everything that does not depend on time. */
  async rest() {
    for (let turn = 0; turn < 12; turn++) await new Promise((done) => setImmediate(done))
  }

  /** Lets time pass. `isLate`: timers fire only at the end, like those of a frozen phone. */
  async pass(ms, isLate = false) {
    const end = this.time + ms
    await this.rest()
    for (;;) {
      const due = [...this.timers].filter(([, timer]) => timer.at <= end).sort((a, b) => a[1].at - b[1].at)[0]
      if (!due) break
      this.timers.delete(due[0])
      this.time = isLate ? end : Math.max(this.time, due[1].at)
      due[1].run()
      await this.rest()
    }
    this.time = end
    await this.rest()
  }

  async join(params) {
    const joined = this.client.join({ channelName: 'room1', uid: 100, ...params })
    await this.rest()
    return joined
  }

  /** The events since the last call. */
  heard() {
    return this.events.splice(0)
  }
}
