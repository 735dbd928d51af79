// A client: the calls of an app. In: calls and what the runtime tells. Out: promises that each settle once, and events by
// way of `Room` and `Emitter`. Deliberately absent: what a reconnect does, which the core decides.

import { failure, wrong, type LianmaiError } from '../errors.js'
import type { Host } from '../host.js'
import { load } from '../load.js'
import { Runtime, type Item, type Observer } from '../runtime.js'
import { toWire, told, type Uid, type UidInput } from '../uid.js'
import { Delivery } from './delivery.js'
import { Emitter } from './emitter.js'
import type { AnyHandler, Attributes, ClientEvents, ConnectionState, EventName, MediaType, Role, Urls } from './events.js'
import { newVoice, playerOf, pusherOf, type PlayerAttributes, type PusherAttributes } from './media.js'
import {
  addressesOf, ALL_KINDS, joinOf, kindsOf, mediaTypeOf, numberOf, objectOf, roleOf, targetOf, taskIdsOf, tasksOf, textOf,
  type JoinParams, type RtmpTask,
} from './params.js'
import { cidOf, Room, type Member, type Picture } from './room.js'

/** Options of one client; each wins over `configure`. */
export interface ClientOptions {
  /** Which app of the server. */
  appkey?: string
  /** Logs the names of calls and events. */
  debug?: boolean
  /** Address of the server, `wss://host` for instance; several are tried in turn. */
  server?: string | string[]
  [more: string]: unknown
}

/** What `configure` has set. */
export interface Settings {
  server?: string | string[]
  wasmPath?: string
  host: Host
  reannounce: 'changed' | 'all'
  connectTimeoutMs?: number
  commandTimeoutMs?: number
  giveUpAfterMs?: number
}

export interface JoinResult {
  code: 200
  cid: number | string
  uid: Uid
  isBigNumber: boolean
}

export interface SubscribeResult {
  uid: Uid
  isBigNumber: boolean
  mediaType: MediaType
  /** The preferred URL. */
  url: string
  /** All of them: browsers play `flv`, `live-player` plays `rtmp`. */
  urls: Urls
}

/** The channel, as of the event that was told last. */
export interface Channel {
  cid: number | string
  channelName: string
  creator: Uid
  attributes: Attributes
  /** Audience included. */
  memberCount: number
}

/** What NERTC's own apps read. */
export interface Info {
  readonly cid?: number | string
  readonly uid?: Uid
  readonly joinChannelParam?: { readonly channelName: string; readonly uid: unknown; readonly token?: string | null }
}

interface Open {
  method: string
  resolve(result: any): void
  reject(error: LianmaiError): void
}

/** NERTC's strings for task calls that fail. */
const LEGACY: { [method: string]: string } = { addTasks: '434', deleteTasks: '435', updateTasks: '436' }

export class Client {
  private emitter: Emitter
  private room: Room
  private delivery: Delivery
  private runtime: Runtime | null = null
  /** Addresses of the runtime. */
  private addresses = ''
  private picture: Picture | null | undefined
  private calls = new Map<number, Open>()
  private lastCall = 0
  /** A `join` that waits for the module; calling it gives up. */
  private entering: (() => void) | null = null
  /** Settles with the `join` that runs. */
  private joining: Promise<unknown> | null = null
  /** Settles with the `leave` that runs. */
  private leaving: Promise<unknown> | null = null
  private wasIn = false
  private isRetired = false
  private isDead = false
  private isInitialized = false
  private role: Role | undefined
  private voice = newVoice()
  private muted = new Set<string>()
  private info: Info = {}

  constructor(private settings: Settings, private options: ClientOptions) {
    this.emitter = new Emitter(() => settings.host.console)
    this.room = new Room(this.emitter, {
      picture: () => this.view(),
      next: (run) => this.delivery.next(run),
      isLeaving: () => !!this.leaving || this.isRetired,
      isAll: () => settings.reannounce === 'all',
    })
    this.delivery = new Delivery(() => settings.host, () => this.step(), () => this.free())
    // The first join shall not wait for it; where it cannot be loaded, that join says so.
    load(settings.host, settings.wasmPath).catch(() => {})
  }

  /** Other options for the next `join`. */
  configure(options: ClientOptions): void {
    this.options = { ...this.options, ...options }
  }

  // Events

  /** Optional. A repeated call removes all handlers. */
  init(): void {
    if (this.isInitialized) this.emitter.remove()
    this.isInitialized = true
  }

  /**
   * Adds a handler; `'*'` hears everything as `(event, payload)`. One that comes while in a channel hears alone, next,
   * who is there and what is published and muted.
   */
  on<E extends EventName>(event: E, handler: (payload: ClientEvents[E]) => unknown): this
  on(event: '*', handler: AnyHandler): this
  on(event: string, handler: (...args: any[]) => unknown): this {
    const entry = this.emitter.add(event, handler, false)
    const missed = this.room.missed(event)
    if (missed) this.delivery.replay(() => {
      for (const payload of missed()) if (this.emitter.has(event, entry)) this.emitter.run(entry, [payload], event)
    })
    return this
  }

  /** Adds a handler that hears the next one. */
  once<E extends EventName>(event: E, handler: (payload: ClientEvents[E]) => unknown): this
  once(event: '*', handler: AnyHandler): this
  once(event: string, handler: (...args: any[]) => unknown): this {
    this.emitter.add(event, handler, true)
    return this
  }

  /** Removes one handler of an event, or all of them. */
  off(event: EventName | '*', handler?: (...args: any[]) => unknown): this {
    this.emitter.remove(event, handler)
    return this
  }

  // The channel

  /** Enters a channel, which is made if need be. */
  join(params: JoinParams): Promise<JoinResult> {
    const { settings, options } = this
    let isBegun = false
    const begun = new Promise<JoinResult>((resolve, reject) => {
      this.alive()
      if (this.joining || (this.room.state !== 'disconnected' && !this.leaving)) throw failure('alreadyJoined', { method: 'join' })
      const urls = addressesOf(options.server === undefined ? settings.server : options.server)
      const wire = joinOf(params, this.role, options.appkey)
      const { host } = settings
      let isOver = false
      const over = (error: LianmaiError) => {
        if (isOver) return
        isOver = true
        this.entering = null
        reject(error)
      }
      this.entering = () => over(failure('superseded', { method: 'join' }))
      this.isRetired = false
      isBegun = true
      // The module, randomness, and the end of what was before come first.
      Promise.all([load(host, settings.wasmPath), bounded(host, host.random(24)), this.leaving]).then(([module, random]) => {
        if (isOver) return
        isOver = true
        this.entering = null
        const seed = hex(random)
        const { connectTimeoutMs, commandTimeoutMs, giveUpAfterMs } = settings
        this.start(() => new Runtime(host, module, JSON.stringify({
          urls, seed: seed.slice(32), connectTimeoutMs, commandTimeoutMs, giveUpAfterMs,
        }), this.observer), urls.join())
        wire.joinId = seed.slice(0, 32)
        this.ask('join', wire, (result) => {
          this.entered(params, result)
          resolve({ code: 200, cid: cidOf(result.cid), ...told(result.uid) })
        }, (error) => {
          // The one error that a wrong address makes.
          if (error.name === 'notConnected') error.message = error.reason = `No server answered at ${urls.join(', ')}: check server and the network.`
          reject(error)
        })
      }).catch(over)
    })
    const done = () => {
      if (this.joining === joining) this.joining = null
    }
    const joining: Promise<unknown> = begun.then(done, done)
    if (isBegun) this.joining = joining
    return begun
  }

  /** Leaves the channel. Succeeds also where the membership ended before. */
  leave(): Promise<void> {
    const left = new Promise<void>((resolve, reject) => {
      this.alive()
      if (this.entering) {
        this.entering()
        return resolve()
      }
      const isOut = () => this.wasIn ? resolve() : reject(failure('notJoined', { method: 'leave' }))
      if (!this.runtime) return isOut()
      this.ask('leave', {}, () => resolve(), (error) => error.name === 'notJoined' ? isOut() : reject(error))
    })
    const done = () => {
      if (this.leaving === leaving) this.leaving = null
    }
    const leaving: Promise<unknown> = left.then(done, done)
    this.leaving = leaving
    return left
  }

  /** Leaves, and frees the socket and memory. Handlers stay, and `join` may be called again. */
  destroy(): Promise<void> {
    this.isRetired = true
    this.role = undefined
    const done = () => {
      this.wasIn = false
      this.info = {}
      this.free()
    }
    return (this.runtime || this.entering ? this.leave() : Promise.resolve()).then(done, done)
  }

  /** The end of this client. */
  end(): Promise<void> {
    const ended = this.destroy()
    this.isDead = true
    return ended.then(() => this.emitter.remove())
  }

  /** `'broadcaster'` or `'audience'`, before `join` or in the channel; of somebody else as a moderator. */
  setRole(role: Role, uid?: UidInput): Promise<void> {
    return this.checked('setRole', () => {
      const wire = { role: roleOf(role), ...targetOf(uid) }
      if (wire.uid === undefined && this.joining) return this.joining.then(() => this.setRole(role))
      if (wire.uid === undefined && !this.isIn()) {
        this.role = role === 'audience' ? role : undefined
        return Promise.resolve()
      }
      return this.asked('setRole', wire, () => {
        if (wire.uid === undefined && role === 'audience') this.room.pushesNoMore(ALL_KINDS as MediaType[], true)
      })
    })
  }

  // Media

  /** Announces own media and answers the URL to push to; absent or `''` is audio and video, which share one. */
  publish(mediaType?: '' | MediaType): Promise<string> {
    return this.checked('publish', () => {
      const kind = mediaTypeOf(mediaType, ALL_KINDS, true) as '' | MediaType
      return this.asked('publish', { mediaType: kind }, (result) => {
        this.room.pushes(kindsOf(kind), result.url)
        return result.url as string
      })
    })
  }

  /** Takes own media back, or that of somebody else as a moderator. */
  unpublish(mediaType?: '' | MediaType, uid?: UidInput): Promise<void> {
    return this.checked('unpublish', () => {
      const kind = mediaTypeOf(mediaType, ALL_KINDS, true) as '' | MediaType
      const target = targetOf(uid)
      return this.asked('unpublish', { mediaType: kind, ...target }, () => {
        if (target.uid === undefined) this.room.pushesNoMore(kindsOf(kind), true)
      })
    })
  }

  /** Answers the URL that plays a kind of somebody. */
  subscribe(uid: UidInput, mediaType: MediaType): Promise<SubscribeResult> {
    return this.checked('subscribe', () => {
      const of = toWire(uid)
      const kind = mediaTypeOf(mediaType, ALL_KINDS, false) as MediaType
      return this.asked('subscribe', { uid: of, mediaType: kind }, (result) => {
        this.room.pulls(of, kind, result.url)
        return { ...told(of), mediaType: kind, url: result.url, urls: result.urls }
      })
    })
  }

  unsubscribe(uid: UidInput, mediaType: MediaType): Promise<void> {
    return this.checked('unsubscribe', () => {
      const of = toWire(uid)
      const kind = mediaTypeOf(mediaType, ALL_KINDS, false) as MediaType
      return this.asked('unsubscribe', { uid: of, mediaType: kind }, () => this.room.pulls(of, kind, ''))
    })
  }

  /** Tells others that a kind is muted; the component is the app's affair. Absent or `''` is audio and video. */
  mute(mediaType?: '' | 'audio' | 'video', uid?: UidInput): Promise<void> {
    return this.muting('mute', mediaType, uid)
  }

  unmute(mediaType?: '' | 'audio' | 'video', uid?: UidInput): Promise<void> {
    return this.muting('unmute', mediaType, uid)
  }

  /** What a media component observed; `data` is the detail of its event. */
  dataReporter(dir: 'push' | 'pull', type: 'bindstatechange' | 'bindnetstatus' | 'binderror', data: object, uid?: UidInput): Promise<void> {
    const reported = this.checked('dataReporter', () => {
      if (dir !== 'push' && dir !== 'pull') throw wrong('dir', "'push' or 'pull'")
      if (type !== 'bindstatechange' && type !== 'bindnetstatus' && type !== 'binderror') {
        throw wrong('type', "'bindstatechange', 'bindnetstatus' or 'binderror'")
      }
      return this.asked('report', { dir, type, data: objectOf(data, 'data'), ...targetOf(uid) }, () => {})
    })
    // Components report a moment longer than the channel lasts, and apps do not catch that.
    reported.catch(() => {})
    return reported
  }

  // Push tasks

  addTasks(params: { rtmpTasks: RtmpTask[] }): Promise<void> {
    return this.checked('addTasks', () => this.asked('addTasks', tasksOf(params), () => {}))
  }

  /** Replaces the whole configuration of each task. */
  updateTasks(params: { rtmpTasks: RtmpTask[] }): Promise<void> {
    return this.checked('updateTasks', () => this.asked('updateTasks', tasksOf(params), () => {}))
  }

  deleteTasks(params: { taskIds: string[] }): Promise<void> {
    return this.checked('deleteTasks', () => this.asked('deleteTasks', taskIdsOf(params), () => {}))
  }

  // Voice: values are kept for `pusherAttributes`, which has the nearest that WeChat offers.

  /** 0 off .. 11; puts effect and pitch back. */
  setVoiceBeautifierPreset(preset: number): Promise<void> {
    return this.voiced(() => ({ ...newVoice(), equalization: this.voice.equalization, beautifier: numberOf(preset, 'preset', 0, 11, true) }))
  }

  /** 0 off .. 8; puts beautifier and pitch back. */
  setAudioEffectPreset(preset: number): Promise<void> {
    return this.voiced(() => ({ ...newVoice(), equalization: this.voice.equalization, effect: numberOf(preset, 'preset', 0, 8, true) }))
  }

  /** 0.5 .. 2; puts beautifier and effect back. */
  setLocalVoicePitch(pitch: number): Promise<void> {
    return this.voiced(() => ({ ...newVoice(), equalization: this.voice.equalization, pitch: numberOf(pitch, 'pitch', 0.5, 2, false) }))
  }

  /** Band 0 .. 9, gain -15 .. 15. */
  setLocalVoiceEqualization(band: number, gain: number): Promise<void> {
    return this.voiced(() => {
      const equalization = this.voice.equalization.slice()
      equalization[numberOf(band, 'band', 0, 9, true)] = numberOf(gain, 'gain', -15, 15, true)
      return { ...this.voice, equalization }
    })
  }

  startAsrCaptions(_source?: string, _target?: string): Promise<void> {
    return this.notSupported('startAsrCaptions')
  }

  stopAsrCaptions(): Promise<void> {
    return this.notSupported('stopAsrCaptions')
  }

  aiManualInterrupt(_uid?: UidInput): Promise<void> {
    return this.notSupported('aiManualInterrupt')
  }

  // Beyond NERTC

  /** Removes a member, and refuses it for so many seconds. */
  kick(uid: UidInput, options?: { durationS?: number; reason?: string }): Promise<void> {
    return this.checked('kick', () => this.asked('kick', { ...options, uid: toWire(uid) }, () => {}))
  }

  /** Ends the channel for all, and refuses it for so many seconds. */
  closeChannel(options?: { holdS?: number; reason?: string }): Promise<void> {
    return this.checked('closeChannel', () => this.asked('closeChannel', { ...options }, () => {}))
  }

  /** Says something to all, or to those named. Answers how many of them there are. */
  sendMessage(data: string, options?: { to?: UidInput[] }): Promise<{ delivered: number }> {
    return this.checked('sendMessage', () => {
      const to = options && options.to
      if (to !== undefined && !Array.isArray(to)) throw wrong('to', 'an array of uids')
      return this.asked('sendMessage', {
        data: textOf(data, 'data'),
        to: to && to.map((uid, at) => toWire(uid, `to[${at}]`)),
      }, (result) => ({ delivered: result.delivered as number }))
    })
  }

  /** Changes own attributes, or those of the channel; null removes one. `name` is the own display name. */
  setAttributes(attributes: { [key: string]: string | null }, options?: { target?: 'self' | 'channel'; name?: string }): Promise<void> {
    return this.checked('setAttributes', () => this.asked('setAttributes', {
      attributes: objectOf(attributes, 'attributes'), ...options,
    }, () => {}))
  }

  /** Hands in a token in place of the one that ends. */
  renewToken(token: string): Promise<{ expiresInMs?: number }> {
    return this.checked('renewToken', () => this.asked('renewToken', { token: textOf(token, 'token') }, (result) => {
      const { joinChannelParam } = this.info
      if (joinChannelParam) this.info = { ...this.info, joinChannelParam: { ...joinChannelParam, token } }
      return { expiresInMs: result.expiresInMs as number | undefined }
    }))
  }

  /** Every broadcaster, oneself included, as of the event that was told last. */
  members(): Member[] {
    return this.room.members()
  }

  /** The channel, null while in none. */
  channel(): Channel | null {
    const picture = this.view()
    return picture && {
      cid: cidOf(picture.cid),
      channelName: picture.channel,
      creator: told(picture.creator).uid,
      attributes: picture.attributes || {},
      memberCount: picture.memberCount,
    }
  }

  get connectionState(): ConnectionState {
    return this.room.state
  }

  /** Attributes of `live-pusher` as of now. */
  pusherAttributes(): PusherAttributes {
    return pusherOf(this.room, this.voice, this.muted)
  }

  /** Attributes of the `live-player` of somebody. */
  playerAttributes(uid: UidInput, mediaType?: MediaType): PlayerAttributes {
    return playerOf(this.room, toWire(uid), mediaType)
  }

  get _info(): Info {
    const picture = this.view()
    return Object.freeze({ ...this.info, ...(picture ? { cid: cidOf(picture.cid) } : {}) })
  }

  /** What the runtime tells. */
  private observer: Observer = {
    items: () => this.delivery.wake(),
    connecting: () => this.delivery.last(() => {
      this.room.attempts++
      this.room.attempt('attempt')
    }),
    limit: () => this.delivery.last(() => this.room.attempt('socketLimit')),
    crashed: (cause) => this.crashed(cause),
  }

  private crashed(cause: unknown): void {
    this.runtime = null
    this.picture = null
    const calls = Array.from(this.calls.values())
    this.calls.clear()
    for (const call of calls) call.reject(failure('internalError', { method: call.method }))
    this.settings.host.console.error('lianmai: the client failed', cause)
    this.delivery.next(() => {
      this.emitter.emit('error', failure('internalError'))
      this.room.changeState('disconnected', 'crashed')
      this.room.disconnected(1006, 'crashed', false)
    })
  }

  /** Takes one item of the core. */
  private step(): number {
    const item = this.runtime && this.runtime.next()
    // The picture is another one, if only because of changes that nobody hears of.
    this.picture = undefined
    if (!item) return 0
    if (item.event === undefined) {
      this.settle(item)
      return 2
    }
    this.log(item.event)
    this.room.event(item.event, item.data)
    return 1
  }

  private settle(item: Item): void {
    const call = this.calls.get(item.call!)
    if (!call) return
    this.calls.delete(item.call!)
    if (!item.error) return call.resolve(item.result)
    const { name, ...more } = item.error
    this.log(call.method, name)
    call.reject(failure(name, { ...more, method: call.method, legacyCode: LEGACY[call.method] }))
  }

  private entered(params: JoinParams, result: { cid: string; uid: string }): void {
    this.wasIn = true
    this.muted.clear()
    const uid = told(result.uid).uid
    const joinChannelParam = Object.freeze({ channelName: params.channelName, uid: params.uid, token: params.token })
    this.info = { cid: cidOf(result.cid), uid, joinChannelParam }
    this.room.entered(result.uid)
  }

  private view(): Picture | null {
    if (this.picture === undefined) this.picture = this.runtime && this.runtime.picture()
    return this.picture || null
  }

  private isIn(): boolean {
    return !!this.view()
  }

  /** One runtime as long as the addresses are the same: a `leave` may still be on its way. */
  private start(make: () => Runtime, addresses: string): void {
    if (this.runtime && this.addresses === addresses) return
    if (this.runtime) this.runtime.dispose()
    this.runtime = make()
    this.addresses = addresses
  }

  private free(): void {
    if (!this.isRetired || !this.runtime || !this.runtime.isIdle()) return
    this.runtime.dispose()
    this.runtime = null
    this.picture = undefined
  }

  private alive(): void {
    if (this.isDead) throw failure('destroyed')
  }

  /** Wrong parameters are rejections, too. */
  private checked<T>(method: string, run: () => Promise<T>): Promise<T> {
    try {
      this.alive()
      return run()
    } catch (error) {
      if (error instanceof Error) (error as LianmaiError).method = method
      return Promise.reject(error)
    }
  }

  private asked<T>(method: string, params: unknown, map: (result: any) => T): Promise<T> {
    return new Promise((resolve, reject) => this.ask(method, params, (result) => resolve(map(result)), reject))
  }

  private ask(method: string, params: unknown, resolve: (result: any) => void, reject: (error: LianmaiError) => void): void {
    this.log(method)
    if (!this.runtime) return reject(failure('notJoined', { method, legacyCode: LEGACY[method] }))
    let text
    try {
      text = JSON.stringify(params)
    } catch (_) {
      // Something that contains itself.
      return reject(failure('invalidRequest', { method }))
    }
    const call = ++this.lastCall
    this.calls.set(call, { method, resolve, reject })
    this.runtime.call(call, method, text)
  }

  private muting(method: 'mute' | 'unmute', mediaType: unknown, uid: unknown): Promise<void> {
    return this.checked(method, () => {
      const kind = mediaTypeOf(mediaType, ['audio', 'video'], true) as '' | MediaType
      const target = targetOf(uid)
      return this.asked(method, { mediaType: kind, ...target }, () => {
        if (target.uid !== undefined) return
        for (const of of kindsOf(kind)) {
          if (method === 'mute') this.muted.add(of)
          else this.muted.delete(of)
        }
      })
    })
  }

  private voiced(make: () => ReturnType<typeof newVoice>): Promise<void> {
    return this.checked('voice', () => {
      this.voice = make()
      return Promise.resolve()
    })
  }

  private notSupported(method: string): Promise<void> {
    return this.checked(method, () => Promise.reject(failure('notSupported', { method })))
  }

  private log(...what: string[]): void {
    if (this.options.debug) this.settings.host.console.log('lianmai', ...what)
  }
}

/** Randomness of a platform that never answers must not leave a promise open. */
function bounded<T>(host: Host, promise: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = host.setTimer(() => reject(failure('randomUnavailable')), 10000)
    const done = () => host.clearTimer(timer)
    promise.then(done, done)
    promise.then(resolve, reject)
  })
}

function hex(bytes: ArrayLike<number>): string {
  let text = ''
  for (let at = 0; at < bytes.length; at++) text += (256 + bytes[at]!).toString(16).slice(1)
  return text
}
