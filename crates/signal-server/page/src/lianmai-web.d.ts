// The types of `lianmai/web`, taken from its source. So the page can be type-checked before the package is built.
import type { Sdk } from '../../../wasm-bindings/js/src/index.js'
export type * from '../../../wasm-bindings/js/src/index.js'
declare const YunXinMiniappSDK: Sdk
export default YunXinMiniappSDK
