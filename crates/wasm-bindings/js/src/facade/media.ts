// Attributes of `live-pusher` and `live-player`, and advice about their state codes. In: the client's URLs and mute
// states, and events of the components. Out: attributes for `setData`, and advice. Deliberately absent: calls of the
// components and of the client; the app makes them.

import type { MediaType } from './events.js'
import type { Room } from './room.js'

/** The action for a state of a component. */
export interface MediaAdvice {
  /** The component's code, NaN if there was none. */
  code: number
  /**
   * `none`: do nothing; there is no problem, or the component recovers by itself. `restart`: start (or play) again. `refresh`:
   * `publish` (or `subscribe`) again and use the URL that it returns. `rejoin`: leave, and join again when the page is shown.
   * `permission`: ask the user for camera or microphone.
   */
  action: 'none' | 'restart' | 'refresh' | 'rejoin' | 'permission'
}

/** Attributes of `live-pusher`, with the names that `setData` needs. */
export interface PusherAttributes {
  /** The push URL of audio and video, `''` if there is none. */
  url: string
  /** The mode for two-way conversation. */
  mode: 'RTC'
  /** Whether to push as soon as there is a URL. */
  autopush: boolean
  /** Whether video is published and not muted. */
  enableCamera: boolean
  /** Whether audio is published and not muted. */
  enableMic: boolean
  /** The reverberation type nearest to the beautifier; other members hear it. */
  audioReverbType: number
  /** The voice type nearest to the effect; other members hear it. */
  voiceChangerType: number
}

/** Attributes of `live-player`. */
export interface PlayerAttributes {
  /** The URL to play, `''` while no kind is subscribed. */
  src: string
  /** The mode for two-way conversation. */
  mode: 'RTC'
  /** Whether to play as soon as there is a URL. */
  autoplay: boolean
  /** Minimum cache in seconds. */
  minCache: number
  /** Maximum cache in seconds. */
  maxCache: number
  /** Whether audio is not subscribed. */
  muteAudio: boolean
  /** Whether video is not subscribed. */
  muteVideo: boolean
}

/** The values of the voice setters. Of beautifier, effect and pitch only the last one that was set applies. */
export interface Voice {
  beautifier: number
  effect: number
  pitch: number
  /** Gain by band. */
  equalization: number[]
}

export function newVoice(): Voice {
  return { beautifier: 0, effect: 0, pitch: 1.25, equalization: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0] }
}

/** The nearest reverberation of WeChat for each beautifier: low, loud, metal, magnetic, KTV, room, hall. */
const REVERB = [0, 4, 5, 6, 7, 2, 0, 1, 3, 3, 2, 3]
/** The nearest voice of WeChat for each effect: machine, giant, beast, uncle, girl. */
const CHANGER = [0, 10, 8, 7, 3, 2, 3, 2, 2]

const PUSHER: { [code: number]: MediaAdvice['action'] } = {
  [-1301]: 'permission', [-1302]: 'permission', 10001: 'permission', 10002: 'permission',
  [-1303]: 'restart', [-1304]: 'restart', [-1307]: 'restart', [-3301]: 'restart',
  3004: 'refresh', 5001: 'rejoin',
}

const PLAYER: { [code: number]: MediaAdvice['action'] } = { [-2301]: 'refresh', [-2302]: 'refresh', 2006: 'restart' }

/** The action for a code of `live-pusher`. Accepts the event of the component, too. */
export function pusherAdvice(state: unknown): MediaAdvice {
  return advice(PUSHER, state)
}

/** The action for a code of `live-player`. */
export function playerAdvice(state: unknown): MediaAdvice {
  return advice(PLAYER, state)
}

function advice(table: { [code: number]: MediaAdvice['action'] }, state: any): MediaAdvice {
  const detail = (state && state.detail) || state
  const of = detail && typeof detail === 'object' ? (detail.code === undefined ? detail.errCode : detail.code) : detail
  // Some versions of WeChat send the number as a string.
  const code = Number(of)
  return { code, action: table[code] || 'none' }
}

export function pusherOf(room: Room, voice: Voice): PusherAttributes {
  return {
    url: room.pushUrl('audio'),
    mode: 'RTC',
    autopush: true,
    enableCamera: room.isSent('video'),
    enableMic: room.isSent('audio'),
    audioReverbType: REVERB[voice.beautifier] || 0,
    voiceChangerType: CHANGER[voice.effect] || 0,
  }
}

/** Attributes for the audio and video of a member, or for another `kind`. */
export function playerOf(room: Room, uid: string, kind?: MediaType): PlayerAttributes {
  const audio = room.pullUrl(uid, kind === undefined ? 'audio' : kind)
  const video = room.pullUrl(uid, kind === undefined ? 'video' : kind)
  return {
    src: video || audio,
    mode: 'RTC',
    autoplay: true,
    minCache: 0.2,
    maxCache: 0.8,
    muteAudio: kind === 'screenShare' || !audio,
    muteVideo: kind === 'slaveAudio' || !video,
  }
}
