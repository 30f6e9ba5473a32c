// Performs what the core asks for: sends, writes and hands over to be applied, in the order that core-types.ts demands.
// Knows nothing of who proposed what.

import type { Clock, Timer } from '../lib/clock.ts'
import type { ApplyQueue } from './apply-queue.ts'
import type { RaftCore } from './core.ts'
import type { Ready } from './core-types.ts'
import type { RaftMetrics } from './raft-metrics.ts'
import type { RaftStorage } from './raft-storage.ts'
import type { SnapshotKeeper } from './snapshot-keeper.ts'
import type { RaftTransport } from './transport.ts'
import type { ConfState, Member, Message, RaftId } from './types.ts'

export interface CoreDriverOptions {
  readonly core: RaftCore
  readonly storage: RaftStorage
  readonly transport: RaftTransport
  readonly clock: Clock
  readonly metrics: RaftMetrics
  readonly snapshots: SnapshotKeeper
  readonly apply: Pick<ApplyQueue<unknown>, 'pushEntries' | 'pushSnapshot'>
  readonly onConf: (conf: ConfState) => void
  /** How long the news of a commit waits for something that it can go with. */
  readonly commitNewsMs: number
  /** After a batch was sent and written: what it says about leadership and requests. */
  readonly onReady: (ready: Ready) => void
  /** The node cannot go on. */
  readonly onError: (error: unknown) => void
}

export class CoreDriver {
  readonly #options: CoreDriverOptions
  #members: readonly Member[] = []
  #pump: Timer | undefined
  #news: Timer | undefined
  #stopped = false

  constructor(options: CoreDriverOptions) {
    this.#options = options
  }

  /** Work is done once in a turn of the event loop, after all that came in it: that makes large batches of small inputs. */
  schedule(): void {
    if (!this.#stopped) this.#pump ??= this.#options.clock.setTimer(0, () => this.work())
  }

  step(messages: readonly Message[]): void {
    this.#options.metrics.messagesReceived += messages.length
    this.input((core) => {
      for (const message of messages) core.step(message)
    })
  }

  /** Gives the core something to do. */
  input(give: (core: RaftCore) => void): void {
    if (this.#stopped) return
    try {
      give(this.#options.core)
    } catch (error) {
      this.#fail(error)
    }
    this.schedule()
  }

  /** Performs everything that there is to do now. */
  work(): void {
    this.#pump?.cancel()
    this.#pump = undefined
    try {
      while (!this.#stopped) {
        const ready = this.#options.core.ready()
        if (!ready) break
        this.#perform(ready)
      }
      this.#tellCommitLater()
    } catch (error) {
      this.#fail(error)
    }
  }

  stop(): void {
    this.#stopped = true
    this.#pump?.cancel()
    this.#news?.cancel()
  }

  /** One client that writes one thing after the other has its appends bring the news: half as many messages. */
  #tellCommitLater(): void {
    const { core, clock, commitNewsMs } = this.#options
    const owed = this.#news || this.#stopped ? 0 : core.owedCommit
    if (owed === 0) return
    this.#news = clock.setTimer(commitNewsMs, () => {
      this.#news = undefined
      this.input(() => core.tellCommit(owed))
    })
  }

  #perform(ready: Ready): void {
    const { storage, metrics, snapshots, apply, onReady } = this.#options
    const { conf, snapshot, hardState, entries } = ready
    if (conf) this.#enterConf(conf, ready.messages)
    else this.#send(ready.messages)
    metrics.appendedEntries += entries.length
    let durable = Promise.resolve()
    if (ready.mustPersist) {
      const saved = snapshot && snapshots.claim(snapshot)
      durable = storage.write({ snapshot: saved, hardState, entries })
      durable.then(
        () => this.#onDurable(ready),
        (error: unknown) => this.#fail(error),
      )
    }
    onReady(ready)
    if (snapshot) apply.pushSnapshot(snapshot, durable)
    if (ready.committed.length > 0) apply.pushEntries(ready.committed)
  }

  /** The first messages to new members and the last ones to those who leave are sent beside the change. */
  #enterConf(conf: ConfState, messages: readonly Message[]): void {
    const { transport, onConf } = this.#options
    const stay = new Set(conf.members.map(({ id }) => id))
    transport.setMembers([...conf.members, ...this.#members.filter(({ id }) => !stay.has(id))])
    this.#send(messages)
    transport.setMembers(conf.members)
    this.#members = conf.members
    onConf(conf)
  }

  #onDurable(ready: Ready): void {
    if (this.#stopped) return
    this.#send(ready.messagesAfterPersist)
    this.input((core) => core.persisted(ready.seq))
  }

  #send(messages: readonly Message[]): void {
    if (messages.length === 0) return
    const { metrics, snapshots, transport } = this.#options
    metrics.messagesSent += messages.length
    const byPeer = new Map<RaftId, Message[]>()
    for (const message of messages) {
      if (message.kind === 'install-snapshot') {
        snapshots.send(message)
        continue
      }
      const list = byPeer.get(message.to)
      if (list) list.push(message)
      else byPeer.set(message.to, [message])
    }
    for (const [to, list] of byPeer) transport.send(to, list)
  }

  #fail(error: unknown): void {
    if (this.#stopped) return
    this.stop()
    this.#options.onError(error)
  }
}
