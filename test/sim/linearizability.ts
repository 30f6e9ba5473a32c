// Decides whether a history of operations on one register is linearizable: whether there is an order of them that
// respects real time and in which every result is what a single copy would have answered. The algorithm is Wing and
// Gong's with Lowe's memory of configurations already tried, as porcupine has it.

export type RegisterOperation =
  | { readonly kind: 'write'; readonly value: string }
  | { readonly kind: 'read' }
  /** Writes `value` if the register holds `expected`; answers what it held before. */
  | { readonly kind: 'swap'; readonly expected: string; readonly value: string }

export interface HistoryItem {
  readonly operation: RegisterOperation
  /** Positions in one common order of all calls and returns; Infinity: nobody knows whether it took effect. */
  readonly called: number
  readonly returned: number
  /** What a read found or what a swap found; undefined for writes and for unknown outcomes. */
  readonly found: string | undefined
}

/** The register holds '' at first. Written values must be unique, which makes violations visible and the search short. */
export function isLinearizable(history: readonly HistoryItem[]): boolean {
  const items = relevant(history)
  const events = eventList(items)
  const done = new Uint8Array(items.length)
  const seen = new Set<string>()
  const path: { readonly event: Event; readonly value: string }[] = []
  let value = ''
  let event = events.next
  while (events.next) {
    if (event?.kind === 'call') {
      const next = outcome(items[event.item]!, value)
      if (next !== undefined) {
        done[event.item] = 1
        const configuration = `${done.join('')}/${next}`
        if (!seen.has(configuration)) {
          seen.add(configuration)
          path.push({ event, value })
          value = next
          lift(event)
          event = events.next
          continue
        }
        done[event.item] = 0
      }
      event = event.next
      continue
    }
    // A return that no linearization so far explains: take back the last choice.
    const last = path.pop()
    if (!last) return false
    value = last.value
    done[last.event.item] = 0
    unlift(last.event)
    event = last.event.next
  }
  return true
}

/**
 * Operations of unknown outcome make the search long, and written values are unique. So those whose value nobody ever
 * saw go (they need not have had an effect), and the others succeeded before the first who saw it had returned.
 */
function relevant(history: readonly HistoryItem[]): readonly HistoryItem[] {
  const seenBy = new Map<string, number>()
  const writers = new Map<string, HistoryItem>()
  for (const item of history) if (item.operation.kind !== 'read') writers.set(item.operation.value, item)
  const see = (value: string, by: number) => {
    if (by >= (seenBy.get(value) ?? Infinity)) return
    seenBy.set(value, by)
    // Whoever sees what a swap wrote sees that the swap saw what it expected.
    const writer = writers.get(value)
    if (writer?.operation.kind === 'swap' && writer.returned === Infinity) see(writer.operation.expected, by)
  }
  for (const { found, returned } of history) if (found !== undefined) see(found, returned)
  return history.flatMap((item) => {
    const { operation, returned, called } = item
    if (returned !== Infinity) return [item]
    if (operation.kind === 'read') return []
    const seen = seenBy.get(operation.value)
    if (seen === undefined || seen < called) return []
    return [{ ...item, returned: seen, found: operation.kind === 'swap' ? operation.expected : undefined }]
  })
}

/** The register after the operation, undefined if its recorded result contradicts `value`. */
function outcome({ operation, found }: HistoryItem, value: string): string | undefined {
  switch (operation.kind) {
    case 'write':
      return operation.value
    case 'read':
      return found === value ? value : undefined
    case 'swap':
      if (found !== value) return undefined
      return value === operation.expected ? operation.value : value
  }
}

interface Event {
  readonly kind: 'call' | 'return'
  readonly item: number
  match: Event | undefined
  previous: Event | undefined
  next: Event | undefined
}

function eventList(items: readonly HistoryItem[]): Event {
  const marks = items.flatMap(({ called, returned }, item) => [
    { at: called, kind: 'call' as const, item },
    { at: returned, kind: 'return' as const, item },
  ])
  marks.sort((a, b) => (a.at === b.at ? a.item - b.item : a.at < b.at ? -1 : 1))
  const head: Event = { kind: 'return', item: -1, match: undefined, previous: undefined, next: undefined }
  const calls = new Map<number, Event>()
  let last = head
  for (const { kind, item } of marks) {
    const event: Event = { kind, item, match: undefined, previous: last, next: undefined }
    if (kind === 'call') calls.set(item, event)
    else calls.get(item)!.match = event
    last.next = event
    last = event
  }
  return head
}

function lift(call: Event): void {
  for (const event of [call, call.match!]) {
    event.previous!.next = event.next
    if (event.next) event.next.previous = event.previous
  }
}

function unlift(call: Event): void {
  for (const event of [call.match!, call]) {
    event.previous!.next = event
    if (event.next) event.next.previous = event
  }
}
