// `lianmai/node`. One module for `import` and `require`, so that both have the same client.
import { join } from 'node:path'
import { createSdk } from '../facade/sdk.js'
import { node } from '../hosts/node.js'

const YunXinMiniappSDK = createSdk(node(join(__dirname, 'lianmai.wasm')))
export default YunXinMiniappSDK
