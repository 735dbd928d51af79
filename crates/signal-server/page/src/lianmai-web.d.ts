// The types of `lianmai/web`, from their source: the page can be checked before the package is built.
import type { Sdk } from '../../../wasm-bindings/js/src/index.js'
export type * from '../../../wasm-bindings/js/src/index.js'
declare const YunXinMiniappSDK: Sdk
export default YunXinMiniappSDK
