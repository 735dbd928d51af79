// A separate real server for each test file: LIANMAI_SERVER, or target/debug/signal-server.

import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const repository = join(dirname(fileURLToPath(import.meta.url)), '../../../../..')

/** `settings` are environment variables of the server, such as LIANMAI_SESSION__GRACE_MS. */
export async function startServer(settings = {}) {
  const binary = process.env.LIANMAI_SERVER || join(repository, 'target/debug/signal-server')
  if (!existsSync(binary)) throw new Error(`no server at ${binary}: cargo build -p lianmai-signal-server`)
  const data = mkdtempSync(join(tmpdir(), 'lianmai-server-'))
  const any = '127.0.0.1:0'
  const child = spawn(binary, ['run', '--listen', any, '--admin-listen', any, '--rtmp-listen', any, '--data-dir', data], {
    stdio: ['ignore', 'pipe', 'pipe'], // Whether there are tasks does not depend on what was built beside the server.
    env: { ...process.env, LIANMAI_TASKS__SERVE: 'false', ...settings },
  })
  child.stderr.resume()
  const stop = () => {
    child.kill('SIGKILL')
    rmSync(data, { recursive: true, force: true })
  }
  process.on('exit', stop)
  const url = await new Promise((resolve, reject) => {
    child.on('exit', (code) => reject(new Error(`the server ended with ${code}`)))
    createInterface({ input: child.stdout }).on('line', (line) => {
      const match = /^signal +(wss?:\S+)/.exec(line)
      if (match) resolve(match[1])
    })
  })
  return { url, stop }
}
