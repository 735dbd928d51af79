// The channel as the app was told it. In: items of the core and the picture as of each. Out: events in NERTC's names and
// shapes. Deliberately absent: calls, and any decision about the connection.

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

/** The picture of the core. */
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

/** What is needed of the client. */
export interface Surroundings {
  picture(): Picture | null
  /** Runs something before newer items. */
  next(run: () => void): void
  /** Whether the app called `leave` or `destroy`. */
  isLeaving(): boolean
  /** Whether everything is announced again after a reconnect. */
  isAll(): boolean
}

/** Late handlers of these hear what is so. */
const REPLAYED: { [event: string]: string } = {
  clientJoin: 'clientJoin',
  'peer-online': 'clientJoin',
  'stream-added': 'stream-added',
  'mute-audio': 'audio',
  'mute-video': 'video',
}

/** Reasons of NERTC's web SDK for `peer-leave`; any other is 0. */
const WEB_REASON: { [reason: string]: number } = { __proto__: null as never, serverRestart: 1, kicked: 2, timeout: 3 }

/** NERTC's codes of `disconnect` by close code. */
const DISCONNECT: { [code: number]: string } = { 1006: '403', 4500: '405', 4502: '405', 4503: '406', 4501: '417' }

/** Audio and video share a URL; every other kind has its own. */
function slotOf(kind: MediaType): MediaType {
  return kind === 'video' ? 'audio' : kind
}

/** A number as in NERTC, where it is one. */
export function cidOf(cid: string): number | string {
  return /^\d+$/.test(cid) ? told(cid).uid : cid
}

/** Events of the core that need no other shape, by the name that apps know. */
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
  /** Attempts to connect since there was a connection. */
  private attempts = 0
  private pushUrls: { [slot: string]: string } = {}
  private pullUrls: { [uidAndKind: string]: string } = {}
  /** What the app was told of others, by uid. */
  private known = new Map<string, Known>()
  private isAway = false
  private wasKicked = false

  constructor(private emit: Emitter['emit'], private around: Surroundings) {}

  /** `join` succeeded: who is there is told next. */
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

  /** The URL to push a kind to, `''` when there is none. */
  pushUrl(kind: MediaType): string {
    return this.pushUrls[slotOf(kind)] || ''
  }

  /** The URL that plays a kind of somebody, `''` when it is not subscribed. */
  pullUrl(uid: string, kind: MediaType): string {
    return this.pullUrls[uid + kind] || ''
  }

  /** Whether a kind of one's own is published and not muted. */
  isSent(kind: MediaType): boolean {
    const picture = this.around.picture()
    return !!picture && kinds(picture.own.published).indexOf(kind) >= 0 && picture.own.muted!.indexOf(kind) < 0
  }

  /** `publish` succeeded. */
  pushes(kind: MediaType, url: string): void {
    this.pushUrls[slotOf(kind)] = url
  }

  /** Own media may have ended. A URL without any is forgotten. That is told, unless the app asked for it. */
  pushesNoMore(isAsked: boolean): void {
    const picture = this.around.picture()
    for (const slot of Object.keys(this.pushUrls)) {
      if (picture && kinds(picture.own.published).some((kind) => slotOf(kind) === slot)) continue
      delete this.pushUrls[slot]
      if (!isAsked) this.urlChanged(this.own, 'push', slot as MediaType, '', {})
    }
  }

  /** The rights may have changed. A URL of a kind that may not be played any more is forgotten. */
  restrict(): void {
    const picture = this.around.picture()
    for (const key of Object.keys(this.pullUrls)) {
      if (picture && picture.own.rights.subscribe.indexOf(key.replace(/\d+/, '') as MediaType) < 0) delete this.pullUrls[key]
    }
  }

  /** `subscribe` succeeded, or `unsubscribe` with `''`. */
  pulls(uid: string, kind: MediaType, url: string): void {
    if (url) this.pullUrls[uid + kind] = url
    else delete this.pullUrls[uid + kind]
  }

  /** What a handler that came late is owed; null where there is nothing to hear late. */
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

  /** An event of the core. */
  event(name: string, data: any): void {
    // After a reconnect everything is announced anew, where that is wanted.
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

  /** An attempt to connect, or that there was none to be had. */
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
    // An app that left knows, and has left the page already.
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

  /** Apps know by these events only what a member that comes has muted. */
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

  /** The server, or the session that came back, has another URL. */
  private synced(data: { uid: string; direction: 'push' | 'pull'; mediaType: MediaType; url: string; urls: Urls }): void {
    const { uid, direction, mediaType, url, urls } = data
    if (direction === 'push') {
      this.pushUrls[slotOf(mediaType)] = url
    } else {
      // Audio and video come with the same URL, one after the other.
      const isTold = slotOf(mediaType) === 'audio' && (['audio', 'video'] as const).some((kind) => this.pullUrl(uid, kind) === url)
      this.pulls(uid, mediaType, url)
      if (isTold) return
    }
    this.urlChanged(uid, direction, mediaType, url, urls)
  }

  private urlChanged(uid: string, direction: 'push' | 'pull', mediaType: MediaType, url: string, urls: Urls): void {
    this.emit('url-updated', told(uid, { direction, mediaType, url, urls }))
    // Apps take each entry for the one pusher or player of its user.
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
