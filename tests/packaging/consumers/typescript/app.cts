// The same app with `require`.
import YunXinMiniappSDK = require('ENTRY')

const client: YunXinMiniappSDK.Client = YunXinMiniappSDK.createClient({ appkey: 'demo' })
client.on('syncDone', ({ userlist }) => userlist.map((item) => item.url.length))
// @ts-expect-error no such field
client.on('syncDone', ({ urls }) => urls)
export = client
