// swarmd's end of the data plane: keeps swarmd-net running and of this version, and tells it what is wanted until it has it. What
// it was told is kept here too, so that one that starts with less is told everything.

import { type DataPathReport, dataPlaneKey } from '../api/data-plane.ts'
import type { ProbeAnswer, ProbeRequest } from '../api/network-check.ts'
import { type Clock, sleep } from '../lib/clock.ts'
import { CodedError, errorCode, errorMessage } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import { type DataPlane, type DataPlaneFacts, type DataPlaneStatistics, type DrainOptions, reportOf } from './client.ts'
import { callControl } from './control-client.ts'
import type { VersionAnswer } from './control-protocol.ts'
import { type DesiredChange, DesiredStore } from './desired-state.ts'

export interface NetClientOptions {
  readonly socketPath: string
  /** main file of the swarmd-net that belongs to this version */
  readonly program: string
  /** Of the program as it is on disk now: see VersionAnswer. */
  readonly build: () => Promise<string>
  /**
   * Starts one, since nobody answers. Resolves when it may answer soon.
   * @throws {CodedError} DATA_PLANE_UNAVAILABLE where this machine can't have one
   */
  readonly start: () => Promise<void>
  /** Takes away what one has left behind on this machine, once it has ended. */
  readonly remove: () => Promise<void>
  readonly clock: Clock
  readonly log: Log
}

interface Waiter {
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

const ANSWER_TIMEOUT_MS = 15_000
const POLL_MS = 50
/** One that was started finds the last one still there, which is about to end. */
const START_AGAIN_MS = 3000
const RETRY_MIN_MS = 200
const RETRY_MAX_MS = 5000
/** Who waits for connections to end waits so long for a data plane that has not been told yet that none shall begin. */
const TELL_MAX_MS = 8000
/** A machine that lacked something may have it by now. */
const UNAVAILABLE_RETRY_MS = 10_000

export class NetClient implements DataPlane {
  readonly #options: NetClientOptions
  readonly #wanted = new DesiredStore()
  /** What has come since the last change was taken up. */
  #pending: DesiredChange[] = []
  #waiters: Waiter[] = []
  #sending: Promise<void> | undefined
  /** That process has all that was wanted before `pending`; 0: none has. */
  #syncedPid = 0
  #told = false
  #connecting: Promise<VersionAnswer> | undefined
  readonly #closed = new AbortController()

  constructor(options: NetClientOptions) {
    this.#options = options
  }

  apply(change: DesiredChange): Promise<void> {
    this.#wanted.apply(change)
    this.#told = true
    this.#pending.push(change)
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject })
      this.#wake()
    })
  }

  async facts(): Promise<DataPlaneFacts> {
    return (await this.#connect()).facts
  }

  async report(): Promise<DataPathReport> {
    try {
      await this.#connect()
      return (await callControl(this.#options.socketPath, 'Report', {}, this.#closed.signal)).report
    } catch (error) {
      return downReport(error)
    }
  }

  async watch(listener: (report: DataPathReport) => void, signal: AbortSignal): Promise<void> {
    const { socketPath, clock } = this.#options
    const stop = AbortSignal.any([signal, this.#closed.signal])
    let lastText = ''
    const tell = (report: DataPathReport): void => {
      const text = JSON.stringify(report)
      if (text !== lastText && !stop.aborted) listener(report)
      lastText = text
    }
    let pid = 0
    let serial = -1
    while (!stop.aborted) {
      try {
        const version = await this.#connect()
        if (version.pid !== pid) serial = -1
        pid = version.pid
        if (this.#told && this.#syncedPid !== pid) this.#wake()
        const answer = await callControl(socketPath, 'Watch', { serial }, stop)
        serial = answer.serial
        tell(answer.report)
      } catch (error) {
        if (stop.aborted) return
        const unavailable = errorCode(error) === 'DATA_PLANE_UNAVAILABLE'
        // one that is being replaced is no news
        if (unavailable || !(await this.#answersSoon(stop))) tell(downReport(error))
        await sleep(clock, unavailable ? UNAVAILABLE_RETRY_MS : RETRY_MIN_MS, stop)
      }
    }
  }

  async drained(options: DrainOptions, signal: AbortSignal): Promise<void> {
    const { socketPath, log } = this.#options
    try {
      await this.#toldEverything(signal)
      await callControl(socketPath, 'Drained', options, signal)
    } catch (error) {
      if (!signal.aborted)
        log.warn({ reason: errorMessage(error), taskId: options.taskId }, 'nobody can say what moves')
    }
  }

  async probe(request: ProbeRequest, signal: AbortSignal): Promise<ProbeAnswer> {
    await this.#connect()
    const stop = AbortSignal.any([signal, this.#closed.signal])
    return await callControl(this.#options.socketPath, 'Probe', request, stop)
  }

  /** Starts nothing. @throws {CodedError} DATA_PLANE_DOWN; NO_METHOD of one of an older version */
  statistics(kernel: boolean, signal: AbortSignal): Promise<DataPlaneStatistics> {
    const stop = AbortSignal.any([signal, this.#closed.signal])
    return callControl(this.#options.socketPath, 'Statistics', { kernel }, stop)
  }

  async rotateKeys(): Promise<void> {
    await this.#connect()
    await callControl(this.#options.socketPath, 'RotateKeys', {}, this.#closed.signal)
  }

  /** This machine is in no cluster any more: swarmd-net has taken down what it made, and ends. Never throws. */
  async retire(): Promise<void> {
    const { socketPath, log } = this.#options
    this.#told = false
    try {
      await callControl(socketPath, 'Stop', {}, this.#closed.signal)
      log.info({}, 'swarmd-net ends, since this node is in no swarm')
    } catch (error) {
      log.debug({ reason: errorMessage(error) }, 'no swarmd-net to end')
    }
    await this.#options.remove()
  }

  /** swarmd-net goes on without us. */
  async close(): Promise<void> {
    this.#closed.abort()
    await this.#sending
  }

  /** Or it was long enough. A swarmd-net that is away goes on sending connections to a task until it is back and told. */
  async #toldEverything(signal: AbortSignal): Promise<void> {
    if (!this.#sending) return
    const over = new AbortController()
    const end = AbortSignal.any([signal, over.signal])
    await Promise.race([this.#sending, sleep(this.#options.clock, TELL_MAX_MS, end)])
    over.abort()
  }

  #wake(): void {
    this.#sending ??= this.#send().finally(() => {
      this.#sending = undefined
      if (this.#waiters.length > 0 && !this.#closed.signal.aborted) this.#wake()
    })
  }

  /** One change at a time, what has gathered meanwhile as one, until all is there. */
  async #send(): Promise<void> {
    const { clock, log, socketPath } = this.#options
    let waiters: Waiter[] = []
    let pauseMs = RETRY_MIN_MS
    const take = (): DesiredChange | undefined => {
      waiters.push(...this.#waiters)
      this.#waiters = []
      const gathered = this.#pending
      this.#pending = []
      if (this.#syncedPid === 0) return everything(this.#wanted)
      return gathered.length === 0 ? undefined : merged(gathered)
    }
    for (;;) {
      try {
        const { pid } = await this.#connect()
        if (pid !== this.#syncedPid) this.#syncedPid = 0
        const change = take()
        if (change) await callControl(socketPath, 'Apply', change, this.#closed.signal)
        this.#syncedPid = pid
        for (const { resolve } of waiters) resolve()
        waiters = []
        pauseMs = RETRY_MIN_MS
        if (this.#pending.length === 0) return
      } catch (error) {
        this.#syncedPid = 0
        const code = errorCode(error)
        if (this.#closed.signal.aborted || code === 'DATA_PLANE_UNAVAILABLE') {
          const closed = new CodedError('DATA_PLANE_CLOSED', 'swarmd stops')
          waiters.push(...this.#waiters)
          this.#waiters = []
          this.#pending = []
          for (const { reject } of waiters) reject(this.#closed.signal.aborted ? closed : error)
          return
        }
        if (code === 'DATA_PLANE_RESYNC') continue
        log.warn({ code, reason: errorMessage(error) }, 'the data plane has not taken the state')
        await sleep(clock, pauseMs, this.#closed.signal)
        pauseMs = Math.min(2 * pauseMs, RETRY_MAX_MS)
      }
    }
  }

  /** One that answers and is of this version; started, or replaced, if need be. */
  #connect(): Promise<VersionAnswer> {
    this.#connecting ??= this.#connectNow().finally(() => {
      this.#connecting = undefined
    })
    return this.#connecting
  }

  async #connectNow(): Promise<VersionAnswer> {
    const { socketPath, program, build, clock, log, start } = this.#options
    const deadlineMs = clock.nowMs() + ANSWER_TIMEOUT_MS
    const ownBuild = await build()
    let startedMs = Number.NEGATIVE_INFINITY
    let upgradedPid = 0
    for (;;) {
      try {
        const version = await callControl(socketPath, 'Version', {}, this.#closed.signal)
        const replaced = upgradedPid !== 0 && version.pid !== upgradedPid
        // a program that was replaced on disk meanwhile is as new as it gets
        if (version.build === ownBuild || replaced) return version
        if (upgradedPid === 0) {
          log.info({ from: version.version, pid: version.pid }, 'swarmd-net is replaced by the one of this version')
          upgradedPid = version.pid
          await callControl(socketPath, 'Upgrade', { program }, this.#closed.signal)
        }
        if (clock.nowMs() > deadlineMs)
          throw new CodedError('DATA_PLANE_DOWN', 'swarmd-net is not replaced', { retryable: true })
      } catch (error) {
        const late = clock.nowMs() > deadlineMs
        if (errorCode(error) !== 'DATA_PLANE_DOWN' || late || this.#closed.signal.aborted) throw error
        // while a server is replaced its socket is there: who is refused finds nobody
        if (upgradedPid === 0 && clock.nowMs() - startedMs > START_AGAIN_MS) {
          await start()
          startedMs = clock.nowMs()
        }
      }
      await sleep(clock, POLL_MS, this.#closed.signal)
    }
  }

  async #answersSoon(signal: AbortSignal): Promise<boolean> {
    if (signal.aborted) return true
    return this.#connect().then(
      () => true,
      () => false,
    )
  }
}

function everything(store: DesiredStore): DesiredChange {
  const { self, revision } = store.state
  return { self, revision, complete: true, set: store.records(), removed: [] }
}

/** Several changes as one: of each record the last word counts. */
function merged(changes: readonly DesiredChange[]): DesiredChange {
  const [first] = changes
  if (first && changes.length === 1) return first
  const from = Math.max(
    0,
    changes.findLastIndex(({ complete }) => complete),
  )
  const store = new DesiredStore()
  const removed = new Map<string, DesiredChange['removed'][number]>()
  for (const change of changes.slice(from)) {
    store.apply(change)
    for (const key of change.removed) removed.set(`${key.kind}/${key.id}`, key)
    for (const record of change.set) {
      const { kind, id } = dataPlaneKey(record)
      removed.delete(`${kind}/${id}`)
    }
  }
  const { self, revision } = store.state
  const complete = changes[from]?.complete ?? false
  return { self, revision, complete, set: store.records(), removed: complete ? [] : [...removed.values()] }
}

function downReport(error: unknown): DataPathReport {
  const code = errorCode(error) === 'DATA_PLANE_UNAVAILABLE' ? 'DATA_PLANE_UNAVAILABLE' : 'DATA_PLANE_DOWN'
  return reportOf({ code, message: errorMessage(error), subject: '' })
}
