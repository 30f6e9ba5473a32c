// What a compose file may hold: types of values as the v3 schemas give them, and for each key of a mapping whether it is
// applied, warned of or refused. compose-keys.ts is the table itself.

import type { Node } from './node.ts'

export type ScalarType = 'string' | 'number' | 'integer' | 'boolean' | 'null'

export interface ScalarShape {
  readonly kind: 'scalar'
  readonly types: readonly ScalarType[]
  /** A text is taken too where it can be read as this: `replicas: "3"`. */
  readonly cast?: 'boolean' | 'integer' | 'number'
  readonly format?: 'duration' | 'ports'
  readonly oneOf?: readonly string[]
  readonly minimum?: number
}

export interface ListShape {
  readonly kind: 'list'
  readonly items: Shape
  readonly isUnique: boolean
}

export interface MapShape {
  readonly kind: 'map'
  readonly keys: Readonly<Record<string, Row>>
  /** Keys that the table does not name are taken too. */
  readonly isOpen: boolean
  /** x-… keys are taken. */
  readonly hasExtensions: boolean
  readonly required: readonly string[]
  /** May be left empty: `web:` with nothing. */
  readonly isNullable: boolean
}

/** A mapping whose keys the user names. */
export interface DictShape {
  readonly kind: 'dict'
  readonly key: RegExp
  readonly value: Shape
  /** Keys that do not match are refused; else they are taken with any value. */
  readonly isClosed: boolean
}

export interface ChoiceShape {
  readonly kind: 'choice'
  readonly of: readonly Shape[]
}

export interface AnyShape {
  readonly kind: 'any'
}

export type Shape = ScalarShape | ListShape | MapShape | DictShape | ChoiceShape | AnyShape

/**
 * What becomes of a key:
 * applied - it takes effect (`reason` says how, where that is not plain);
 * unsupported, deprecated - it is left out, with the warning that Docker gives;
 * unheeded - it is left out; Docker does so in silence or refuses it, we warn with the reason;
 * forbidden - Docker refuses the file, with the reason;
 * refused - a key of the Compose Specification that no cluster can keep to, with the reason.
 */
export type Use = 'applied' | 'unsupported' | 'deprecated' | 'unheeded' | 'forbidden' | 'refused'

export interface Row {
  readonly use: Use
  readonly shape: Shape
  readonly reason: string
}

export const any: AnyShape = { kind: 'any' }
export const scalar = (...types: readonly ScalarType[]): ScalarShape => ({ kind: 'scalar', types })
export const castable = (cast: 'boolean' | 'integer' | 'number'): ScalarShape => ({
  kind: 'scalar',
  types: [cast, 'string'],
  cast,
})
export const choice = (...of: readonly Shape[]): ChoiceShape => ({ kind: 'choice', of })
export const list = (items: Shape, isUnique = false): ListShape => ({ kind: 'list', items, isUnique })
export const dict = (value: Shape, key = /^.+$/, isClosed = false): DictShape => ({
  kind: 'dict',
  key,
  value,
  isClosed,
})
export const map = (keys: Readonly<Record<string, Row | Shape>>, options: Partial<MapShape> = {}): MapShape => ({
  isOpen: false,
  hasExtensions: false,
  required: [],
  isNullable: false,
  ...options,
  kind: 'map',
  keys: Object.fromEntries(Object.entries(keys).map(([key, value]) => [key, 'use' in value ? value : applied(value)])),
})

export const applied = (shape: Shape, how = ''): Row => ({ use: 'applied', shape, reason: how })
export const unsupported = (shape: Shape, reason: string): Row => ({ use: 'unsupported', shape, reason })
export const deprecated = (shape: Shape, reason: string): Row => ({ use: 'deprecated', shape, reason })
export const unheeded = (shape: Shape, reason: string): Row => ({ use: 'unheeded', shape, reason })
export const forbidden = (reason: string): Row => ({ use: 'forbidden', shape: any, reason })
export const refused = (reason: string): Row => ({ use: 'refused', shape: any, reason })

/** What a text says as a value of another type; undefined: it is none. Words are YAML 1.1's, as in Compose. */
export function castText(text: string, to: 'boolean' | 'integer' | 'number'): boolean | number | undefined {
  if (to === 'boolean') {
    if (/^(?:y|yes|true|on)$/i.test(text)) return true
    return /^(?:n|no|false|off)$/i.test(text) ? false : undefined
  }
  if (/^[-+]?[0-9]+$/.test(text)) return Number(text)
  if (to === 'integer') return undefined
  return /^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$/.test(text) ? Number(text) : undefined
}

/** The JSON-schema types of a value: 3 is an integer and a number, 1.0 too. */
export function typesOf(node: Node): readonly string[] {
  if (node.kind === 'list') return ['array']
  if (node.kind === 'map') return ['object']
  if (node.value === null) return ['null']
  if (typeof node.value === 'bigint') return ['integer', 'number']
  if (typeof node.value === 'number') return Number.isInteger(node.value) ? ['integer', 'number'] : ['number']
  return [typeof node.value]
}

export function acceptsType(shape: Shape, node: Node): boolean {
  switch (shape.kind) {
    case 'any':
      return true
    case 'scalar':
      return typesOf(node).some((type) => shape.types.includes(type as ScalarType))
    case 'list':
      return node.kind === 'list'
    case 'map':
      return node.kind === 'map' || (shape.isNullable && node.kind === 'scalar' && node.value === null)
    case 'dict':
      return node.kind === 'map'
    case 'choice':
      return shape.of.some((alternative) => acceptsType(alternative, node))
  }
}

/** Of a choice, the alternative that is of the value's type; without one, the first. */
export function chosen(shape: Shape, node: Node): Exclude<Shape, ChoiceShape> {
  if (shape.kind !== 'choice') return shape
  const fitting = shape.of.find((alternative) => acceptsType(alternative, node)) ?? shape.of[0]
  return fitting ? chosen(fitting, node) : any
}

/** The shape of what stands under `key` of a mapping, or in a list; undefined where none is known. */
export function childShape(shape: Shape | undefined, parent: Node, key: string | number): Shape | undefined {
  if (!shape) return undefined
  if (typeof key === 'number') {
    const listShape = shape.kind === 'choice' ? shape.of.find(({ kind }) => kind === 'list') : shape
    return listShape?.kind === 'list' ? listShape.items : undefined
  }
  const inner = chosen(shape, parent)
  if (inner.kind === 'map') return Object.hasOwn(inner.keys, key) ? inner.keys[key]!.shape : undefined
  return inner.kind === 'dict' ? inner.value : undefined
}

/** The scalar that `shape` is or can be; a text is one wherever a text may stand. */
export function scalarShape(shape: Shape | undefined): ScalarShape | undefined {
  if (shape?.kind === 'scalar') return shape
  if (shape?.kind !== 'choice') return undefined
  const scalars = shape.of.flatMap((alternative) => scalarShape(alternative) ?? [])
  return scalars.find(({ types }) => types.includes('string')) ?? scalars[0]
}
