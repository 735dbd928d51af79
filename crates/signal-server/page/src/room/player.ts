// Plays one stream in one video element with mpegts.js. In: the URL of a stream, its kinds, and the element. Out: picture and
// sound, and the playback state. The player opens a stream again if it ends or cannot be played yet, until it is destroyed.
// Deliberately absent: whether the stream is published, and who may play it.

import type Mpegts from 'mpegts.js'
import type { Urls } from 'lianmai/web'

export type Transport = 'wsFlv' | 'flv'
export type PlayerState = 'waiting' | 'playing' | 'unplayable'

export interface Source {
  url: string
  transport: Transport
  hasAudio: boolean
  hasVideo: boolean
}

/** The delay before a stream is opened again, in milliseconds. It doubles each time. */
const FIRST_PAUSE_MS = 500
const LONGEST_PAUSE_MS = 8000
/** How often the library is loaded before the stream counts as unplayable. */
const MAX_LOADS = 5
/** A page that is shown again jumps forward if it is more than this many seconds behind the end of the stream. */
const FAR_BEHIND_S = 6
/** How many seconds behind the end it then continues. */
const BEHIND_S = 1

/** Prefers WebSocket: browsers allow only six HTTP connections to one server, but more WebSockets than there are streams. */
export function transportOf(urls: Urls): { url: string; transport: Transport } | null {
  if (urls.wsFlv) return { url: urls.wsFlv, transport: 'wsFlv' }
  return urls.flv ? { url: urls.flv, transport: 'flv' } : null
}

/** mpegts.js, loaded with the first stream, because it is most of the page's size. */
let loaded: Promise<typeof Mpegts> | undefined
function loadMpegts(): Promise<typeof Mpegts> {
  loaded ??= import('mpegts.js').then((module) => {
    // The log of the library contains URLs, which are secrets.
    module.default.LoggingControl.applyConfig({ enableAll: false })
    return module.default
  }).catch((error) => {
    // The next stream or the next attempt loads it again.
    loaded = undefined
    throw error
  })
  return loaded
}

export class Player {
  private player: Mpegts.Player | null = null
  private isDestroyed = false
  private pause = FIRST_PAUSE_MS
  private timer = 0
  /** Number of successive failures to load the library. */
  private loadFailures = 0

  constructor(private video: HTMLVideoElement, private source: Source, private report: (state: PlayerState) => void, private onReopen: (reason: string) => void) {
    video.addEventListener('playing', this.onPlaying)
    document.addEventListener('visibilitychange', this.onVisibilityChange)
    void this.open()
  }

  destroy(): void {
    this.isDestroyed = true
    clearTimeout(this.timer)
    this.video.removeEventListener('playing', this.onPlaying)
    document.removeEventListener('visibilitychange', this.onVisibilityChange)
    this.close()
  }

  private onPlaying = () => {
    this.pause = FIRST_PAUSE_MS
    this.report('playing')
  }

  private onVisibilityChange = () => {
    const { buffered, currentTime } = this.video
    if (document.visibilityState !== 'visible' || !buffered.length) return
    const end = buffered.end(buffered.length - 1)
    if (end - currentTime > FAR_BEHIND_S) this.video.currentTime = end - BEHIND_S
  }

  private async open(): Promise<void> {
    const mpegts = await loadMpegts().catch(() => null)
    if (this.isDestroyed) return
    if (!mpegts) {
      if (++this.loadFailures < MAX_LOADS) return this.reopen('the player did not load')
      return this.report('unplayable')
    }
    this.loadFailures = 0
    if (!mpegts.isSupported()) return this.report('unplayable')
    this.report('waiting')
    const { url, hasAudio, hasVideo } = this.source
    const player = mpegts.createPlayer({
      type: 'flv',
      isLive: true,
      url,
      // Only a missing kind is named. Otherwise the header of the stream decides.
      ...(hasAudio ? {} : { hasAudio: false }),
      ...(hasVideo ? {} : { hasVideo: false }),
    }, {
      enableStashBuffer: false,
      lazyLoad: false,
      deferLoadAfterSourceOpen: false,
      autoCleanupSourceBuffer: true,
      liveSync: true,
      liveSyncMaxLatency: 2,
      liveSyncTargetLatency: BEHIND_S,
    })
    this.player = player
    const reopen = (reason: string) => this.player === player && this.reopen(reason)
    player.on(mpegts.Events.ERROR, (type: string, detail: string) => reopen(`${type} ${detail}`))
    player.on(mpegts.Events.LOADING_COMPLETE, () => reopen('the stream ended'))
    player.attachMediaElement(this.video)
    player.load()
    // `play` rejects if the stream ends first. LOADING_COMPLETE or ERROR reports that case.
    Promise.resolve(player.play()).catch(() => {})
  }

  private reopen(reason: string): void {
    this.close()
    this.onReopen(reason)
    this.report('waiting')
    clearTimeout(this.timer)
    this.timer = window.setTimeout(() => void this.open(), this.pause)
    this.pause = Math.min(2 * this.pause, LONGEST_PAUSE_MS)
  }

  private close(): void {
    const player = this.player
    this.player = null
    player?.destroy()
  }
}
