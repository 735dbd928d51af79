// The WebAssembly file as base64, for where no file can be found.
declare module 'lianmai-inline' {
  const base64: string
  export default base64
}
