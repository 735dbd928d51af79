// Does the same as "Build npm" of WeChat's developer tools: copies the dependencies of a project, and their dependencies, into
// `miniprogram_npm`. For a mini-program package it copies the folder that `miniprogram` in its package.json names. In: a
// project. Out: the copied packages. Deliberately absent: bundling other packages; there must be none.

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

/** Finds a package in this folder and those above it, like Node. */
function find(from, name) {
  const paths = createRequire(join(from, 'index.js')).resolve.paths(name)
  const folder = paths.map((path) => join(path, name)).find((path) => existsSync(join(path, 'package.json')))
  if (!folder) throw new Error(`${name} is not installed for ${from}`)
  return folder
}
