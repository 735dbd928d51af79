// The channel as reported to the app. In: items of the core, and its picture at each item. Out: events with the names and
// shapes of NERTC. Deliberately absent: calls, and decisions about the connection.

import { told, type Uid } from '../uid.js'
import type { Emitter } from './emitter.js'
import type { Attributes, ConnectionState, MediaType, Role, Urls } from './events.js'

/** A broadcaster. */
export interface Member {
  /** A number, or, above 9007199254740991, a string of digits. */
  uid: Uid
  /** Whether `uid` is a string. */
  isBigNumber: boolean
  /** Whether the member is the client itself. */
  isSelf: boolean
  /** Its role. `members()` lists broadcasters only; it lists the client itself only while it is a broadcaster. */
  role: Role
  /** Display name. */
  name?: string
  /** Attributes, `{}` if there are none. */
  attributes: Attributes
  /** Kinds that are muted. */
  muted: MediaType[]
  /** Kinds that the member publishes. */
  streams: MediaType[]
}

/** The state of the channel as the core gives it. */
export interface Picture {
  cid: string
  channel: string
  creator: string
  attributes: Attributes
  tasks: Array<{ uid?: string; taskId: string; state?: string; code: number; revision: number; retries?: number }>
  members: PictureMember[]
  own: PictureMember & { rights: { subscribe: MediaType[] }; published: Array<{ mediaType: MediaType }>; subscriptions: Array<{ uid: string; mediaType: MediaType }> }
  memberCount: number
  seq: number
}

interface PictureMember {
  uid: string
  role: Role
  name?: string
  attributes?: Attributes
  muted?: MediaType[]
  streams: Array<{ mediaType: MediaType }>
}

/** What `Room` needs from the client. */
export interface Surroundings {
  picture(): Picture | null
  /** Runs a function before newer items are taken. */
  next(run: () => void): void
  /** Whether the app called `leave` or `destroy`. */
  isLeaving(): boolean
  /** Whether all members and streams are announced again after a reconnect. */
  isAll(): boolean
}

/** Events that a handler receives about the present state when it is added late. */
const REPLAYED: { [event: string]: string } = {
  clientJoin: 'clientJoin',
  'peer-online': 'clientJoin',
  'stream-added': 'stream-added',
  'mute-audio': 'audio',
  'mute-video': 'video',
}

/** NERTC's web SDK: the reasons of `peer-leave`; every other reason is 0. */
const WEB_REASON: { [reason: string]: number } = { __proto__: null as never, serverRestart: 1, kicked: 2, timeout: 3 }

/** NERTC's codes of `disconnect`, by close code. */
const DISCONNECT: { [code: number]: string } = { 1006: '403', 4500: '405', 4502: '405', 4503: '406', 4501: '417' }

/** The key of a kind's URL: audio and video share a URL, every other kind has its own. */
function slotOf(kind: MediaType): MediaType {
  return kind === 'video' ? 'audio' : kind
}

/** The channel id as in NERTC: a number if it consists of digits. */
export function cidOf(cid: string): number | string {
  return /^\d+$/.test(cid) ? told(cid).uid : cid
}

/** Events of the core whose payload needs no conversion, with their names for apps. */
const PLAIN: { [event: string]: string } = {
  memberCount: 'member-count',
  networkQuality: 'network-quality',
  serverRestarting: 'server-restarting',
}

interface Known {
  streams: Set<MediaType>
  muted: Set<MediaType>
}

export class Room {
  state: ConnectionState = 'disconnected'
  own = ''
  /** Number of attempts to connect since the client was last connected. */
  private attempts = 0
  private pushUrls: { [slot: string]: string } = {}
  private pullUrls: { [uidAndKind: string]: string } = {}
  /** What the app knows of other members, by uid. */
  private known = new Map<string, Known>()
  private isAway = false
  private wasKicked = false

  constructor(private emit: Emitter['emit'], private around: Surroundings) {}

  /** After `join` succeeded: announces the members that are present. */
  entered(own: string): void {
    this.own = own
    this.announce()
  }

  members(): Member[] {
    const picture = this.around.picture()
    return picture ? picture.members.map((member) => told(member.uid, {
      isSelf: member.uid === picture.own.uid,
      role: member.role,
      name: member.name,
      attributes: member.attributes!,
      muted: member.muted!,
      streams: kinds(member.streams),
    })) : []
  }

  /** The push URL of a kind, `''` if there is none. */
  pushUrl(kind: MediaType): string {
    return this.pushUrls[slotOf(kind)] || ''
  }

  /** The URL that plays a kind of a member, `''` if it is not subscribed. */
  pullUrl(uid: string, kind: MediaType): string {
    return this.pullUrls[uid + kind] || ''
  }

  /** Whether the client itself publishes a kind and has not muted it. */
  isSent(kind: MediaType): boolean {
    const picture = this.around.picture()
    return !!picture && kinds(picture.own.published).indexOf(kind) >= 0 && picture.own.muted!.indexOf(kind) < 0
  }

  /** Records the URL after `publish` succeeded. */
  pushes(kind: MediaType, url: string): void {
    this.pushUrls[slotOf(kind)] = url
  }

  /** Forgets push URLs without a published kind. Emits an event for each, unless the app asked for it. */
  pushesNoMore(isAsked: boolean): void {
    const picture = this.around.picture()
    for (const slot of Object.keys(this.pushUrls)) {
      if (picture && kinds(picture.own.published).some((kind) => slotOf(kind) === slot)) continue
      delete this.pushUrls[slot]
      if (!isAsked) this.urlChanged(this.own, 'push', slot as MediaType, '', {})
    }
  }

  /** Forgets the URLs of kinds that the client may no longer play. Its rights may have changed. */
  restrict(): void {
    const picture = this.around.picture()
    for (const key of Object.keys(this.pullUrls)) {
      if (picture && picture.own.rights.subscribe.indexOf(key.replace(/\d+/, '') as MediaType) < 0) delete this.pullUrls[key]
    }
  }

  /** Records the URL after `subscribe` succeeded; `''` after `unsubscribe`. */
  pulls(uid: string, kind: MediaType, url: string): void {
    if (url) this.pullUrls[uid + kind] = url
    else delete this.pullUrls[uid + kind]
  }

  /** The past events that a late handler must receive; null if there are none. */
  owed(event: string): (() => unknown[]) | null {
    const what = REPLAYED[event]
    if (!what || !this.known.size) return null
    return () => {
      const events: unknown[] = []
      this.known.forEach((known, uid) => {
        if (what === 'clientJoin') events.push(this.joinEventOf(uid))
        else if (what === 'stream-added') known.streams.forEach((kind) => events.push(streamEvent(uid, kind)))
        else if (known.muted.has(what as MediaType)) events.push(streamEvent(uid, what as MediaType))
      })
      return events
    }
  }

  /** Handles an event of the core. */
  event(name: string, data: any): void {
    // Suppresses the changes during a reconnect if everything is announced again afterwards.
    const isSilent = this.isAway && this.around.isAll()
    switch (name) {
      case 'open':
        return this.emit('open', { code: '200', desc: 'the socket is open' })
      case 'connectionStateChange':
        return this.connectionMoved(data.state, data.reason)
      case 'reconnected':
        this.isAway = false
        this.restrict()
        this.emit('reconnected', data)
        return isSilent ? this.announce() : undefined
      case 'disconnected':
        return this.disconnected(data.code, data.reason, data.terminal)
      case 'clientJoin':
        if (isSilent) return
        this.joined(data)
        return this.mutes(data)
      case 'clientLeave':
        return this.left(data.uid, data.reason)
      case 'streamAdded':
        return isSilent ? undefined : this.added(data.uid, data.mediaType)
      case 'streamRemoved':
        return this.removed(data.uid, data.mediaType)
      case 'muted':
      case 'unmuted':
        return isSilent && data.uid !== this.own ? undefined : this.muteChanged(data.uid, data.mediaType, name === 'muted')
      case 'clientUpdate':
        return this.emit('attributes-updated', told(data.uid, { target: 'member', name: data.name, attributes: data.attributes || {} }))
      case 'channelUpdate':
        return this.emit('attributes-updated', { target: 'channel', attributes: data.attributes || {} })
      case 'roleChanged':
        return this.emit('role-Changed', told(data.uid, { role: data.role }))
      case 'published':
        return this.emit(name, streamEvent(this.own, data.mediaType))
      case 'unpublished':
        this.emit(name, streamEvent(this.own, data.mediaType))
        return this.pushesNoMore(false)
      case 'syncDone':
        return this.synced(data)
      case 'message':
        return this.both('message', 'custom-data', told(data.uid, data))
      case 'rtmpTasksStatus':
        return this.both('rtmp-tasks-status', 'rtmp-state', told(data.uid, data))
      case 'liveRoomClose':
        return this.both(name, 'channel-closed', { cid: cidOf(data.cid), reason: data.reason, text: data.text || '' })
      case 'kicked':
        return this.tellKicked('kicked', data.reason || '', data.durationS)
      case 'tokenWillExpire':
        return this.both('token-will-expire', 'permkey-will-expire', data)
      default:
        this.emit(PLAIN[name] || name, told(data.uid, data))
    }
  }

  changeState(state: ConnectionState, reason: string, attempt?: number): void {
    const previous = this.state
    this.state = state
    const reconnect = state === 'reconnecting' || previous === 'reconnecting'
    this.emit('connection-state-change', {
      state, previous, reason, attempt, curState: web(state), prevState: web(previous), reconnect,
    })
  }

  /** Reports an attempt to connect, or that the platform allowed none (`count` is 0). */
  attempt(reason: string, count: number): void {
    this.attempts += count
    if (this.state === 'connecting' || this.state === 'reconnecting') this.changeState(this.state, reason, this.attempts)
  }

  disconnected(code: number, reason: string, terminal: boolean): void {
    if (code === 4507) this.both('token-expired', 'permkey-timeout', { reason })
    if (code === 4502 && !this.wasKicked) this.tellKicked('replaced', '', 0)
    this.known.clear()
    this.pushUrls = {}
    this.pullUrls = {}
    this.wasKicked = this.isAway = false
    // An app that called `leave` does not expect an event about it.
    if (reason === 'left' && this.around.isLeaving()) return
    this.emit('disconnect', { code: DISCONNECT[code] || '401', reason, closeCode: code, terminal })
  }

  private connectionMoved(state: ConnectionState, reason: string): void {
    const previous = this.state
    if (state !== 'reconnecting' && state !== 'connecting') this.attempts = 0
    this.changeState(state, reason)
    if (state !== 'reconnecting' || previous === state) return
    this.isAway = true
    this.emit('willreconnect', { count: 1 })
  }

  private tellKicked(reason: string, text: string, durationS: number): void {
    this.wasKicked = true
    const picture = this.around.picture()
    const data = told(this.own, { cid: picture ? cidOf(picture.cid) : '', reason, text, durationS })
    this.both('kicked', reason === 'kicked' ? 'client-banned' : 'uid-duplicate', data)
  }

  private announce(): void {
    const picture = this.around.picture()
    if (!picture) return
    for (const member of picture.members) {
      const { uid } = member
      if (uid === picture.own.uid) continue
      this.around.next(() => this.joined(member))
      for (const kind of kinds(member.streams)) this.around.next(() => this.added(uid, kind))
      this.around.next(() => this.mutes(member))
    }
  }

  private joined(member: PictureMember): void {
    this.known.set(member.uid, newKnown())
    this.both('clientJoin', 'peer-online', joinEvent(member))
  }

  /** Reports the muted kinds of a member that came: apps learn of them only by these events. */
  private mutes(member: PictureMember): void {
    for (const kind of member.muted || []) this.muteChanged(member.uid, kind, true)
  }

  private left(uid: string, reason: string): void {
    for (const key of Object.keys(this.pullUrls)) if (key.replace(/\D.*/, '') === uid) delete this.pullUrls[key]
    if (!this.known.delete(uid)) return
    this.emit('clientLeave', told(uid, { reason }), 'peer-leave', told(uid, { reason: WEB_REASON[reason] || 0 }))
  }

  private added(uid: string, kind: MediaType): void {
    const known = this.known.get(uid)
    if (known) known.streams.add(kind)
    this.emit('stream-added', streamEvent(uid, kind))
  }

  private removed(uid: string, kind: MediaType): void {
    this.pulls(uid, kind, '')
    const known = this.known.get(uid)
    if (known && known.streams.delete(kind)) this.emit('stream-removed', streamEvent(uid, kind))
  }

  private muteChanged(uid: string, kind: MediaType, isMuted: boolean): void {
    const known = this.known.get(uid)
    if (known) known.muted[isMuted ? 'add' : 'delete'](kind)
    this.emit(`${isMuted ? '' : 'un'}mute-${kind}`, streamEvent(uid, kind))
  }

  /** The server or the resumed session has a new URL. */
  private synced(data: { uid: string; direction: 'push' | 'pull'; mediaType: MediaType; url: string; urls: Urls }): void {
    const { uid, direction, mediaType, url, urls } = data
    if (direction === 'push') {
      this.pushUrls[slotOf(mediaType)] = url
    } else {
      // Audio and video report the same URL one after the other; the app gets one event.
      const isTold = slotOf(mediaType) === 'audio' && (['audio', 'video'] as const).some((kind) => this.pullUrl(uid, kind) === url)
      this.pulls(uid, mediaType, url)
      if (isTold) return
    }
    this.urlChanged(uid, direction, mediaType, url, urls)
  }

  private urlChanged(uid: string, direction: 'push' | 'pull', mediaType: MediaType, url: string, urls: Urls): void {
    this.emit('url-updated', told(uid, { direction, mediaType, url, urls }))
    // Apps apply each entry to the only pusher or player of its user.
    if (slotOf(mediaType) !== 'audio') return
    const userList = [told(uid, { url })]
    this.emit('syncDone', told(this.own, { url: this.pushUrl('audio'), userList, userlist: userList }))
  }

  private both(event: string, alias: string, payload: unknown): void {
    this.emit(event, payload, alias, payload)
  }

  private joinEventOf(uid: string): unknown {
    const picture = this.around.picture()
    const member = picture && picture.members.filter((of) => of.uid === uid)[0]
    return joinEvent(member || { uid })
  }
}

function newKnown(): Known {
  return { streams: new Set(), muted: new Set() }
}

function joinEvent(member: { uid: string; name?: string; attributes?: Attributes }): unknown {
  return told(member.uid, { name: member.name, attributes: member.attributes || {} })
}

function streamEvent(uid: string, mediaType: MediaType): unknown {
  return told(uid, { mediaType })
}

function kinds(streams: Array<{ mediaType: MediaType }>): MediaType[] {
  return streams.map((stream) => stream.mediaType)
}

function web(state: ConnectionState): string {
  return state === 'reconnecting' ? 'CONNECTING' : state.toUpperCase()
}
