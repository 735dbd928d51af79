// The chat. In: messages. Out: messages. Deliberately absent: links and markup; messages remain plain text.

import { useState } from 'preact/hooks'
import type { Room } from '../room/room.js'
import { useText } from '../text/index.js'
import { Field, Panel, useFollow } from './parts.js'

export function Chat({ room }: { room: Room }) {
  const t = useText()
  const [text, setText] = useState('')
  const [to, setTo] = useState('')
  const follow = useFollow<HTMLDivElement>(room.messages)
  const others = room.members.filter((member) => !member.isSelf)
  const receiver = others.find(({ uid }) => String(uid) === to)
  const send = async (event: Event) => {
    event.preventDefault()
    if (text.trim() && await room.say(text, receiver?.uid ?? null)) setText('')
  }
  return (
    <Panel id="chat" title={t('chat')}>
      <div class="said" role="log" aria-labelledby="chat" tabIndex={0} {...follow}>
        <ol>
          {room.messages.map((message) => (
            <li key={message.id} class={message.isOwn ? 'own' : ''}>
              <span class="who">{message.name}</span>
              {message.isTargeted && <span class="tag">{t(message.isOwn ? 'whisperedBy' : 'whispered')}</span>}
              <p>{message.text}</p>
            </li>
          ))}
        </ol>
      </div>
      {room.messages.length === 0 && <p class="hint">{t('chatEmpty')}</p>}
      <form onSubmit={send} class="say">
        <Field label={t('to')}>
          {(id) => (
            <select {...id} value={receiver ? to : ''} onChange={(event) => setTo(event.currentTarget.value)}>
              <option value="">{t('everyone')}</option>
              {others.map(({ uid, name }) => <option key={String(uid)} value={String(uid)}>{name || String(uid)}</option>)}
            </select>
          )}
        </Field>
        <Field label={t('message')}>
          {(id) => <input {...id} value={text} maxLength={2000} onInput={(event) => setText(event.currentTarget.value)} autoComplete="off" />}
        </Field>
        <button type="submit" class="main">{t('send')}</button>
      </form>
    </Panel>
  )
}
