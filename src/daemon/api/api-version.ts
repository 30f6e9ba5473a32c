// Docker's versioned paths: /v1.41/services and /services. Versions are compared by their minor number; the major is 1.

import { CodedError } from '../../lib/errors.ts'

export const OLDEST_MINOR = 24
export const NEWEST_MINOR = 51

export interface Target {
  /** undefined: the path names none */
  readonly minor: number | undefined
  /** without version and query, as it came (still percent-encoded) */
  readonly path: string
  readonly query: URLSearchParams
  /** with its question mark, or '' */
  readonly search: string
}

export function parseTarget(url: string): Target {
  const question = url.indexOf('?')
  const search = question < 0 ? '' : url.slice(question)
  const full = question < 0 ? url : url.slice(0, question)
  const match = /^\/v(\d+)\.(\d+)(\/.*)$/.exec(full)
  const query = new URLSearchParams(search)
  if (match === null) return { minor: undefined, path: full, query, search }
  const [, major, minor, path = '/'] = match
  return { minor: Number(major) === 1 ? Number(minor) : Number(major) * 1000, path, query, search }
}

export function versionText(minor: number): string {
  return minor >= 1000 ? `${Math.floor(minor / 1000)}.0` : `1.${minor}`
}

/** @returns the minor version that the request is to be answered in */
export function acceptedMinor(minor: number | undefined): number {
  if (minor === undefined) return NEWEST_MINOR
  if (minor < OLDEST_MINOR) {
    throw new CodedError(
      'CLIENT_VERSION',
      `client version ${versionText(minor)} is too old. Minimum supported API version is ${versionText(OLDEST_MINOR)}, please upgrade your client to a newer version`,
    )
  }
  if (minor > NEWEST_MINOR) {
    throw new CodedError(
      'CLIENT_VERSION',
      `client version ${versionText(minor)} is too new. Maximum supported API version is ${versionText(NEWEST_MINOR)}`,
    )
  }
  return minor
}

/** `1.41` → 41; undefined where the text is no version. */
export function parseMinor(version: unknown): number | undefined {
  const match = typeof version === 'string' ? /^1\.(\d+)$/.exec(version) : null
  return match === null ? undefined : Number(match[1])
}
