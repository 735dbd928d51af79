// A proxy between a page and the server. In: a server. Out: an address, and the kinds of WebSocket frames that the client
// sends: they distinguish messages of the page from pongs of the browser. Deliberately absent: changes of the data.

import { connect, createServer } from 'node:net'

const TEXT = 1
const PONG = 10

export async function startProxy(url, heard) {
  const { hostname, port } = new URL(url)
  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname)
    let rest = Buffer.alloc(0)
    let isUpgraded = false
    client.on('data', (bytes) => {
      upstream.write(bytes)
      rest = Buffer.concat([rest, bytes])
      if (!isUpgraded) {
        const end = rest.indexOf('\r\n\r\n')
        if (end < 0) return
        isUpgraded = true
        rest = rest.subarray(end + 4)
      }
      for (let frame; (frame = first(rest)); rest = rest.subarray(frame.size)) {
        if (frame.opcode === TEXT) heard('text')
        if (frame.opcode === PONG) heard('pong')
      }
    })
    upstream.on('data', (bytes) => client.write(bytes))
    for (const [from, to] of [[client, upstream], [upstream, client]]) {
      from.on('close', () => to.destroy())
      from.on('error', () => to.destroy())
    }
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  return { url: `ws://127.0.0.1:${server.address().port}`, stop: () => server.close() }
}

/** The header of the first frame. All frames of clients are masked. */
function first(bytes) {
  if (bytes.length < 2) return null
  const short = bytes[1] & 127
  const more = short === 126 ? 2 : short === 127 ? 8 : 0
  if (bytes.length < 2 + more) return null
  const length = more === 2 ? bytes.readUInt16BE(2) : more === 8 ? Number(bytes.readBigUInt64BE(2)) : short
  const size = 2 + more + 4 + length
  return bytes.length < size ? null : { opcode: bytes[0] & 15, size }
}
