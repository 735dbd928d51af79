// A room: one live-pusher for oneself, one live-player for each stream. In: events of the SDK and of the components. Out:
// attributes of the components. Deliberately absent: coming back after a lost connection, which the SDK does by itself.
const YunXinMiniappSDK = require('lianmai/wechat')
const config = require('../../config.js')

const MAX_MESSAGES = 50

Page({
  data: {
    channel: '',
    banner: '',
    ended: '',
    trouble: '',
    role: 'broadcaster',
    pusher: { url: '', mode: 'RTC', autopush: true, enableCamera: false, enableMic: false, audioReverbType: 0, voiceChangerType: 0 },
    isMicMuted: false,
    isCameraMuted: false,
    players: [],
    memberCount: 0,
    messages: [],
    draft: '',
  },

  onLoad: function (query) {
    const page = this
    const channel = decodeURIComponent(query.channel || '')
    const role = query.role === 'audience' ? 'audience' : 'broadcaster'
    page.setData({ channel: channel, role: role, banner: '正在加入 Joining …' })
    wx.setKeepScreenOn({ keepScreenOn: true })
    // One for each visit: what the last one still does is not ours.
    const client = (page.client = YunXinMiniappSDK.createClient({ appkey: config.appkey }))
    page.listen(client)
    const token = getApp().token
    client.join({ channelName: channel, name: decodeURIComponent(query.name || ''), role: role, token: token || undefined }).then(function () {
      page.setData({ banner: '' })
      if (role === 'broadcaster') return client.publish().then(page.showPusher)
    }).catch(function (error) {
      page.setData({ banner: '', ended: page.client && !client.channel() ? error.reason : '', trouble: error.reason })
    })
  },

  onUnload: function () {
    const client = this.client
    this.client = null
    wx.setKeepScreenOn({ keepScreenOn: false })
    // Leaves, and frees the socket: a mini-program may have five.
    client.end()
  },

  listen: function (client) {
    const page = this
    page.showPusher = function () {
      if (page.client === client) page.setData({ pusher: client.pusherAttributes() })
    }
    function show() {
      if (page.client === client) page.showPlayers()
    }
    client.on('clientJoin', show)
    client.on('clientLeave', show)
    client.on('attributes-updated', show)
    client.on('stream-added', function (event) {
      // It may have ended since.
      client.subscribe(event.uid, event.mediaType).then(show, function () {})
    })
    client.on('stream-removed', show)
    for (const kind of ['audio', 'video']) {
      client.on('mute-' + kind, show)
      client.on('unmute-' + kind, show)
    }
    client.on('syncDone', function () {
      page.showPusher()
      show()
    })
    client.on('unpublished', page.showPusher)
    client.on('role-Changed', function (event) {
      if (event.uid === client._info.uid) page.applyRole(event.role)
    })
    client.on('member-count', function (event) {
      page.setData({ memberCount: event.count })
    })
    client.on('message', function (event) {
      const member = client.members().filter(function (other) { return other.uid === event.uid })[0]
      page.addMessage((member && member.name) || String(event.uid), event.data)
    })
    client.on('willreconnect', function () {
      page.setData({ banner: '连接已断开，正在恢复 Coming back …' })
    })
    client.on('reconnected', function () {
      page.setData({ banner: '' })
      page.showPusher()
      show()
    })
    client.on('kicked', function (event) {
      page.showEnd((event.reason === 'kicked' ? '你被踢出了频道 You were kicked. ' : '同一 uid 在别处加入 The same uid joined elsewhere. ') + event.text)
    })
    client.on('liveRoomClose', function (event) {
      page.showEnd('频道已关闭 The channel was closed. ' + event.text)
    })
    client.on('disconnect', function (event) {
      page.showEnd('已断开 Disconnected: ' + event.reason)
    })
  },

  /** The first reason says most. */
  showEnd: function (text) {
    if (!this.client) return
    this.setData({ banner: '', ended: this.data.ended || text, players: [], pusher: this.client.pusherAttributes() })
  },

  showPlayers: function () {
    const client = this.client
    if (this.data.ended) return
    const players = []
    for (const member of client.members()) {
      const name = member.name || String(member.uid)
      const add = function (kind, key) {
        const attributes = client.playerAttributes(member.uid, kind)
        if (!attributes.src) return
        const isMain = kind === undefined
        players.push(Object.assign({}, attributes, {
          key: key, uid: String(member.uid), name: name,
          isMicMuted: isMain && member.muted.indexOf('audio') >= 0, isCameraMuted: isMain && member.muted.indexOf('video') >= 0,
        }))
      }
      if (member.isSelf) continue
      add(undefined, String(member.uid))
      add('screenShare', member.uid + '-screen')
      add('slaveAudio', member.uid + '-sound')
    }
    const channel = client.channel()
    this.setData({ players: players, memberCount: channel ? channel.memberCount : 0 })
  },

  addMessage: function (who, text) {
    this.messageCount = (this.messageCount || 0) + 1
    const message = { key: String(this.messageCount), who: who, text: text }
    this.setData({ messages: this.data.messages.concat(message).slice(-MAX_MESSAGES) })
  },

  applyRole: function (role) {
    this.setData({ role: role, isMicMuted: false, isCameraMuted: false, pusher: this.client.pusherAttributes() })
  },

  /** Runs a call, and shows why it failed. */
  attempt: function (promise) {
    const page = this
    page.setData({ trouble: '' })
    return promise.catch(function (error) {
      page.setData({ trouble: error.reason })
    })
  },

  onRoleTap: function () {
    const page = this
    const client = page.client
    const role = page.data.role === 'audience' ? 'broadcaster' : 'audience'
    return page.attempt(client.setRole(role).then(function () {
      page.applyRole(role)
      if (role === 'broadcaster') return client.publish().then(page.showPusher)
    }))
  },

  onMicTap: function () {
    const page = this
    const isMuted = !page.data.isMicMuted
    return page.attempt((isMuted ? page.client.mute('audio') : page.client.unmute('audio')).then(function () {
      page.setData({ isMicMuted: isMuted })
      page.showPusher()
    }))
  },

  onCameraTap: function () {
    const page = this
    const isMuted = !page.data.isCameraMuted
    return page.attempt((isMuted ? page.client.mute('video') : page.client.unmute('video')).then(function () {
      page.setData({ isCameraMuted: isMuted })
      page.showPusher()
    }))
  },

  onSwitchTap: function () {
    wx.createLivePusherContext().switchCamera()
  },

  onDraft: function (event) {
    this.setData({ draft: event.detail.value })
  },

  onSend: function () {
    const page = this
    const text = page.data.draft
    if (!text) return Promise.resolve()
    return page.attempt(page.client.sendMessage(text).then(function () {
      // One does not hear oneself.
      page.addMessage('我 You', text)
      page.setData({ draft: '' })
    }))
  },

  onLeaveTap: function () {
    wx.navigateBack()
  },

  // Events of the components: reported to the server, and what the SDK says that they ask for is done.

  onPusherState: function (event) {
    const page = this
    page.client.dataReporter('push', 'bindstatechange', event.detail)
    const action = YunXinMiniappSDK.pusherAdvice(event).action
    if (action === 'restart') wx.createLivePusherContext().start()
    if (action === 'refresh') page.attempt(page.client.publish().then(page.showPusher))
    if (action === 'permission') page.setData({ trouble: '请允许使用摄像头和麦克风 Camera and microphone are needed.' })
  },

  onPusherNet: function (event) {
    this.client.dataReporter('push', 'bindnetstatus', event.detail)
  },

  onPusherError: function (event) {
    this.client.dataReporter('push', 'binderror', event.detail)
  },

  onPlayerState: function (event) {
    const page = this
    const uid = event.currentTarget.dataset.uid
    page.client.dataReporter('pull', 'bindstatechange', event.detail, uid)
    const action = YunXinMiniappSDK.playerAdvice(event).action
    if (action === 'restart') wx.createLivePlayerContext(event.currentTarget.id).play()
    if (action !== 'refresh') return
    const member = page.client.members().filter(function (other) { return String(other.uid) === uid })[0]
    const subscriptions = member ? member.streams.map(function (kind) { return page.client.subscribe(member.uid, kind) }) : []
    Promise.all(subscriptions).then(function () { page.showPlayers() }, function () {})
  },

  onPlayerNet: function (event) {
    this.client.dataReporter('pull', 'bindnetstatus', event.detail, event.currentTarget.dataset.uid)
  },
})
