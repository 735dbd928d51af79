// A client: the calls of an app. In: calls and what the runtime tells. Out: promises that each settle once, and events by
// way of `Room` and `Emitter`. Deliberately absent: what a reconnect does, which the core decides.

import { failure, type LianmaiError } from '../errors.js'
import type { Module } from '../glue.js'
import type { Host } from '../host.js'
import { Loader, within } from '../load.js'
import { Runtime } from '../runtime.js'
import { toWire, told, type UidInput } from '../uid.js'
import { Calls } from './calls.js'
import { Delivery, FIRST, LAST, NEXT } from './delivery.js'
import { Emitter } from './emitter.js'
import type { AnyHandler, ClientEvents, ConnectionState, EventName, MediaType, Role } from './events.js'
import { newVoice, playerOf, pusherOf, type PlayerAttributes, type PusherAttributes } from './media.js'
import {
  addressesOf, ALL_KINDS, isNone, joinOf, jsonOf, kindsOf, listOf, numberOf, oneOf, roleOf, targetOf, taskIdsOf, tasksOf,
  type JoinParams, type RtmpTask,
} from './params.js'
import { cidOf, Room, type Member, type Picture } from './room.js'
import type { Channel, ClientOptions, Info, JoinResult, Settings, SubscribeResult } from './types.js'

export class Client {
  private emitter: Emitter
  private room: Room
  private delivery: Delivery
  private loader = new Loader()
  private runtime: Runtime | null = null
  /** Addresses of the runtime. */
  private addresses = ''
  private picture: Picture | null | undefined
  private calls = new Calls((...what) => this.log(...what))
  /** Gives up a `join` that waits for the module. */
  private abort: (() => void) | null = null
  /** Settles with the `join` that runs. */
  private joining: Promise<unknown> | null = null
  /** Settles with the `leave` that runs. */
  private leaving: Promise<unknown> | null = null
  private wasIn = false
  private isRetired = false
  private isInitialized = false
  private role: Role | undefined
  private voice = newVoice()
  private muted = new Set<string>()
  private info: Info = {}

  constructor(private settings: Settings, private options: ClientOptions) {
    this.emitter = new Emitter(() => settings.host.console)
    this.room = new Room((event, payload, alias, data) => {
      this.log(event)
      this.emitter.emit(event, payload, alias, data)
    }, {
      picture: () => this.view(),
      next: (run) => this.delivery.add(NEXT, run),
      isLeaving: () => !!this.leaving || this.isRetired,
      isAll: () => settings.reannounce === 'all',
    })
    this.delivery = new Delivery(() => settings.host, () => this.step(), () => this.free())
    // The first join shall not wait for it; where it cannot be loaded, that join says so.
    this.loader.get(settings.host, settings.wasmPath).catch(nothing)
  }

  /** Other options for the next `join`. */
  configure(options: ClientOptions): void {
    this.options = Object.assign({}, this.options, options)
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
    if (missed) this.delivery.add(FIRST, () => {
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
    const { host } = settings
    let isBegun = false
    const begun = this.calls.promise<JoinResult>('join', (resolve, reject) => {
      if (this.joining || (this.room.state !== 'disconnected' && !this.leaving)) throw failure('alreadyJoined')
      const urls = addressesOf(options.server === undefined ? settings.server : options.server)
      const wire = joinOf(params, this.role, options.appkey)
      isBegun = true
      this.isRetired = false
      const abort = (this.abort = () => reject(failure('superseded')))
      // The module, randomness, and the end of what was before come first.
      Promise.all([this.loader.get(host, settings.wasmPath), entropy(host), this.leaving]).then(([module, random]) => {
        if (this.abort !== abort) return
        this.abort = null
        const seed = hex(random)
        wire.joinId = seed.slice(16)
        this.start(module, urls, seed.slice(0, 16))
        this.call('join', wire, (result) => {
          this.wasIn = true
          this.muted.clear()
          const { channelName, uid, token } = params
          this.info = { cid: cidOf(result.cid), uid: told(result.uid).uid, joinChannelParam: { channelName, uid, token } }
          this.room.entered(result.uid)
          resolve(told(result.uid, { code: 200 as const, cid: cidOf(result.cid) }))
        }, (error) => {
          // The one error that a wrong address makes.
          if (error.name === 'notConnected') error.message = error.reason = `No server at ${urls.join()} that allows this: check server, the network and allowed origins.`
          reject(error)
        })
      }).catch(reject)
    })
    const done = () => {
      this.joining = this.abort = null
    }
    if (isBegun) this.joining = begun.then(done, done)
    return begun
  }

  /** Leaves the channel. Succeeds also where the membership ended before. */
  leave(): Promise<void> {
    const left = this.calls.promise<void>('leave', (resolve, reject) => {
      if (this.abort) {
        this.abort()
        this.abort = null
        return resolve()
      }
      const isOut = (error: LianmaiError) => error.name === 'notJoined' && this.wasIn ? resolve() : reject(error)
      if (!this.runtime) return isOut(failure('notJoined'))
      this.call('leave', {}, () => resolve(), isOut)
    })
    const leaving: Promise<unknown> = (this.leaving = left.catch(nothing).then(() => {
      if (this.leaving === leaving) this.leaving = null
    }))
    return left
  }

  /** Leaves, and frees the socket and memory. Handlers stay, and `join` may be called again. */
  destroy(): Promise<void> {
    this.isRetired = true
    this.role = undefined
    this.wasIn = false
    this.info = {}
    // Freed once everything was told.
    const done = () => new Promise<void>((resolve) => this.delivery.add(LAST, () => {
      this.free()
      resolve()
    }))
    return this.leave().then(done, done)
  }

  /** The end of this client, with its handlers: what `destroy` of the SDK is for the one of `Client`. */
  end(): Promise<void> {
    const ended = this.destroy()
    this.calls.isDead = true
    return ended.then(() => this.emitter.remove())
  }

  /** `'broadcaster'` or `'audience'`, before `join` or in the channel; of somebody else as a moderator. */
  setRole(role: Role, uid?: UidInput | null): Promise<void> {
    if (!isNone(uid) || (!this.joining && this.view())) {
      return this.ask('setRole', () => ({ role: roleOf(role), uid: targetOf(uid) }), () => {
        if (isNone(uid) && role === 'audience') this.room.pushesNoMore(ALL_KINDS, true)
      })
    }
    // Whoever joins just now has to be there first.
    if (this.joining) return this.joining.then(() => this.setRole(role))
    return this.calls.promise('setRole', (resolve) => {
      this.role = roleOf(role) === 'audience' ? role : undefined
      resolve()
    })
  }

  // Media

  /** Announces own media and answers the URL to push to; absent or `''` is audio and video, which share one. */
  publish(mediaType?: '' | MediaType): Promise<string> {
    return this.ask('publish', () => ({ mediaType: mediaType || '' }), (result) => {
      this.room.pushes(kindsOf(mediaType), result.url)
      return result.url
    })
  }

  /** Takes own media back, or that of somebody else as a moderator. */
  unpublish(mediaType?: '' | MediaType, uid?: UidInput | null): Promise<void> {
    return this.ask('unpublish', () => ({ mediaType: mediaType || '', uid: targetOf(uid) }), () => {
      if (isNone(uid)) this.room.pushesNoMore(kindsOf(mediaType), true)
    })
  }

  /** Answers the URL that plays a kind of somebody. */
  subscribe(uid: UidInput, mediaType: MediaType): Promise<SubscribeResult> {
    return this.ask('subscribe', () => ({ uid: toWire(uid), mediaType }), ({ url, urls }, of) => {
      this.room.pulls(of.uid, mediaType, url)
      return told(of.uid, { mediaType, url, urls })
    })
  }

  /** Gives one kind of somebody up. */
  unsubscribe(uid: UidInput, mediaType: MediaType): Promise<void> {
    return this.ask('unsubscribe', () => ({ uid: toWire(uid), mediaType }), (_, of) => this.room.pulls(of.uid, mediaType, ''))
  }

  /** Tells others that a kind is muted; the component is the app's affair. Absent or `''` is audio and video. */
  mute(mediaType?: '' | 'audio' | 'video', uid?: UidInput | null): Promise<void> {
    return this.muting('mute', mediaType, uid)
  }

  /** Takes `mute` back. */
  unmute(mediaType?: '' | 'audio' | 'video', uid?: UidInput | null): Promise<void> {
    return this.muting('unmute', mediaType, uid)
  }

  /** What a media component observed; `data` is the detail of its event. */
  dataReporter(dir: 'push' | 'pull', type: 'bindstatechange' | 'bindnetstatus' | 'binderror', data: object, uid?: UidInput | null): Promise<void> {
    const reported = this.ask('report', () => ({
      dir: oneOf(dir, 'dir', ['push', 'pull']),
      type: oneOf(type, 'type', ['bindstatechange', 'bindnetstatus', 'binderror']),
      data,
      uid: targetOf(uid),
    }), nothing)
    // Components report a moment longer than the channel lasts, and apps do not catch that.
    reported.catch(nothing)
    return reported
  }

  // Push tasks

  /** Starts push tasks, which put the channel's media together and push them elsewhere. */
  addTasks(params: { rtmpTasks: RtmpTask[] }): Promise<void> {
    return this.ask('addTasks', () => tasksOf(params), nothing)
  }

  /** Replaces the whole configuration of each task. */
  updateTasks(params: { rtmpTasks: RtmpTask[] }): Promise<void> {
    return this.ask('updateTasks', () => tasksOf(params), nothing)
  }

  /** Ends push tasks. */
  deleteTasks(params: { taskIds: string[] }): Promise<void> {
    return this.ask('deleteTasks', () => taskIdsOf(params), nothing)
  }

  // Voice: values are kept for `pusherAttributes`, which has the nearest that WeChat offers.

  /** 0 off .. 11; puts effect and pitch back. */
  setVoiceBeautifierPreset(preset: number): Promise<void> {
    return this.voiced('beautifier', preset, 0, 11, true)
  }

  /** 0 off .. 8; puts beautifier and pitch back. */
  setAudioEffectPreset(preset: number): Promise<void> {
    return this.voiced('effect', preset, 0, 8, true)
  }

  /** 0.5 .. 2; puts beautifier and effect back. */
  setLocalVoicePitch(pitch: number): Promise<void> {
    return this.voiced('pitch', pitch, 0.5, 2, false)
  }

  /** Band 0 .. 9, gain -15 .. 15. */
  setLocalVoiceEqualization(band: number, gain: number): Promise<void> {
    return this.calls.promise('setLocalVoiceEqualization', (resolve) => {
      this.voice.equalization[numberOf(band, 'band', 0, 9, true)] = numberOf(gain, 'gain', -15, 15, true)
      resolve()
    })
  }

  /** Not served: rejected with `notSupported`. */
  startAsrCaptions(_source?: string, _target?: string): Promise<void> {
    return this.notSupported('startAsrCaptions')
  }

  /** Not served: rejected with `notSupported`. */
  stopAsrCaptions(): Promise<void> {
    return this.notSupported('stopAsrCaptions')
  }

  /** Not served: rejected with `notSupported`. */
  aiManualInterrupt(_uid?: UidInput): Promise<void> {
    return this.notSupported('aiManualInterrupt')
  }

  // Beyond NERTC

  /** Removes a member, and refuses it for so many seconds. */
  kick(uid: UidInput, options?: { durationS?: number; reason?: string }): Promise<void> {
    return this.ask('kick', () => Object.assign({}, options, { uid: toWire(uid) }), nothing)
  }

  /** Ends the channel for all, and refuses it for so many seconds. */
  closeChannel(options?: { holdS?: number; reason?: string }): Promise<void> {
    return this.ask('closeChannel', () => options || {}, nothing)
  }

  /** Says something to all, or to those named. Answers how many of them there are. */
  sendMessage(data: string, options?: { to?: UidInput[] }): Promise<{ delivered: number }> {
    return this.ask('sendMessage', () => ({
      data,
      to: options && options.to && listOf(options.to, 'to').map((uid, at) => toWire(uid, `to[${at}]`)),
    }), (result) => result)
  }

  /** Changes own attributes, or those of the channel; null removes one. `name` is the own display name. */
  setAttributes(attributes: { [key: string]: string | null }, options?: { target?: 'self' | 'channel'; name?: string }): Promise<void> {
    return this.ask('setAttributes', () => Object.assign({}, options, { attributes }), nothing)
  }

  /** Hands in a token in place of the one that ends. */
  renewToken(token: string): Promise<{ expiresInMs?: number }> {
    return this.ask('renewToken', () => ({ token }), (result) => {
      if (this.info.joinChannelParam) this.info.joinChannelParam.token = token
      return result
    })
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
      attributes: picture.attributes,
      memberCount: picture.memberCount,
    }
  }

  /** Where the connection is, as of the event that was told last. */
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

  /** What NERTC's own apps read. A copy: writing to it changes nothing. */
  get _info(): Info {
    const picture = this.view()
    const { joinChannelParam } = this.info
    return Object.assign({}, this.info, picture && { cid: cidOf(picture.cid) }, joinChannelParam && { joinChannelParam: Object.assign({}, joinChannelParam) })
  }

  private crashed(cause: unknown): void {
    this.runtime = this.picture = null
    // Its memory is in no known state.
    this.loader.drop()
    this.calls.drop('internalError')
    this.settings.host.console.error('lianmai: the client failed', cause)
    this.delivery.add(NEXT, () => {
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
    if (item.event !== undefined) {
      this.room.event(item.event, item.data)
      return 1
    }
    return this.calls.settle(item) ? 2 : 1
  }

  private view(): Picture | null {
    if (this.picture === undefined) this.picture = this.runtime && this.runtime.picture()
    return this.picture as Picture | null
  }

  /** One runtime as long as the addresses are the same: a `leave` may still be on its way. */
  private start(module: Module, urls: string[], seed: string): void {
    const { host, connectTimeoutMs, commandTimeoutMs, giveUpAfterMs } = this.settings
    const addresses = urls.join()
    if (this.runtime && this.addresses === addresses) return
    if (this.runtime) this.runtime.dispose()
    this.calls.drop('superseded')
    this.addresses = addresses
    this.runtime = new Runtime(host, module, JSON.stringify({ urls, seed, connectTimeoutMs, commandTimeoutMs, giveUpAfterMs }), {
      items: () => this.delivery.wake(),
      connecting: () => this.delivery.add(LAST, () => this.room.attempt('attempt', 1)),
      limit: () => this.delivery.add(LAST, () => this.room.attempt('socketLimit', 0)),
      crashed: (cause) => this.crashed(cause),
    })
  }

  private free(): void {
    if (!this.isRetired || !this.runtime || !this.runtime.isIdle()) return
    this.runtime.dispose()
    this.runtime = null
    this.picture = undefined
  }

  /** A call of the core. */
  private ask<P, T>(method: string, make: () => P, map: (result: any, params: P) => T): Promise<T> {
    return this.calls.promise(method, (resolve, reject) => {
      const params = make()
      this.call(method, params, (result) => resolve(map(result, params)), reject)
    })
  }

  private call(method: string, params: unknown, resolve: (result?: any) => void, reject: (error: LianmaiError) => void): void {
    this.log(method)
    if (!this.runtime) throw failure('notJoined')
    const text = jsonOf(params)
    this.runtime.call(this.calls.add(resolve, reject), method, text)
  }

  private muting(method: 'mute' | 'unmute', mediaType?: '' | MediaType | null, uid?: UidInput | null): Promise<void> {
    return this.ask(method, () => ({ mediaType: mediaType || '', uid: targetOf(uid) }), () => {
      if (!isNone(uid)) return
      for (const kind of kindsOf(mediaType)) {
        if (method === 'mute') this.muted.add(kind)
        else this.muted.delete(kind)
      }
    })
  }

  private voiced(what: 'beautifier' | 'effect' | 'pitch', value: number, low: number, high: number, isWhole: boolean): Promise<void> {
    return this.calls.promise(what, (resolve) => {
      const { equalization } = this.voice
      this.voice = Object.assign(newVoice(), { equalization, [what]: numberOf(value, what, low, high, isWhole) })
      resolve()
    })
  }

  private notSupported(method: string): Promise<void> {
    return this.calls.promise(method, () => {
      throw failure('notSupported')
    })
  }

  private log(...what: string[]): void {
    if (this.options.debug) this.settings.host.console.log('lianmai', what.join(' '))
  }
}

function nothing(): void {}

function entropy(host: Host): Promise<ArrayLike<number>> {
  return within(host, () => host.random(24)).catch((cause) => {
    throw cause && cause.reason ? cause : failure('randomUnavailable')
  })
}

function hex(bytes: ArrayLike<number>): string {
  return Array.from(bytes, (byte) => (256 + byte).toString(16).slice(1)).join('')
}
