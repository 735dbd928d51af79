// What to do about an error, by its name. In: the name. Out: which sentence. Absent for names whose own sentence says it.

import type { Key } from './index.js'

export const ADVICE: { [name: string]: Key } = {
  forbidden: 'adviceForbidden',
  tokenInvalid: 'adviceTokenInvalid',
  tokenMissing: 'adviceTokenMissing',
  tokenExpired: 'adviceTokenExpired',
  tokenRevoked: 'adviceTokenExpired',
  tokenNotYetValid: 'adviceLater',
  tokenUnexpected: 'adviceTokenUnexpected',
  uidMismatch: 'adviceMismatch',
  channelMismatch: 'adviceMismatch',
  banned: 'adviceBanned',
  channelClosed: 'adviceChannelClosed',
  notConnected: 'adviceNotConnected',
  duplicateLogin: 'adviceDuplicate',
  rateLimited: 'adviceLater',
  draining: 'adviceLater',
  channelFull: 'adviceLater',
  tooManyBroadcasters: 'adviceLater',
  tooManyChannels: 'adviceLater',
  timeout: 'adviceLater',
  notBroadcaster: 'adviceAudience',
}
