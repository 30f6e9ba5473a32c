// How a stack marks what is its own.

import { STACK_LABEL } from '../../api/stack-plan.ts'

export const scopedName = (stack: string, name: string): string => `${stack}_${name}`

export function stackLabels(
  stack: string,
  labels: ReadonlyMap<string, string> | undefined,
): Readonly<Record<string, string>> {
  return { ...Object.fromEntries(labels ?? []), [STACK_LABEL]: stack }
}

/** Networks that every engine has are no swarm's: no aliases, and nothing to look for. */
export function isUserDefinedNetwork(name: string): boolean {
  return !['bridge', 'host', 'none', 'default', ''].includes(name) && !name.startsWith('container:')
}
