// Two members, loaded with `import`: one publishes, the other subscribes. The process must end by itself.
import YunXinMiniappSDK from 'lianmai/node'
import sdk from 'lianmai'

YunXinMiniappSDK.configure({ server: process.argv[2] })
const one = YunXinMiniappSDK.Client({ appkey: 'demo' })
const two = sdk.createClient({ appkey: 'demo' })
const channelName = process.argv[3]
const pulled = new Promise((done, failed) => {
  two.on('stream-added', ({ uid, mediaType }) => two.subscribe(uid, mediaType).then(({ url }) => done([uid, mediaType, url]), failed))
})
await one.join({ channelName, uid: 1 })
await two.join({ channelName, uid: 2 })
const push = await one.publish('audio')
const [uid, mediaType, pull] = await pulled
await two.destroy()
await one.leave()
YunXinMiniappSDK.destroy()
console.log(JSON.stringify({ isOne: sdk === YunXinMiniappSDK, push, uid, mediaType, pull }))
