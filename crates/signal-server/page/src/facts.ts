// What the server says of itself to whoever opens its page.

export interface Facts {
  version: string
  /** Apps that need no token. */
  debugApps: string[]
  /** Address ranges besides this machine from which those may be used. */
  allowFrom: string[]
  /** Whether there are push tasks; absent of an older server. */
  tasks?: boolean
}

export async function facts(): Promise<Facts> {
  const response = await fetch('/page/facts.json')
  if (!response.ok) throw new Error(`HTTP ${response.status}`)
  return response.json() as Promise<Facts>
}
