// `lianmai/web`. Bundlers see the URL and put the file of WebAssembly beside their output.
import { createSdk } from '../facade/sdk.js'
import { web } from '../hosts/web.js'

const YunXinMiniappSDK = createSdk(web(new URL('./lianmai.wasm', import.meta.url).href, () => import('lianmai-inline')))
export default YunXinMiniappSDK
