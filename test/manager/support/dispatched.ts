// A leader's dispatcher over a real store on virtual time, and workers that say what they are told to.

import {
  DISPATCHER_PROTOCOL_VERSION,
  type ManagerMessage,
  type StreamFrame,
  type WorkerMessage,
} from '../../../src/api/dispatcher.ts'
import type { Node, TaskStatus } from '../../../src/api/objects.ts'
import { decode, encode } from '../../../src/lib/codec.ts'
import type { CloseInfo, Connection, PeerIdentity } from '../../../src/lib/connection.ts'
import { CodedError } from '../../../src/lib/errors.ts'
import { silentLog } from '../../../src/lib/log.ts'
import { SeededRandom } from '../../../src/lib/random.ts'
import { Dispatcher } from '../../../src/manager/dispatcher/dispatcher.ts'
import type { SecretDrivers } from '../../../src/manager/dispatcher/secret-request.ts'
import { decodeEntry, encodeEntry, encodeTransaction } from '../../../src/manager/store/entry.ts'
import { Store } from '../../../src/manager/store/store.ts'
import type { Proposer, Transaction } from '../../../src/manager/store/types.ts'
import { SimulatedNetwork } from '../../sim/network.ts'
import { VirtualClock } from '../../sim/virtual-clock.ts'
import { aCluster, aNode } from '../../support/objects.ts'

const ENTRY_MS = 2

export class FakeWorker {
  readonly heard: ManagerMessage[] = []
  readonly frames: StreamFrame[] = []
  closed: CloseInfo | undefined
  #connection: Connection | undefined
  #beating: (() => void) | undefined

  heardOf<K extends ManagerMessage['kind']>(kind: K): readonly Extract<ManagerMessage, { kind: K }>[] {
    return this.heard.filter((message): message is Extract<ManagerMessage, { kind: K }> => message.kind === kind)
  }

  attach(connection: Connection): void {
    this.#connection = connection
    connection.listen({
      onMessage: (bytes) => this.heard.push((decode(bytes) as [number, ManagerMessage])[1]),
      onClose: (info) => {
        this.closed = info
        this.#beating?.()
      },
    })
  }

  attachStream(connection: Connection): void {
    this.#connection = connection
    connection.listen({
      onMessage: (bytes) => this.frames.push((decode(bytes) as [number, StreamFrame])[1]),
      onClose: (info) => {
        this.closed = info
      },
    })
  }

  say(message: WorkerMessage | StreamFrame): void {
    if (!this.closed) this.#connection?.send(encode([DISPATCHER_PROTOCOL_VERSION, message]))
  }

  /** A heartbeat each second, until `silence`. */
  beat(clock: VirtualClock): void {
    let sequence = 0
    const next = (): void => {
      const timer = clock.setTimer(1_000, () => {
        this.say({ kind: 'heartbeat', sequence: ++sequence })
        next()
      })
      this.#beating = () => timer.cancel()
    }
    next()
  }

  silence(): void {
    this.#beating?.()
  }

  hangUp(): void {
    this.silence()
    this.#connection?.destroy()
  }

  status(sequence: number, ...updates: readonly { readonly taskId: string; readonly status: TaskStatus }[]): void {
    this.say({ kind: 'status', sequence, updates })
  }
}

export class Dispatched implements Proposer {
  readonly clock = new VirtualClock()
  readonly store = new Store()
  readonly network: SimulatedNetwork
  readonly dispatcher: Dispatcher
  /** What secret drivers answer. */
  driver: SecretDrivers['get'] = () => Promise.reject(new Error('no driver'))
  /** Proposals end with this while it is set. */
  failure: CodedError | undefined
  #leadership = new AbortController()
  #running: Promise<void> = Promise.resolve()
  #index = 0

  private constructor() {
    const random = new SeededRandom(5)
    this.network = new SimulatedNetwork({ clock: this.clock, random: random.fork() })
    this.dispatcher = new Dispatcher({
      view: this.store,
      subscribe: (listener) => this.store.subscribe(listener),
      proposer: this,
      secretDrivers: { get: (...asked) => this.driver(...asked) },
      clock: this.clock,
      random,
      log: silentLog,
    })
    this.network.listen('m1:2377', (connection, path) => {
      if (path === '/session') this.dispatcher.accept(connection)
      else this.dispatcher.acceptStream(connection)
    })
  }

  /** With these nodes, and this manager leading. */
  static async start(...nodes: readonly Node[]): Promise<Dispatched> {
    const made = new Dispatched()
    await made.write([
      { kind: 'create', object: aCluster() },
      ...nodes.map((object) => ({ kind: 'create', object }) as const),
    ])
    made.lead()
    await made.clock.advance(10)
    return made
  }

  lead(): void {
    this.#leadership = new AbortController()
    this.#running = this.dispatcher.run({ signal: this.#leadership.signal })
  }

  async stopLeading(): Promise<void> {
    this.#leadership.abort()
    await this.clock.wait(this.#running, 1_000, 'the end of the dispatcher')
  }

  propose(transaction: Transaction): Promise<number> {
    const bytes = encodeTransaction(transaction)
    return new Promise((resolve, reject) => {
      this.clock.setTimer(ENTRY_MS, () => {
        if (this.failure) {
          reject(this.failure)
          return
        }
        const index = ++this.#index
        const entry = decodeEntry(encodeEntry(this.clock.wallMs(), undefined, [bytes]))
        const result = this.store.apply(index, entry.wallMs, entry.transactions)[0]!
        if (result.kind === 'applied') resolve(index)
        else reject(new CodedError(result.code, result.message, { retryable: result.code === 'OUT_OF_SEQUENCE' }))
      })
    })
  }

  write(transaction: Transaction): Promise<number> {
    return this.clock.wait(this.propose(transaction), 1_000, 'a write')
  }

  /** A connection of a node's worker, before it says anything. */
  async dial(nodeId: string, path: '/session' | '/bulk' = '/session'): Promise<FakeWorker> {
    const identity: PeerIdentity = { nodeId, clusterId: 'c', role: 'worker' }
    const dialer = this.network.dialer(nodeId, identity)
    const connection = await this.clock.wait(dialer.dial({ address: 'm1:2377', path, timeoutMs: 1_000 }), 2_000)
    const worker = new FakeWorker()
    if (path === '/session') worker.attach(connection)
    else worker.attachStream(connection)
    return worker
  }

  /** A worker that has said hello and sends heartbeats. */
  async session(nodeId: string, featureLevel = 1): Promise<FakeWorker> {
    const worker = await this.dial(nodeId)
    worker.say({
      kind: 'hello',
      description: { Hostname: nodeId },
      address: '10.0.0.7',
      dataPathAddress: '',
      previousSessionId: '',
      featureLevel,
    })
    worker.beat(this.clock)
    await this.clock.advance(20)
    return worker
  }

  state(nodeId: string): string | undefined {
    return this.store.get('node', nodeId)?.status.state
  }
}

export function node(id: string, over: Partial<Node> = {}): Node {
  return aNode(id, { status: { state: 'unknown', message: '', address: '' }, ...over })
}
