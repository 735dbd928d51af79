// The glue of wasm-bindgen, which the build wraps into a module of its own.
declare module 'lianmai-glue' {
  import type { CoreClass } from './load.js'
  const glue: (instantiate: (imports: WebAssembly.Imports) => Promise<WebAssembly.Exports>) => Promise<CoreClass>
  export default glue
}

// The WebAssembly file as base64, for where no file can be found.
declare module 'lianmai-inline' {
  const base64: string
  export default base64
}
