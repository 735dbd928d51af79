// The way in. A real app takes the token for this channel and uid from its own server; an app in debug mode needs none.
Page({
  data: { channel: 'demo', name: '', token: '', role: 'broadcaster', trouble: '' },

  onChannel: function (event) {
    this.setData({ channel: event.detail.value })
  },

  onName: function (event) {
    this.setData({ name: event.detail.value })
  },

  onToken: function (event) {
    this.setData({ token: event.detail.value })
  },

  onRole: function (event) {
    this.setData({ role: event.detail.value })
  },

  onJoin: function () {
    const data = this.data
    if (!data.channel) return this.setData({ trouble: '请填写频道 A channel is needed.' })
    this.setData({ trouble: '' })
    // A token goes from page to page in memory: addresses are kept in logs.
    getApp().token = data.token
    wx.navigateTo({
      url: '/pages/room/room?channel=' + encodeURIComponent(data.channel) + '&name=' + encodeURIComponent(data.name) + '&role=' + data.role,
    })
  },
})
