// How a stack marks what is its own.

export const STACK_LABEL = 'com.docker.stack.namespace'
/** The image as the compose file names it, before it is pinned. */
export const STACK_IMAGE_LABEL = 'com.docker.stack.image'

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
