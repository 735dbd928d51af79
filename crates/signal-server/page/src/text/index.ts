// Selects the language of the page. In: the browser's languages, and a stored choice. Out: `t`. Deliberately absent: markup;
// values that are inserted into a text remain plain text.

import { createContext } from 'preact'
import { useContext } from 'preact/hooks'
import { en, type Key, type Text } from './en.js'
import { zh } from './zh.js'

export type Language = 'en' | 'zh'
export type { Key }
export type Translate = (key: Key, values?: { [name: string]: string | number }) => string

const TEXTS: { [L in Language]: Text } = { en, zh }

export function translator(language: Language): Translate {
  const text = TEXTS[language]
  return (key, values = {}) => text[key].replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole))
}

export function preferred(kept: string | null): Language {
  if (kept === 'en' || kept === 'zh') return kept
  return /^zh\b/i.test(navigator.language) ? 'zh' : 'en'
}

export const Words = createContext<Translate>(translator('en'))

export function useText(): Translate {
  return useContext(Words)
}
