// `lianmai/wechat`. The build inserts the path of the WebAssembly file.
import { createSdk } from '../facade/sdk.js'
import { wechat } from '../hosts/wechat.js'

declare const __WASM_PATH__: string

const YunXinMiniappSDK = createSdk(wechat(__WASM_PATH__))
export default YunXinMiniappSDK
