// From what stands in the kernel to what is to stand there: the lines to run, in an order that never refers to what is not there
// yet. Pure; used with the whole of both, and with the few entries of one change.

import { atOnce, type Steps } from '../../lib/slices.ts'
import {
  addLines,
  type EntryMap,
  entryDevice,
  type KernelEntry,
  linkLine,
  removeLines,
  sameEntry,
  type Tool,
  toolOf,
} from './entry.ts'

/** Lines for one tool in one namespace. */
export interface Batch {
  readonly tool: Tool
  readonly inHost: boolean
  readonly lines: readonly string[]
}

/** Steps one after the other; the batches of a step at the same time. */
export type Step = readonly Batch[]

export interface Plan {
  /** First, what packets may rely on once others know of it … */
  readonly adding: readonly Step[]
  /** … and last, what nothing refers to any more. */
  readonly removing: readonly Step[]
  /** For people: what is missing or different, and what is too much. */
  readonly missing: readonly KernelEntry[]
  readonly surplus: readonly KernelEntry[]
  /** Links are to be made anew, whose other entries go with them: plan with the whole of both, if this was not. */
  readonly remakes: boolean
}

/** Entries between two places where others may have their turn. */
const STEP_ENTRIES = 100

export function plan(desired: EntryMap, observed: EntryMap, namespace: string): Plan {
  return atOnce(planSteps(desired, observed, namespace))
}

/** As `plan`. Neither map may change before its last step. */
export function* planSteps(desired: EntryMap, observed: EntryMap, namespace: string): Steps<Plan> {
  let count = 0
  const remade = new Set<string>()
  for (const [key, entry] of desired) {
    const there = entry.kind === 'link' ? observed.get(key) : undefined
    if (there && !sameEntry(there, entry)) remade.add(entryDevice(entry))
    if (++count % STEP_ENTRIES === 0) yield
  }
  const missing: KernelEntry[] = []
  const surplus: KernelEntry[] = []
  for (const [key, entry] of desired) {
    const there = observed.get(key)
    if (!there || goesWith(there, remade, observed) || !sameEntry(there, entry)) missing.push(entry)
    if (++count % STEP_ENTRIES === 0) yield
  }
  for (const [key, entry] of observed) {
    if (!desired.has(key) && entry.kind !== 'device') surplus.push(entry)
    if (++count % STEP_ENTRIES === 0) yield
  }
  const gone = new Set(surplus.flatMap((entry) => (entry.kind === 'link' ? [entry.device] : [])))
  const stays = (entry: KernelEntry) =>
    entry.kind === 'link' ||
    !(
      gone.has(entryDevice(entry)) ||
      (entry.kind === 'bridge-fdb' && gone.has(entry.bridge)) ||
      goesWith(entry, remade, observed)
    )
  const mtus = new Map<string, number>()
  for (const entry of missing) if (entry.kind === 'device') mtus.set(entry.device, entry.mtu)
  return {
    adding: yield* adding(missing, [...remade], observed, mtus, namespace),
    removing: yield* removing(surplus.filter((entry) => stays(entry))),
    missing,
    surplus,
    remakes: remade.size > 0,
  }
}

/** Removing a link takes this entry with it. */
function goesWith(entry: KernelEntry, remade: ReadonlySet<string>, observed: EntryMap): boolean {
  if (remade.size === 0) return false
  if (remade.has(entryDevice(entry))) return true
  if (entry.kind === 'device') return remade.has(entry.master)
  if (entry.kind !== 'bridge-fdb') return false
  const port = observed.get(`device ${entry.device}`)
  return remade.has(entry.bridge) || (port?.kind === 'device' && remade.has(port.master))
}

function* adding(
  missing: readonly KernelEntry[],
  remade: readonly string[],
  observed: EntryMap,
  mtus: ReadonlyMap<string, number>,
  namespace: string,
): Steps<readonly Step[]> {
  const made = missing.flatMap((entry) =>
    entry.kind === 'link' ? [linkLine(entry.device, entry.make, mtus.get(entry.device) ?? 0, namespace)] : [],
  )
  const oldRules = missing.flatMap((entry) => (entry.kind === 'rule' ? rulesInPlaceOf(entry, observed) : []))
  const removed = (tool: Tool) => oldRules.filter((rule) => toolOf(rule) === tool).flatMap((rule) => removeLines(rule))
  const inHost = made.filter((one) => one.inHost).map(({ line }) => line)
  const inFabric = made.filter((one) => !one.inHost).map(({ line }) => line)
  const lines = yield* linesByKind(missing, addLines)
  return [
    batch(
      'ip',
      remade.map((device) => `link del ${device}`),
    ),
    batch('ip', inHost, true),
    batch('ip', [...inFabric, ...lines('ip', 'device', 'address')]),
    [
      ...batch('bridge', lines('bridge', 'tunnel-fdb', 'bridge-fdb')),
      ...batch('ip', [...lines('ip', 'neighbour', 'route'), ...removed('ip'), ...lines('ip', 'rule')]),
      ...batch('ip6', [...removed('ip6'), ...lines('ip6', 'rule')]),
    ],
  ].filter((step) => step.length > 0)
}

type LinesOf = (tool: Tool, ...kinds: readonly KernelEntry['kind'][]) => readonly string[]

function* linesByKind(
  entries: readonly KernelEntry[],
  linesOf: (entry: KernelEntry) => readonly string[],
): Steps<LinesOf> {
  const sorted = new Map<string, string[]>()
  let count = 0
  for (const entry of entries) {
    const group = `${toolOf(entry)} ${entry.kind}`
    const lines = sorted.get(group)
    if (lines) lines.push(...linesOf(entry))
    else sorted.set(group, [...linesOf(entry)])
    if (++count % STEP_ENTRIES === 0) yield
  }
  return (tool, ...kinds) => kinds.flatMap((kind) => sorted.get(`${tool} ${kind}`) ?? [])
}

/** There may be several rules of one priority: a new one does not replace the old. */
function rulesInPlaceOf(
  { family, priority }: Extract<KernelEntry, { kind: 'rule' }>,
  observed: EntryMap,
): readonly KernelEntry[] {
  const there = observed.get(`rule ${family} ${priority}`)
  return there ? [there] : []
}

function* removing(surplus: readonly KernelEntry[]): Steps<readonly Step[]> {
  const lines = yield* linesByKind(surplus, removeLines)
  const step = [
    ...batch('bridge', lines('bridge', 'bridge-fdb', 'tunnel-fdb')),
    ...batch('ip', lines('ip', 'rule', 'route', 'neighbour', 'address', 'link')),
    ...batch('ip6', lines('ip6', 'rule')),
  ]
  return step.length === 0 ? [] : [step]
}

function batch(tool: Tool, lines: readonly string[], inHost = false): readonly Batch[] {
  return lines.length === 0 ? [] : [{ tool, inHost, lines }]
}
