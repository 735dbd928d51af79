// The advice for an error. In: the name of the error. Out: the key of a sentence. An error whose own text advises is absent.

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
