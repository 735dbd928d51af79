// Where the server is. On a phone it is `wss://` with a name that is in the mini-program's list of socket domains; the developer
// tools also take an address of this machine.
module.exports = {
  server: 'ws://127.0.0.1:8600',
  appkey: 'demo',
}
