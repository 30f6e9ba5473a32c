// Hands the data plane's records from the managers to this node's data plane, and says how far it has come. What the managers
// have said is kept in memory only: swarmd-net has its own copy on disk, and goes on with it until a manager has told this
// worker everything. So nothing is taken away while none can be reached.

import { isDeepStrictEqual } from 'node:util'
import { type DataPlaneKey, type DataPlaneRecord, dataPlaneKey, type OverlayEndpoint } from '../api/data-plane.ts'
import { DEFAULT_DATA_PATH_PORT } from '../api/defaults.ts'
import { type Clock, sleep } from '../lib/clock.ts'
import { errorCode, errorMessage } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import type { DataPlane } from '../overlay/client.ts'
import { type DesiredChange, DesiredStore, type Self } from '../overlay/desired-state.ts'

export interface RecordChange {
  /** Nothing but `set` is there. */
  readonly complete: boolean
  readonly set: readonly DataPlaneRecord[]
  readonly removed: readonly DataPlaneKey[]
}

export interface DataPlaneLinkOptions {
  readonly nodeId: string
  readonly dataPlane: Pick<DataPlane, 'apply'>
  readonly clock: Clock
  readonly log: Log
  /** The kernel has what came with the assignments up to this sequence of the session that `accept` was last told of. */
  readonly onProgrammed: (sequence: number) => void
  /**
   * A task's container is still here under this address although managers have given the address to another task: until it
   * has ended, the other end point is not made known here.
   */
  readonly isOccupied: (endpoint: OverlayEndpoint) => boolean
}

const RETRY_MS = { first: 100, max: 5_000 }

export class DataPlaneLink {
  readonly #options: DataPlaneLinkOptions
  readonly #wanted = new DesiredStore()
  readonly #dirty = new Map<string, DataPlaneKey>()
  /** End points that wait for an address of theirs to be given up here. */
  readonly #held = new Map<string, DataPlaneKey>()
  #dataPathPort = DEFAULT_DATA_PATH_PORT
  #everythingKnown = false
  #sendComplete = true
  #revision: number
  /** What came last in this session, and how far the data plane is. */
  #sequence = 0
  #programmed = 0
  #session = 0
  #wake = (): void => {}

  constructor(options: DataPlaneLinkOptions) {
    this.#options = options
    // Above what any earlier run of this worker has used.
    this.#revision = options.clock.wallMs()
  }

  /** What managers say of the cluster's default port. */
  setDataPathPort(port: number): void {
    if (port === this.#dataPathPort) return
    this.#dataPathPort = port
    this.#sendComplete = true
    this.#wake()
  }

  /** Sequences start anew. */
  beginSession(): void {
    this.#session++
    this.#sequence = 0
    this.#programmed = 0
  }

  /** What came with the assignments `sequence`. */
  accept(change: RecordChange, sequence: number): void {
    const { complete, set, removed } = change
    if (!complete && !this.#everythingKnown) return
    if (!complete && set.length === 0 && removed.length === 0) return
    const before = new Map(this.#wanted.records().length === 0 || !complete ? [] : this.#recordsByText())
    const changed = this.#wanted.apply({ self: undefined, revision: 0, complete, set, removed })
    const news = new Map(set.map((record) => [textOf(dataPlaneKey(record)), record]))
    for (const key of changed) {
      const text = textOf(key)
      // A complete set mostly says what is known.
      if (complete && before.has(text) && isDeepStrictEqual(before.get(text), news.get(text))) continue
      this.#dirty.set(text, key)
    }
    this.#everythingKnown = true
    this.#sequence = sequence
    if (complete) this.#programmed = 0
    this.#wake()
  }

  /** A container has ended: addresses may be free here now. */
  released(): void {
    if (this.#held.size === 0) return
    for (const [text, key] of this.#held) this.#dirty.set(text, key)
    this.#held.clear()
    this.#wake()
  }

  /** Until aborted. */
  async run(signal: AbortSignal): Promise<void> {
    const stop = (): void => this.#wake()
    signal.addEventListener('abort', stop, { once: true })
    for (let failures = 0; !signal.aborted; ) {
      const self = this.#self()
      const session = this.#session
      const sequence = this.#sequence
      if (!self || !this.#everythingKnown || !(this.#sendComplete || this.#dirty.size > 0)) {
        if (self && this.#everythingKnown) this.#tell(session, sequence)
        await new Promise<void>((resolve) => {
          this.#wake = resolve
          if (signal.aborted) resolve()
        })
        continue
      }
      const change = this.#take(self)
      try {
        // It may wait long for a data plane that is away, which is no reason to stay.
        await unlessAborted(this.#options.dataPlane.apply(change), signal)
        if (signal.aborted) return
        failures = 0
        this.#tell(session, sequence)
      } catch (error) {
        // What it has of this is not known.
        this.#sendComplete = true
        if (signal.aborted) return
        if (failures % 20 === 0) this.#options.log.warn({ err: errorMessage(error) }, 'the data plane takes no change')
        // Without one nothing is sent anywhere from here.
        if (errorCode(error) === 'DATA_PLANE_UNAVAILABLE') this.#tell(session, sequence)
        await sleep(this.#options.clock, Math.min(RETRY_MS.max, RETRY_MS.first * 2 ** failures++), signal)
      }
    }
  }

  #tell(session: number, sequence: number): void {
    if (session !== this.#session || sequence <= this.#programmed) return
    this.#programmed = sequence
    this.#options.onProgrammed(sequence)
  }

  #self(): Self | undefined {
    const { nodeId } = this.#options
    const peer = this.#wanted.state.peers.get(nodeId)
    return peer && { nodeId, number: peer.number, address: peer.address, dataPathPort: this.#dataPathPort }
  }

  #take(self: Self): DesiredChange {
    const complete = this.#sendComplete
    this.#sendComplete = false
    const set: DataPlaneRecord[] = []
    const removed: DataPlaneKey[] = []
    if (complete) this.#held.clear()
    for (const [text, key] of complete ? this.#keysByText() : this.#dirty) {
      const record = this.#get(key)
      if (!record) removed.push(key)
      else if (record.kind === 'end-point' && this.#options.isOccupied(record.endpoint)) {
        this.#held.set(text, key)
        removed.push(key)
      } else set.push(record)
      if (!record) this.#held.delete(text)
    }
    this.#dirty.clear()
    return { self, revision: ++this.#revision, complete, set, removed: complete ? [] : removed }
  }

  #get({ kind, id }: DataPlaneKey): DataPlaneRecord | undefined {
    const { peers, networks, endpoints, services } = this.#wanted.state
    switch (kind) {
      case 'peer': {
        const peer = peers.get(id)
        return peer && { kind, peer }
      }
      case 'overlay-network': {
        const network = networks.get(id)
        return network && { kind, network }
      }
      case 'end-point': {
        const endpoint = endpoints.get(id)
        return endpoint && { kind, endpoint }
      }
      case 'overlay-service': {
        const service = services.get(id)
        return service && { kind, service }
      }
    }
  }

  #recordsByText(): Iterable<readonly [string, DataPlaneRecord]> {
    return this.#wanted.records().map((record) => [textOf(dataPlaneKey(record)), record] as const)
  }

  #keysByText(): Iterable<readonly [string, DataPlaneKey]> {
    return this.#wanted.records().map((record) => {
      const key = dataPlaneKey(record)
      return [textOf(key), key] as const
    })
  }
}

/** Resolves at the signal as well. */
async function unlessAborted(work: Promise<void>, signal: AbortSignal): Promise<void> {
  let leave = (): void => {}
  const left = new Promise<void>((resolve) => {
    leave = resolve
    signal.addEventListener('abort', leave, { once: true })
  })
  try {
    await Promise.race([work, left])
  } finally {
    signal.removeEventListener('abort', leave)
  }
}

function textOf({ kind, id }: DataPlaneKey): string {
  return `${kind}/${id}`
}
