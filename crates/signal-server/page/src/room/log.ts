// The event log: one row for each event that the SDK told and each call that succeeded, in their order. In: those, and the channel's
// number as of then. Out: rows. Deliberately absent: URLs and tokens, which are secrets.

export interface Row {
  id: number
  /** The numbers of the channel's events that came with this row, as `[first, last]`; absent for what is told to this client alone. */
  seqs?: [number, number]
  at: Date
  event: string
  text: string
}

/** Rows that are kept. */
export const MAX_ROWS = 500

export class EventLog {
  rows: Row[] = []
  private next = 1
  /** The channel's number as of the last row. */
  private seq: number | undefined

  /** `seq` is the channel's number as of this event: where it moved, the row holds what it moved by. */
  add(event: string, payload: unknown, seq: number | undefined): void {
    const row: Row = { id: this.next++, at: new Date(), event, text: told(payload) }
    if (seq !== undefined && this.seq !== undefined && seq > this.seq) row.seqs = [this.seq + 1, seq]
    // Lower in another life of the channel, which begins with a picture of it.
    if (seq !== undefined) this.seq = seq
    this.rows = [...this.rows.slice(1 - MAX_ROWS), row]
  }
}

/** What of a payload is for people. */
function told(payload: unknown): string {
  if (typeof payload !== 'object' || payload === null) return ''
  const { name, reason } = payload as { name?: string; reason?: string }
  if (payload instanceof Error) return `${name}: ${reason ?? payload.message}`
  const parts: string[] = []
  for (const [key, value] of Object.entries(payload)) {
    if (value === undefined || key === 'isBigNumber' || key === 'curState' || key === 'prevState' || key === 'userlist') continue
    if (/^url|^userList$/i.test(key)) {
      parts.push(`${key}=…`)
    } else if (typeof value === 'object') {
      const text = JSON.stringify(value)
      if (text !== '{}') parts.push(`${key}=${text}`)
    } else {
      parts.push(`${key}=${value}`)
    }
  }
  return parts.join(' ')
}
