// The event log: one row for each event of the SDK and each call that succeeded, in order. In: events, calls, and the channel's
// sequence number at that time. Out: rows. Deliberately absent: URLs and tokens, because they are secrets.

export interface Row {
  id: number
  /** The first and last sequence number that this row covers; absent for an event that only this client received. */
  seqs?: [number, number]
  at: Date
  event: string
  text: string
}

/** The number of rows that are kept. */
export const MAX_ROWS = 500

export class EventLog {
  rows: Row[] = []
  private next = 1
  /** The channel's sequence number at the last row. */
  private seq: number | undefined

  /** `seq` is the channel's sequence number at this event. If it rose, the row covers the numbers in between. */
  add(event: string, payload: unknown, seq: number | undefined): void {
    const row: Row = { id: this.next++, at: new Date(), event, text: describe(payload) }
    if (seq !== undefined && this.seq !== undefined && seq > this.seq) row.seqs = [this.seq + 1, seq]
    // The number is lower in a new incarnation of the channel. The client then receives its whole state.
    if (seq !== undefined) this.seq = seq
    this.rows = [...this.rows.slice(1 - MAX_ROWS), row]
  }
}

/** The readable part of a payload. */
function describe(payload: unknown): string {
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
