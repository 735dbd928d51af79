// What apps hand in, in the spelling of the wire. In: anything. Out: parameters of a call, or the error that says what
// is wrong. Only what the core would not see is judged here: types of JavaScript, uids, NERTC's own shapes.

import { failure, wrong } from '../errors.js'
import { toWire, type UidInput } from '../uid.js'
import type { Attributes, MediaType, Role } from './events.js'

/** What `join` takes. NERTC's parameters of recording and live streaming are taken and mean nothing here. */
export interface JoinParams {
  channelName: string
  /** Null or absent: the server chooses one. */
  uid?: UidInput | null
  /** `''`, null and undefined are none. */
  token?: string | null
  /** Instead of `setRole` before. */
  role?: Role
  /** Display name. */
  name?: string
  attributes?: Attributes
  liveEnable?: 0 | 1
  rtmpRecord?: 0 | 1
  recordAudio?: 0 | 1
  recordVideo?: 0 | 1
  recordType?: '0' | '1' | '2' | 0 | 1 | 2
  isHostSpeaker?: 0 | 1
  [more: string]: unknown
}

export interface RtmpTask {
  taskId: string
  streamUrl: string
  record?: boolean
  /** The uid of the large picture. */
  hostUid?: UidInput
  layout: {
    canvas: { width: number; height: number; color?: number }
    users: Array<{
      uid: UidInput
      x: number
      y: number
      width: number
      height: number
      adaption?: 0 | 1
      zOrder?: number
      pushAudio: boolean
      pushVideo: boolean
    }>
    images?: Array<{ url: string; x: number; y: number; width: number; height: number; adaption?: 0 | 1 }>
  }
  config?: {
    /** NERTC's guide has it inside of `audioParam`; both are taken. */
    singleVideoNoTrans?: boolean
    audioParam?: {
      bitRate?: number
      sampleRate?: number
      channels?: 1 | 2
      codecProfile?: 0 | 1
      singleVideoNoTrans?: boolean
    }
  }
  extraInfo?: string
}

/** Kinds of one media type; `''` is audio and video. */
export function kindsOf(mediaType: '' | MediaType): MediaType[] {
  return mediaType ? [mediaType] : ['audio', 'video']
}

export const ALL_KINDS = ['audio', 'video', 'screenShare', 'slaveAudio']

/** A media type; absent is `''` where that is allowed. */
export function mediaTypeOf(mediaType: unknown, allowed: string[], both: boolean): string {
  if (both && (mediaType === undefined || mediaType === null || mediaType === '')) return ''
  if (allowed.indexOf(mediaType as string) < 0) {
    throw failure('badMediaType', { field: 'mediaType', message: `mediaType must be ${both ? "'', " : ''}${allowed.join(', ')}.` })
  }
  return mediaType as string
}

export function roleOf(role: unknown): Role {
  if (role !== 'broadcaster' && role !== 'audience') throw failure('badRole', { field: 'role' })
  return role
}

export function objectOf(value: unknown, field: string): any {
  if (!value || typeof value !== 'object' || Array.isArray(value)) throw wrong(field, 'an object')
  return value
}

export function textOf(value: unknown, field: string): string {
  if (typeof value !== 'string') throw wrong(field, 'a string')
  return value
}

export function numberOf(value: unknown, field: string, low: number, high: number, isWhole: boolean): number {
  if (typeof value !== 'number' || !(value >= low && value <= high) || (isWhole && value % 1 !== 0)) {
    throw wrong(field, `a ${isWhole ? 'whole ' : ''}number from ${low} to ${high}`)
  }
  return value
}

/** `uid` of somebody else, where a call takes one. */
export function targetOf(uid: unknown): { uid?: string } {
  return uid === undefined || uid === null ? {} : { uid: toWire(uid) }
}

export function joinOf(params: unknown, role: Role | undefined, appkey: unknown): any {
  const join: JoinParams = objectOf(params, 'the parameter of join')
  const wire: { [name: string]: unknown } = {
    appkey: textOf(appkey, 'appkey'),
    channelName: textOf(join.channelName, 'channelName'),
    uid: join.uid === undefined || join.uid === null ? null : toWire(join.uid),
  }
  if (join.token) wire.token = textOf(join.token, 'token')
  if (join.role !== undefined && join.role !== null) role = roleOf(join.role)
  if (role) wire.role = role
  if (join.name !== undefined) wire.name = textOf(join.name, 'name')
  if (join.attributes !== undefined) wire.attributes = objectOf(join.attributes, 'attributes')
  return wire
}

/** Tasks with uids as on the wire and every option in its place. */
export function tasksOf(params: unknown): { rtmpTasks: unknown[] } {
  const tasks = objectOf(params, 'the parameter').rtmpTasks
  if (!Array.isArray(tasks) || !tasks.length) throw wrong('rtmpTasks', 'an array with at least one task')
  return { rtmpTasks: tasks.map((task, at) => taskOf(task, `rtmpTasks[${at}]`)) }
}

function taskOf(value: unknown, field: string): unknown {
  const task: RtmpTask = objectOf(value, field)
  const layout = objectOf(task.layout, `${field}.layout`)
  const users = layout.users || []
  if (!Array.isArray(users)) throw wrong(`${field}.layout.users`, 'an array')
  const wire: any = {
    ...task,
    layout: {
      ...layout,
      users: users.map((user, at) => {
        const path = `${field}.layout.users[${at}]`
        return { ...objectOf(user, path), uid: toWire(user.uid, `${path}.uid`) }
      }),
    },
  }
  if (task.hostUid !== undefined && task.hostUid !== null) wire.hostUid = toWire(task.hostUid, `${field}.hostUid`)
  if (task.config && task.config.audioParam) {
    const { singleVideoNoTrans, ...audioParam } = objectOf(task.config.audioParam, `${field}.config.audioParam`)
    wire.config = { singleVideoNoTrans, ...task.config, audioParam }
  }
  return wire
}

/** Ids of tasks; NERTC's table calls them `rtmpTasks`, its example `taskIds`. */
export function taskIdsOf(params: unknown): { taskIds: string[] } {
  const { taskIds, rtmpTasks } = objectOf(params, 'the parameter')
  const ids = taskIds || rtmpTasks
  if (!Array.isArray(ids) || !ids.length) throw wrong('taskIds', 'an array with at least one id')
  return { taskIds: ids.map((id, at) => textOf(id && id.taskId !== undefined ? id.taskId : id, `taskIds[${at}]`)) }
}

/** Addresses of servers, each complete. */
export function addressesOf(server: unknown): string[] {
  const list: unknown[] = Array.isArray(server) ? server : [server]
  if (!list.length) throw failure('badServer', { field: 'server' })
  return list.map((one) => {
    const parts = typeof one === 'string' && /^(ws|http)(s?):\/\/([^/?#\s]+)(\/[^?#\s]*)?$/.exec(one)
    if (!parts) throw failure('badServer', { field: 'server' })
    const path = parts[4]
    return `ws${parts[2]}://${parts[3]}${!path || path === '/' ? '/v1/signal' : path}`
  })
}
