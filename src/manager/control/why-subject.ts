// What a person means by a word after `swarmctl why`: a task, a service or a node, by id, by name, by `service.slot` or
// `service.node`, or by the beginning of an id that fits one only.

import type { Node, Service, Task } from '../../api/objects.ts'
import type { WhyKind } from '../../api/why.ts'
import { CodedError } from '../../lib/errors.ts'
import { isLive, newest } from '../orchestrator/slots.ts'
import { isAttachment } from '../store/indexes.ts'
import type { StoreView } from '../store/types.ts'
import { nameOf } from './lookup.ts'

export type WhySubject = Task | Service | Node

const KINDS = ['service', 'task', 'node'] as const

/**
 * @param kind only such objects; undefined: of any kind
 * @throws {CodedError} NO_SUCH_OBJECT, AMBIGUOUS
 */
export function whySubject(view: StoreView, input: string, kind?: WhyKind): WhySubject {
  const kinds = kind ? [kind] : KINDS
  for (const each of kinds) {
    const exact = view.get(each, input)
    if (exact) return exact
  }
  const what = kind ?? 'task, service or node'
  const found = input === '' ? [] : (firstOf(candidates(view, input, kinds)) ?? [])
  const [first, ...others] = found
  if (!first) throw new CodedError('NO_SUCH_OBJECT', `${what} ${input} not found`)
  if (others.length > 0) {
    const names = found.slice(0, 5).map((one) => `${one.kind} ${one.id}`)
    throw new CodedError(
      'AMBIGUOUS',
      `${what} ${input} is ambiguous (${found.length} matches found: ${names.join(', ')})`,
    )
  }
  return first
}

function firstOf(lists: Iterable<readonly WhySubject[]>): readonly WhySubject[] | undefined {
  for (const list of lists) if (list.length > 0) return list
  return undefined
}

/** From the most to the least exact reading. */
function* candidates(view: StoreView, input: string, kinds: readonly WhyKind[]): Iterable<readonly WhySubject[]> {
  yield kinds.flatMap((kind): readonly WhySubject[] =>
    kind === 'task' ? named(view, input) : view.list(kind).filter((one) => nameOf(one) === input),
  )
  if (kinds.includes('task')) yield inSlot(view, input)
  yield kinds.flatMap((kind): readonly WhySubject[] => startingWith(view, kind, input))
}

/** A task's name ends with its id. */
function named(view: StoreView, input: string): readonly Task[] {
  const task = view.get('task', input.slice(input.lastIndexOf('.') + 1))
  return task && nameOf(task) === input ? [task] : []
}

function startingWith(view: StoreView, kind: WhyKind, input: string): readonly WhySubject[] {
  const found: readonly WhySubject[] = view.list(kind)
  return found.filter((one) => one.id.startsWith(input) && !(one.kind === 'task' && isAttachment(one)))
}

/** `web.2`, or `web.host` of a global service: the task there, the newest if it has several. */
function inSlot(view: StoreView, input: string): readonly Task[] {
  const dot = input.lastIndexOf('.')
  if (dot <= 0) return []
  const service = view.byName('service', input.slice(0, dot)) ?? view.get('service', input.slice(0, dot))
  if (!service) return []
  const place = input.slice(dot + 1)
  const there = view.tasksOfService(service.id).filter((task) => {
    if (task.slot > 0) return String(task.slot) === place
    return task.nodeId === place || view.get('node', task.nodeId)?.description.Hostname === place
  })
  const last = newest(there.filter(isLive)) ?? newest(there)
  return last ? [last] : []
}
