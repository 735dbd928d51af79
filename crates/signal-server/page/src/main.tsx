// The root of the page: a room for users. In: the server that served the page, and the channel of a link. Out: the actions of
// the user. Deliberately absent: the admin listener, and any stored data except language and colours.

import { render } from 'preact'
import { useEffect, useMemo, useState } from 'preact/hooks'
import { facts, type Facts } from './facts.js'
import { invited, serverOf } from './room/addresses.js'
import { Room } from './room/room.js'
import { preferred, translator, Words, type Language } from './text/index.js'
import { Banner, STATES, Troubles } from './ui/banner.js'
import { Chat } from './ui/chat.js'
import { Join } from './ui/join.js'
import { Members } from './ui/members.js'
import { Own, Publish } from './ui/own.js'
import { Stage } from './ui/stage.js'
import { Tasks } from './ui/tasks.js'
import { Attributes, Events, Invite, Recovery } from './ui/tools.js'

type Theme = 'auto' | 'light' | 'dark'

/** Settings in the browser's storage. The browser may refuse to keep them. */
const storage = {
  get: (key: string) => {
    try {
      return localStorage.getItem(key)
    } catch {
      return null
    }
  },
  set: (key: string, value: string) => {
    try {
      localStorage.setItem(key, value)
    } catch {
      // The setting then applies until the page is closed.
    }
  },
}

function App({ known }: { known: Facts }) {
  const [language, setLanguage] = useState<Language>(() => preferred(storage.get('language')))
  const [theme, setTheme] = useState<Theme>(() => (storage.get('theme') as Theme | null) ?? 'auto')
  const [, redraw] = useState(0)
  const [isBusy, setBusy] = useState(false)
  const room = useMemo(() => new Room(serverOf(location), __WASM_PATH__, () => redraw((count) => count + 1)), [])
  const t = useMemo(() => translator(language), [language])
  useEffect(() => {
    document.documentElement.lang = language === 'zh' ? 'zh-CN' : 'en'
    storage.set('language', language)
  }, [language])
  useEffect(() => {
    document.documentElement.dataset.theme = theme
    storage.set('theme', theme)
  }, [theme])

  // A closed page cannot resume its membership, because its ticket is lost. So it leaves at once.
  useEffect(() => {
    const onPageHide = (event: PageTransitionEvent) => event.persisted || void room.leave()
    window.addEventListener('pagehide', onPageHide)
    return () => window.removeEventListener('pagehide', onPageHide)
  }, [room])

  const isIn = room.channel !== null && room.state !== 'disconnected' && room.state !== 'connecting'
  useEffect(() => {
    document.title = isIn && room.channel ? `${room.channel.channelName} · Lianmai` : 'Lianmai'
  }, [isIn])
  return (
    <Words.Provider value={t}>
      <header>
        <h1>{isIn && room.channel ? t('roomTitle', { channel: room.channel.channelName }) : 'Lianmai 连麦'}</h1>
        {isIn && <p class={`state ${room.state}`} data-state={room.state}>{t(STATES[room.state])}</p>}
        {isIn && room.channel && <p class="count">{t('people', { count: room.channel.memberCount })}</p>}
        <div class="row right">
          <label class="theme">
            <span>{t('theme')}</span>
            <select value={theme} onChange={(event) => setTheme(event.currentTarget.value as Theme)}>
              <option value="auto">{t('themeAuto')}</option>
              <option value="light">{t('themeLight')}</option>
              <option value="dark">{t('themeDark')}</option>
            </select>
          </label>
          <button type="button" lang={language === 'zh' ? 'en' : 'zh-CN'} onClick={() => setLanguage(language === 'zh' ? 'en' : 'zh')}>{t('language')}</button>
          {isIn && <button type="button" onClick={() => room.leave()}>{t('leave')}</button>}
        </div>
      </header>
      <Troubles room={room} />
      {isIn ? (
        <>
          <Banner room={room} />
          <main class="room">
            <Stage room={room} />
            <div class="people">
              <Chat room={room} />
              <Members room={room} />
              <Own room={room} />
            </div>
            <Recovery room={room} />
            <Publish room={room} />
            {known.tasks && <Tasks room={room} />}
            <Events room={room} />
            <Attributes room={room} />
            <Invite room={room} />
          </main>
        </>
      ) : (
        <Join
          facts={known} invited={invited(location)} last={room.entry} ending={room.ending} isBusy={isBusy}
          onJoin={(entry) => {
            setBusy(true)
            void room.join(entry).then(() => setBusy(false))
          }}
        />
      )}
      <footer><p>Lianmai {known.version}</p></footer>
    </Words.Provider>
  )
}

const root = document.getElementById('app')!
// A server that is too old for these facts is treated as one that requires a token for every app.
facts().catch((): Facts => ({ version: '', debugApps: [], allowFrom: [] })).then((known) => render(<App known={known} />, root))
