// The event log: one row for each event that the SDK told, in its order. In: events. Out: rows. Deliberately absent: URLs,
// which are secrets.

export interface Row {
  id: number
  /** The number of the channel's event behind this row; absent for what is told to this client alone. */
  seq?: number
  at: Date
  event: string
  text: string
}

/** Rows that are kept. */
export const MAX_ROWS = 500

/** Events that every member of the channel hears; each moves the number. */
const SHARED = new Set([
  'clientJoin', 'clientLeave', 'role-Changed', 'stream-added', 'stream-removed', 'mute-audio', 'mute-video', 'unmute-audio', 'unmute-video',
  'message', 'attributes-updated', 'rtmp-tasks-status', 'liveRoomClose',
])

export class EventLog {
  rows: Row[] = []
  private next = 1

  /** `seq` is the channel's number as of this event. */
  add(event: string, payload: unknown, seq: number | undefined): void {
    const isShared = SHARED.has(event) && !(payload as { targeted?: boolean }).targeted
    const row: Row = { id: this.next++, at: new Date(), event, text: told(payload) }
    if (isShared && seq !== undefined) row.seq = seq
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
