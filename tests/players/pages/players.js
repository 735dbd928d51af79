// Video elements of a page, and their progress.

window.wrong = []

function addVideo() {
  const video = document.createElement('video')
  video.muted = true
  video.width = 160
  document.body.append(video)
  video.addEventListener('error', () => window.wrong.push(video.error.message))
  video.addEventListener('canplay', () => video.play())
  return video
}

/** For each video: its position in the stream, and the number of frames that it has shown. */
window.positions = () => Array.from(document.querySelectorAll('video'), (video) => ({
  time: video.currentTime, frames: video.getVideoPlaybackQuality().totalVideoFrames,
}))

/** Resolves once every video has advanced by this many seconds of its stream; returns the number of frames of each. */
window.goOn = async (seconds) => {
  const begun = () => window.positions().every(({ frames }) => frames > 0)
  while (!begun() && window.wrong.length === 0) await later()
  const from = window.positions()
  const far = () => window.positions().every(({ time }, at) => time - from[at].time >= seconds)
  while (!far() && window.wrong.length === 0) await later()
  return { wrong: window.wrong, frames: window.positions().map(({ frames }, at) => frames - from[at].frames) }
}

function later() {
  return new Promise((done) => setTimeout(done, 50))
}
