// The members, and the actions of a moderator. In: members. Out: calls. Deliberately absent: whether the user may moderate; the
// token may allow it, and only the server knows.

import { useState } from 'preact/hooks'
import type { Member } from 'lianmai/web'
import type { Room } from '../room/room.js'
import { useText } from '../text/index.js'
import { Dialog, Field, Panel } from './parts.js'

/** The number of members that are listed. */
const MAX_ROWS = 200

export function Members({ room }: { room: Room }) {
  const t = useText()
  const [kicked, setKicked] = useState<Member | null>(null)
  const hidden = (room.channel?.memberCount ?? 0) - room.members.length
  return (
    <Panel id="members" title={t('members')}>
      <ul class="members">
        {room.members.slice(0, MAX_ROWS).map((member) => <Row key={String(member.uid)} room={room} member={member} onKick={() => setKicked(member)} />)}
      </ul>
      {room.members.length > MAX_ROWS && <p class="hint">{t('moreMembers', { count: room.members.length - MAX_ROWS })}</p>}
      {hidden > 0 && <p class="hint">{t('hiddenAudience', { count: hidden })}</p>}
      {!room.isModerator && <p class="hint">{t('notModerator')}</p>}
      {kicked && (
        <Dialog
          title={t('kickTitle', { name: kicked.name || String(kicked.uid) })} submit={t('kickNow')} onClose={() => setKicked(null)}
          onSubmit={(form) => void room.kick(kicked.uid, String(form.get('reason')), Number(form.get('duration')))}
        >
          <Field label={t('reason', { name: kicked.name || String(kicked.uid) })}>{(id) => <input {...id} name="reason" maxLength={200} />}</Field>
          <Field label={t('duration')}>
            {(id) => (
              <select {...id} name="duration">
                <option value="0">{t('durationNone')}</option>
                <option value="60">{t('durationMinute')}</option>
                <option value="3600">{t('durationHour')}</option>
              </select>
            )}
          </Field>
        </Dialog>
      )}
    </Panel>
  )
}

function Row({ room, member, onKick }: { room: Room; member: Member; onKick: () => void }) {
  const t = useText()
  const { uid, isSelf } = member
  const name = member.name || String(uid)
  const muted = (kind: 'audio' | 'video') => member.muted.includes(kind)
  const attributes = Object.entries(member.attributes)
  return (
    <li data-uid={String(uid)}>
      <div class="row">
        <span class="who">{name}</span>
        {member.name && <span class="uid">{String(uid)}</span>}
        {isSelf && <span class="tag">{t('you')}</span>}
        {room.channel?.creator === uid && <span class="tag">{t('creator')}</span>}
        {member.streams.length > 0 && <span class="tag live">{t('onAir')}</span>}
        {muted('audio') && <span class="tag warn">{t('microphoneMuted')}</span>}
        {muted('video') && <span class="tag warn">{t('cameraMuted')}</span>}
      </div>
      {attributes.length > 0 && <dl class="attributes">{attributes.map(([key, value]) => [<dt>{key}</dt>, <dd>{value}</dd>])}</dl>}
      {!isSelf && (
        <details>
          <summary>{t('actions', { name })}</summary>
          <div class="row actions">
            <button type="button" onClick={() => room.silence(uid, 'audio', !muted('audio'))}>{t(muted('audio') ? 'unmuteSound' : 'muteSound')}</button>
            <button type="button" onClick={() => room.silence(uid, 'video', !muted('video'))}>{t(muted('video') ? 'unmutePicture' : 'mutePicture')}</button>
            {member.streams.length > 0 && <button type="button" onClick={() => room.takeOffAir(uid)}>{t('takeOffAir')}</button>}
            <button type="button" onClick={() => room.toAudience(uid)}>{t('makeAudience')}</button>
            <button type="button" class="danger" onClick={onKick}>{t('kick')}</button>
          </div>
        </details>
      )}
    </li>
  )
}
