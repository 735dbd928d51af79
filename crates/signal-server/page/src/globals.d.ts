/** The path of the WebAssembly module on the server; `build.mjs` inserts it. */
declare const __WASM_PATH__: string
