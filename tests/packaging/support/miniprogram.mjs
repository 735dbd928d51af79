// "Build npm" of WeChat's developer tools: packages that a project depends on, and what those depend on, come into
// `miniprogram_npm`. Of a package for mini-programs that is the folder that `miniprogram` of its package.json names. In: a
// project. Out: the packages that came. Deliberately absent: the bundling of other packages, of which there shall be none.

import { cpSync, existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'

export function buildNpm(project) {
  const came = []
  const add = (from) => {
    const { dependencies = {} } = read(join(from, 'package.json'))
    for (const name of Object.keys(dependencies)) {
      if (came.includes(name)) continue
      came.push(name)
      const folder = find(from, name)
      const { miniprogram = 'miniprogram_dist' } = read(join(folder, 'package.json'))
      if (!existsSync(join(folder, miniprogram))) continue
      cpSync(join(folder, miniprogram), join(project, 'miniprogram_npm', name), { recursive: true })
      add(folder)
    }
  }
  add(project)
  return came
}

const read = (file) => JSON.parse(readFileSync(file, 'utf8'))

/** Folders upwards are looked through, as Node does. */
function find(from, name) {
  const paths = createRequire(join(from, 'index.js')).resolve.paths(name)
  const folder = paths.map((path) => join(path, name)).find((path) => existsSync(join(path, 'package.json')))
  if (!folder) throw new Error(`${name} is not installed for ${from}`)
  return folder
}
