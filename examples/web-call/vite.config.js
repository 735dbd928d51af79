// The SDK finds its WebAssembly file beside itself.
export default { optimizeDeps: { exclude: ['lianmai'] } }
