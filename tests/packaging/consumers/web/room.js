export function enter(sdk, search) {
  const query = new URLSearchParams(search)
  sdk.configure({ server: query.get('server'), wasmPath: query.get('wasmPath') || undefined })
  // Uses the browser's timers directly; browsers slow them down more than the SDK's.
  if (query.has('plain')) sdk.configure({ host: { setTimer: (run, ms) => setTimeout(run, ms), clearTimer: (timer) => clearTimeout(timer) } })
  const client = sdk.Client({ appkey: 'demo' })
  const seen = { ticks: 0, left: [], states: [] }
  client.on('clientLeave', ({ uid, reason }) => seen.left.push(`${uid} ${reason}`))
  client.on('connection-state-change', ({ state, reason }) => seen.states.push(reason ? `${state} (${reason})` : state))
  // A hidden page sends its observations to the member that asks.
  const tick = () => {
    seen.ticks++
    setTimeout(tick, 100)
  }
  tick()
  client.on('message', ({ uid, data }) => {
    if (data === 'how are you?') client.sendMessage(JSON.stringify({ ...seen, visibility: document.visibilityState }), { to: [uid] })
  })
  const pulled = new Promise((done) => {
    client.on('stream-added', ({ uid, mediaType }) => client.subscribe(uid, mediaType).then(({ url }) => done(url), (error) => done(String(error))))
  })
  return client.join({ channelName: query.get('channelName'), uid: Number(query.get('uid')) })
    .then(({ uid }) => client.publish('audio').then((push) => pulled.then((pull) => ({ uid, push, pull }))))
    .catch(({ name, code, reason }) => ({ name, code, reason }))
}
