// What the server tells every page about itself.

export interface Facts {
  version: string
  /** Apps that need no token. */
  debugApps: string[]
  /** Address ranges, besides this machine, from which these apps may be used. */
  allowFrom: string[]
  /** Whether the server offers push tasks; older servers do not send it. */
  tasks?: boolean
}

export async function facts(): Promise<Facts> {
  const response = await fetch('/page/facts.json')
  if (!response.ok) throw new Error(`HTTP ${response.status}`)
  return response.json() as Promise<Facts>
}
