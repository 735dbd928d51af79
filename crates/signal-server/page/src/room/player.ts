// One stream in one video element, by mpegts.js. In: the URLs of a stream, what kinds it has, and the element. Out: the picture
// and sound, and what is going on. A stream that ends, or cannot be played yet, is asked for again for as long as it is
// published. Deliberately absent: whether it is published, and who may hear it.

import type Mpegts from 'mpegts.js'
import type { Urls } from 'lianmai/web'

export type Transport = 'wsFlv' | 'flv'
export type Playing = 'waiting' | 'playing' | 'unplayable'

export interface Source {
  url: string
  transport: Transport
  hasAudio: boolean
  hasVideo: boolean
}

/** Milliseconds until a stream is asked for again: twice as long each time. */
const FIRST_PAUSE_MS = 500
const LONGEST_PAUSE_MS = 8000
/** So often the library is asked for before a stream is called unplayable. */
const MAX_LOADS = 5
/** Seconds behind the stream's end from which a player jumps: a page that was hidden. */
const FAR_BEHIND_S = 6
/** Seconds behind the end where it lands. */
const BEHIND_S = 1

/** A page opens six HTTP connections to one server, and more WebSockets than there are streams. */
export function transportOf(urls: Urls): { url: string; transport: Transport } | null {
  if (urls.wsFlv) return { url: urls.wsFlv, transport: 'wsFlv' }
  return urls.flv ? { url: urls.flv, transport: 'flv' } : null
}

/** Loaded with the first stream: most of the page's bytes are of it. */
let loaded: Promise<typeof Mpegts> | undefined
function library(): Promise<typeof Mpegts> {
  loaded ??= import('mpegts.js').then((module) => {
    // Its lines hold URLs, which are secrets.
    module.default.LoggingControl.applyConfig({ enableAll: false })
    return module.default
  }).catch((error) => {
    // The next stream, or the next attempt, asks for it again.
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
  /** Times in a row that the library did not come. */
  private misses = 0

  constructor(private video: HTMLVideoElement, private source: Source, private report: (state: Playing) => void, private reopens: (reason: string) => void) {
    video.addEventListener('playing', this.began)
    document.addEventListener('visibilitychange', this.shown)
    void this.open()
  }

  destroy(): void {
    this.isDestroyed = true
    clearTimeout(this.timer)
    this.video.removeEventListener('playing', this.began)
    document.removeEventListener('visibilitychange', this.shown)
    this.close()
  }

  private began = () => {
    this.pause = FIRST_PAUSE_MS
    this.report('playing')
  }

  private shown = () => {
    const { buffered, currentTime } = this.video
    if (document.visibilityState !== 'visible' || !buffered.length) return
    const end = buffered.end(buffered.length - 1)
    if (end - currentTime > FAR_BEHIND_S) this.video.currentTime = end - BEHIND_S
  }

  private async open(): Promise<void> {
    const mpegts = await library().catch(() => null)
    if (this.isDestroyed) return
    if (!mpegts) {
      if (++this.misses < MAX_LOADS) return this.again('the player did not load')
      return this.report('unplayable')
    }
    this.misses = 0
    if (!mpegts.isSupported()) return this.report('unplayable')
    this.report('waiting')
    const { url, hasAudio, hasVideo } = this.source
    const player = mpegts.createPlayer({
      type: 'flv',
      isLive: true,
      url,
      // What is published, and is not said where it is: the stream's own head knows best.
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
    const again = (reason: string) => this.player === player && this.again(reason)
    player.on(mpegts.Events.ERROR, (type: string, detail: string) => again(`${type} ${detail}`))
    player.on(mpegts.Events.LOADING_COMPLETE, () => again('the stream ended'))
    player.attachMediaElement(this.video)
    player.load()
    // It begins when there is something; a stream that ends before that is another matter.
    Promise.resolve(player.play()).catch(() => {})
  }

  private again(reason: string): void {
    this.close()
    this.reopens(reason)
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
