// `lianmai/web` for `require`, where no module knows its URL: the file of WebAssembly comes as text.
import { createSdk } from '../facade/sdk.js'
import { web } from '../hosts/web.js'

const YunXinMiniappSDK = createSdk(web(undefined, () => import('lianmai-inline')))
export default YunXinMiniappSDK
