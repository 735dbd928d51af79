// Converts the parameters of apps to those of the protocol. In: any value. Out: the parameters of a call, or an error that
// names the problem. Only what the core cannot check is checked here: uids, and the shapes of NERTC. The core checks all
// other parameters and names the wrong one.

import { failure, wrong } from '../errors.js'
import { toWire, type UidInput } from '../uid.js'
import type { Attributes, Role } from './events.js'

/** Parameters of `join`. Other parameters are accepted and ignored. */
export interface JoinParams {
  /** Name of the channel: 1 to 64 ASCII letters, digits, blanks and marks. */
  channelName: string
  /** Uid of the client. Null or absent: if the app needs no tokens, the server chooses a uid; otherwise the uid of the token is used. */
  uid?: UidInput | null
  /** Required unless the app is in debug mode; in debug mode it must be absent. `''`, null and undefined count as absent. */
  token?: string | null
  /** Replaces a call of `setRole` before `join`. Absent: broadcaster, or audience if the token allows no more. */
  role?: Role
  /** Display name. */
  name?: string
  /** Initial attributes. */
  attributes?: Attributes
  /** A parameter of NERTC; ignored here. */
  liveEnable?: 0 | 1
  /** A parameter of NERTC; ignored here. */
  rtmpRecord?: 0 | 1
  /** A parameter of NERTC; ignored here. */
  recordAudio?: 0 | 1
  /** A parameter of NERTC; ignored here. */
  recordVideo?: 0 | 1
  /** A parameter of NERTC; ignored here. */
  recordType?: '0' | '1' | '2' | 0 | 1 | 2
  /** A parameter of NERTC; ignored here. */
  isHostSpeaker?: 0 | 1
  [more: string]: unknown
}

/** A push task. */
export interface RtmpTask {
  /** 1 to 64 letters, digits or `_`, chosen by the app. */
  taskId: string
  /** Where to push: `rtmp://` or `rtmps://`. */
  streamUrl: string
  record?: boolean
  /** The uid of the large picture. */
  hostUid?: UidInput
  /** For an update: must be greater than the present revision of the task, otherwise the update is refused. Absent: the next revision. */
  revision?: number
  layout: {
    /** The whole picture; the colour is decimal RGB. */
    canvas: { width: number; height: number; color?: number }
    /** Where each member is. */
    users: Array<{
      uid: UidInput
      x: number
      y: number
      width: number
      height: number
      /** 0 fit, 1 crop. */
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

export function isNone(value: unknown): value is null | undefined {
  return value === undefined || value === null
}

export function roleOf(role: unknown): Role {
  if (role !== 'broadcaster' && role !== 'audience') throw failure('badRole', { field: 'role' })
  return role
}

export function oneOf(value: string, field: string, allowed: string[]): string {
  if (allowed.indexOf(value) < 0) throw wrong(field, `one of ${allowed.join()}`)
  return value
}

export function listOf(value: unknown, field: string): any[] {
  if (!Array.isArray(value)) throw wrong(field, 'an array')
  return value
}

export function objectOf(value: unknown, field: string): any {
  if (!value || typeof value !== 'object' || Array.isArray(value)) throw wrong(field, 'an object')
  return value
}

export function numberOf(value: unknown, field: string, low: number, high: number, isWhole: boolean): number {
  if (typeof value !== 'number' || !(value >= low && value <= high) || (isWhole && value % 1 !== 0)) {
    throw wrong(field, `a ${isWhole ? 'whole ' : ''}number from ${low} to ${high}`)
  }
  return value
}

export function jsonOf(params: unknown): string {
  try {
    return JSON.stringify(params)
  } catch (_) {
    throw wrong('the parameter', 'plain data')
  }
}

/** The uid of another member, if a call may name one. */
export function targetOf(uid: unknown): string | undefined {
  return isNone(uid) ? undefined : toWire(uid)
}

export function joinOf(params: unknown, asAudience: boolean, appkey: unknown): any {
  const join: JoinParams = objectOf(params, 'the parameter of join')
  return {
    appkey,
    channelName: join.channelName,
    uid: targetOf(join.uid),
    token: join.token || undefined,
    // If no role is given, the token decides whether the member may be a broadcaster.
    role: isNone(join.role) ? (asAudience ? 'audience' : undefined) : roleOf(join.role),
    name: join.name,
    attributes: join.attributes,
  }
}

/** Tasks with uids as in the protocol and with every option in its place. */
export function tasksOf(params: unknown): { rtmpTasks: unknown } {
  const tasks = listOf(objectOf(params, 'the parameter').rtmpTasks, 'rtmpTasks')
  if (!tasks.length) throw wrong('rtmpTasks', 'at least one task')
  return {
    rtmpTasks: JSON.parse(JSON.stringify(tasks, function (this: any, key, value) {
      // `toJSON` of a big-number library need not return decimal digits, so the original value is converted.
      if (key === 'uid' || key === 'hostUid') return targetOf(this[key])
      // NERTC's guide puts this option one level too deep.
      if (key === 'config' && value && value.audioParam) {
        return Object.assign({ singleVideoNoTrans: value.audioParam.singleVideoNoTrans }, value)
      }
      return value
    })),
  }
}

/** Ids of tasks; NERTC's table calls them `rtmpTasks`, its example `taskIds`. */
export function taskIdsOf(params: unknown): { taskIds: string[] } {
  const { taskIds, rtmpTasks } = objectOf(params, 'the parameter')
  const ids = listOf(taskIds || rtmpTasks, 'taskIds')
  if (!ids.length) throw wrong('taskIds', 'at least one id')
  return { taskIds: ids }
}

/** The complete addresses of servers. */
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
