// `lianmai/node`. `import` and `require` load the same module, so both get the same client.
import { join } from 'node:path'
import { createSdk } from '../facade/sdk.js'
import { node } from '../hosts/node.js'

const YunXinMiniappSDK = createSdk(node(join(__dirname, 'lianmai.wasm')))
export default YunXinMiniappSDK
