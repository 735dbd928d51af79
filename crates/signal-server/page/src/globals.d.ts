/** Where the server has the module of WebAssembly; `build.mjs` puts it here. */
declare const __WASM_PATH__: string
