// Placement constraints: `key==value` and `key!=value`, all of which a node has to meet.

import { BlockList, isIP, isIPv6 } from 'node:net'
import type { Node } from '../../api/objects.ts'
import { CodedError } from '../../lib/errors.ts'

export interface Constraint {
  readonly key: string
  readonly operator: '==' | '!='
  readonly value: string
}

const NODE_LABELS = 'node.labels.'
const ENGINE_LABELS = 'engine.labels.'
const KEY = /^[a-z_][a-z0-9\-_.]+$/i
const VALUE = /^[a-z0-9:\-_\s.*()?+[\]\\^$|/]+$/i

/**
 * @throws {CodedError} INVALID_CONSTRAINT, with Swarm's text.
 */
export function parseConstraints(expressions: readonly string[]): readonly Constraint[] {
  return expressions.map(parseConstraint)
}

function parseConstraint(expression: string): Constraint {
  const operator = expression.includes('==') ? '==' : '!='
  const at = expression.indexOf(operator)
  if (at < 0) throw invalid('constraint expected one operator from ==, !=')
  const key = expression.slice(0, at).trim()
  if (!KEY.test(key)) throw invalid(`key '${key}' is invalid`)
  const value = expression.slice(at + operator.length).trim()
  if (!VALUE.test(value)) throw invalid(`value '${value}' is invalid`)
  return { key, operator, value }
}

function invalid(message: string): CodedError {
  return new CodedError('INVALID_CONSTRAINT', message)
}

export function nodeMeets(node: Node, constraints: readonly Constraint[]): boolean {
  return constraints.every((constraint) => meets(node, constraint))
}

/** The first that the node does not meet, and what the node has in its place; undefined: it meets all. */
export function unmetConstraint(node: Node, constraints: readonly Constraint[]): string | undefined {
  const unmet = constraints.find((constraint) => !meets(node, constraint))
  if (!unmet) return undefined
  const { key, operator, value } = unmet
  const lower = key.toLowerCase()
  const actual = lower === 'node.ip' ? node.status.address : propertyOf(node, lower, key)
  const has = actual === undefined ? 'no such property' : actual === '' ? 'the node has none' : `the node has ${actual}`
  return `${key}${operator}${value}: ${has}`
}

/** Whether the node meets what a spec asks for; a spec that the API would have refused asks for nothing. */
export function nodeMeetsExpressions(node: Node, expressions: readonly string[] | null | undefined): boolean {
  return nodeMeets(node, constraintsOf(expressions))
}

/** As `parseConstraints`, but of stored specs, which were validated: what can't be parsed is no constraint. */
export function constraintsOf(expressions: readonly string[] | null | undefined): readonly Constraint[] {
  if (!expressions || expressions.length === 0) return []
  try {
    return parseConstraints(expressions)
  } catch (error) {
    if (error instanceof CodedError) return []
    throw error
  }
}

function meets(node: Node, constraint: Constraint): boolean {
  const key = constraint.key.toLowerCase()
  if (key === 'node.ip') return meetsAddress(node.status.address, constraint)
  const actual = propertyOf(node, key, constraint.key)
  if (actual === undefined) return false
  const equal = actual.toLowerCase() === constraint.value.toLowerCase()
  return equal === (constraint.operator === '==')
}

/** undefined: no such property can be asked for. */
function propertyOf(node: Node, key: string, exactKey: string): string | undefined {
  const { description } = node
  switch (key) {
    case 'node.id':
      return node.id
    case 'node.hostname':
      return description.Hostname ?? ''
    case 'node.role':
      return node.role
    case 'node.platform.os':
      return description.Platform?.OS ?? ''
    case 'node.platform.arch':
      return description.Platform?.Architecture ?? ''
    default:
      return labelOf(node, exactKey)
  }
}

/** The value of `node.labels.x` or `engine.labels.x` (empty where the node has none); undefined for other keys. */
export function labelOf(node: Node, descriptor: string): string | undefined {
  const lower = descriptor.toLowerCase()
  if (lower.startsWith(NODE_LABELS) && descriptor.length > NODE_LABELS.length) {
    return node.spec.Labels?.[descriptor.slice(NODE_LABELS.length)] ?? ''
  }
  if (lower.startsWith(ENGINE_LABELS) && descriptor.length > ENGINE_LABELS.length) {
    return node.description.Engine?.Labels?.[descriptor.slice(ENGINE_LABELS.length)] ?? ''
  }
  return undefined
}

function meetsAddress(address: string, { operator, value }: Constraint): boolean {
  const wanted = new BlockList()
  const [network, prefix, more] = value.split('/')
  if (!network || isIP(network) === 0 || more !== undefined) return false
  const family = isIPv6(network) ? 'ipv6' : 'ipv4'
  if (prefix === undefined) wanted.addAddress(network, family)
  else {
    const bits = /^\d+$/.test(prefix) ? Number(prefix) : Number.NaN
    if (!(bits >= 0 && bits <= (family === 'ipv6' ? 128 : 32))) return false
    wanted.addSubnet(network, bits, family)
  }
  const within = isIP(address) !== 0 && wanted.check(address, isIPv6(address) ? 'ipv6' : 'ipv4')
  return within === (operator === '==')
}
