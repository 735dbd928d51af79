// The WebAssembly file as base64, for environments that cannot locate the file.
declare module 'lianmai-inline' {
  const base64: string
  export default base64
}
