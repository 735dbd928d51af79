// Records every access to these globals. A server that renders pages has different versions of them, or none.
const NAMES = [
  'window', 'document', 'location', 'navigator', 'WebSocket', 'MessageChannel', 'Worker', 'fetch', 'crypto', 'WebAssembly',
  'setTimeout', 'setInterval', 'setImmediate', 'atob', 'localStorage',
]
export const touched = []
let isWatching = true

for (const name of NAMES) {
  const real = globalThis[name]
  Object.defineProperty(globalThis, name, {
    configurable: true,
    get() {
      // Node's own loader uses some of these globals.
      if (isWatching && /node_modules.lianmai|ssr.dist/.test(new Error().stack)) touched.push(name)
      return real
    },
    set: () => isWatching && touched.push(`${name} =`),
  })
}
export const globals = Object.getOwnPropertyNames(globalThis)
export const stop = () => (isWatching = false)
