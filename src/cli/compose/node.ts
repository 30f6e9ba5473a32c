// A compose document as a tree in which every value knows where it stands, so that whatever is wrong with it can be
// shown by file, line and column.

import { CliError } from '../command.ts'

export interface Position {
  readonly file: string
  readonly line: number
  readonly column: number
}

/** Integers beyond 2^53 are bigints: an id in `environment` must not change its digits. */
export type Scalar = null | boolean | string | number | bigint

/** `!reset`: what earlier files say of this is forgotten; `!override`: it is replaced, not added to. */
export type MergeTag = 'reset' | 'override'

export interface ScalarNode {
  readonly kind: 'scalar'
  readonly value: Scalar
  /** A number that was written as a float, if its value is whole. */
  readonly isFloat?: boolean
  readonly at: Position
  readonly tag?: MergeTag
}

export interface ListNode {
  readonly kind: 'list'
  readonly items: readonly Node[]
  readonly at: Position
  readonly tag?: MergeTag
}

export interface MapNode {
  readonly kind: 'map'
  readonly entries: ReadonlyMap<string, Entry>
  readonly at: Position
  readonly tag?: MergeTag
}

export interface Entry {
  readonly keyAt: Position
  readonly node: Node
}

export type Node = ScalarNode | ListNode | MapNode

/** Something in a compose file that cannot be used: "stack.yml:12:5: services.web Additional property …". */
export class ComposeError extends CliError {
  readonly at: Position
  readonly reason: string
  constructor(at: Position, reason: string) {
    super(`${place(at)}: ${reason}`)
    this.at = at
    this.reason = reason
  }
}

export const field = (map: MapNode, key: string): Node | undefined => map.entries.get(key)?.node

/** "stack.yml:12:5" */
export const place = ({ file, line, column }: Position): string => `${file}:${line}:${column}`

export const isNull = (node: Node): boolean => node.kind === 'scalar' && node.value === null

/** A scalar as Go prints it: the float 1000000.0 is "1e+06". null is ''. */
export function scalarText(node: ScalarNode): string {
  if (node.value === null) return ''
  return node.isFloat && typeof node.value === 'number' ? floatText(node.value) : String(node.value)
}

/** Go's %v of a float64: an exponent from a million on. */
function floatText(value: number): string {
  if (Number.isNaN(value)) return 'NaN'
  if (!Number.isFinite(value)) return value > 0 ? '+Inf' : '-Inf'
  const [mantissa = '', power = '0'] = value.toExponential().split('e')
  const exponent = Number(power)
  if (value === 0 || (exponent >= -4 && exponent < 6)) return String(value)
  return `${mantissa}e${exponent < 0 ? '-' : '+'}${String(Math.abs(exponent)).padStart(2, '0')}`
}
