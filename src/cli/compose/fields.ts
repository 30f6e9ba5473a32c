// Readers of single values of a checked file: what is absent, or null where the schema allows it, is undefined.

import { ValueError } from '../strconv.ts'
import { parseBytes, parseDuration } from '../units.ts'
import type { Dictionary, Environment, Texts } from './model.ts'
import { ComposeError, field, isNull, type MapNode, type Node, type Position, scalarText } from './node.ts'
import { parse as splitWords } from './shell-words.ts'

/** Leaves out what is undefined: a key that is not there is not there. */
export function compact<T extends object>(values: { readonly [K in keyof T]: T[K] | undefined }): T {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as T
}

export function given(map: MapNode | undefined, key: string): Node | undefined {
  const node = map && field(map, key)
  return node && !isNull(node) ? node : undefined
}

export function mapIn(map: MapNode | undefined, key: string): MapNode | undefined {
  const node = given(map, key)
  return node?.kind === 'map' ? node : undefined
}

export function itemsIn(map: MapNode | undefined, key: string): readonly Node[] | undefined {
  const node = given(map, key)
  return node?.kind === 'list' ? node.items : undefined
}

export function textOf(node: Node): string {
  return node.kind === 'scalar' ? scalarText(node) : ''
}

export function text(map: MapNode | undefined, key: string): string | undefined {
  const node = given(map, key)
  return node && textOf(node)
}

export function bool(map: MapNode | undefined, key: string): boolean | undefined {
  const node = given(map, key)
  return node?.kind === 'scalar' && typeof node.value === 'boolean' ? node.value : undefined
}

export function number(map: MapNode | undefined, key: string): number | undefined {
  const node = given(map, key)
  return node?.kind === 'scalar' && node.value !== null ? Number(node.value) : undefined
}

/** Permissions of a file. A text was octal when it was written, and canonical.ts has read it so. */
export function fileMode(map: MapNode | undefined, key: string): number | undefined {
  const value = count(map, key)
  if (value !== undefined && value > 0o7777) {
    throw new ComposeError(given(map, key)!.at, `invalid ${key}: ${value}: permissions are at most 07777, in octal`)
  }
  return value
}

/** A number that cannot be below zero. */
export function count(map: MapNode | undefined, key: string): number | undefined {
  const value = number(map, key)
  if (value !== undefined && (value < 0 || !Number.isInteger(value))) {
    throw new ComposeError(given(map, key)!.at, `${key} must be a whole number, not below 0: ${value}`)
  }
  return value
}

export function texts(map: MapNode | undefined, key: string): Texts | undefined {
  return itemsIn(map, key)?.map(textOf)
}

/** One text stands for a list of one. */
export function textOrTexts(map: MapNode | undefined, key: string): Texts | undefined {
  const node = given(map, key)
  return node?.kind === 'scalar' ? [textOf(node)] : texts(map, key)
}

/** A text is split as a shell would. */
export function command(map: MapNode | undefined, key: string): Texts | undefined {
  const node = given(map, key)
  if (node?.kind !== 'scalar') return texts(map, key)
  return located(node, () => splitWords(textOf(node)))
}

export function duration(map: MapNode | undefined, key: string): number | undefined {
  const node = given(map, key)
  return node && located(node, () => parseDuration(textOf(node)))
}

export function bytes(map: MapNode | undefined, key: string): number | undefined {
  const node = given(map, key)
  return node && located(node, () => parseBytes(textOf(node)))
}

/** A mapping, or a list of KEY=VALUE; what has no value gets ''. */
export function dictionary(map: MapNode | undefined, key: string): Dictionary | undefined {
  const pairs = environment(map, key)
  return pairs && new Map([...pairs].map(([name, value]) => [name, value ?? '']))
}

/** A mapping, or a list of KEY=VALUE; what has no value gets null. */
export function environment(map: MapNode | undefined, key: string): Environment | undefined {
  const node = given(map, key)
  if (node?.kind === 'map') {
    return new Map(
      [...node.entries].map(([name, entry]) => [name, isNull(entry.node) ? null : textOf(entry.node)] as const),
    )
  }
  if (node?.kind !== 'list') return undefined
  return new Map(
    node.items.map((item) => {
      const pair = textOf(item)
      const at = pair.indexOf('=')
      return at < 0 ? ([pair, null] as const) : ([pair.slice(0, at), pair.slice(at + 1)] as const)
    }),
  )
}

/** x-… keys, as plain values. */
export function extensions(map: MapNode | undefined): ReadonlyMap<string, unknown> | undefined {
  const found = [...(map?.entries ?? [])].filter(([key]) => key.startsWith('x-'))
  return found.length === 0 ? undefined : new Map(found.map(([key, entry]) => [key, plain(entry.node)]))
}

/** The value as JSON has it; mappings become Maps. */
export function plain(node: Node): unknown {
  switch (node.kind) {
    case 'scalar':
      return node.value
    case 'list':
      return node.items.map(plain)
    case 'map':
      return new Map([...node.entries].map(([key, entry]) => [key, plain(entry.node)]))
  }
}

/** Runs `read`, and puts the place before what it says is wrong. */
export function located<T>({ at }: { readonly at: Position }, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (error instanceof ValueError) throw new ComposeError(at, error.message)
    throw error
  }
}
