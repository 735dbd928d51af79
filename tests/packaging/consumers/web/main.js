// A page that joins a channel, publishes, and subscribes to who is there. `window.room` is what came of it.
import './violations.js'
import YunXinMiniappSDK from 'lianmai/web'
import { enter } from './room.js'

window.room = enter(YunXinMiniappSDK, location.search)
