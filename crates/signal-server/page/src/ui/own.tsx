// The user: role, name, and how to publish. In: the own state. Out: calls. Deliberately absent: pushing; no browser can do it.

import { useState } from 'preact/hooks'
import { ffmpegCommand, isLoopback, obsFields } from '../room/addresses.js'
import type { Room } from '../room/room.js'
import { useText } from '../text/index.js'
import { CopyField, Field, Panel, Qr } from './parts.js'

export function Own({ room }: { room: Room }) {
  const t = useText()
  const [name, setName] = useState('')
  const isAudience = room.role === 'audience'
  const rename = async (event: Event) => {
    event.preventDefault()
    if (name && await room.rename(name)) setName('')
  }
  return (
    <Panel id="own" title={t('yourself')}>
      <div class="row">
        <span>{t(room.role)}</span>
        <button type="button" onClick={() => room.setRole(isAudience ? 'broadcaster' : 'audience')}>{t(isAudience ? 'becomeBroadcaster' : 'becomeAudience')}</button>
        {!isAudience && (['audio', 'video'] as const).map((kind) => {
          const isMuted = room.muted.has(kind)
          const label = kind === 'audio' ? (isMuted ? 'unmuteSound' : 'muteSound') : isMuted ? 'unmutePicture' : 'mutePicture'
          return <button key={kind} type="button" onClick={() => room.mute(kind, !isMuted)}>{t(label)}</button>
        })}
      </div>
      <form class="row" onSubmit={rename}>
        <Field label={t('newName')}>{(id) => <input {...id} value={name} maxLength={64} onInput={(event) => setName(event.currentTarget.value)} autoComplete="nickname" />}</Field>
        <button type="submit">{t('rename')}</button>
      </form>
    </Panel>
  )
}

export function Publish({ room }: { room: Room }) {
  const t = useText()
  const { pushUrl } = room
  return (
    <Panel id="publish" title={t('publish')}>
      <p>{t('publishIntro')}</p>
      {room.role === 'audience' && <p class="hint">{t('audienceCannot')}</p>}
      {room.role !== 'audience' && !pushUrl && (
        <div class="row">
          <button type="button" class="main" onClick={() => room.publish('')}>{t('publishBoth')}</button>
          <button type="button" onClick={() => room.publish('audio')}>{t('publishAudio')}</button>
        </div>
      )}
      {pushUrl && (
        <>
          <CopyField label={t('obsServer')} value={obsFields(pushUrl).server} />
          <CopyField label={t('obsKey')} value={obsFields(pushUrl).key} />
          <CopyField label={t('ffmpeg')} value={ffmpegCommand(pushUrl)} />
          {!isLoopback(pushUrl) && <Qr label={t('qrPush')} value={pushUrl} />}
          <p class="hint">{t('secret')}</p>
          <button type="button" onClick={() => room.unpublish()}>{t('unpublish')}</button>
        </>
      )}
    </Panel>
  )
}
