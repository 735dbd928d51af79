// A page of a mini-program that joins, publishes, and plays the other members.
const YunXinMiniappSDK = require('lianmai/wechat')

function enter(options) {
  YunXinMiniappSDK.configure({ server: options.server })
  const client = YunXinMiniappSDK.Client({ appkey: 'demo' })
  const pulled = new Promise(function (done, failed) {
    client.on('stream-added', function (event) {
      client.subscribe(event.uid, event.mediaType).then(function (data) {
        done(data.url)
      }, failed)
    })
  })
  return client.join({ channelName: options.channelName, uid: options.uid, token: '' }).then(function () {
    return client.publish('audio')
  }).then(function (push) {
    return pulled.then(function (pull) {
      return { push: push, pull: pull, client: client }
    })
  })
}

module.exports = { enter: enter, isOne: require('lianmai') === YunXinMiniappSDK }
