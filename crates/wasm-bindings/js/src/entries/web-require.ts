// `lianmai/web` for `require`. A CommonJS module does not know its URL, so the WebAssembly file is included as text.
import { createSdk } from '../facade/sdk.js'
import { web } from '../hosts/web.js'

const YunXinMiniappSDK = createSdk(web(undefined, () => import('lianmai-inline')))
export default YunXinMiniappSDK
