// Secrets whose values drivers give: the leader asks when a task is assigned, for each task anew, and keeps the value in memory until
// the task's container is made. A task whose secret can't be had is REJECTED with the reason, and its restart policy goes on from there.
// Nothing here comes into the log of the managers but that reason.

import type { Secret, Task } from '../../api/objects.ts'
import { compareTaskStates, isToRun } from '../../api/spec.ts'
import { MAX_SECRET_BYTES } from '../../api/validation/payload.ts'
import { type Clock, formatTime, sleep } from '../../lib/clock.ts'
import { CodedError, errorCode, errorMessage } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import { Scope } from '../../lib/scope.ts'
import type { Proposer, StoreView } from '../store/types.ts'
import { type SecretDrivers, secretRequest } from './secret-request.ts'
import { Turnstile } from './turnstile.ts'

/** How long a driver that does not answer is asked again; a worker waits meanwhile, its task PREPARING. */
const PATIENCE_MS = 20_000
const PAUSE_MS = { first: 500, max: 4_000 }
const WRITE_AGAIN_MS = 1_000
/** Workers below look for a driver's secret by its own id, and never for the task's. */
export const DRIVER_SECRET_FEATURE_LEVEL = 4
/** So many questions to one driver at one time. */
const MAX_ASKING = 16

export interface DriverSecretsOptions {
  readonly view: StoreView
  readonly proposer: Proposer
  /** undefined: this manager knows no plugins */
  readonly drivers: SecretDrivers | undefined
  readonly clock: Clock
  readonly log: Log
  /** A value that the task waits for has come. */
  readonly came: (taskId: string) => void
}

interface Entry {
  readonly secretId: string
  readonly taskId: string
  readonly abort: AbortController
  value: Uint8Array | undefined
}

/** What a worker knows it by: each task has its own. */
export function driverSecretId(secretId: string, taskId: string): string {
  return `${secretId}.${taskId}`
}

/** A container has its secrets from its making on. */
export function awaitsSecrets(task: Task): boolean {
  return compareTaskStates(task.status.state, 'ready') < 0 && isToRun(task.desiredState)
}

export class DriverSecrets {
  readonly #options: DriverSecretsOptions
  readonly #entries = new Map<string, Entry>()
  readonly #asking = new Turnstile(MAX_ASKING)
  /** While this manager leads. */
  #scope: Scope | undefined

  constructor(options: DriverSecretsOptions) {
    this.#options = options
  }

  begin(signal: AbortSignal): void {
    this.#scope = new Scope(signal)
  }

  async end(): Promise<void> {
    const scope = this.#scope
    this.#scope = undefined
    this.#entries.clear()
    await scope?.close()
  }

  /** As the worker is to have it: with the value, without a driver. undefined: not yet; it is asked for from now on. */
  get(secretId: string, taskId: string): Secret | undefined {
    const id = driverSecretId(secretId, taskId)
    const secret = this.#options.view.get('secret', secretId)
    const known = this.#entries.get(id)
    if (!secret || !this.#scope) return undefined
    if (known) return known.value && withValue(secret, id, known.value)
    const entry: Entry = { secretId, taskId, abort: new AbortController(), value: undefined }
    this.#entries.set(id, entry)
    this.#scope.spawn(`secret ${id}`, (signal) => this.#have(entry, AbortSignal.any([signal, entry.abort.signal])))
    return undefined
  }

  /** The task has changed, or is gone: what it needs no more is forgotten. */
  taskChanged(taskId: string): void {
    const task = this.#options.view.get('task', taskId)
    if (task && awaitsSecrets(task)) return
    for (const { SecretID: id = '' } of task?.spec.ContainerSpec?.Secrets ?? [])
      this.#forget(driverSecretId(id, taskId))
    if (!task) for (const [id, entry] of this.#entries) if (entry.taskId === taskId) this.#forget(id)
  }

  #forget(id: string): void {
    this.#entries.get(id)?.abort.abort()
    this.#entries.delete(id)
  }

  async #have(entry: Entry, signal: AbortSignal): Promise<void> {
    const { view, log, came } = this.#options
    const { secretId, taskId } = entry
    try {
      entry.value = await this.#ask(entry, signal)
      if (!signal.aborted) came(taskId)
    } catch (error) {
      if (signal.aborted) return
      const secret = view.get('secret', secretId)
      const reason = `secret ${secret?.spec.Name ?? secretId}: driver ${secret?.spec.Driver?.Name ?? ''}: ${errorMessage(error)}`
      log.warn({ taskId, secretId, reason, code: errorCode(error) }, 'a secret can not be had')
      await this.#reject(taskId, reason, signal)
    }
  }

  /** @throws {CodedError} what the driver says, or does not */
  async #ask({ secretId, taskId }: Entry, signal: AbortSignal): Promise<Uint8Array> {
    const { view, drivers, clock } = this.#options
    if (!drivers) throw new CodedError('SECRET_DRIVER', 'this manager has no plugins')
    const deadlineMs = clock.nowMs() + PATIENCE_MS
    for (let pauseMs = PAUSE_MS.first; ; pauseMs = Math.min(2 * pauseMs, PAUSE_MS.max)) {
      const secret = view.get('secret', secretId)
      const task = view.get('task', taskId)
      signal.throwIfAborted()
      if (!secret?.spec.Driver || !task) throw new CodedError('SECRET_DRIVER', 'the secret is gone')
      try {
        const { Driver: driver } = secret.spec
        const asked = () => drivers.get(driver, secretRequest(secret, task), signal)
        const value = await this.#asking.pass(driver.Name ?? '', signal, asked)
        if (value.length > 0 && value.length < MAX_SECRET_BYTES) return value
        throw new CodedError(
          'SECRET_DRIVER',
          `secret data must be larger than 0 and less than ${MAX_SECRET_BYTES} bytes; the driver gave ${value.length}`,
        )
      } catch (error) {
        const again = error instanceof CodedError && error.retryable && clock.nowMs() + pauseMs < deadlineMs
        if (!again) throw error
      }
      await sleep(clock, pauseMs, signal)
    }
  }

  /** Until it is written, or needless. */
  async #reject(taskId: string, error: string, signal: AbortSignal): Promise<void> {
    const { view, proposer, clock, log } = this.#options
    while (!signal.aborted) {
      const task = view.get('task', taskId)
      if (!task || !awaitsSecrets(task)) return
      const timestamp = formatTime(clock.wallMs())
      const status = { ...task.status, state: 'rejected', timestamp, error } as const
      try {
        await proposer.propose([{ kind: 'task-status', taskId, status }])
        return
      } catch (failure) {
        log.warn({ taskId, code: errorCode(failure) }, 'a rejected task is not written yet')
      }
      await sleep(clock, WRITE_AGAIN_MS, signal)
    }
  }
}

function withValue(secret: Secret, id: string, value: Uint8Array): Secret {
  const { Driver: _driver, ...spec } = secret.spec
  return { ...secret, id, spec: { ...spec, Data: Buffer.from(value).toString('base64') } }
}
