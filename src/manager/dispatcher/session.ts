// One worker's session on the leader: what it is told, in order, and when.

import {
  type Assigned,
  type AssignedKey,
  DISPATCHER_PROTOCOL_VERSION,
  type ManagerMessage,
  SESSION_CLOSE,
  type StreamRequest,
} from '../../api/dispatcher.ts'
import type { Clock, Timer } from '../../lib/clock.ts'
import { encode } from '../../lib/codec.ts'
import type { Connection } from '../../lib/connection.ts'
import { errorCode } from '../../lib/errors.ts'
import type { StoreView } from '../store/types.ts'
import { type AssignmentDifference, AssignmentSet } from './assignment-set.ts'

/** Assignments in one message: bounds its size and the time it takes to encode. */
const ITEMS_PER_MESSAGE = 100
/** A message of several items is smaller than this: a connection refuses one of 32 MiB. */
const LARGE_MESSAGE_BYTES = 4 * 1024 * 1024

type Part = { readonly item: Assigned } | { readonly key: AssignedKey }

export class Session {
  readonly id: string
  readonly nodeId: string
  readonly #connection: Connection
  readonly #view: StoreView
  readonly #clock: Clock
  readonly #assignments: AssignmentSet
  readonly #dirty = new Set<string>()
  #flushTimer: Timer | undefined
  #sequence = 0
  #appliedSequence = 0
  #open = true
  #started = false

  constructor(options: {
    readonly id: string
    readonly nodeId: string
    readonly connection: Connection
    readonly view: StoreView
    readonly clock: Clock
  }) {
    this.id = options.id
    this.nodeId = options.nodeId
    this.#connection = options.connection
    this.#view = options.view
    this.#clock = options.clock
    this.#assignments = new AssignmentSet(options.nodeId)
  }

  /** The last assignments that the worker has on its disk. */
  get appliedSequence(): number {
    return this.#appliedSequence
  }

  noteApplied(sequence: number): void {
    this.#appliedSequence = Math.max(this.#appliedSequence, sequence)
  }

  /** Sends one message; a connection that can't take it is dropped, and the worker comes back for a complete set. */
  send(message: ManagerMessage): void {
    if (this.#open) this.#sendBytes(encode([DISPATCHER_PROTOCOL_VERSION, message]))
  }

  /** Everything the node is to have. */
  sendComplete(): void {
    this.#started = true
    this.#dirty.clear()
    this.#sendDifference(this.#assignments.complete(this.#view), true)
  }

  /** A task of this node changed; told together with all else that changes in this turn of the event loop. */
  taskChanged(taskId: string): void {
    if (!this.#started || !this.#open) return
    this.#dirty.add(taskId)
    this.#flushTimer ??= this.#clock.setTimer(0, () => {
      this.#flushTimer = undefined
      this.#flush()
    })
  }

  openStream(streamId: string, request: StreamRequest): void {
    this.send({ kind: 'open-stream', streamId, request })
  }

  /** Ends the session; idempotent. */
  close(code: number, reason: string): void {
    this.ended()
    this.#connection.close(code, reason)
  }

  /** The connection is gone: nothing more is sent. */
  ended(): void {
    this.#open = false
    this.#flushTimer?.cancel()
  }

  #flush(): void {
    const tasks = [...this.#dirty]
    this.#dirty.clear()
    this.#sendDifference(this.#assignments.difference(this.#view, tasks), false)
  }

  #sendDifference(difference: AssignmentDifference, complete: boolean): void {
    const items = [
      ...difference.set.map((item) => ({ item })),
      ...difference.removed.map((key: AssignedKey) => ({ key })),
    ]
    if (items.length === 0 && !complete) return
    for (let at = 0; at === 0 || at < items.length; at += ITEMS_PER_MESSAGE) {
      const part = items.slice(at, at + ITEMS_PER_MESSAGE)
      this.#sendPart(part, { complete: complete && at === 0, more: at + ITEMS_PER_MESSAGE < items.length })
    }
  }

  /** In halves, and halves of these, where the items are large. */
  #sendPart(part: readonly Part[], { complete, more }: { readonly complete: boolean; readonly more: boolean }): void {
    const message: ManagerMessage = {
      kind: 'assignments',
      complete,
      more,
      sequence: this.#sequence + 1,
      set: part.flatMap((entry) => ('item' in entry ? [entry.item] : [])),
      removed: part.flatMap((entry) => ('key' in entry ? [entry.key] : [])),
    }
    const bytes = encode([DISPATCHER_PROTOCOL_VERSION, message])
    if (bytes.byteLength > LARGE_MESSAGE_BYTES && part.length > 1) {
      const middle = Math.ceil(part.length / 2)
      this.#sendPart(part.slice(0, middle), { complete, more: true })
      this.#sendPart(part.slice(middle), { complete: false, more })
      return
    }
    this.#sequence++
    this.#sendBytes(bytes)
  }

  #sendBytes(bytes: Uint8Array): void {
    if (!this.#open) return
    try {
      this.#connection.send(bytes)
    } catch (error) {
      this.close(SESSION_CLOSE.expired, `session dropped: ${errorCode(error) ?? 'send failed'}`)
    }
  }
}
