// The form to join. In: the facts of the server, the channel of a link, and how the last membership ended. Out: the input of the
// form. Deliberately absent: storing a token anywhere but in this form.

import { useState } from 'preact/hooks'
import type { Entry, Ending } from '../room/room.js'
import type { Invitation } from '../room/addresses.js'
import type { Facts } from '../facts.js'
import { useText } from '../text/index.js'
import { Field, TECHNICAL_INPUT } from './parts.js'

export function Join(props: { facts: Facts; invited: Partial<Invitation>; last: Entry | null; ending: Ending | null; isBusy: boolean; onJoin: (entry: Entry) => void }) {
  const t = useText()
  const { facts, invited, last, ending } = props
  const [appkey, setAppkey] = useState(last?.appkey ?? invited.appkey ?? facts.debugApps[0] ?? '')
  const isDebug = facts.debugApps.includes(appkey)
  const submit = (event: SubmitEvent) => {
    event.preventDefault()
    const form = new FormData(event.currentTarget as HTMLFormElement)
    const value = (name: string) => String(form.get(name) ?? '').trim()
    props.onJoin({
      appkey,
      channel: value('channel'),
      uid: value('uid'),
      name: value('name'),
      role: value('role') === 'audience' ? 'audience' : 'broadcaster',
      token: isDebug ? '' : value('token'),
    })
  }
  const appkeyField = (
    <Field label={t('appkey')}>
      {(id) => <input {...id} name="appkey" required maxLength={64} value={appkey} onInput={(event) => setAppkey(event.currentTarget.value)} {...TECHNICAL_INPUT} />}
    </Field>
  )
  return (
    <main class="join">
      {ending && <Ended ending={ending} />}
      <form class="panel" onSubmit={submit} aria-labelledby="join-title">
        <h2 id="join-title">{t('joinTitle')}</h2>
        <p>{t('joinIntro')}</p>
        {facts.allowFrom.length > 0 && <p class="warning">{t('openTo', { ranges: facts.allowFrom.join(', ') })}</p>}
        <Field label={t('channel')} hint={t('channelHint')}>
          {(id) => <input {...id} name="channel" required maxLength={64} defaultValue={last?.channel ?? invited.channel ?? 'demo'} {...TECHNICAL_INPUT} />}
        </Field>
        <Field label={t('name')}>{(id) => <input {...id} name="name" maxLength={64} defaultValue={last?.name ?? ''} autoComplete="nickname" />}</Field>
        {!isDebug && appkeyField}
        {!isDebug && (
          <Field label={t('token')} hint={t('tokenHint')}>
            {(id) => <input {...id} name="token" type="password" required {...TECHNICAL_INPUT} />}
          </Field>
        )}
        <fieldset class="row">
          <legend>{t('joinAs')}</legend>
          {(['broadcaster', 'audience'] as const).map((role) => (
            <label key={role}>
              <input type="radio" name="role" value={role} defaultChecked={role === (last?.role ?? 'broadcaster')} /> {t(role)}
            </label>
          ))}
        </fieldset>
        <details>
          <summary>{t('more')}</summary>
          <Field label={t('uid')} hint={t(isDebug ? 'uidHint' : 'uidHintToken')}>
            {(id) => <input {...id} name="uid" inputMode="numeric" pattern="[0-9]*" maxLength={20} defaultValue={last?.uid ?? ''} {...TECHNICAL_INPUT} />}
          </Field>
          {isDebug && appkeyField}
        </details>
        <button type="submit" class="main" disabled={props.isBusy}>{t(props.isBusy ? 'joining' : 'join')}</button>
      </form>
    </main>
  )
}

function Ended({ ending }: { ending: Ending }) {
  const t = useText()
  const text = ending.why === 'disconnect' ? '' : ending.event.text
  const title = ending.why === 'kicked' ? t(ending.event.reason === 'kicked' ? 'endKicked' : 'endReplaced')
    : ending.why === 'closed' ? t('endClosed') : t('endOther', { reason: ending.reason })
  const duration = ending.why === 'kicked' ? ending.event.durationS : 0
  return (
    <div class="ending" role="alert">
      <p><strong>{title}</strong></p>
      {text && <p>{t('endReason', { text })}</p>}
      {duration > 0 && <p>{t('endDuration', { seconds: duration })}</p>}
    </div>
  )
}
