// The streams. In: tiles. Out: a picture for each, muted until the user turns the sound on. Deliberately absent: fetching and
// decoding a stream.

import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import { Player, type PlayerState } from '../room/player.js'
import type { Room, Tile } from '../room/room.js'
import { useText } from '../text/index.js'
import { Icon, Panel } from './parts.js'

export function Stage({ room }: { room: Room }) {
  const t = useText()
  const [isSoundOn, setSoundOn] = useState(false)
  const tiles = [...room.tiles.values()]
  return (
    <Panel id="stage" title={t('stage')} class="stage">
      {tiles.length > 0 && (
        <div class="sound">
          {!isSoundOn && <p>{t('soundOff')}</p>}
          <button type="button" class={isSoundOn ? '' : 'main'} onClick={() => setSoundOn(!isSoundOn)}><Icon name={isSoundOn ? 'silent' : 'loud'} /> {t(isSoundOn ? 'muteAll' : 'unmuteAll')}</button>
        </div>
      )}
      {tiles.length === 0 && <div class="nobody"><p>{t('nobody')}</p><p class="hint">{t('nobodyHint')}</p></div>}
      <div class="tiles">{tiles.map((tile) => <Stream key={tile.key} room={room} tile={tile} isSoundOn={isSoundOn} />)}</div>
      {room.waiting.size > 0 && <p class="hint">{t('moreStreams', { shown: tiles.length, count: room.waiting.size })}</p>}
    </Panel>
  )
}

function Stream({ room, tile, isSoundOn }: { room: Room; tile: Tile; isSoundOn: boolean }) {
  const t = useText()
  const video = useRef<HTMLVideoElement>(null)
  const [playing, setPlaying] = useState<PlayerState>('waiting')
  /** Whether the user turned this stream's sound on or off; null: the setting for all streams applies. */
  const [wish, setWish] = useState<boolean | null>(null)
  useEffect(() => setWish(null), [isSoundOn])
  const { source } = tile
  useEffect(() => {
    if (!source || !video.current) return
    const player = new Player(video.current, source, setPlaying, (reason) => room.logReopened(tile.uid, reason))
    return () => player.destroy()
  }, [source?.url, source?.hasAudio, source?.hasVideo])

  const member = room.members.find(({ uid }) => uid === tile.uid)
  const name = room.nameOf(tile.uid)
  const isMain = tile.key === String(tile.uid)
  const isMuted = (kind: 'audio' | 'video') => isMain && (member?.muted.includes(kind) ?? false)
  const isHeard = wish ?? isSoundOn
  const hasSound = tile.kinds.has('audio') || tile.kinds.has('slaveAudio')
  const hasPicture = tile.kinds.has('video') || tile.kinds.has('screenShare')
  // A member that is muted is silent, whatever it pushes.
  const isSilent = !isHeard || isMuted('audio')
  // The sound changes together with the button, not after it.
  useLayoutEffect(() => {
    const element = video.current
    if (!element) return
    element.muted = isSilent
    if (element.paused) element.play().catch(({ name }: Error) => {
      // Browsers refuse sound that the user did not ask for. Any other error ends only this attempt: a stream that is
      // opened again plays by itself.
      if (name === 'NotAllowedError') setWish(false)
    })
  }, [isSilent])

  const cover = !source ? t('notOffered') : isMuted('video') ? t('cameraMuted') : playing !== 'playing' ? t(playing)
    : hasPicture ? '' : t('soundOnly')
  return (
    <figure class="tile" data-uid={String(tile.uid)} data-transport={source?.transport}>
      <div class="picture">
        <video ref={video} muted autoplay playsInline aria-label={t('videoOf', { name })} />
        {cover && <p class="cover">{cover}</p>}
      </div>
      <figcaption>
        <span class="who">{name}</span>
        {!isMain && <span class="tag">{t(tile.kinds.has('screenShare') ? 'screenShare' : 'slaveAudio')}</span>}
        {isMuted('audio') && <span class="tag warn">{t('microphoneMuted')}</span>}
        {hasSound && (
          <button type="button" class="icon" onClick={() => setWish(!isHeard)} aria-label={t(isHeard ? 'silence' : 'hear', { name })}>
            <Icon name={isHeard ? 'loud' : 'silent'} />
          </button>
        )}
      </figcaption>
    </figure>
  )
}
