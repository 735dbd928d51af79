// A client: the calls of an app. In: calls, and reports of the runtime. Out: promises that each settle once, and events
// through `Room` and `Emitter`. Deliberately absent: how to reconnect; the core decides that.

import { failure, type LianmaiError } from '../errors.js'
import type { Module } from '../glue.js'
import type { Host } from '../host.js'
import { Loader, within } from '../load.js'
import { Runtime } from '../runtime.js'
import { toWire, told, type UidInput } from '../uid.js'
import { Calls } from './calls.js'
import { Delivery, FIRST, LAST, NEXT } from './delivery.js'
import { Emitter } from './emitter.js'
import type { AnyHandler, ClientEvents, ConnectionState, EventName, MediaType, Role, TaskInfo } from './events.js'
import { newVoice, playerOf, pusherOf, type PlayerAttributes, type PusherAttributes } from './media.js'
import {
  addressesOf, isNone, joinOf, jsonOf, listOf, numberOf, oneOf, roleOf, targetOf, taskIdsOf, tasksOf,
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
  /** The addresses that the runtime uses. */
  private addresses = ''
  private picture: Picture | null | undefined
  private calls = new Calls((...what) => this.log(...what))
  /** Cancels a `join` that waits for the module. */
  private abort: (() => void) | null = null
  /** Settles with the present `join`; null after `leave` cancelled it. */
  private joining: Promise<unknown> | null = null
  /** Settles with the last `leave`, the calls of `leave` before it, and the `join` that it cancelled. */
  private leaving: Promise<unknown> | null = null
  private wasIn = false
  private isRetired = false
  private isInitialized = false
  /** Whether `audience` is the default role of the next `join`. */
  private isAudience = false
  private voice = newVoice()
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
    // Loads the module early, so that the first `join` need not wait. If loading fails, that `join` reports it.
    this.loader.get(settings.host, settings.wasmPath).catch(nothing)
  }

  /** Sets options for the next `join`. */
  configure(options: ClientOptions): void {
    this.options = Object.assign({}, this.options, options)
  }

  // Events

  /** Optional: handlers may be added at any time. A repeated call removes all handlers that were added before it. */
  init(): void {
    if (this.isInitialized) this.emitter.remove()
    this.isInitialized = true
  }

  /**
   * Adds a handler. A handler of `'*'` receives every event as `(event, payload)`. A handler that is added while the client is in a
   * channel first receives, as the only handler and before any newer event, the present members (`clientJoin`), the published
   * kinds (`stream-added`) and the muted kinds (`mute-*`). A handler that throws, or returns a promise that is rejected, does not stop other handlers.
   * @param event Name of an event, or `'*'`.
   * @param handler Called with the payload.
   */
  on<E extends EventName>(event: E, handler: (payload: ClientEvents[E]) => unknown): this
  on(event: '*', handler: AnyHandler): this
  on(event: string, handler: (...args: any[]) => unknown): this {
    const entry = this.emitter.add(event, handler, false)
    const owed = this.room.owed(event)
    if (owed) this.delivery.add(FIRST, () => {
      for (const payload of owed()) if (this.emitter.has(event, entry)) this.emitter.run(entry, [payload], event)
    })
    return this
  }

  /**
   * Adds a handler that receives the next event only, and nothing from before.
   * @param event Name of an event, or `'*'`.
   * @param handler Called once with the payload.
   */
  once<E extends EventName>(event: E, handler: (payload: ClientEvents[E]) => unknown): this
  once(event: '*', handler: AnyHandler): this
  once(event: string, handler: (...args: any[]) => unknown): this {
    this.emitter.add(event, handler, true)
    return this
  }

  /**
   * Removes one handler of an event, or all of them. It is no error if the handler is not registered.
   * @param event Name of an event, or `'*'`.
   * @param handler If absent, all handlers of the event are removed.
   */
  off(event: EventName | '*', handler?: (...args: any[]) => unknown): this {
    this.emitter.remove(event, handler)
    return this
  }

  // The channel

  /**
   * Enters a channel, and creates it if it does not exist. The callbacks of the promise run first. Then the events `clientJoin` and
   * `stream-added` report the members that are already there. Waits for a `leave` in progress. Rejected with `superseded` if `leave`
   * or `destroy` gives it up.
   * @param params The channel, and the identity of the client.
   */
  join(params: JoinParams): Promise<JoinResult> {
    const { settings, options } = this
    const { host } = settings
    let mine: Promise<unknown> | undefined
    let isBegun = false
    const begun = this.calls.promise<JoinResult>('join', (resolve, reject) => {
      if (this.joining || (this.room.state !== 'disconnected' && !this.leaving)) throw failure('alreadyJoined')
      const urls = addressesOf(options.server === undefined ? settings.server : options.server)
      const wire = joinOf(params, this.isAudience, options.appkey)
      isBegun = true
      this.isRetired = false
      const abort = (this.abort = () => reject(failure('superseded')))
      // Before the start: the module and the random numbers must be there, and an earlier `leave` must have ended.
      Promise.all([this.loader.get(host, settings.wasmPath), entropy(host), this.leaving]).then(([module, random]) => {
        if (this.abort !== abort) return
        this.abort = null
        const seed = hex(random)
        wire.joinId = seed.slice(16)
        this.start(module, urls, seed.slice(0, 16))
        this.call('join', wire, (result) => {
          this.wasIn = true
          const { channelName, uid, token } = params
          this.info = { cid: cidOf(result.cid), uid: told(result.uid).uid, joinChannelParam: { channelName, uid, token } }
          this.room.entered(result.uid)
          resolve(told(result.uid, { code: 200 as const, cid: cidOf(result.cid) }))
        }, (error) => {
          if (this.joining !== mine) return reject(failure('superseded'))
          // A wrong address causes either error: the last attempt failed, or it was still in progress.
          reject(error.name === 'notConnected' || error.name === 'timeout' ? failure('notConnected', {
            message: `No server at ${urls.join()} that allows this: check server, the network and allowed origins.`,
          }) : error)
        })
      }).catch(reject)
    })
    const done = () => {
      if (this.joining === mine) this.joining = this.abort = null
    }
    if (isBegun) mine = this.joining = begun.then(done, done)
    return begun
  }

  /** Leaves the channel; other members see it at once. Succeeds also if the membership had already ended, and gives up a `join` in progress. */
  leave(): Promise<void> {
    const giveUp = this.abort
    const before = [this.leaving, this.joining]
    this.abort = this.joining = null
    const left = this.calls.promise<void>('leave', (resolve, reject) => {
      if (giveUp) {
        giveUp()
        return resolve()
      }
      const isOut = (error: LianmaiError) => error.name === 'notJoined' && this.wasIn ? resolve() : reject(error)
      if (!this.runtime) return isOut(failure('notJoined'))
      this.call('leave', {}, () => resolve(), isOut)
    })
    const all: Promise<unknown> = (this.leaving = Promise.all([left.catch(nothing), ...before]).then(() => {
      if (this.leaving === all) this.leaving = null
    }))
    return left
  }

  /** Leaves, and frees the socket and memory. Handlers stay registered, and `join` may be called again. Always succeeds. */
  destroy(): Promise<void> {
    this.isRetired = true
    this.isAudience = false
    this.wasIn = false
    this.info = {}
    // Frees the runtime after all events were delivered.
    const done = () => new Promise<void>((resolve) => this.delivery.add(LAST, () => {
      this.free()
      resolve()
    }))
    this.leave().catch(nothing)
    return this.leaving!.then(done)
  }

  /** Ends this client and removes its handlers. It does for this client what `destroy` of the SDK does for the client of `Client`. */
  end(): Promise<void> {
    const ended = this.destroy()
    this.calls.isDead = true
    return ended.then(() => this.emitter.remove())
  }

  /**
   * Changes the role, before `join` or in the channel. The client's own role holds for later calls of `join`, too. A member that
   * becomes audience publishes nothing any more, and its push URL is dead. A member that becomes broadcaster must `publish` again.
   * @param role `'broadcaster'` or `'audience'`.
   * @param uid Another member, if the caller is a moderator.
   */
  setRole(role: Role, uid?: UidInput | null): Promise<void> {
    if (!isNone(uid) || (!this.joining && this.view())) {
      return this.ask('setRole', () => ({ role: roleOf(role), uid: targetOf(uid) }), (_, of) => {
        this.room.pushesNoMore(true)
        if (of.uid === undefined || of.uid === this.room.own) this.isAudience = role === 'audience'
      })
    }
    // If a `join` is in progress, the change follows it.
    if (this.joining) return this.joining.then(() => this.setRole(role))
    return this.calls.promise('setRole', (resolve) => {
      this.isAudience = roleOf(role) === 'audience'
      resolve()
    })
  }

  // Media

  /**
   * Publishes the client's own media and returns the URL to push to. Publishing again returns the same URL.
   * @param mediaType Absent or `''`: audio and video, which share one URL.
   */
  publish(mediaType?: '' | MediaType): Promise<string> {
    return this.media('publish', mediaType, null, ({ url }) => {
      this.room.pushes(mediaType || 'audio', url)
      return url
    })
  }

  /**
   * Unpublishes the client's own media, or that of another member. The push is cut when no kind on its URL is published any more.
   * @param mediaType Absent or `''`: audio and video.
   * @param uid Another member, if the caller is a moderator.
   */
  unpublish(mediaType?: '' | MediaType, uid?: UidInput | null): Promise<void> {
    return this.media('unpublish', mediaType, uid, () => this.room.pushesNoMore(true))
  }

  /**
   * Returns the URL that plays one kind of a member. Audio and video of one member share a URL.
   * @param uid The member.
   * @param mediaType One kind, as reported by `stream-added`.
   */
  subscribe(uid: UidInput, mediaType: MediaType): Promise<SubscribeResult> {
    return this.ask('subscribe', () => ({ uid: toWire(uid), mediaType }), ({ url, urls }, of) => {
      this.room.pulls(of.uid, mediaType, url)
      return told(of.uid, { mediaType, url, urls })
    })
  }

  /**
   * Ends the subscription to one kind of a member. Succeeds also if the kind is not subscribed.
   * @param uid The member.
   * @param mediaType The kind of media.
   */
  unsubscribe(uid: UidInput, mediaType: MediaType): Promise<void> {
    return this.ask('unsubscribe', () => ({ uid: toWire(uid), mediaType }), (_, of) => this.room.pulls(of.uid, mediaType, ''))
  }

  /**
   * Tells other members that a kind is muted. It does not change the component: also set `enable-mic` or `enable-camera` of
   * `live-pusher` (`pusherAttributes` returns them).
   * @param mediaType Absent or `''`: audio and video.
   * @param uid Another member, if the caller is a moderator.
   */
  mute(mediaType?: '' | 'audio' | 'video', uid?: UidInput | null): Promise<void> {
    return this.media('mute', mediaType, uid, nothing)
  }

  /**
   * Reverses `mute`.
   * @param mediaType Absent or `''`: audio and video.
   * @param uid Another member, if the caller is a moderator.
   */
  unmute(mediaType?: '' | 'audio' | 'video', uid?: UidInput | null): Promise<void> {
    return this.media('unmute', mediaType, uid, nothing)
  }

  /**
   * Reports the observations of a media component, for the statistics of the server. The app need not catch its rejection.
   * @param dir `push` for `live-pusher`, `pull` for `live-player`.
   * @param type The event of the component.
   * @param data The detail of the event.
   * @param uid The member whose stream is played.
   */
  dataReporter(dir: 'push' | 'pull', type: 'bindstatechange' | 'bindnetstatus' | 'binderror', data: object, uid?: UidInput | null): Promise<void> {
    const reported = this.ask('report', () => ({
      dir: oneOf(dir, 'dir', ['push', 'pull']),
      type: oneOf(type, 'type', ['bindstatechange', 'bindnetstatus', 'binderror']),
      data,
      uid: targetOf(uid),
    }), nothing)
    // Components still report for a moment after the channel has ended, and apps do not catch this rejection.
    reported.catch(nothing)
    return reported
  }

  // Push tasks

  /**
   * Starts push tasks, which mix the channel's media and push the result to another server. Rejected with `methodNotFound` by
   * servers without push tasks.
   * @param params The tasks, at least one.
   */
  addTasks(params: { rtmpTasks: RtmpTask[] }): Promise<void> {
    return this.ask('addTasks', () => tasksOf(params), nothing)
  }

  /**
   * Replaces the whole configuration of each task.
   * @param params The tasks, at least one.
   */
  updateTasks(params: { rtmpTasks: RtmpTask[] }): Promise<void> {
    return this.ask('updateTasks', () => tasksOf(params), nothing)
  }

  /**
   * Ends push tasks.
   * @param params Ids of the tasks, at least one.
   */
  deleteTasks(params: { taskIds: string[] }): Promise<void> {
    return this.ask('deleteTasks', () => taskIdsOf(params), nothing)
  }

  // Voice: values are kept for `pusherAttributes`, which has the nearest that WeChat offers.

  /**
   * Selects a voice beautifier; resets effect and pitch.
   * @param preset 0 off, 1 muffled, 2 mellow, 3 clear, 4 magnetic, 5 studio, 6 nature, 7 KTV, 8 remote, 9 church, 10 bedroom, 11 live.
   */
  setVoiceBeautifierPreset(preset: number): Promise<void> {
    return this.voiced('setVoiceBeautifierPreset', 'beautifier', preset, 0, 11, true)
  }

  /**
   * Selects a voice changer; resets beautifier and pitch.
   * @param preset 0 off, 1 robot, 2 giant, 3 horror, 4 mature, 5 man to woman, 6 woman to man, 7 man to girl, 8 woman to girl.
   */
  setAudioEffectPreset(preset: number): Promise<void> {
    return this.voiced('setAudioEffectPreset', 'effect', preset, 0, 8, true)
  }

  /**
   * Selects a pitch; resets beautifier and effect. The value is only stored: `live-pusher` has no such feature.
   * @param pitch 0.5 to 2.
   */
  setLocalVoicePitch(pitch: number): Promise<void> {
    return this.voiced('setLocalVoicePitch', 'pitch', pitch, 0.5, 2, false)
  }

  /**
   * Sets one band of the equalizer. The value is only stored: `live-pusher` has no such feature.
   * @param band 0 to 9, for 31, 62, 125, 250, 500 Hz, 1, 2, 4, 8, 16 kHz.
   * @param gain -15 to 15 dB; default 0.
   */
  setLocalVoiceEqualization(band: number, gain: number): Promise<void> {
    return this.calls.promise('setLocalVoiceEqualization', (resolve) => {
      this.voice.equalization[numberOf(band, 'band', 0, 9, true)] = numberOf(gain, 'gain', -15, 15, true)
      resolve()
    })
  }

  /**
   * Not supported: rejected with `notSupported`.
   * @param _source The spoken language.
   * @param _target The language to translate to.
   */
  startAsrCaptions(_source?: string, _target?: string): Promise<void> {
    return this.notSupported('startAsrCaptions')
  }

  /** Not supported: rejected with `notSupported`. */
  stopAsrCaptions(): Promise<void> {
    return this.notSupported('stopAsrCaptions')
  }

  /**
   * Not supported: rejected with `notSupported`.
   * @param _uid The member to interrupt.
   */
  aiManualInterrupt(_uid?: UidInput): Promise<void> {
    return this.notSupported('aiManualInterrupt')
  }

  // Beyond NERTC

  /**
   * Removes a member. The caller must be a moderator.
   * @param uid The member.
   * @param options `durationS`: number of seconds for which the uid is refused in this channel. `reason`: text for the member.
   */
  kick(uid: UidInput, options?: { durationS?: number; reason?: string }): Promise<void> {
    return this.ask('kick', () => Object.assign({}, options, { uid: toWire(uid) }), nothing)
  }

  /**
   * Ends the channel for all members. The caller must be a moderator.
   * @param options `holdS`: number of seconds for which nobody may join; default 10. `reason`: text for all members.
   */
  closeChannel(options?: { holdS?: number; reason?: string }): Promise<void> {
    return this.ask('closeChannel', () => options || {}, nothing)
  }

  /**
   * Sends a message to all other members, or to the members in `to`. Returns the number of different uids in `to`, present or not; 0 for a message to all.
   * @param data Text, 8192 bytes by default.
   * @param options `to`: the only recipients, audience included; at most 64.
   */
  sendMessage(data: string, options?: { to?: UidInput[] }): Promise<{ delivered: number }> {
    return this.ask('sendMessage', () => ({
      data,
      to: options && options.to && listOf(options.to, 'to').map((uid, at) => toWire(uid, `to[${at}]`)),
    }), (result) => result)
  }

  /**
   * Changes the client's own attributes (needs the right `message`) or those of the channel (moderators only). Other members receive `attributes-updated`.
   * @param attributes Only the changes: a string sets a key, null removes it.
   * @param options `target`: `'self'` or `'channel'`. `name`: the client's own display name.
   */
  setAttributes(attributes: { [key: string]: string | null }, options?: { target?: 'self' | 'channel'; name?: string }): Promise<void> {
    return this.ask('setAttributes', () => Object.assign({}, options, { attributes }), nothing)
  }

  /**
   * Replaces the token that expires. Returns how long the new token is valid; the value is absent if the token does not end the
   * membership. Rights that the new token lacks end at once.
   * @param token A new one for the same app, channel and uid.
   */
  renewToken(token: string): Promise<{ expiresInMs?: number }> {
    return this.ask('renewToken', () => ({ token }), (result) => {
      this.room.restrict()
      if (this.info.joinChannelParam) this.info.joinChannelParam.token = token
      return result
    })
  }

  /** All broadcasters, including the client itself (`isSelf`), as of the last emitted event. `[]` outside a channel. */
  members(): Member[] {
    return this.room.members()
  }

  /** The channel; null outside a channel. */
  channel(): Channel | null {
    const picture = this.view()
    return picture && {
      cid: cidOf(picture.cid),
      channelName: picture.channel,
      creator: told(picture.creator).uid,
      attributes: picture.attributes,
      memberCount: picture.memberCount,
      seq: picture.seq,
    }
  }

  /** The push tasks of the channel, sorted by id, as of the last emitted event. `[]` outside a channel. */
  tasks(): TaskInfo[] {
    const picture = this.view()
    return picture ? picture.tasks.map((task) => told(task.uid, task)) : []
  }

  /** State of the connection, as of the last emitted event. */
  get connectionState(): ConnectionState {
    return this.room.state
  }

  /** Present attributes of `live-pusher`. Pass them to `setData` after `publish`, `mute`, the voice setters and `syncDone`, and after
   * `mute-*`, `unmute-*` and `unpublished` for the client itself, which a moderator causes. */
  pusherAttributes(): PusherAttributes {
    return pusherOf(this.room, this.voice)
  }

  /**
   * Attributes of the `live-player` of a member. Pass them to `setData` after `subscribe`, `stream-removed` and `syncDone`.
   * @param uid The member.
   * @param mediaType Absent: audio and video, in one player. Kinds with a separate player: `'screenShare'`, `'slaveAudio'`.
   */
  playerAttributes(uid: UidInput, mediaType?: MediaType): PlayerAttributes {
    return playerOf(this.room, toWire(uid), mediaType)
  }

  /** Channel and uid of this client, as NERTC's own apps read them. It is a copy: writing to it changes nothing. */
  get _info(): Info {
    const picture = this.view()
    const { joinChannelParam } = this.info
    return Object.assign({}, this.info, picture && { cid: cidOf(picture.cid) }, joinChannelParam && { joinChannelParam: Object.assign({}, joinChannelParam) })
  }

  private crashed(cause: unknown): void {
    this.runtime = this.picture = null
    // The memory of the module is in an unknown state.
    this.loader.drop()
    this.calls.drop('internalError')
    this.settings.host.console.error('lianmai: the client failed', cause)
    this.delivery.add(NEXT, () => {
      this.emitter.emit('error', failure('internalError'))
      this.room.changeState('disconnected', 'crashed')
      this.room.disconnected(1006, 'crashed', false)
    })
  }

  /** Takes one item from the core. Returns 0 if there was none, 1 for an event, 2 if a call settled. */
  private step(): number {
    const item = this.runtime && this.runtime.next()
    // Every item may change the picture, also without an event.
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

  /** Keeps the runtime while the addresses stay the same, because a `leave` may still be in progress. */
  private start(module: Module, urls: string[], seed: string): void {
    const { host, connectTimeoutMs, commandTimeoutMs, giveUpAfterMs } = this.settings
    const addresses = urls.join()
    if (this.runtime && this.addresses === addresses) return
    if (this.runtime) this.runtime.dispose()
    // The constructor throws if the module rejects the configuration. Then there is no runtime.
    this.runtime = null
    this.calls.drop('superseded')
    this.runtime = new Runtime(host, module, JSON.stringify({ urls, seed, connectTimeoutMs, commandTimeoutMs, giveUpAfterMs }), {
      items: () => this.delivery.wake(),
      connecting: () => this.delivery.add(LAST, () => this.room.attempt('attempt', 1)),
      limit: () => this.delivery.add(LAST, () => this.room.attempt('socketLimit', 0)),
      crashed: (cause) => this.crashed(cause),
    })
    this.addresses = addresses
  }

  private free(): void {
    if (!this.isRetired || !this.runtime || !this.runtime.isIdle()) return
    this.runtime.dispose()
    this.runtime = null
    this.picture = undefined
  }

  /** Makes a call to the core. */
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

  private media<T>(method: string, mediaType: '' | MediaType | undefined, uid: UidInput | null | undefined, map: (result: any) => T): Promise<T> {
    return this.ask(method, () => ({ mediaType: mediaType || '', uid: targetOf(uid) }), map)
  }

  private voiced(method: string, what: 'beautifier' | 'effect' | 'pitch', value: number, low: number, high: number, isWhole: boolean): Promise<void> {
    return this.calls.promise(method, (resolve) => {
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
