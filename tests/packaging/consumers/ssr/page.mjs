// A page as a server renders it: the module is there, a client is made only in browsers.
import YunXinMiniappSDK from 'lianmai/web'

export function render(channelName) {
  return `<h1>${channelName}</h1><script>/* ${typeof YunXinMiniappSDK.Client} ${YunXinMiniappSDK.version} */</script>`
}
