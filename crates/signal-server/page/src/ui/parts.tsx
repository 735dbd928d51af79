// Small components that several views use. In: what to show. Out: elements. Deliberately absent: rooms.

import type { ComponentChildren } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import { encode } from 'uqr'
import { useText } from '../text/index.js'

/** Attributes of a field for a technical word. */
export const TECHNICAL_INPUT = { autoComplete: 'off', autoCapitalize: 'off', spellcheck: false } as const

/** Icons as paths in a box of 24 by 24, because not every system has an emoji font. */
const ICONS = {
  loud: 'M4 9v6h4l5 4V5L8 9zM16 8.5a5 5 0 0 1 0 7M18.5 6a8.5 8.5 0 0 1 0 12',
  silent: 'M4 9v6h4l5 4V5L8 9zM16.5 9.5l5 5M21.5 9.5l-5 5',
  close: 'M6 6l12 12M18 6L6 18',
  copy: 'M9 9h11v11H9zM5 15H4V4h11v1',
}

export function Icon({ name }: { name: keyof typeof ICONS }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={ICONS[name]} fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round" />
    </svg>
  )
}

let fields = 0

/** A field with its label, and an optional hint. */
export function Field(props: { label: string; hint?: string; children: (id: { id: string; 'aria-describedby'?: string }) => ComponentChildren }) {
  const id = useState(() => `field-${++fields}`)[0]
  const hint = props.hint ? `${id}-hint` : undefined
  return (
    <div class="field">
      <label for={id}>{props.label}</label>
      {props.children({ id, ...(hint && { 'aria-describedby': hint }) })}
      {props.hint && <p class="hint" id={hint}>{props.hint}</p>}
    </div>
  )
}

export function Panel(props: { id: string; title: string; class?: string; children: ComponentChildren }) {
  return (
    <section class={`panel ${props.class ?? ''}`} aria-labelledby={props.id}>
      <h2 id={props.id}>{props.title}</h2>
      {props.children}
    </section>
  )
}

/** A text with a button to copy it. */
export function CopyField(props: { label: string; value: string }) {
  const t = useText()
  const [copied, setCopied] = useState(false)
  const input = useRef<HTMLInputElement>(null)
  const copy = async () => {
    input.current?.select()
    try {
      await navigator.clipboard.writeText(props.value)
    } catch {
      // Without TLS a page has no clipboard, but it can copy its selection.
      document.execCommand('copy')
    }
    setCopied(true)
  }
  useEffect(() => setCopied(false), [props.value])
  return (
    <Field label={props.label}>
      {(id) => (
        <div class="copy">
          <input {...id} ref={input} readOnly value={props.value} {...TECHNICAL_INPUT} onFocus={(event) => event.currentTarget.select()} />
          <button type="button" onClick={copy} aria-label={t('copy', { what: props.label })}><Icon name="copy" /></button>
          <span class="copied" role="status">{copied ? t('copied') : ''}</span>
        </div>
      )}
    </Field>
  )
}

/** A QR code, black on white in both themes, because cameras fail on inverted codes. */
export function Qr(props: { label: string; value: string }) {
  const { size, data } = encode(props.value, { border: 2 })
  const path = data.flatMap((row, y) => row.flatMap((isDark, x) => (isDark ? `M${x} ${y}h1v1h-1z` : []))).join('')
  return (
    <figure class="qr">
      <svg role="img" aria-label={props.label} viewBox={`0 0 ${size} ${size}`} shape-rendering="crispEdges">
        <rect width={size} height={size} fill="#fff" />
        <path d={path} fill="#000" />
      </svg>
      <figcaption>{props.label}</figcaption>
    </figure>
  )
}

/** A modal dialog. */
export function Dialog(props: { title: string; submit: string; onClose: () => void; onSubmit: (form: FormData) => void; children: ComponentChildren }) {
  const t = useText()
  const dialog = useRef<HTMLDialogElement>(null)
  useEffect(() => dialog.current?.showModal(), [])
  return (
    <dialog ref={dialog} onClose={props.onClose} aria-labelledby="dialog-title">
      <form method="dialog" onSubmit={(event) => props.onSubmit(new FormData(event.currentTarget))}>
        <h2 id="dialog-title">{props.title}</h2>
        {props.children}
        <div class="row">
          <button type="submit" class="danger">{props.submit}</button>
          <button type="button" onClick={() => dialog.current?.close()}>{t('cancel')}</button>
        </div>
      </form>
    </dialog>
  )
}

/** Keeps an element scrolled to its end, unless the user scrolled back. */
export function useFollow<E extends HTMLElement>(content: unknown) {
  const element = useRef<E>(null)
  const isAtEnd = useRef(true)
  useEffect(() => {
    const { current } = element
    if (current && isAtEnd.current) current.scrollTop = current.scrollHeight
  }, [content])
  const onScroll = () => {
    const { current } = element
    if (current) isAtEnd.current = current.scrollHeight - current.scrollTop - current.clientHeight < 40
  }
  return { ref: element, onScroll }
}
