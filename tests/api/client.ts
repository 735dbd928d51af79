// A back end in TypeScript with the types that openapi-typescript generates from docs/api/openapi.json. Comes in: a server with
// the member 7 in the channel `room` of the app `live`. Goes out: nothing if every answer has its declared type. Deliberately
// absent: requests that the server refuses.

import assert from 'node:assert/strict'
import createClient from 'openapi-fetch'

import type { paths } from './generated/openapi.js'

const { LIANMAI_ADMIN: baseUrl, LIANMAI_TOKEN: token } = process.env
// Only JSON: lists are also available as lines.
type Media = 'application/json' | 'application/problem+json'
const client = createClient<paths, Media>({ baseUrl, headers: { Authorization: `Bearer ${token}` } })

/** The data of an answer. A refusal fails the test. */
function said<T> ({ data, error }: { data?: T, error?: unknown }): T {
  assert.equal(error, undefined, JSON.stringify(error))
  assert.ok(data)
  return data
}

const appkey = 'live'
const room = { appkey, channel: 'room' }
const show = { appkey, channel: 'show' }
const in_ = <P extends object>(path: P) => ({ params: { path } })

const made = said(await client.POST('/v1/apps/{appkey}/channels', {
  ...in_({ appkey }), body: { channelName: 'show', policy: { maxMembers: 3 }, attributes: { title: 'T' } }
}))
assert.equal(made.policy.maxMembers, 3)
const shown = said(await client.GET('/v1/apps/{appkey}/channels/{channel}', in_(show)))
assert.equal(shown.cid, made.cid)
said(await client.PATCH('/v1/apps/{appkey}/channels/{channel}/attributes', {
  ...in_(show), body: { attributes: { title: null, topic: 'x' } }
}))
said(await client.PUT('/v1/apps/{appkey}/channels/{channel}/policy', { ...in_(show), body: {} }))
const listed = said(await client.GET('/v1/apps/{appkey}/channels', {
  params: { path: { appkey }, query: { limit: 10 } }
}))
assert.deepEqual(listed.channels.map(channel => channel.channelName), ['room', 'show'])

const minted = said(await client.POST('/v1/apps/{appkey}/tokens', {
  ...in_({ appkey }), body: { uid: '9', channelName: 'show', ttlS: 60 }
}))
assert.ok(minted.token.length > 20)
const members = said(await client.GET('/v1/apps/{appkey}/channels/{channel}/members', in_(room)))
assert.deepEqual(members.members.map(member => member.uid), ['7'])
const seven = { ...room, uid: '7' }
said(await client.PUT('/v1/apps/{appkey}/channels/{channel}/members/{uid}/role', {
  ...in_(seven), body: { role: 'audience' }
}))
said(await client.PUT('/v1/apps/{appkey}/channels/{channel}/members/{uid}/barred', {
  ...in_(seven), body: { kinds: ['video'] }
}))
const sent = said(await client.POST('/v1/apps/{appkey}/channels/{channel}/messages', {
  ...in_(room), body: { uid: '0', data: 'hello', to: ['7'] }
}))
assert.equal(sent.delivered, 1)
said(await client.POST('/v1/apps/{appkey}/channels/{channel}/members/{uid}/kick', {
  ...in_(seven), body: { durationS: 60, reason: 'spam' }
}))
const bans = said(await client.GET('/v1/apps/{appkey}/channels/{channel}/bans', in_(room)))
assert.equal(bans.bans[0]?.uid, '7')
const lifted = said(await client.DELETE('/v1/apps/{appkey}/channels/{channel}/bans/{uid}', in_(seven)))
assert.equal(lifted.lifted, 1)

const hook = said(await client.POST('/v1/apps/{appkey}/webhooks', {
  ...in_({ appkey }), body: { url: 'https://hooks.example/x', events: ['memberLeft'] }
}))
assert.match(hook.secret, /^whsec_/)
said(await client.DELETE('/v1/apps/{appkey}/webhooks/{id}', in_({ appkey, id: hook.id })))
const key = said(await client.POST('/v1/apps/{appkey}/keys', {
  ...in_({ appkey }), body: { scopes: ['read'], name: 'shop' }
}))
said(await client.DELETE('/v1/apps/{appkey}/keys/{id}', in_({ appkey, id: key.id })))

const events = said(await client.GET('/v1/apps/{appkey}/events', in_({ appkey })))
assert.ok(events.events.some(event => event.type === 'memberLeft' && event.channelName === 'room'))
const history = said(await client.GET('/v1/apps/{appkey}/channels/{channel}/history', {
  params: { path: room, query: { uid: '7' } }
}))
assert.ok(history.entries.some(entry => entry.type === 'memberJoined' && entry.uid === '7'))
said(await client.POST('/v1/apps/{appkey}/channels/{channel}/close', { ...in_(show), body: {} }))
const gone = await client.GET('/v1/apps/{appkey}/channels/{channel}', in_(show))
assert.equal(gone.error?.name, 'noSuchChannel')
