// Finding an object by what a person types: the full id, the full name, or the beginning of an id that fits one only.

import type { ObjectsByKind } from '../../api/objects.ts'
import { taskName } from '../../api/objects.ts'
import { CodedError } from '../../lib/errors.ts'
import type { StoreView } from '../store/types.ts'

export type Findable = Exclude<keyof ObjectsByKind, 'cluster'>
export type Found<K extends Findable> = ObjectsByKind[K]

/**
 * @throws {CodedError} NO_SUCH_OBJECT (`service x not found`), AMBIGUOUS
 */
export function find<K extends Findable>(view: StoreView, kind: K, input: string): ObjectsByKind[K] {
  const exact = view.get(kind, input)
  if (exact !== undefined) return exact
  const named = byFullName(view, kind, input)
  const found = named.length > 0 || input === '' ? named : view.list(kind).filter((each) => each.id.startsWith(input))
  const [first, ...others] = found
  if (first === undefined)
    throw new CodedError('NO_SUCH_OBJECT', `${kind} ${input} not found`, { details: { kind, input } })
  if (others.length > 0) {
    throw new CodedError('AMBIGUOUS', `${kind} ${input} is ambiguous (${found.length} matches found)`)
  }
  return first
}

/** The same, without an error where there is none or more than one. */
export function findOptional<K extends Findable>(
  view: StoreView,
  kind: K,
  input: string,
): ObjectsByKind[K] | undefined {
  try {
    return find(view, kind, input)
  } catch (error) {
    if (error instanceof CodedError) return undefined
    throw error
  }
}

function byFullName<K extends Findable>(view: StoreView, kind: K, name: string): readonly ObjectsByKind[K][] {
  return view.list(kind).filter((each) => nameOf(each) === name)
}

export function nameOf(object: ObjectsByKind[Findable]): string {
  switch (object.kind) {
    case 'task':
      return taskName(object)
    case 'node':
      return object.description.Hostname ?? ''
    case 'service':
    case 'network':
    case 'secret':
    case 'config':
      return object.spec.Name ?? ''
  }
}
