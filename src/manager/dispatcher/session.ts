// One worker's session on the leader: what it is told, in order, and when.

import {
  type Assigned,
  type AssignedKey,
  DATA_PLANE_FEATURE_LEVEL,
  DISPATCHER_PROTOCOL_VERSION,
  type ManagerAddress,
  type ManagerMessage,
  SESSION_CLOSE,
  type StreamRequest,
} from '../../api/dispatcher.ts'
import type { Clock, Timer } from '../../lib/clock.ts'
import { encode } from '../../lib/codec.ts'
import type { Connection } from '../../lib/connection.ts'
import { errorCode } from '../../lib/errors.ts'
import type { StoreView } from '../store/types.ts'
import { AssignmentSet } from './assignment-set.ts'
import { encodeAssignments } from './assignments-frame.ts'
import type { DataPlaneIndex, RecordFollower } from './data-plane-index.ts'
import type { DriverSecrets } from './driver-secrets.ts'
import { NodeDataPlane } from './node-data-plane.ts'

/** Bounds the size of a message and the time it takes to encode: 100 objects, or 2,000 of the data plane's small records. */
const WEIGHT_PER_MESSAGE = 2_000
const OBJECT_WEIGHT = 20
const SMALL_WEIGHT = 1
/** A message of several items is smaller than this: a connection refuses one of 32 MiB. */
const LARGE_MESSAGE_BYTES = 4 * 1024 * 1024

/**
 * No more than this waits in a connection, which refuses 64 MiB: what else a worker is to be told is encoded when the network has
 * taken the rest.
 */
const PACED_BYTES = 8 * 1024 * 1024
const PACED_LOOK_MS = 10
/** Changes, beside a complete set, that wait for a worker which takes nothing: by then it is as well off with another set. */
const MAX_WAITING = 100_000

/** Objects are encoded when it is their turn, records have been already. */
type Piece = { readonly weight: number } & (
  | { readonly item: Uint8Array }
  | { readonly object: Assigned }
  | { readonly key: AssignedKey }
)

/** One message that is to be sent, or several where its items are large. */
interface Part {
  readonly pieces: readonly Piece[]
  readonly complete: boolean
  readonly more: boolean
  /** Tasks of whose withdrawal the worker knows with this message. */
  readonly withdraws: readonly string[]
}

interface Awaited {
  readonly sequence: number
  readonly taskIds: readonly string[]
}

export class Session {
  readonly id: string
  readonly nodeId: string
  readonly #connection: Connection
  readonly #view: StoreView
  readonly #clock: Clock
  readonly #assignments: AssignmentSet
  /** undefined: an older worker, which does not know such records */
  readonly #dataPlane: NodeDataPlane | undefined
  readonly #dirty = new Set<string>()
  /** Tasks whose withdrawal is in the next message, and in messages that are not programmed yet. */
  readonly #withdrawing = new Set<string>()
  #awaited: readonly Awaited[] = []
  #waiting: Part[] = []
  /** Items of the last complete set. */
  #setSize = 0
  #paceTimer: Timer | undefined
  #flushTimer: Timer | undefined
  #sequence = 0
  #appliedSequence = 0
  #open = true
  #started = false

  constructor(options: {
    readonly id: string
    readonly nodeId: string
    readonly featureLevel: number
    readonly connection: Connection
    readonly view: StoreView
    readonly index: DataPlaneIndex
    readonly secrets: Pick<DriverSecrets, 'get'>
    readonly clock: Clock
  }) {
    this.id = options.id
    this.nodeId = options.nodeId
    this.#connection = options.connection
    this.#view = options.view
    this.#clock = options.clock
    this.#assignments = new AssignmentSet(options.nodeId, options.secrets, options.featureLevel)
    if (options.featureLevel >= DATA_PLANE_FEATURE_LEVEL)
      this.#dataPlane = new NodeDataPlane({ ...options, changed: () => this.#flushSoon() })
  }

  /** The last assignments that the worker has on its disk. */
  get appliedSequence(): number {
    return this.#appliedSequence
  }

  /** Itself as a follower of the data plane's records. */
  get follower(): RecordFollower | undefined {
    return this.#dataPlane
  }

  noteApplied(sequence: number): void {
    this.#appliedSequence = Math.max(this.#appliedSequence, sequence)
  }

  /** The worker's kernel has what was sent up to `sequence`. @returns tasks of whose withdrawal it thus knows */
  noteProgrammed(sequence: number): readonly string[] {
    const known = this.#awaited.filter((one) => one.sequence <= sequence)
    if (known.length > 0) this.#awaited = this.#awaited.filter((one) => one.sequence > sequence)
    return known.flatMap(({ taskIds }) => taskIds)
  }

  /** The task's end point is among the changes that this worker is about to be told: `noteProgrammed` is to name it. */
  awaitWithdrawal(taskId: string): void {
    this.#withdrawing.add(taskId)
    this.#flushSoon()
  }

  /** Sends one message; a connection that can't take it is dropped, and the worker comes back for a complete set. */
  send(message: ManagerMessage): void {
    if (this.#open) this.#sendBytes(encode([DISPATCHER_PROTOCOL_VERSION, message]))
  }

  /** Everything the node is to have. */
  sendComplete(): void {
    if (!this.#open) return
    this.#started = true
    this.#dirty.clear()
    // What was not sent yet is part of it.
    for (const { withdraws } of this.#waiting) for (const id of withdraws) this.#withdrawing.add(id)
    this.#waiting = []
    const records = this.#dataPlane?.complete()
    const { set, removed } = this.#assignments.complete(this.#view)
    this.#sendAll(records?.set ?? [], set, [...(records?.removed ?? []), ...removed], true)
  }

  /** A task of this node changed; told together with all else that changes in this turn of the event loop. */
  taskChanged(taskId: string): void {
    this.#dirty.add(taskId)
    this.#flushSoon()
  }

  /** There is another gateway network, or none: every node is on it. */
  ingressChanged(): void {
    if (this.#dataPlane) this.#flushSoon()
  }

  /** @param manager who waits for the stream; undefined: this one */
  openStream(streamId: string, request: StreamRequest, manager?: ManagerAddress): void {
    this.send({ kind: 'open-stream', streamId, request, ...(manager ? { manager } : {}) })
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
    this.#paceTimer?.cancel()
    this.#waiting = []
    this.#dataPlane?.close()
  }

  #flushSoon(): void {
    if (!this.#started || !this.#open) return
    this.#flushTimer ??= this.#clock.setTimer(0, () => {
      this.#flushTimer = undefined
      this.#flush()
    })
  }

  #flush(): void {
    const tasks = [...this.#dirty]
    this.#dirty.clear()
    const records = this.#dataPlane?.difference(tasks)
    const { set, removed } = this.#assignments.difference(this.#view, tasks)
    this.#sendAll(records?.set ?? [], set, [...(records?.removed ?? []), ...removed], false)
  }

  #sendAll(
    records: readonly Uint8Array[],
    objects: readonly Assigned[],
    removed: readonly AssignedKey[],
    complete: boolean,
  ): void {
    const parts = inParts([
      ...records.map((item): Piece => ({ item, weight: SMALL_WEIGHT })),
      ...objects.map((object): Piece => ({ object, weight: OBJECT_WEIGHT })),
      ...removed.map((key): Piece => ({ key, weight: SMALL_WEIGHT })),
    ])
    if (parts.length === 0 && complete) parts.push([])
    for (const [at, pieces] of parts.entries()) {
      this.#waiting.push({ pieces, complete: complete && at === 0, more: at + 1 < parts.length, withdraws: [] })
    }
    this.#awaitLast()
    const count = this.#waiting.reduce((sum, { pieces }) => sum + pieces.length, 0)
    if (complete) this.#setSize = count
    if (count > this.#setSize + MAX_WAITING) this.close(SESSION_CLOSE.expired, 'session dropped: too much is waiting')
    else this.#sendWaiting()
  }

  /** What is withdrawn is known with the last message that is to be sent, or was sent. */
  #awaitLast(): void {
    if (this.#withdrawing.size === 0) return
    const taskIds = [...this.#withdrawing]
    this.#withdrawing.clear()
    const last = this.#waiting.pop()
    if (last) this.#waiting.push({ ...last, withdraws: [...last.withdraws, ...taskIds] })
    else this.#awaited = [...this.#awaited, { sequence: this.#sequence, taskIds }]
  }

  #sendWaiting(): void {
    while (this.#open && this.#waiting.length > 0) {
      if (this.#connection.bufferedBytes >= PACED_BYTES) {
        this.#paceTimer ??= this.#clock.setTimer(PACED_LOOK_MS, () => {
          this.#paceTimer = undefined
          this.#sendWaiting()
        })
        return
      }
      this.#sendPart(this.#waiting.shift()!)
    }
  }

  /** In halves, and halves of these, where the items are large. */
  #sendPart({ pieces, complete, more, withdraws }: Part): void {
    const encoded = pieces.map((piece) =>
      'object' in piece ? { item: encode(piece.object), weight: piece.weight } : piece,
    )
    const set = encoded.flatMap((piece) => ('item' in piece ? [piece.item] : []))
    const sizeBytes = set.reduce((sum, item) => sum + item.byteLength, 0)
    if (sizeBytes > LARGE_MESSAGE_BYTES && pieces.length > 1) {
      const middle = Math.ceil(pieces.length / 2)
      this.#waiting.unshift(
        { pieces: encoded.slice(0, middle), complete, more: true, withdraws: [] },
        { pieces: encoded.slice(middle), complete: false, more, withdraws },
      )
      return
    }
    const removed = pieces.flatMap((piece) => ('key' in piece ? [piece.key] : []))
    const sequence = ++this.#sequence
    if (withdraws.length > 0) this.#awaited = [...this.#awaited, { sequence, taskIds: withdraws }]
    this.#sendBytes(encodeAssignments({ complete, more, sequence, set, removed }))
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

function inParts(pieces: readonly Piece[]): (readonly Piece[])[] {
  const parts: Piece[][] = []
  let weight = WEIGHT_PER_MESSAGE
  for (const piece of pieces) {
    if (weight + piece.weight > WEIGHT_PER_MESSAGE) {
      parts.push([])
      weight = 0
    }
    parts.at(-1)?.push(piece)
    weight += piece.weight
  }
  return parts
}
