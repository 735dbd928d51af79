//! Proves no rule of the protocol: that every promise settles, once, whatever calls and sockets do.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { World } from './support/world.mjs'

/** Longer than any call waits: its time limit, the extension by a restart, and one freeze. */
const SETTLE_TIMEOUT_MS = 120000

/** A seeded pseudo-random generator. */
function random(seed) {
  return (below) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
    return Math.floor((seed / 4294967296) * below)
  }
}

const CALLS = [
  (client) => client.join({ channelName: 'room1', uid: 100 }),
  (client) => client.join({ channelName: 'room1', uid: 100 }),
  (client) => client.leave(),
  (client) => client.publish(),
  (client) => client.unpublish('video'),
  (client) => client.subscribe(200, 'audio'),
  (client) => client.unsubscribe(200, 'audio'),
  (client) => client.mute('audio'),
  (client) => client.setRole('audience'),
  (client) => client.setRole('broadcaster'),
  (client) => client.sendMessage('x'),
  (client) => client.setAttributes({ a: '1' }),
  (client) => client.kick(-1),
  (client) => client.destroy(),
]

const FAULTS = [
  (world) => world.socket && world.socket.listener.close(1006, 'gone'),
  (world) => world.socket && world.socket.listener.close(1000, 'interrupted'),
  (world) => world.socket && world.socket.closed === null && world.socket.listener.close(4500, 'kicked'),
  (world) => world.socket && world.socket.closed === null && world.socket.listener.message('garbage'),
  (world) => world.socket && world.socket.listener.message(new ArrayBuffer(1)),
  (world) => world.lifecycle && world.lifecycle.network(),
  (world) => world.lifecycle && world.lifecycle.resume(),
  (world) => world.lifecycle && world.lifecycle.suspend(),
  (world) => (world.isDown = !world.isDown),
  (world) => (world.isMute = !world.isMute),
  // A frozen phone: nothing happens for 20 s, then all timers fire.
  (world) => world.pass(20000, true),
]

for (let seed = 1; seed <= 60; seed++) {
  test(`seed ${seed}`, async () => {
    const below = random(seed)
    const world = new World()
    const { answer } = world
    world.answer = function (...args) {
      if (!this.isMute) answer.apply(this, args)
    }
    let open = 0
    const done = []
    const track = (promise, what) => {
      open++
      let settled = 0
      const settle = () => {
        assert.equal(++settled, 1, `${what} settled twice`)
        open--
      }
      done.push(promise.then(settle, (error) => {
        assert.ok(error instanceof Error && error.name !== 'TypeError' && error.code !== undefined && error.reason, `${what}: ${error.stack}`)
        settle()
      }))
    }
    const faults = []
    world.client.on('handler-error', ({ error }) => faults.push(error))
    world.client.on('error', (error) => faults.push(error))
    for (let step = 0; step < 40; step++) {
      if (below(3)) {
        const at = below(CALLS.length)
        track(CALLS[at](world.client), `call ${at}`)
      } else {
        await FAULTS[below(FAULTS.length)](world)
      }
      if (below(2)) await world.pass(below(4000))
    }
    world.isMute = world.isDown = false
    await world.pass(SETTLE_TIMEOUT_MS)
    assert.equal(open, 0)
    await Promise.all(done)
    await Promise.all([world.client.destroy(), world.pass(SETTLE_TIMEOUT_MS)])
    assert.deepEqual(faults, [])
    assert.equal(world.timers.size, 0)
    assert.ok(world.sockets.every(({ closed }) => closed !== null))
  })
}
