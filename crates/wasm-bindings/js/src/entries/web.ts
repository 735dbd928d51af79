// `lianmai/web`. Bundlers recognize the URL and copy the WebAssembly file into their output.
import { createSdk } from '../facade/sdk.js'
import { web } from '../hosts/web.js'

const YunXinMiniappSDK = createSdk(web(new URL('./lianmai.wasm', import.meta.url).href, () => import('lianmai-inline')))
export default YunXinMiniappSDK
