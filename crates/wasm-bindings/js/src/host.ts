// What the SDK needs of the machine it runs on. `hosts/` has one for each platform; `configure({host})` replaces any
// part of it, which is how uni-app, Taro and tests bring their own sockets or timers.
//
// In: nothing. Out: types, and a clock. Deliberately absent: decisions; a host only moves bytes.

/** What a socket tells. Everything but `open` and `message` may come at any time, also late and more than once. */
export interface SocketListener {
  /** The socket is open and speaks the sub-protocol. */
  open(): void
  /** A frame came: a text; anything else is an error of the server. */
  message(data: unknown): void
  /** The socket is gone or could not be opened; 1006 without a close frame. */
  close(code: number, reason: string): void
}

/** A socket that is open or being opened. */
export interface HostSocket {
  /** Sends a text frame. */
  send(text: string): void
  /** Closes; `close` of the listener may follow or not. */
  close(code: number): void
}

/**
 * What the platform tells about the app's life. All of it only makes the client faster: the session sees by the clock
 * that it was frozen.
 */
export interface LifecycleListener {
  /** The app is hidden, and may be frozen soon. */
  suspend(): void
  /** The app is shown again, and may have been frozen. */
  resume(): void
  /** The network is another one. */
  network(): void
}

/** What a module of WebAssembly gets; types of the DOM are not everywhere. */
export type WasmImports = { [from: string]: { [name: string]: (...args: number[]) => number } }

/** What it gives. */
export type WasmExports = { [name: string]: any }

/** The platform. `configure({host})` replaces the parts that it names. */
export interface Host {
  /** Milliseconds of a clock that never goes back; it should go on while the app is frozen. */
  now(): number
  /** So many random bytes, fit for secrets. */
  random(bytes: number): Promise<ArrayLike<number>>
  /** Opens a WebSocket with a sub-protocol. May throw. */
  connect(url: string, protocol: string, listener: SocketListener): HostSocket
  /** Runs something later; what comes back names the timer. */
  setTimer(run: () => void, ms: number): unknown
  /** Forgets a timer; null and one that ran are harmless. */
  clearTimer(timer: unknown): void
  /** Runs something soon, after promise callbacks. Must not be slowed down in hidden pages. */
  macrotask(run: () => void): void
  /** Instantiates the WebAssembly module and answers its exports. `path` is `wasmPath`, `attempt` 0, then 1 after a failure. */
  loadWasm(path: string | undefined, imports: WasmImports, attempt: number): Promise<WasmExports>
  /** Begins to tell about the app's life; what comes back ends that. */
  lifecycle?(listener: LifecycleListener): () => void
  /** Where faults are told, and with `debug` calls and events. */
  console: { log(...what: unknown[]): void; warn(...what: unknown[]): void; error(...what: unknown[]): void }
}

/**
 * A clock that never goes back, made of one that may. It jumps ahead with the wall clock: a phone that slept did not
 * run, and the session has to see that.
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
