/** The version of the package; the build inserts it. */
declare const __VERSION__: string

export const VERSION: string = __VERSION__
