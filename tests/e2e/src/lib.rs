//! Nothing: the tests are in `tests/it`. They start the real `signal-server` in a child process on free ports
//! of loopback, one per test, and drive it by sockets, by the client SDK, and by ffmpeg and ffprobe.
