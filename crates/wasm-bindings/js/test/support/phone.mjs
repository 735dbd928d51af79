// Simulates the JavaScript environment of a mini-program on a phone: the language, `wx`, `WXWebAssembly`, timers, the console
// and `require`, and nothing else. In: actions of a test, such as hiding the app. Out: the package, loaded from the place
// where the developer tools put it. Deliberately absent: features that only the developer tools have.

import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import vm from 'node:vm'
import { js, project } from './package.mjs'

const { WebSocket } = createRequire(join(js, 'index.js'))('ws')
const { package: folder } = project()

/** Standard globals that a phone with an old engine lacks. */
const ABSENT = [
  'WebAssembly', 'SharedArrayBuffer', 'Atomics', 'BigInt', 'BigInt64Array', 'BigUint64Array', 'WeakRef',
  'FinalizationRegistry', 'AggregateError', 'Iterator',
]

/** All globals of the environment. */
export const ALLOWED = [
  // The language.
  'Array', 'ArrayBuffer', 'Boolean', 'DataView', 'Date', 'Error', 'EvalError', 'Float32Array', 'Float64Array', 'Function',
  'Infinity', 'Int16Array', 'Int32Array', 'Int8Array', 'Intl', 'JSON', 'Map', 'Math', 'NaN', 'Number', 'Object', 'Promise', 'Proxy',
  'RangeError', 'ReferenceError', 'Reflect', 'RegExp', 'Set', 'String', 'Symbol', 'SyntaxError', 'TypeError', 'URIError',
  'Uint16Array', 'Uint32Array', 'Uint8Array', 'Uint8ClampedArray', 'WeakMap', 'WeakSet', 'decodeURI', 'decodeURIComponent',
  'encodeURI', 'encodeURIComponent', 'escape', 'eval', 'globalThis', 'isFinite', 'isNaN', 'parseFloat', 'parseInt', 'undefined', 'unescape',
  // The platform.
  'WXWebAssembly', 'clearInterval', 'clearTimeout', 'console', 'setInterval', 'setTimeout', 'wx',
]

/** A Promise based on setTimeout, with one timer for each callback, as on iOS up to 15. */
const SLOW_PROMISE = `
(function () {
  function Slow(run) {
    var self = this
    self.state = 0
    self.waiting = []
    function settle(state, value) {
      if (self.state) return
      self.state = state
      self.value = value
      self.waiting.splice(0).forEach(function (start) { start() })
    }
    function reject(error) { settle(2, error) }
    function fulfil(value) {
      if (self.state || self.isLocked) return
      var then
      try { then = value && (typeof value === 'object' || typeof value === 'function') && value.then } catch (error) { return reject(error) }
      if (typeof then !== 'function') return settle(1, value)
      self.isLocked = true
      then.call(value, function (inner) { self.isLocked = false; fulfil(inner) }, reject)
    }
    try { run(fulfil, function (error) { if (!self.isLocked) reject(error) }) } catch (error) { reject(error) }
  }
  Slow.prototype.then = function (good, bad) {
    var self = this
    return new Slow(function (resolve, reject) {
      function start() {
        setTimeout(function () {
          var run = self.state === 1 ? good : bad
          if (typeof run !== 'function') return self.state === 1 ? resolve(self.value) : reject(self.value)
          try { resolve(run(self.value)) } catch (error) { reject(error) }
        }, 0)
      }
      if (self.state) start()
      else self.waiting.push(start)
    })
  }
  Slow.prototype.catch = function (bad) { return this.then(undefined, bad) }
  Slow.resolve = function (value) { return new Slow(function (resolve) { resolve(value) }) }
  Slow.reject = function (error) { return new Slow(function (_, reject) { reject(error) }) }
  Slow.all = function (list) {
    return new Slow(function (resolve, reject) {
      var left = list.length, values = []
      if (!left) resolve(values)
      list.forEach(function (item, at) {
        Slow.resolve(item).then(function (value) { values[at] = value; if (!--left) resolve(values) }, reject)
      })
    })
  }
  Promise = Slow
})()
`

const script = (path) => `${path.replace(/\.js$/, '')}.js`

export class Phone {
  isFrozen = false
  /** Callbacks that wait until the app is shown again. */
  held = []
  sockets = []
  instantiated = []
  listeners = {}
  lines = []
  /** How far the phone's clock is ahead of the real one, in milliseconds. */
  skew = 0
  #timers = new Map()
  #lastTimer = 0

  /** `files` maps paths of the code package to files. */
  constructor({ hasGlobalThis = true, isSlow = false, errorFirst = false, wx = {}, files = {} } = {}) {
    this.errorFirst = errorFirst
    this.files = { '/miniprogram_npm/lianmai/': join(folder, 'miniprogram/'), '/sdk/': join(folder, 'copy/'), ...files }
    this.failures = 0
    const context = vm.createContext({}, { codeGeneration: { strings: false, wasm: false } })
    this.context = context
    for (const name of ABSENT) vm.runInContext(`delete globalThis.${name}`, context)
    Object.assign(context, {
      console: Object.fromEntries(['log', 'info', 'warn', 'error'].map((level) => [level, (...what) => this.lines.push([level, ...what])])),
      setTimeout: (run, ms) => this.#setTimer(run, ms || 0),
      clearTimeout: (id) => this.#clearTimer(id),
      setInterval: (run, ms) => this.#setTimer(run, ms || 0, ms || 0),
      clearInterval: (id) => this.#clearTimer(id),
      wx: {
        connectSocket: (options) => this.#connect(options),
        getRandomValues: ({ length, success }) => this.#later(() => success({ randomValues: crypto.getRandomValues(new Uint8Array(length)).buffer })),
        onAppShow: (run) => this.#listen('show', run),
        offAppShow: (run) => this.#unlisten('show', run),
        onAppHide: (run) => this.#listen('hide', run),
        offAppHide: (run) => this.#unlisten('hide', run),
        onNetworkStatusChange: (run) => this.#listen('network', run),
        offNetworkStatusChange: (run) => this.#unlisten('network', run),
        ...wx,
      },
    })
    context.now = () => Date.now() + this.skew
    vm.runInContext('{ const now = globalThis.now; Date.now = () => now(); delete globalThis.now }', context)
    if (isSlow) vm.runInContext(SLOW_PROMISE, context)
    context.instantiate = (path, imports, done, failed) => {
      this.instantiated.push(path)
      if (this.failures) {
        this.failures--
        return this.#later(() => failed(new Error('sporadic')))
      }
      try {
        const instance = new WebAssembly.Instance(new WebAssembly.Module(readFileSync(this.file(path))), imports)
        this.#later(() => done(instance))
      } catch (error) {
        this.#later(() => failed({ errMsg: `instantiate: ${error.message}` }))
      }
    }
    vm.runInContext(`WXWebAssembly = (function (instantiate) {
      return { instantiate: function (path, imports) {
        if (typeof path !== 'string') throw new TypeError('a path of the package')
        return new Promise(function (done, failed) { instantiate(path, imports, function (instance) { done({ instance: instance, module: null }) }, failed) })
      } }
    })(instantiate); delete globalThis.instantiate`, context)
    this.globals = vm.runInContext('Object.getOwnPropertyNames(globalThis)', context)
    if (!hasGlobalThis) vm.runInContext('delete globalThis.globalThis', context)
    this.modules = {}
  }

  file(path) {
    const root = Object.keys(this.files).find((prefix) => path.startsWith(prefix))
    return root ? join(this.files[root], path.slice(root.length)) : `/nowhere${path}`
  }

  /** `require` in the code package, by absolute path. */
  require(path) {
    if (!this.modules[path]) {
      const module = (this.modules[path] = { exports: {} })
      const code = readFileSync(this.file(path), 'utf8')
      // WeChat gives a module only these names.
      const run = vm.runInContext(`(function (require, module, exports) {${code}\n})`, this.context, { filename: path })
      run((name) => this.require(/^[./]/.test(name) ? script(resolve(dirname(path), name)) : this.#find(dirname(path), name)), module, module.exports)
    }
    return this.modules[path].exports
  }

  /** Finds what "build npm" put into `miniprogram_npm` of this folder or the nearest one above. */
  #find(folder, name) {
    const path = join(folder, 'miniprogram_npm', name)
    const found = [script(path), join(path, 'index.js')].find((file) => existsSync(this.file(file)))
    if (!found && folder === '/') throw new Error(`module '${name}' is not defined`)
    return found || this.#find(dirname(folder), name)
  }

  /** Runs a function of a test in the context of the phone, so that its objects belong to the phone. */
  run(code, parameters) {
    return vm.runInContext(`(${code})`, this.context)(parameters)
  }

  /** Tells the app that it will be hidden, and gives it time to react. */
  async announceHide() {
    this.#tell('hide', {})
    await new Promise(setImmediate)
  }

  /** Hides the app: nothing runs, and WeChat closes its sockets. `isTold`: the app knows already; else it learns late. */
  hide(isTold = false) {
    if (!isTold) this.#tell('hide', {})
    this.isFrozen = true
    for (const socket of this.sockets) socket.interrupt()
  }

  /** Shows the app again after `ms` milliseconds. `showFirst`: the app learns of it before the delayed callbacks run. */
  show(ms, showFirst) {
    this.skew += ms
    this.isFrozen = false
    const held = this.held.splice(0)
    const shown = () => this.#tell('show', {})
    if (showFirst) setImmediate(shown)
    for (const run of held) setImmediate(run)
    this.#arm()
    if (!showFirst) setTimeout(shown, 1)
  }

  changeNetwork(networkType, isConnected = true) {
    this.#tell('network', { isConnected, networkType })
  }

  stop() {
    this.isFrozen = true
    for (const socket of this.sockets) socket.ws.terminate()
    for (const { real } of this.#timers.values()) clearTimeout(real)
  }

  #tell(event, payload) {
    for (const run of this.listeners[event] || []) this.#later(() => run(payload))
  }

  #listen(event, run) {
    this.listeners[event] = [...(this.listeners[event] || []), run]
  }

  #unlisten(event, run) {
    this.listeners[event] = (this.listeners[event] || []).filter((other) => other !== run)
  }

  #later(run) {
    setImmediate(() => (this.isFrozen ? this.held.push(run) : run()))
  }

  #setTimer(run, ms, interval) {
    const id = ++this.#lastTimer
    const timer = { run, due: Date.now() + this.skew + ms, interval, real: null }
    this.#timers.set(id, timer)
    this.#schedule(id, timer)
    return id
  }

  #clearTimer(id) {
    const timer = this.#timers.get(id)
    if (timer) clearTimeout(timer.real)
    this.#timers.delete(id)
  }

  #schedule(id, timer) {
    clearTimeout(timer.real)
    timer.real = setTimeout(() => {
      if (this.isFrozen || this.#timers.get(id) !== timer) return
      if (timer.interval === undefined) this.#timers.delete(id)
      else {
        timer.due += timer.interval
        this.#schedule(id, timer)
      }
      timer.run()
    }, Math.max(0, timer.due - Date.now() - this.skew))
  }

  #arm() {
    for (const [id, timer] of this.#timers) this.#schedule(id, timer)
  }

  #connect({ url, protocols, success, fail }) {
    const phone = this
    const ws = new WebSocket(url, protocols)
    const on = {}
    let isDead = false
    const tell = (name, event) => phone.#later(() => on[name] && on[name](event))
    const end = (code, reason, isError) => {
      if (isDead) return
      isDead = true
      const events = [['close', { code, reason }]]
      if (isError) events.splice(phone.errorFirst ? 0 : 1, 0, ['error', { errMsg: reason }])
      for (const [name, event] of events) tell(name, event)
    }
    ws.on('open', () => tell('open', { header: {} }))
    ws.on('message', (data, isBinary) => isDead || tell('message', { data: isBinary ? data : String(data) }))
    ws.on('error', (error) => end(1006, `abnormal closure: ${error.message}`, true))
    ws.on('close', (code, reason) => end(code, String(reason), code === 1006))
    this.#later(() => success && success({ errMsg: 'connectSocket:ok' }))
    const socket = {
      ws,
      get isOpen() {
        return !isDead
      },
      interrupt() {
        ws.terminate()
        end(1000, 'interrupted', true)
      },
    }
    this.sockets.push(socket)
    const task = {}
    for (const [name, event] of [['onOpen', 'open'], ['onMessage', 'message'], ['onClose', 'close'], ['onError', 'error']]) {
      task[name] = (run) => (on[event] = run)
    }
    task.send = ({ data, success: done, fail: failed }) => {
      if (typeof data !== 'string') throw new TypeError('text only')
      if (isDead || ws.readyState !== WebSocket.OPEN) return phone.#later(() => failed && failed({ errMsg: 'sendSocketMessage:fail' }))
      ws.send(data)
      phone.#later(() => done && done({}))
    }
    task.close = ({ code = 1000, reason = '', fail: failed } = {}) => {
      if (code !== 1000 && (code < 3000 || code > 4999)) throw new RangeError('code of close')
      if (isDead) return phone.#later(() => failed && failed({ errMsg: 'closeSocket:fail' }))
      ws.close(code, reason)
    }
    return task
  }
}
