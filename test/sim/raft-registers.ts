// The state machine of the simulated clusters: named registers, and the encoding of what clients do to them.

import type { RegisterOperation } from './linearizability.ts'

export interface RegisterState {
  readonly values: Readonly<Record<string, string>>
  /** The checkers' chain of everything that led here. */
  readonly chain: string
}

export const EMPTY_REGISTERS: RegisterState = { values: {}, chain: '' }

export function encodeOperation(key: string, operation: RegisterOperation): Uint8Array {
  return Buffer.from(JSON.stringify([key, operation]))
}

/** Applies an entry; the second result is what the register held before. An empty entry changes nothing. */
export function applyOperation(
  values: Readonly<Record<string, string>>,
  data: Uint8Array,
): { readonly values: Readonly<Record<string, string>>; readonly found: string } {
  if (data.byteLength === 0) return { values, found: '' }
  const [key, operation] = JSON.parse(Buffer.from(data).toString()) as [string, RegisterOperation]
  const found = values[key] ?? ''
  if (operation.kind === 'read' || (operation.kind === 'swap' && operation.expected !== found)) return { values, found }
  return { values: { ...values, [key]: operation.value }, found }
}
