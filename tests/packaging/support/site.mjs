// A web server for static folders. In: folders by path, and the Content Security Policy that a page gets at the time of the
// request. Out: an address, and the list of requested files. Deliberately absent: caching, compression, and the other
// features of a real server.

import { readFileSync, statSync } from 'node:fs'
import { createServer } from 'node:http'
import { extname, join, normalize } from 'node:path'

const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript', '.wasm': 'application/wasm' }

export async function startSite(folders) {
  const site = { policy: '', asked: [] }
  const server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, 'http://site').pathname))
    const prefix = Object.keys(folders).find((prefix) => path.startsWith(prefix))
    let file = prefix && join(folders[prefix], path.slice(prefix.length))
    try {
      if (file && statSync(file).isDirectory()) file = join(file, 'index.html')
      const body = readFileSync(file)
      site.asked.push(path)
      response.setHeader('content-type', TYPES[extname(file)] || 'application/octet-stream')
      if (site.policy) response.setHeader('content-security-policy', site.policy)
      response.end(body)
    } catch {
      response.statusCode = 404
      response.end()
    }
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  site.origin = `http://127.0.0.1:${server.address().port}`
  site.stop = () => {
    server.closeAllConnections()
    server.close()
  }
  return site
}
