// Splits and builds addresses. In: URLs of the server and of this page. Out: parts and links. Deliberately absent: building
// media URLs; the page uses them exactly as the server sent them.

/** The address that the SDK connects to: the server that this page came from. */
export function serverOf(page: Location): string {
  return `${page.protocol === 'https:' ? 'wss' : 'ws'}://${page.host}`
}

/** Whether an address works only on this machine. */
export function isLoopback(url: string): boolean {
  try {
    // `rtmp` is no scheme whose hosts browsers read.
    const { hostname } = new URL(url.replace(/^\w+:/, 'http:'))
    return hostname === 'localhost' || hostname.endsWith('.localhost') || /^127\./.test(hostname) || hostname === '[::1]'
  } catch {
    return true
  }
}

/** Splits a push URL into the two fields that OBS has. */
export function obsFields(url: string): { server: string; key: string } {
  const end = url.indexOf('?')
  const at = url.lastIndexOf('/', end < 0 ? url.length : end)
  // OBS takes the query as part of the key.
  return { server: url.slice(0, at), key: url.slice(at + 1) }
}

/** The command that pushes a test picture and a tone to a URL. */
export function ffmpegCommand(url: string): string {
  return [
    'ffmpeg -re -f lavfi -i testsrc2=size=640x360:rate=25 -re -f lavfi -i sine=frequency=660',
    '-c:v libx264 -preset veryfast -tune zerolatency -pix_fmt yuv420p -g 25 -c:a aac -f flv',
    `'${url}'`,
  ].join(' ')
}

/** What a link to this page contains. It never contains a token. */
export interface Invitation {
  channel: string
  appkey: string
}

export function invitation(page: Location, { channel, appkey }: Invitation): string {
  const query = new URLSearchParams({ channel, ...(appkey === 'demo' ? {} : { appkey }) })
  return `${page.origin}${page.pathname}#${query}`
}

export function invited(page: Location): Partial<Invitation> {
  const query = new URLSearchParams(page.hash.slice(1))
  const parts: Partial<Invitation> = {}
  for (const name of ['channel', 'appkey'] as const) {
    const value = query.get(name)
    if (value) parts[name] = value
  }
  return parts
}
