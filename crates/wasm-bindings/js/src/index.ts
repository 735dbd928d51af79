// Types of the package, for all entries.

export type { LianmaiError } from './errors.js'
export type { Host, HostSocket, LifecycleListener, SocketListener, WasmExports, WasmImports } from './host.js'
export type { BigNumberLike, Uid, UidInput } from './uid.js'
export type * from './facade/events.js'
export type { Client } from './facade/client.js'
export type { ClientOptions, JoinResult, SubscribeResult, Channel, Info } from './facade/types.js'
export type { MediaAdvice, PlayerAttributes, PusherAttributes } from './facade/media.js'
export type { JoinParams, RtmpTask } from './facade/params.js'
export type { Member } from './facade/room.js'
export type { Sdk, SdkOptions } from './facade/sdk.js'
