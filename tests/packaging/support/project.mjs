// Installs the packed package as any app would. In: the tarball (LIANMAI_TARBALL, or the one below target/npm). Out: a
// folder with a copy of `consumers/`, and `node_modules` above them. Deliberately absent: links into the repository, so that
// a file that was not packed is noticed.
//
// The lock file has no checksum of the package, because each build has another one. To change versions: put a tarball here as
// `lianmai.tgz`, run `npm install --package-lock-only`, and remove the line `integrity` of `node_modules/lianmai`.

import { execFileSync } from 'node:child_process'
import { copyFileSync, cpSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** A command that takes longer has hung. */
const HANGS_MS = 180000

const here = join(dirname(fileURLToPath(import.meta.url)), '..')
const repository = join(here, '../..')

function tarball() {
  const given = process.env.LIANMAI_TARBALL
  if (given) return given
  const folder = join(repository, 'target/npm')
  const packed = existsSync(folder) ? readdirSync(folder).filter((file) => file.endsWith('.tgz')) : []
  if (packed.length !== 1) throw new Error(`${packed.length} tarballs in ${folder}: run cargo xtask wasm`)
  return join(folder, packed[0])
}

export function install() {
  const folder = mkdtempSync(join(tmpdir(), 'lianmai-packaging-'))
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
  for (const file of ['package.json', 'package-lock.json', '.npmrc']) copyFileSync(join(here, file), join(folder, file))
  copyFileSync(tarball(), join(folder, 'lianmai.tgz'))
  execFileSync('npm', ['ci', '--prefer-offline', '--silent'], { cwd: folder, stdio: ['ignore', 'inherit', 'inherit'] })
  cpSync(join(here, 'consumers'), join(folder, 'consumers'), { recursive: true })
  return {
    folder,
    package: join(folder, 'node_modules/lianmai'),
    consumer: (name) => join(folder, 'consumers', name),
    require: createRequire(join(folder, 'index.js')),
    /** Runs Node in a consumer's folder and returns its output. Fails if the process does not end. */
    node: (name, ...args) => execFileSync(process.execPath, args, { cwd: join(folder, 'consumers', name), encoding: 'utf8', timeout: HANGS_MS }).trim(),
  }
}
