// The same page with `require`.
require('./violations.js')
const YunXinMiniappSDK = require('lianmai/web')
const { enter } = require('./room.js')

window.room = enter(YunXinMiniappSDK, location.search)
