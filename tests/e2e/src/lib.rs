//! Empty: the tests are in `tests/it`. They start the real `signal-server` in a child process on free ports of
//! loopback, one per test, and use it through sockets, the client SDK, and ffmpeg and ffprobe.
