// What travels to and from `/ca/…`: JSON on the control port.

import type { ManagerAddress } from '../../api/dispatcher.ts'
import { CodedError } from '../../lib/errors.ts'

export const MAX_CA_BODY_BYTES = 64 * 1024

/** `POST /ca/root`: what a joining node compares with its token. */
export interface RootReply {
  readonly rootPem: string
}

/** `POST /ca/issue`. With a token: join. Without: renew the certificate that the connection was made with. */
export interface IssueRequest {
  /** PKCS#10 */
  readonly csr: string
  readonly token?: string
  readonly availability?: 'active' | 'pause' | 'drain'
  /** Only from a manager that passes on what it was asked: for whom, and whence it came. */
  readonly onBehalfOf?: { readonly nodeId: string; readonly remoteHost: string }
}

export interface IssueReply {
  readonly nodeId: string
  readonly clusterId: string
  readonly role: 'worker' | 'manager'
  readonly certPem: string
  /** The roots to trust from now on. */
  readonly rootsPem: readonly string[]
  readonly managers: readonly ManagerAddress[]
}

/** @throws {CodedError} MALFORMED */
export function parseIssueRequest(body: Uint8Array): IssueRequest {
  const { csr, token, availability, onBehalfOf } = parseObject(body)
  if (typeof csr !== 'string') throw malformed('csr')
  if (token !== undefined && typeof token !== 'string') throw malformed('token')
  if (availability !== undefined && availability !== 'active' && availability !== 'pause' && availability !== 'drain')
    throw malformed('availability')
  return {
    csr,
    ...(token !== undefined && { token }),
    ...(availability !== undefined && { availability }),
    ...(onBehalfOf !== undefined && { onBehalfOf: parseOnBehalfOf(onBehalfOf) }),
  }
}

function parseOnBehalfOf(value: unknown): NonNullable<IssueRequest['onBehalfOf']> {
  const { nodeId, remoteHost } = (value ?? {}) as Readonly<Record<string, unknown>>
  if (typeof nodeId !== 'string' || typeof remoteHost !== 'string') throw malformed('onBehalfOf')
  return { nodeId, remoteHost }
}

/** @throws {CodedError} MALFORMED */
export function parseIssueReply(body: Uint8Array): IssueReply {
  const { nodeId, clusterId, role, certPem, rootsPem, managers } = parseObject(body)
  if (
    typeof nodeId !== 'string' ||
    typeof clusterId !== 'string' ||
    (role !== 'worker' && role !== 'manager') ||
    typeof certPem !== 'string' ||
    !isList(rootsPem, (root) => typeof root === 'string') ||
    !isList(managers, isManagerAddress)
  )
    throw malformed('answer')
  return { nodeId, clusterId, role, certPem, rootsPem, managers }
}

/** @throws {CodedError} MALFORMED */
export function parseRootReply(body: Uint8Array): RootReply {
  const { rootPem } = parseObject(body)
  if (typeof rootPem !== 'string') throw malformed('rootPem')
  return { rootPem }
}

function isList<T>(value: unknown, isItem: (item: unknown) => item is T): value is readonly T[] {
  return Array.isArray(value) && value.every(isItem)
}

function isManagerAddress(value: unknown): value is ManagerAddress {
  const { nodeId, address } = (value ?? {}) as Readonly<Record<string, unknown>>
  return typeof nodeId === 'string' && typeof address === 'string'
}

function parseObject(body: Uint8Array): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(Buffer.from(body).toString('utf8'))
    if (typeof value === 'object' && value !== null) return value as Readonly<Record<string, unknown>>
  } catch {
    // as for anything else that is no object
  }
  throw malformed('body')
}

function malformed(what: string): CodedError {
  return new CodedError('MALFORMED', `malformed certificate request: ${what}`)
}
