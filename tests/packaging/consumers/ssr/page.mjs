// A page for server-side rendering: the server loads the module, but only browsers create a client.
import YunXinMiniappSDK from 'lianmai/web'

export function render(channelName) {
  return `<h1>${channelName}</h1><script>/* ${typeof YunXinMiniappSDK.Client} ${YunXinMiniappSDK.version} */</script>`
}
