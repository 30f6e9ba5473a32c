// What is known of this node's containers: one stream of the engine's events for all of them, a listing after each
// connection (so that no gap matters), and one look at a time at each container, so that what is delivered last is
// also what was seen last.

import type { Readable } from 'node:stream'
import { type Clock, sleep } from '../../lib/clock.ts'
import { CodedError } from '../../lib/errors.ts'
import type { ContainerWatcher, ObservedContainer } from '../executor.ts'
import { NODE_ID_LABEL, TASK_ID_LABEL } from './container-body.ts'
import { type EngineClient, isEngineError } from './engine-client.ts'
import { lines } from './lines.ts'
import { type InspectedContainer, isIncomplete, observed } from './observed.ts'

/** What is read of an event of GET /events. */
interface EngineEvent {
  readonly Action: string
  readonly Actor: { readonly ID: string; readonly Attributes: Readonly<Record<string, string>> }
}

interface Known {
  readonly container: ObservedContainer
  /** Number of the look (or creation) that showed it. */
  readonly seen: number
}

const RECONNECT_MS = { first: 50, max: 1_000 }
const INSPECTS_AT_ONCE = 8

export class ContainerTracker {
  readonly #engine: EngineClient
  readonly #nodeId: string
  readonly #clock: Clock
  readonly #known = new Map<string, Known>()
  /** The last look under way at each container. */
  readonly #looks = new Map<string, Promise<ObservedContainer | undefined>>()
  readonly #starting = new Set<string>()
  /** Ids of tasks whose container is being made here. */
  readonly #making = new Set<string>()
  #count = 0

  constructor(options: { readonly engine: EngineClient; readonly nodeId: string; readonly clock: Clock }) {
    this.#engine = options.engine
    this.#nodeId = options.nodeId
    this.#clock = options.clock
  }

  /** Until aborted. @throws {CodedError} ENGINE_TOO_OLD. */
  async watch(watcher: ContainerWatcher, signal: AbortSignal): Promise<void> {
    let pauseMs = RECONNECT_MS.first
    while (!signal.aborted) {
      try {
        await this.#follow(watcher, signal, () => {
          pauseMs = RECONNECT_MS.first
        })
      } catch (error) {
        if (signal.aborted) return
        if (error instanceof CodedError && error.code === 'ENGINE_TOO_OLD') throw error
        watcher.onLost(error)
      }
      this.#engine.forget()
      await sleep(this.#clock, pauseMs, signal)
      pauseMs = Math.min(RECONNECT_MS.max, pauseMs * 2)
    }
  }

  /** Its container is being made, in several requests, until the result is called. */
  making(taskId: string): () => void {
    this.#making.add(taskId)
    return () => this.#making.delete(taskId)
  }

  /** A container that this process has just made. */
  created(taskId: string, containerId: string): ObservedContainer {
    const container: ObservedContainer = {
      taskId,
      containerId,
      state: 'created',
      pid: 0,
      exitCode: 0,
      error: '',
      health: 'none',
      ports: [],
    }
    this.#known.set(containerId, { container, seen: ++this.#count })
    return container
  }

  /** Its start is under way here, and followed by a look: the event of the start needs none. Call the result after. */
  starting(containerId: string): () => void {
    this.#starting.add(containerId)
    return () => this.#starting.delete(containerId)
  }

  removed(containerId: string): void {
    this.#known.delete(containerId)
  }

  /** undefined: it is gone. Looks at one container follow each other. */
  inspect(containerId: string): Promise<ObservedContainer | undefined> {
    const before = this.#looks.get(containerId)
    const look = (async () => {
      await before?.catch(() => {}) // whoever asked for that look has its error
      return this.#look(containerId)
    })()
    this.#looks.set(containerId, look)
    const done = () => {
      if (this.#looks.get(containerId) === look) this.#looks.delete(containerId)
    }
    look.then(done, done)
    return look
  }

  async #look(containerId: string): Promise<ObservedContainer | undefined> {
    const seen = ++this.#count
    try {
      const inspected = await this.#engine.json<InspectedContainer>({
        method: 'GET',
        path: `/containers/${containerId}/json`,
      })
      const container = observed(inspected)
      if (isIncomplete(inspected) && !this.#making.has(container.taskId)) {
        await this.#engine.json({
          method: 'DELETE',
          path: `/containers/${containerId}`,
          query: { v: true, force: true },
        })
        this.#known.delete(containerId)
        return undefined
      }
      this.#known.set(containerId, { container, seen })
      return container
    } catch (error) {
      if (!isEngineError(error, 404)) throw error
      this.#known.delete(containerId)
      return undefined
    }
  }

  async #follow(watcher: ContainerWatcher, signal: AbortSignal, connected: () => void): Promise<void> {
    const label = [`${NODE_ID_LABEL}=${this.#nodeId}`]
    const events = await this.#engine.stream({
      method: 'GET',
      path: '/events',
      query: { filters: { type: ['container'], label, event: ['start', 'die', 'destroy', 'health_status'] } },
      signal,
    })
    const reading = this.#read(events, watcher)
    try {
      // A stream that breaks during the listing ends the listing, too.
      await Promise.race([this.#list(label, watcher, signal), reading.ended])
      reading.begin()
      connected()
      await reading.ended
      throw new CodedError('ENGINE_UNAVAILABLE', 'the engine closed its stream of events', { retryable: true })
    } finally {
      events.destroy()
      await reading.ended.catch(() => {}) // it ended because of the destroy, or is what this function throws
    }
  }

  /** Reads at once, since the engine drops events for a slow reader; what came before `begin` is handled then. */
  #read(events: Readable, watcher: ContainerWatcher): { readonly ended: Promise<void>; begin: () => void } {
    let backlog: EngineEvent[] | undefined = []
    const handle = (event: EngineEvent) => this.#handle(event, watcher, (error) => events.destroy(error))
    const ended = (async () => {
      for await (const line of lines(events)) {
        const event = JSON.parse(line) as EngineEvent
        if (backlog) backlog.push(event)
        else handle(event)
      }
    })()
    ended.catch(() => {}) // its callers await it as well
    return {
      ended,
      begin: () => {
        const waiting = backlog ?? []
        backlog = undefined
        for (const event of waiting) handle(event)
      },
    }
  }

  async #list(label: readonly string[], watcher: ContainerWatcher, signal: AbortSignal): Promise<void> {
    const begun = ++this.#count
    const listed = await this.#engine.json<readonly { readonly Id: string }[]>({
      method: 'GET',
      path: '/containers/json',
      query: { all: true, filters: { label } },
      signal,
    })
    const ids = listed.map(({ Id }) => Id)
    const there = new Set(ids)
    // What was made while the engine made its list is not in it, and yet there.
    for (const [id, { seen }] of this.#known) if (!there.has(id) && seen < begun) this.#known.delete(id)
    const looker = async () => {
      for (let id = ids.shift(); id !== undefined; id = ids.shift()) await this.inspect(id)
    }
    await Promise.all(Array.from({ length: INSPECTS_AT_ONCE }, looker))
    watcher.onList([...this.#known.values()].map(({ container }) => container))
  }

  #handle(event: EngineEvent, watcher: ContainerWatcher, broken: (error: Error) => void): void {
    const { ID: containerId, Attributes: attributes } = event.Actor
    const taskId = attributes[TASK_ID_LABEL] ?? ''
    const action = event.Action.split(':')[0]
    const before = this.#known.get(containerId)?.container
    if (action === 'destroy') {
      const gone = () => {
        this.#known.delete(containerId)
        watcher.onGone({ taskId, containerId })
      }
      // Behind the look at its end, if that is still under way.
      const look = this.#looks.get(containerId)
      if (look) look.then(gone, gone)
      else gone()
      return
    }
    if (action === 'start' && this.#starting.has(containerId)) return
    this.inspect(containerId).then(
      (container) => {
        if (container) watcher.onChange(container)
        // It ended and was removed at once (docker rm -f): the event tells the end.
        else if (action === 'die' && before)
          watcher.onChange({ ...before, state: 'exited', pid: 0, exitCode: Number(attributes.exitCode ?? 0) })
      },
      // What happened is not known: connect and list again.
      (error: unknown) => broken(error instanceof Error ? error : new Error(String(error))),
    )
  }
}
