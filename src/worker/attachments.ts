// Places on attachable networks for containers that swarmd does not run (`docker run --network`): asked of the managers over
// the session, held as tasks without a service, given back when their container is gone.

import type { AttachmentAnswer, AttachmentRequest, WorkerMessage } from '../api/dispatcher.ts'
import type { Task } from '../api/objects.ts'
import { type Clock, sleep, type Timer } from '../lib/clock.ts'
import { CodedError, errorMessage } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import type { Random } from '../lib/random.ts'

export type Attached = Extract<AttachmentAnswer, { kind: 'attached' }>

interface Waiting {
  readonly resolve: (answer: AttachmentAnswer) => void
  readonly reject: (error: Error) => void
  readonly timer: Timer
}

type Send = (message: WorkerMessage) => void

const ANSWER_TIMEOUT_MS = 25_000
const SWEEP_MS = 60_000

export function isAttachment(task: Task): boolean {
  return task.spec.NetworkAttachmentSpec !== undefined
}

export class Attachments {
  readonly #clock: Clock
  readonly #random: Random
  readonly #log: Log
  readonly #waiting = new Map<string, Waiting>()
  /** undefined: no manager that knows such requests has a session with this worker */
  #send: Send | undefined

  constructor(options: { readonly clock: Clock; readonly random: Random; readonly log: Log }) {
    this.#clock = options.clock
    this.#random = options.random
    this.#log = options.log
  }

  sessionBegan(send: Send): void {
    this.#send = send
  }

  /** Nobody will answer what was asked: it may have been granted, which the next sweep finds. */
  sessionEnded(): void {
    this.#send = undefined
    for (const [requestId, { reject, timer }] of this.#waiting) {
      timer.cancel()
      this.#waiting.delete(requestId)
      reject(unreachable())
    }
  }

  answered(requestId: string, answer: AttachmentAnswer): void {
    const waiting = this.#waiting.get(requestId)
    this.#waiting.delete(requestId)
    waiting?.timer.cancel()
    waiting?.resolve(answer)
  }

  /** @throws {CodedError} NO_MANAGER (retryable), or what the managers refuse it for */
  async attach(request: AttachmentRequest): Promise<Attached> {
    const answer = await this.#ask((requestId) => ({ kind: 'attach', requestId, request }))
    if (answer.kind === 'attached') return answer
    throw refusal(answer)
  }

  /** What is gone already is no error. @throws as `attach` */
  async detach(attachmentId: string): Promise<void> {
    const answer = await this.#ask((requestId) => ({ kind: 'detach', requestId, attachmentId }))
    if (answer.kind !== 'detached') throw refusal(answer)
  }

  /** Until aborted: gives back the places whose containers went while nobody looked. */
  async sweep(options: {
    readonly held: () => readonly Task[]
    readonly inUse: () => Promise<ReadonlySet<string>>
    readonly signal: AbortSignal
  }): Promise<void> {
    const { signal } = options
    let before: ReadonlySet<string> = new Set()
    while (!signal.aborted) {
      await sleep(this.#clock, SWEEP_MS, signal)
      const held = options.held().map(({ id }) => id)
      // One that was just granted has no container yet.
      const settled = held.filter((id) => before.has(id))
      before = new Set(held)
      if (signal.aborted || settled.length === 0) continue
      try {
        const used = await options.inUse()
        for (const id of settled) if (!used.has(id)) await this.detach(id)
      } catch (error) {
        this.#log.debug({ err: errorMessage(error) }, 'places of containers were not looked through')
      }
    }
  }

  #ask(message: (requestId: string) => WorkerMessage): Promise<AttachmentAnswer> {
    const requestId = this.#random.id()
    return new Promise((resolve, reject) => {
      if (!this.#send) {
        reject(unreachable())
        return
      }
      const timer = this.#clock.setTimer(ANSWER_TIMEOUT_MS, () => {
        this.#waiting.delete(requestId)
        reject(unreachable())
      })
      this.#waiting.set(requestId, { resolve, reject, timer })
      this.#send(message(requestId))
    })
  }
}

function unreachable(): CodedError {
  return new CodedError('NO_MANAGER', 'no manager of the cluster can be reached: try again', { retryable: true })
}

function refusal(answer: AttachmentAnswer): CodedError {
  return answer.kind === 'refused'
    ? new CodedError(answer.code, answer.message)
    : new CodedError('MALFORMED', `a manager answered with ${answer.kind}`)
}
