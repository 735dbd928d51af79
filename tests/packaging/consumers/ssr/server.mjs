import { globals, stop, touched } from './traps.mjs'

const { render } = await import(process.argv[2])
const html = render('room')
const added = Object.getOwnPropertyNames(globalThis).filter((name) => !globals.includes(name))
const resources = process.getActiveResourcesInfo().filter((name) => /Timeout|Immediate|Port|Worker|TCP|TLS/.test(name))
stop()
console.log(JSON.stringify({ html, touched, added, resources }))
