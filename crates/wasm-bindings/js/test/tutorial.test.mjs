//! Proves no rule of the protocol: that the code of NERTC's mini-program guide for interactive live streaming runs on the
//! package, statement by statement (comments left out), after the import and the server address were changed.
//!
//! The guide's code has faults of syntax and blanks. These are the only other edits:
//!
//! | where | in the guide | here | why |
//! |---|---|---|---|
//! | 1, sample | `appkey: ''` | `'demo'` | blank |
//! | 2, sample | `channelName: ''` | the test's channel | blank |
//! | 2 | `token: 'yourToken'` | `''` | blank; the app `demo` is in debug mode, where the guide asks for none |
//! | 3 | a comment without `//` behind `audioParam: {` | left out | syntax |
//! | 3 | no comma before `extraInfo` | a comma | syntax |
//! | 5 | `logger.log` | `console.log` | `logger` is nowhere defined |
//! | 5 | `{uid, mediaType} => {` | `(e) => {`, and `mediaType` out of `e` | syntax; the body reads `e` |
//! | 7 | parameter `data` of five handlers | `e` | the bodies read `e` |
//! | 7 | two handlers of the same name as the pusher's are mentioned without code | left out | blank |
//! | sections | each in a function of its own | | two of them declare the same names |

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { project } from './support/package.mjs'
import { Phone } from './support/phone.mjs'
import { startServer } from './support/server.mjs'

let server
let other
let phone
let YunXinMiniappSDK
const played = []

before(async () => {
  server = await startServer()
  const node = project().require('lianmai/node')
  node.configure({ server: server.url })
  other = node.createClient({ appkey: 'demo' })
  phone = new Phone()
  // Replaces the import and the server address.
  YunXinMiniappSDK = phone.require('/sdk/lianmai.js')
  YunXinMiniappSDK.configure({ server: server.url })
})

after(async () => {
  await other.destroy()
  phone.stop()
  server.stop()
})

async function line(text) {
  for (const end = Date.now() + 20000; Date.now() < end; await new Promise((done) => setTimeout(done, 2))) {
    const at = phone.lines.findIndex((what) => String(what[1]).includes(text))
    if (at >= 0) return phone.lines.splice(at, 1)[0]
  }
  assert.fail(`never logged: ${text}`)
}

/* eslint-disable */

function guide({ YunXinMiniappSDK, channel }) {
  let client

  function section1() {
    client = YunXinMiniappSDK.Client({
        debug: true,
        appkey: 'demo'
    });

    client.init();
  }

  function section2() {
    let joinParam = {
        channelName: channel,
        uid: 100,
        token: '',
        liveEnable: 0,
        recordType: '0',
        recordAudio: 0,
        recordVideo: 0,
        isHostSpeaker: 0,
      }
      client.join(joinParam).then(data => {
         console.log('!!!! 房间房间成功:')
      }).catch(e => {
         console.error('!!!! 房间房间失败:', e)
      })
  }

  let taskId = 'taskId_1'

  function section3add() {
    let rtmpTasks = []
    let streamUrl = 'rtmp://xxxxxx-1'
    let record = true

    let task1 = {
      taskId,
      streamUrl,
      record,
      layout: {
        canvas: {
          width: 1280,
          height: 720,
          color: 16777215
        },
        users: [{
          uid: 100,
          x: 0,
          y: 0,
          width: 640,
          height: 360,
          adaption: 1,
          zOrder: 1,
          pushAudio: true,
          pushVideo: true
        },
        {
          uid: 200,
          x: 0,
          y: 0,
          width: 640,
          height: 360,
          adaption: 1,
          zOrder: 2,
          pushAudio: true,
          pushVideo: true
        }],
        images: [{
          url: "xxxxxx",
          x: 0,
          y: 0,
          width: 480,
          height: 360,
          adaption: 1
        }]
      },
      config: {
        audioParam: {
          bitRate: 64,
          channels: 2,
          codecProfile: 0,
          sampleRate:48000,
          singleVideoNoTrans: false
        },
      },
      extraInfo: ''
    }
    rtmpTasks.push(task1)

    client.addTasks({rtmpTasks}).then(()=>{
      console.log('添加推流任务接口成功')
    }).catch(error=>{
      console.warn('添加推流任务接口失败: ', error)
    })
  }

  function section3update() {
    let rtmpTasks = []
    let updatTaskId = taskId
    let streamUrl = 'rtmp://xxxxxx-1'
    let record = true
    let hostUid = 100

    let task1 = {
      taskId,
      streamUrl,
      record,
      hostUid,
      layout: {
        canvas: {
          width: 1280,
          height: 720,
          color: 16777215
        },
        users: [{
          uid: 100,
          x: 0,
          y: 0,
          width: 640,
          height: 360,
          adaption: 1,
          pushAudio: true,
          pushVideo: true
        },
        {
          uid: 200,
          x: 0,
          y: 0,
          width: 640,
          height: 360,
          adaption: 1,
          pushAudio: true,
          pushVideo: true
        }],
        images: [{
          url: "xxxxxx",
          x: 0,
          y: 0,
          width: 480,
          height: 360,
          adaption: 1
        }]
      },
      config: {
        audioParam: {
          bitRate: 64,
          channels: 2,
          codecProfile: 0,
          sampleRate:48000,
          singleVideoNoTrans: false
        },
      },
      extraInfo: ''
    }
    rtmpTasks.push(task1)

    client.updateTasks({rtmpTasks}).then(()=>{
      console.log('更新推流任务接口成功')
    }).catch(error=>{
      console.warn('更新推流任务接口失败: ', error)
    })
  }

  function section3delete() {
    let  taskIds = []
    taskIds.push('taskId_1')

    client.deleteTasks({
      taskIds
    }).then(()=>{
      console.log('删除推流任务接口调用成功')
    }).catch(error=>{
      console.warn('删除推流任务接口调用失败: ', error)
    })
  }

  function section3status() {
    client.on('rtmp-tasks-status', ({taskId, code, msg, streamUrl}) => {
      console.log('音视频通知:设置的推流任务的状态发生了变更')
      if (code == 505) {
        console.warn('该推流任务正在推流中,状态正常')
      } else if (code == 506) {
        console.warn('该推流任务推流失败了')
      } else if (code == 511) {
        console.warn('该推流任务推流结束了')
      }
    })
  }

  function section4() {
    let mediaType = ''
    client.publish().then(url => {
        console.log('推流成功, 获取推流地址: ', url);
    }).catch(e => {
        console.log('推流失败,原因: ', e);
    })
  }

  function section5() {
    client.on('stream-added', ({uid, mediaType, isBigNumber}) => {
        console.log(`${uid} 发布了自己的 ${mediaType} 数据`)
        client.subscribe(uid, mediaType).then(data => {
            console.log('订阅别人成功,获取到拉流地址: ', data.url)
        }).catch(e => {
            console.log('订阅别人失败,原因: ', e)
        })
    })

    client.on("stream-removed", (e) => {
      let { mediaType } = e
      let uid = e.uid;
      console.log(`[stream-removed 通知] ${uid} 停止发布自己的 ${mediaType}`)
    });
  }

  function section6() {
    client.on('syncDone', (data) => {
      const {uid, url, isBigNumber} = data
      console.log('[syncDone 通知] 推流地址发生了变化, data: ', data)
    })
    client.on('clientLeave', (data) => {
      const {uid, isBigNumber} = data
      console.log('音视频通知:有人离开了,清除拉流的live-player组件')
    })
    client.on('clientJoin', (data) => {
      const {uid, isBigNumber} = data
      console.log('音视频通知:有人加入')
    })
    client.on('kicked', (data) => {
      console.log('音视频通知:被踢')
    })
    client.on('open', (data) => {
    console.log('音视频通知:和服务器socket建立成功')
    })
    client.on('disconnect', (data) => {
    console.log('音视频通知:和服务器socket关闭了')
    })
    client.on('willreconnect', (data) => {
    console.log('音视频通知:准备重新建立和服务器之间的联系')
    })
    client.on('sendCommandOverTime', (data) => {
    console.log('音视频通知:sdk信令发送超时')
    })
    client.on('liveRoomClose', (data) => {
    console.log('音视频通知:房间解散了')
    })
  }

  function pusherStateChangeHandler(e) {
      let { code } = e.detail
      client.dataReporter('push', 'bindstatechange', {
        code,
        reason: ''
      })
  }

  function pusherNetstatusHandler(e) {
      let { info } = e.detail
      client.dataReporter('push', 'bindnetstatus', info)
  }

  function pusherErrorHandler(e) {
      let { errMsg, errCode } = e.detail
      client.dataReporter('push', 'binderror', {
        errCode,
        errMsg
      })
  }

  function pullerStateChangeHandler(e) {
      let { code } = e.detail
      client.dataReporter('pull', 'bindstatechange', {
        code,
        reason: ''
      })
  }

  function section8() {
    return client.leave()
  }

  return {
    section1, section2, section3add, section3update, section3delete, section3status, section4, section5, section6,
    pusherStateChangeHandler, pusherNetstatusHandler, pusherErrorHandler, pullerStateChangeHandler, section8,
    client: () => client,
  }
}

function sample({ YunXinMiniappSDK, channel }) {
  let client = YunXinMiniappSDK.Client({
      debug: true,
      appkey: 'demo'
  });

  client.init();

  initEvent()

  let joinParam = {
      channelName: channel,
      uid: 100,
      liveEnable: 0,
      recordType: 0,
      recordAudio: 0,
      recordVideo: 0,
      isHostSpeaker: 0,
  }
  client.join(joinParam).then(data => {
      console.log('!!!! 房间房间成功:')
      client.publish().then(url => {
          console.log('推流成功, 获取推流地址: ', url);
      }).catch(e => {
          console.log('推流失败,原因: ', e);
      })
  }).catch(e => {
      console.error('!!!! 房间房间失败:', e)
  })

  function initEvent() {
      client.on('stream-added', ({uid, mediaType}) => {
          console.log(`${uid} 发布了自己的 ${mediaType}`)
          client.subscribe(uid, mediaType).then(data => {
              console.log('订阅别人成功,获取到拉流地址: ', data.url)
          }).catch(e => {
              console.log('订阅别人失败,原因: ', e)
          })
      })
   client.on('syncDone', (data) => {
    const {uid, url, isBigNumber} = data
    console.log('[syncDone 通知] 推流地址发生了变化, data: ', data)
   })

   client.on('clientLeave', (data) => {
     console.log(data.uid)
     console.log('音视频通知:有人离开了,清除拉流的live-player组件')
   })

   client.on('clientJoin', (data) => {
     const {uid} = data
     console.log('音视频通知:有人加入')
   })

   client.on('kicked', (data) => {
     console.log('音视频通知:被踢')
   })

   client.on('open', (data) => {
     console.log('音视频通知:和服务器socket建立成功')
   })

   client.on('disconnect', (data) => {
     console.log('音视频通知:和服务器socket关闭了')
   })

   client.on('willreconnect', (data) => {
     console.log('音视频通知:准备重新建立和服务器之间的联系')
   })

   client.on('reconnected', (data) => {
      console.log('音视频通知:已经重新建立和服务器之间的联系')
   })

   client.on('sendCommandOverTime', (data) => {
     console.log('音视频通知:sdk信令发送超时')
   })

   client.on('liveRoomClose', (data) => {
     console.log('音视频通知:房间解散了')
   })
  }

  return client
}

/* eslint-enable */

test('sections 1 to 8', async () => {
  await other.join({ channelName: 'guide', uid: 200 })
  await other.publish('audio')
  const app = phone.run(guide, { YunXinMiniappSDK, channel: 'guide' })
  app.section1()
  app.section2()
  await line('!!!! 房间房间成功')
  // The server has no push tasks.
  for (const [section, failed] of [['section3add', '添加推流任务接口失败'], ['section3update', '更新推流任务接口失败'], ['section3delete', '删除推流任务接口调用失败']]) {
    app[section]()
    const [level, , error] = await line(failed)
    assert.equal(level, 'warn')
    assert.deepEqual([error.name, error.code], ['methodNotFound', -32601])
  }
  app.section3status()
  app.section4()
  assert.match((await line('推流成功'))[2], /^rtmp:\/\//)
  // The handlers are added in the channel and receive the present members nevertheless.
  app.section5()
  await line('200 发布了自己的 audio 数据')
  played.push((await line('订阅别人成功'))[2])
  assert.match(played[0], /^rtmp:\/\//)
  app.section6()
  await line('音视频通知:有人加入')
  await other.publish('video')
  await line('200 发布了自己的 video 数据')
  assert.equal((await line('订阅别人成功'))[2], played[0])
  await other.unpublish('video')
  await line('[stream-removed 通知] 200 停止发布自己的 video')
  app.pusherStateChangeHandler({ detail: { code: 1002 } })
  app.pusherNetstatusHandler({ detail: { info: { videoBitrate: 400 } } })
  app.pusherErrorHandler({ detail: { errMsg: 'refused', errCode: 10001 } })
  app.pullerStateChangeHandler({ detail: { code: 2004 } })
  await other.leave()
  await line('有人离开了')
  assert.equal(await app.section8(), undefined)
  // The app called `leave`, so there is no `disconnect`, `kicked` or `error`.
  assert.deepEqual(phone.lines.filter(([level, text]) => level === 'error' || /关闭了|被踢|失败/.test(text)), [])
  await app.client().destroy()
})

test('the last sample', async () => {
  phone.lines.length = 0
  await other.join({ channelName: 'sample', uid: 200 })
  await other.publish()
  const client = phone.run(sample, { YunXinMiniappSDK, channel: 'sample' })
  await line('和服务器socket建立成功')
  await line('!!!! 房间房间成功')
  assert.match((await line('推流成功'))[2], /^rtmp:\/\//)
  await line('音视频通知:有人加入')
  await line('200 发布了自己的 audio')
  await line('200 发布了自己的 video')
  assert.equal((await line('订阅别人成功'))[2], (await line('订阅别人成功'))[2])
  phone.hide()
  phone.show(20000, false)
  await line('准备重新建立和服务器之间的联系')
  await line('已经重新建立和服务器之间的联系')
  await other.leave()
  await line('有人离开了')
  await other.join({ channelName: 'sample', uid: 200 })
  await line('音视频通知:有人加入')
  await other.closeChannel({ reason: 'good night' })
  await line('房间解散了')
  await line('和服务器socket关闭了')
  await client.destroy()
})
