const YunXinMiniappSDK = require('lianmai/wechat')
const config = require('./config.js')

App({
  onLaunch: function () {
    YunXinMiniappSDK.configure({ server: config.server })
  },
})
