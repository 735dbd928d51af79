// A typed app. The test replaces `ENTRY` by each entry of the package.
import YunXinMiniappSDK from 'ENTRY'
import type { Client, StreamEvent } from 'ENTRY'

YunXinMiniappSDK.configure({ server: 'wss://live.example.com', reannounce: 'all' })
const client: Client = YunXinMiniappSDK.Client({ debug: true, appkey: 'demo' })

async function play({ uid, mediaType }: StreamEvent): Promise<string> {
  const { url, isBigNumber } = await client.subscribe(uid, mediaType)
  return isBigNumber ? `${url}#big` : url
}

client.on('stream-added', play)
client.on('stream-added', ({ uid, mediaType }) => {
  const id: number | string = uid
  const kind: 'audio' | 'video' | 'screenShare' | 'slaveAudio' = mediaType
  return [id, kind]
})
client.on('disconnect', ({ terminal }) => terminal && client.off('stream-added', play))
export const joined: Promise<200> = client.join({ channelName: 'room1', uid: 1 }).then(({ code }) => code)
// @ts-expect-error no such field
client.on('clientJoin', ({ nonsense }) => nonsense)
// @ts-expect-error no such event
client.on('stream-add', () => {})
