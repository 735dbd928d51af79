// The state of the room that the page shows: one client of the SDK, its events, and the streams that play. In: actions of the
// user, and events of the SDK. Out: fields to draw, and a call whenever one of them changed. Deliberately absent: drawing, texts,
// and decisions about the connection, which the SDK makes.

import YunXinMiniappSDK, {
  type Channel, type Client, type ClientEvents, type ConnectionState, type EventName, type KickedEvent, type LianmaiError, type MediaType,
  type Member, type ReconnectedEvent, type Role, type RoomCloseEvent, type RtmpTask, type TaskEvent, type TaskInfo, type Uid, type Urls,
} from 'lianmai/web'
import { SimulatedNetwork } from './network.js'
import { EventLog } from './log.js'
import { transportOf, type Source } from './player.js'

/** A stream that is shown. */
export interface Tile {
  key: string
  uid: Uid
  /** Audio and video of a member share a stream; every other kind has its own. */
  kinds: Set<MediaType>
  /** Absent until the URL is known, or if this page cannot play any of the URLs. */
  source?: Source
}

export interface ChatMessage {
  id: number
  uid: Uid
  name: string
  text: string
  isTargeted: boolean
  isOwn: boolean
}

/** Why the user is no longer in the room. */
export type Ending =
  | { why: 'kicked'; event: KickedEvent }
  | { why: 'closed'; event: RoomCloseEvent }
  | { why: 'disconnect'; reason: string }

/** An error that is shown until the user dismisses it. */
export interface Trouble {
  id: number
  error: LianmaiError
}

export interface Entry {
  appkey: string
  channel: string
  uid: string
  name: string
  role: Role
  token: string
}

/** The number of messages that are kept. */
const MAX_MESSAGES = 200
/** The number of streams that play at once: each needs a decoder, and the server limits subscriptions. */
const MAX_TILES = 16

export class Room {
  entry: Entry | null = null
  state: ConnectionState = 'disconnected'
  attempt = 0
  channel: Channel | null = null
  members: Member[] = []
  ownUid: Uid | null = null
  pushUrl = ''
  muted = new Set<MediaType>()
  tiles = new Map<string, Tile>()
  /** Streams that wait for a free tile, in order. */
  waiting = new Map<string, Tile>()
  messages: ChatMessage[] = []
  tasks: TaskInfo[] = []
  /** The last event of each task. It contains more than the task itself. */
  lastTaskEvents = new Map<string, TaskEvent>()
  /** The parameters of the tasks that this page set. The server does not report the layout of other tasks. */
  ownTasks = new Map<string, RtmpTask>()
  log = new EventLog()
  ending: Ending | null = null
  troubles: Trouble[] = []
  /** The result of the last reconnect; cleared when the connection is lost again. */
  lastReconnect: ReconnectedEvent | null = null
  /** When the token expires, in milliseconds of `performance.now`. */
  tokenExpiresAt: number | null = null
  readonly network: SimulatedNetwork
  private readonly client: Client
  private next = 1

  constructor(server: string, wasmPath: string, private changed: () => void) {
    this.network = new SimulatedNetwork(changed)
    YunXinMiniappSDK.configure({ server, wasmPath, host: this.network.host() })
    this.client = YunXinMiniappSDK.createClient()
    this.client.on('*', (event, payload) => this.onEvent(event, payload))
  }

  async join(entry: Entry): Promise<void> {
    Object.assign(this, { entry: { ...entry, token: '' }, ending: null, lastReconnect: null, tokenExpiresAt: null, messages: [], troubles: [], lastTaskEvents: new Map(), ownTasks: new Map(), log: new EventLog() })
    this.client.configure({ appkey: entry.appkey })
    this.changed()
    await this.call('join', async () => {
      const { uid } = await this.client.join({
        channelName: entry.channel,
        role: entry.role,
        ...(entry.uid && { uid: entry.uid }),
        ...(entry.name && { name: entry.name }),
        ...(entry.token && { token: entry.token }),
      })
      this.ownUid = uid
    })
  }

  leave(): Promise<void> {
    return this.call('leave', async () => {
      try {
        await this.client.leave()
      } finally {
        // The user has left, whatever the server answered.
        this.clear()
      }
    })
  }

  publish(kind: '' | 'audio' | 'video'): Promise<void> {
    return this.call('publish', () => this.client.publish(kind))
  }

  unpublish(): Promise<void> {
    return this.call('unpublish', () => this.client.unpublish())
  }

  mute(kind: 'audio' | 'video', isMuted: boolean): Promise<void> {
    return this.call(isMuted ? 'mute' : 'unmute', async () => {
      await (isMuted ? this.client.mute(kind) : this.client.unmute(kind))
      if (isMuted) this.muted.add(kind)
      else this.muted.delete(kind)
    })
  }

  setRole(role: Role): Promise<void> {
    return this.call('setRole', () => this.client.setRole(role))
  }

  say(text: string, to: Uid | null): Promise<boolean> {
    return this.tryCall('sendMessage', async () => {
      await this.client.sendMessage(text, to === null ? {} : { to: [to] })
      // The server does not send a client its own message.
      this.addMessage({ uid: this.ownUid!, text, isTargeted: to !== null, isOwn: true })
    })
  }

  setAttribute(key: string, value: string | null, target: 'self' | 'channel'): Promise<boolean> {
    return this.tryCall('setAttributes', () => this.client.setAttributes({ [key]: value }, { target }))
  }

  rename(name: string): Promise<boolean> {
    return this.tryCall('setAttributes', () => this.client.setAttributes({}, { name }))
  }

  renewToken(token: string): Promise<boolean> {
    return this.tryCall('renewToken', async () => {
      await this.client.renewToken(token)
      this.tokenExpiresAt = null
    })
  }

  addTask(task: RtmpTask): Promise<boolean> {
    return this.tryCall('addTasks', async () => {
      await this.client.addTasks({ rtmpTasks: [task] })
      this.ownTasks.set(task.taskId, task)
    })
  }

  updateTask(task: RtmpTask): Promise<boolean> {
    return this.tryCall('updateTasks', async () => {
      await this.client.updateTasks({ rtmpTasks: [task] })
      this.ownTasks.set(task.taskId, task)
    })
  }

  deleteTask(taskId: string): Promise<boolean> {
    return this.tryCall('deleteTasks', () => this.client.deleteTasks({ taskIds: [taskId] }))
  }

  // Calls of moderators

  kick(uid: Uid, reason: string, durationS: number): Promise<void> {
    return this.call('kick', () => this.client.kick(uid, { ...(reason && { reason }), ...(durationS && { durationS }) }))
  }

  silence(uid: Uid, kind: 'audio' | 'video', isMuted: boolean): Promise<void> {
    return this.call(isMuted ? 'mute' : 'unmute', () => (isMuted ? this.client.mute(kind, uid) : this.client.unmute(kind, uid)))
  }

  takeOffAir(uid: Uid): Promise<void> {
    return this.call('unpublish', () => this.client.unpublish('', uid))
  }

  toAudience(uid: Uid): Promise<void> {
    return this.call('setRole', () => this.client.setRole('audience', uid))
  }

  closeChannel(reason: string): Promise<void> {
    return this.call('closeChannel', () => this.client.closeChannel(reason ? { reason } : {}))
  }

  dismissTrouble(trouble: Trouble): void {
    this.troubles = this.troubles.filter(({ id }) => id !== trouble.id)
    this.changed()
  }

  /** A stream ended or failed in this page and is opened again. The log shows the reason. */
  logReopened(uid: Uid, reason: string): void {
    this.log.add('stream-reopened', { uid, reason }, this.channel?.seq)
    this.changed()
  }

  /** The user dismisses the result of the reconnect. */
  dismissReconnect(): void {
    this.lastReconnect = null
    this.changed()
  }

  nameOf(uid: Uid): string {
    return this.members.find((member) => member.uid === uid)?.name || String(uid)
  }

  /** The present role of the client. It may differ from the role that it requested. */
  get role(): Role {
    return this.members.some(({ isSelf }) => isSelf) ? 'broadcaster' : 'audience'
  }

  get isModerator(): boolean {
    return this.channel !== null && this.channel.creator === this.ownUid
  }

  // Events of the SDK

  private onEvent<E extends EventName>(event: E, payload: ClientEvents[E]): void {
    const before = this.members
    this.channel = this.client.channel()
    this.members = this.client.members()
    this.tasks = this.client.tasks()
    this.state = this.client.connectionState
    this.log.add(event, payload, this.channel?.seq)
    const handlers: { [K in EventName]?: (payload: ClientEvents[K]) => void } = {
      'connection-state-change': ({ attempt }) => (this.attempt = attempt ?? 0),
      willreconnect: () => (this.lastReconnect = null),
      reconnected: (event) => (this.lastReconnect = event),
      'stream-added': ({ uid, mediaType }) => this.onStreamAdded(uid, mediaType),
      'stream-removed': ({ uid, mediaType }) => this.onStreamRemoved(uid, mediaType),
      'url-updated': ({ uid, direction, mediaType, urls }) => direction === 'pull' && this.onUrls(uid, mediaType, urls),
      'mute-audio': ({ uid }) => uid === this.ownUid && this.muted.add('audio'),
      'mute-video': ({ uid }) => uid === this.ownUid && this.muted.add('video'),
      'unmute-audio': ({ uid }) => uid === this.ownUid && this.muted.delete('audio'),
      'unmute-video': ({ uid }) => uid === this.ownUid && this.muted.delete('video'),
      'rtmp-tasks-status': (event) => this.onTaskEvent(event),
      message: ({ uid, data, targeted }) => this.addMessage({ uid, text: data, isTargeted: targeted, isOwn: false }),
      'token-will-expire': ({ expiresInMs }) => (this.tokenExpiresAt = performance.now() + expiresInMs),
      kicked: (event) => (this.ending = { why: 'kicked', event }),
      liveRoomClose: (event) => (this.ending = { why: 'closed', event }),
      disconnect: ({ reason }) => {
        this.ending ??= { why: 'disconnect', reason }
        this.members = before
        this.clear()
      },
    }
    handlers[event]?.(payload)
    this.pushUrl = this.client.pusherAttributes().url
    this.changed()
  }

  private onStreamAdded(uid: Uid, kind: MediaType): void {
    const key = keyOf(uid, kind)
    const tile = this.tiles.get(key) ?? this.waiting.get(key) ?? { key, uid, kinds: new Set() }
    const grown = { ...tile, kinds: new Set(tile.kinds).add(kind) }
    if (!this.tiles.has(key) && this.tiles.size >= MAX_TILES) {
      this.waiting.set(key, grown)
      return
    }
    this.setTile(grown)
    this.subscribe(uid, kind)
  }

  private subscribe(uid: Uid, kind: MediaType): void {
    this.client.subscribe(uid, kind).then(({ urls }) => this.onUrls(uid, kind, urls), (error: LianmaiError) => {
      // The stream ended meanwhile, or the client left. Events report both.
      if (!['notPublished', 'noSuchMember', 'superseded', 'notJoined'].includes(error.name)) this.addTrouble(error)
    })
  }

  private onStreamRemoved(uid: Uid, kind: MediaType): void {
    const key = keyOf(uid, kind)
    const isShown = this.tiles.has(key)
    const tile = this.tiles.get(key) ?? this.waiting.get(key)
    if (!tile) return
    const kinds = new Set(tile.kinds)
    kinds.delete(kind)
    if (kinds.size) {
      if (isShown) this.setTile({ ...tile, kinds })
      else this.waiting.set(key, { ...tile, kinds })
      return
    }
    this.waiting.delete(key)
    if (!isShown) return
    this.tiles = new Map(this.tiles)
    this.tiles.delete(key)
    const [next] = this.waiting.values()
    if (!next) return
    this.waiting.delete(next.key)
    this.setTile(next)
    for (const one of next.kinds) this.subscribe(next.uid, one)
  }

  private onUrls(uid: Uid, kind: MediaType, urls: Urls): void {
    const tile = this.tiles.get(keyOf(uid, kind))
    if (!tile) return
    const chosen = transportOf(urls)
    const { source: _, ...rest } = tile
    this.setTile(chosen ? { ...rest, source: { ...chosen, hasAudio: false, hasVideo: false } } : rest)
    this.changed()
  }

  private setTile(tile: Tile): void {
    const { source, kinds } = tile
    if (source) {
      const isMain = kinds.has('audio') || kinds.has('video')
      const hasAudio = isMain ? kinds.has('audio') : kinds.has('slaveAudio')
      const hasVideo = isMain ? kinds.has('video') : kinds.has('screenShare')
      tile.source = { ...source, hasAudio, hasVideo }
    }
    this.tiles = new Map(this.tiles).set(tile.key, tile)
  }

  private onTaskEvent(event: TaskEvent): void {
    if (event.state !== 'ended') {
      this.lastTaskEvents.set(event.taskId, event)
      return
    }
    this.lastTaskEvents.delete(event.taskId)
    this.ownTasks.delete(event.taskId)
  }

  private addMessage(message: Omit<ChatMessage, 'id' | 'name'>): void {
    this.messages = [...this.messages.slice(1 - MAX_MESSAGES), { ...message, id: this.next++, name: this.nameOf(message.uid) }]
  }

  private clear(): void {
    this.tiles = new Map()
    this.waiting.clear()
    this.members = []
    this.tasks = []
    this.muted.clear()
    this.pushUrl = ''
    this.tokenExpiresAt = null
    this.state = 'disconnected'
  }

  private addTrouble(error: LianmaiError): void {
    this.troubles = [...this.troubles.filter((trouble) => trouble.error.name !== error.name), { id: this.next++, error }]
    this.changed()
  }

  /** Makes a call; logs its success and shows its failure. */
  private async tryCall(name: string, call: () => Promise<unknown>): Promise<boolean> {
    try {
      await call()
      this.pushUrl = this.client.pusherAttributes().url
      this.channel = this.client.channel()
      // A client receives no event about its own call; the answer is the only report.
      this.log.add(`${name}()`, null, this.channel?.seq)
      this.members = this.client.members()
      this.tasks = this.client.tasks()
      this.state = this.client.connectionState
      this.changed()
      return true
    } catch (error) {
      this.state = this.client.connectionState
      this.addTrouble(error as LianmaiError)
      return false
    }
  }

  private async call(name: string, call: () => Promise<unknown>): Promise<void> {
    await this.tryCall(name, call)
  }
}

function keyOf(uid: Uid, kind: MediaType): string {
  return kind === 'audio' || kind === 'video' ? String(uid) : `${uid}/${kind}`
}
