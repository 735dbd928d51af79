// The state of the connection, at the top of the page. In: the state. Out: a sentence, and a field for a new token.

import type { ConnectionState } from 'lianmai/web'
import type { Room } from '../room/room.js'
import { useText, type Key } from '../text/index.js'
import { ADVICE } from '../text/advice.js'
import { Field, Icon, TECHNICAL_INPUT } from './parts.js'

export const STATES: { [S in ConnectionState]: Key } = {
  connected: 'stateConnected',
  connecting: 'stateConnecting',
  reconnecting: 'stateReconnecting',
  disconnecting: 'stateDisconnecting',
  disconnected: 'stateDisconnected',
}

export function Banner({ room }: { room: Room }) {
  const t = useText()
  const { network, lastReconnect } = room
  const isAway = room.state === 'reconnecting' || network.state !== 'up'
  return (
    <>
      <div class="banners" role="status">
        {isAway && (
          <p class="banner away">
            {network.state === 'suspended' ? t('suspended') : t('comingBack')}
            {network.state === 'unplugged' && ` ${t('unplugged')}`}
            {room.state === 'reconnecting' && room.attempt > 0 && ` ${t('attempt', { attempt: room.attempt })}`}
          </p>
        )}
        {!isAway && lastReconnect && (
          <p class="banner back" data-outcome={lastReconnect.outcome} data-events={lastReconnect.events}>
            {lastReconnect.outcome === 'replayed' ? t('replayed', { events: lastReconnect.events ?? 0 }) : t(lastReconnect.outcome, { reason: lastReconnect.reason ?? '' })}
            {lastReconnect.messagesLost > 0 && ` ${t('lost', { count: lastReconnect.messagesLost })}`}
            <button type="button" class="icon" aria-label={t('dismiss')} onClick={() => room.dismissReconnect()}><Icon name="close" /></button>
          </p>
        )}
      </div>
      {room.tokenExpiresAt !== null && <Renew room={room} />}
    </>
  )
}

function Renew({ room }: { room: Room }) {
  const t = useText()
  const renew = (event: SubmitEvent) => {
    event.preventDefault()
    void room.renewToken(String(new FormData(event.currentTarget as HTMLFormElement).get('token')).trim())
  }
  return (
    <form class="banner away row" onSubmit={renew}>
      <Field label={t('tokenEnds')}>{(id) => <input {...id} name="token" type="password" required {...TECHNICAL_INPUT} />}</Field>
      <button type="submit" class="main">{t('renew')}</button>
    </form>
  )
}

/** Errors, each with advice. */
export function Troubles({ room }: { room: Room }) {
  const t = useText()
  return (
    <div class="troubles" role="alert">
      {room.troubles.map((trouble) => {
        const { name, reason, method } = trouble.error
        const advice = ADVICE[name]
        const values = { appkey: room.entry?.appkey ?? '', channel: room.entry?.channel ?? '' }
        return (
          <div class="trouble" key={trouble.id} data-error={name}>
            <div>
              <p>{t('failed', { method: method ?? '', reason: reason ?? String(trouble.error) })}</p>
              {advice && <p><strong>{t(advice, values)}</strong></p>}
            </div>
            <button type="button" class="icon" aria-label={t('dismiss')} onClick={() => room.dismissTrouble(trouble)}><Icon name="close" /></button>
          </div>
        )
      })}
    </div>
  )
}
