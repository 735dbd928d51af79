// `node bench-hidden.mjs [MINUTES [plain]]`: hides a page for 10 minutes, with the default timers of the server. `plain`: the
// page uses the browser's timers instead of the SDK's. It prints figures for people; `all.test.mjs` has a short test.

import { buildVite } from './support/build.mjs'
import { hide } from './hidden.mjs'
import { install } from './support/project.mjs'
import { startSite } from './support/site.mjs'

const minutes = Number(process.argv[2] || 10)
const project = install()
await buildVite(project)
const site = await startSite({ '/vite/': project.consumer('web/dist') })
const { seconds, wire, seen, page } = await hide({ project, site, path: '/vite/', isPlain: process.argv[3] === 'plain', isOver: (_, seconds) => seconds >= minutes * 60 })
site.stop()
console.log(`hidden for ${seconds.toFixed(0)} s: its timer of 100 ms fired ${page ? page.ticks : '?'} times`)
console.log(`from the page: ${wire.text} frames of its own, ${wire.pong} pongs of the browser, ${wire.longest} of them on end`)
console.log(`the other member saw: ${seen.join(', ')}`)
console.log(`the page is ${page ? `a member still (${page.visibility}), and saw: ${page.states.join(', ')}` : 'a member no more'}`)
process.exitCode = page && page.visibility === 'hidden' && !seen.some((event) => /Leave|removed|disconnect/.test(event)) ? 0 : 1
