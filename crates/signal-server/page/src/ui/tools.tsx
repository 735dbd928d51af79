// Tools for operators: attributes, switches of the connection, the event log, and the invitation for others.

import { useState } from 'preact/hooks'
import { invitation, isLoopback } from '../room/addresses.js'
import type { Room } from '../room/room.js'
import { useText } from '../text/index.js'
import { CopyField, Dialog, Field, Icon, Panel, Qr, TECHNICAL_INPUT, useFollow } from './parts.js'

export function Attributes({ room }: { room: Room }) {
  const t = useText()
  const [target, setTarget] = useState<'self' | 'channel'>('self')
  const own = room.members.find((member) => member.isSelf)
  const shown = Object.entries((target === 'self' ? own?.attributes : room.channel?.attributes) ?? {})
  const set = async (event: SubmitEvent) => {
    event.preventDefault()
    const form = event.currentTarget as HTMLFormElement
    const values = new FormData(form)
    if (await room.setAttribute(String(values.get('key')), String(values.get('value')), target)) form.reset()
  }
  return (
    <Panel id="attributes" title={t('attributes')}>
      <Field label={t('whose')}>
        {(id) => (
          <select {...id} value={target} onChange={(event) => setTarget(event.currentTarget.value as 'self' | 'channel')}>
            <option value="self">{t('ofSelf')}</option>
            <option value="channel">{t('ofChannel')}</option>
          </select>
        )}
      </Field>
      {shown.length === 0 ? <p class="hint">{t('noAttributes')}</p> : (
        <ul class="pairs">
          {shown.map(([key, value]) => (
            <li key={key}>
              <code>{key}</code> <span>{value}</span>
              <button type="button" class="icon" aria-label={t('remove', { key })} onClick={() => room.setAttribute(key, null, target)}><Icon name="close" /></button>
            </li>
          ))}
        </ul>
      )}
      <form class="row" onSubmit={set}>
        <Field label={t('key')}>{(id) => <input {...id} name="key" required maxLength={64} {...TECHNICAL_INPUT} />}</Field>
        <Field label={t('value')}>{(id) => <input {...id} name="value" maxLength={1000} {...TECHNICAL_INPUT} />}</Field>
        <button type="submit">{t('set')}</button>
      </form>
    </Panel>
  )
}

export function Recovery({ room }: { room: Room }) {
  const t = useText()
  const [isClosing, setClosing] = useState(false)
  const { network } = room
  return (
    <Panel id="recovery" title={t('recovery')}>
      <p>{t('recoveryIntro')}</p>
      <div class="row">
        <button type="button" disabled={network.state !== 'up'} onClick={() => network.cut()}>{t('cut')}</button>
        {network.state === 'unplugged'
          ? <button type="button" class="main" onClick={() => network.plug()}>{t('plug')}</button>
          : <button type="button" disabled={network.state !== 'up'} onClick={() => network.unplug()}>{t('unplug')}</button>}
        {network.state === 'suspended'
          ? <button type="button" class="main" onClick={() => network.wake()}>{t('wake')}</button>
          : <button type="button" disabled={network.state !== 'up'} onClick={() => network.suspend()}>{t('suspend')}</button>}
      </div>
      <div class="row">
        <button type="button" class="danger" onClick={() => setClosing(true)}>{t('closeChannel')}</button>
      </div>
      {isClosing && (
        <Dialog
          title={t('closeTitle', { channel: room.channel?.channelName ?? '' })} submit={t('closeNow')} onClose={() => setClosing(false)}
          onSubmit={(form) => void room.closeChannel(String(form.get('reason')))}
        >
          <Field label={t('closeReason')}>{(id) => <input {...id} name="reason" maxLength={200} />}</Field>
        </Dialog>
      )}
    </Panel>
  )
}

export function Events({ room }: { room: Room }) {
  const t = useText()
  const { rows } = room.log
  const follow = useFollow<HTMLDivElement>(rows)
  return (
    <Panel id="events" title={t('events')} class="events">
      <p class="hint">{t('eventsHint')}</p>
      <div class="scroll" tabIndex={0} {...follow}>
        <table>
          <thead>
            <tr>
              <th scope="col">{t('eventSeq')}</th>
              <th scope="col">{t('eventTime')}</th>
              <th scope="col">{t('eventName')}</th>
              <th scope="col">{t('eventData')}</th>
            </tr>
          </thead>
          <tbody>
            {rows.map((row) => (
              <tr key={row.id} data-event={row.event} data-seqs={row.seqs?.join('-')}>
                <td>{row.seqs && (row.seqs[0] === row.seqs[1] ? row.seqs[0] : `${row.seqs[0]}–${row.seqs[1]}`)}</td>
                <td>{row.at.toLocaleTimeString([], { hour12: false })}</td>
                <td>{row.event}</td>
                <td>{row.text}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Panel>
  )
}

export function Invite({ room }: { room: Room }) {
  const t = useText()
  const entry = room.entry
  if (!entry) return null
  const address = invitation(location, entry)
  return (
    <Panel id="invite" title={t('invite')}>
      <p>{t('inviteIntro')}</p>
      <CopyField label={t('address')} value={address} />
      {isLoopback(address) ? <p class="hint">{t('inviteLoopback')}</p> : <Qr label={t('inviteQr')} value={address} />}
    </Panel>
  )
}
