// Measures the picture and sound of a video element. In: an element of a page. Out: measures by the stream's own time; no other
// clock decides anything.

/** Watches `seconds` of the stream's time. Returns decoded frames, exact duration, changed pixels of a small copy of the picture, and colours. */
export function watch(video, seconds) {
  return video.evaluate(async (element, seconds) => {
    const frame = () => new Promise((done) => element.requestVideoFrameCallback((_, { mediaTime }) => done(mediaTime)))
    const copy = () => {
      const canvas = document.createElement('canvas')
      canvas.width = 160
      canvas.height = 90
      const context = canvas.getContext('2d')
      context.drawImage(element, 0, 0, 160, 90)
      return context.getImageData(0, 0, 160, 90).data
    }
    const first = await frame()
    const before = { frames: element.getVideoPlaybackQuality().totalVideoFrames, picture: copy() }
    let last = first
    while (last < first + seconds) last = await frame()
    const picture = copy()
    let changed = 0
    for (let at = 0; at < picture.length; at += 4) if (Math.abs(picture[at] - before.picture[at]) > 16) changed++
    const colours = new Set()
    for (let at = 0; at < picture.length; at += 4) colours.add((picture[at] >> 4) * 256 + (picture[at + 1] >> 4) * 16 + (picture[at + 2] >> 4))
    return { frames: element.getVideoPlaybackQuality().totalVideoFrames - before.frames, seconds: last - first, changed, colours: colours.size }
  }, seconds)
}

/** The loudest frequency that an element plays, once there is a clear one. */
export function tone(video) {
  return video.evaluate(async (element) => {
    window.audio ??= new AudioContext()
    await window.audio.resume()
    const source = window.audio.createMediaStreamSource(element.captureStream())
    const analyser = window.audio.createAnalyser()
    analyser.fftSize = 16384
    source.connect(analyser)
    const bins = new Float32Array(analyser.frequencyBinCount)
    for (;;) {
      await new Promise((done) => requestAnimationFrame(done))
      analyser.getFloatFrequencyData(bins)
      let peak = 0
      for (let at = 1; at < bins.length; at++) if (bins[at] > bins[peak]) peak = at
      if (bins[peak] > -40) {
        source.disconnect()
        return (peak * window.audio.sampleRate) / analyser.fftSize
      }
    }
  })
}

/** Counts how often an element is loaded anew, from now on. */
export function countLoads(page) {
  return page.evaluate(() => {
    window.loads = 0
    for (const element of document.querySelectorAll('video')) {
      element.isMarked = true
      for (const event of ['emptied', 'loadstart', 'abort', 'ended']) element.addEventListener(event, () => window.loads++)
    }
  })
}

export function loads(page) {
  return page.evaluate(() => ({ loads: window.loads, marked: [...document.querySelectorAll('video')].map((element) => element.isMarked === true) }))
}
