// Cuts a message that is larger than a frame may be into several that say the same.

import { messageBytes } from './message-codec.ts'
import type { Message } from './types.ts'

/** Appends and forwarded proposals are cut; one entry or proposal always stays whole. */
export function splitMessage(message: Message, maxBytes: number): readonly Message[] {
  if (messageBytes(message) <= maxBytes) return [message]
  if (message.kind === 'append') {
    let { prevIndex, prevTerm } = message
    return groupBySize(message.entries, (entry) => entry.data.length, maxBytes).map((entries): Message => {
      const part = { ...message, prevIndex, prevTerm, entries }
      const last = entries[entries.length - 1]!
      prevIndex = last.index
      prevTerm = last.term
      return part
    })
  }
  if (message.kind === 'propose') {
    let at = 0
    return groupBySize(message.proposals, (proposal) => proposal.length, maxBytes).map((proposals): Message => {
      const requestIds = message.requestIds.slice(at, at + proposals.length)
      at += proposals.length
      return { ...message, proposals, requestIds }
    })
  }
  return [message]
}

const OVERHEAD_BYTES = 16
const HEAD_BYTES = 64

function groupBySize<T>(items: readonly T[], sizeOf: (item: T) => number, maxBytes: number): readonly (readonly T[])[] {
  const groups: T[][] = []
  let bytes = Number.POSITIVE_INFINITY
  for (const item of items) {
    const itemBytes = sizeOf(item) + OVERHEAD_BYTES
    if (bytes + itemBytes > maxBytes) {
      groups.push([])
      bytes = HEAD_BYTES
    }
    groups[groups.length - 1]!.push(item)
    bytes += itemBytes
  }
  return groups
}
