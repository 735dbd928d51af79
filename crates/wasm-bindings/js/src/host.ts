// What the SDK needs from its platform. `hosts/` has an implementation for each platform. `configure({host})` replaces any
// part of it: that is how uni-app, Taro and tests provide their own sockets or timers.
//
// In: nothing. Out: types, and a clock. Deliberately absent: decisions; a host only transports data.

/** Reports of a socket. All reports except `open` and `message` may come at any time, also late and more than once. */
export interface SocketListener {
  /** The socket is open and speaks the sub-protocol. */
  open(): void
  /** A frame arrived. `data` is a text; anything else is an error of the server. */
  message(data: unknown): void
  /** The socket has closed or could not be opened. `code` is 1006 if there was no close frame. */
  close(code: number, reason: string): void
}

/** A socket that is open or being opened. */
export interface HostSocket {
  /** Sends a text frame. */
  send(text: string): void
  /** Closes the socket. A call of the listener's `close` may follow or not. */
  close(code: number): void
}

/**
 * Reports of the platform about the app's lifecycle. They only make the client react faster: the session detects from the
 * clock that it was frozen.
 */
export interface LifecycleListener {
  /** The app is hidden and may be frozen soon. */
  suspend(): void
  /** The app is shown again and may have been frozen. */
  resume(): void
  /** The network changed. */
  network(): void
}

/** The imports of a WebAssembly module. Declared here because not every platform has the DOM types. */
export type WasmImports = { [from: string]: { [name: string]: (...args: number[]) => number } }

/** The exports of a WebAssembly module. */
export type WasmExports = { [name: string]: any }

/** The platform interface. `configure({host})` replaces the parts that it names. */
export interface Host {
  /** Milliseconds of a clock that never goes back. The clock should continue while the app is frozen. */
  now(): number
  /** Returns `bytes` random bytes that are fit for secrets. */
  random(bytes: number): Promise<ArrayLike<number>>
  /** Opens a WebSocket with a sub-protocol. May throw. */
  connect(url: string, protocol: string, listener: SocketListener): HostSocket
  /** Runs a function later; the result identifies the timer. */
  setTimer(run: () => void, ms: number): unknown
  /** Cancels a timer. Null and a timer that already ran are harmless. */
  clearTimer(timer: unknown): void
  /** Runs a function soon, after promise callbacks. Hidden pages must not slow it down. */
  macrotask(run: () => void): void
  /** Instantiates the WebAssembly module and returns its exports. `path` is `wasmPath`. `attempt` is 0, then 1 after a failure. */
  loadWasm(path: string | undefined, imports: WasmImports, attempt: number): Promise<WasmExports>
  /** Starts to report the app's lifecycle; the returned function ends this. */
  lifecycle?(listener: LifecycleListener): () => void
  /** Receives faults, and with `debug` also calls and events. */
  console: { log(...what: unknown[]): void; warn(...what: unknown[]): void; error(...what: unknown[]): void }
}

/**
 * Makes a clock that never goes back from one that may. It follows jumps forward of the wall clock: a phone that slept ran no
 * code, and the session must notice that.
 */
export function monotonic(wall: () => number): () => number {
  let last = wall()
  let time = 1
  return () => {
    const at = wall()
    if (at > last) time += at - last
    last = at
    return time
  }
}
