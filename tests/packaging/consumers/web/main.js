// A page that joins a channel, publishes, and subscribes to the other members. `window.room` holds the outcome.
import './violations.js'
import YunXinMiniappSDK from 'lianmai/web'
import { enter } from './room.js'

window.room = enter(YunXinMiniappSDK, location.search)
