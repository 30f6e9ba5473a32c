// Places of plain containers on attachable networks. As in Swarm each is a task of its node, without a service: the allocator
// gives it an address, the data plane its records, and it goes when its worker says so, or with its node.

import type { AttachmentAnswer, AttachmentRequest } from '../../api/dispatcher.ts'
import type { Network, Task } from '../../api/objects.ts'
import { compareTaskStates } from '../../api/spec.ts'
import { containsAddress, parseAddress, parseCidr } from '../../lib/cidr.ts'
import { type Clock, formatTime } from '../../lib/clock.ts'
import { CodedError, errorCode } from '../../lib/errors.ts'
import type { Random } from '../../lib/random.ts'
import { find } from '../control/lookup.ts'
import { statusAfter } from '../loop/task-status.ts'
import { isAttachment } from '../store/indexes.ts'
import type { Proposer, StoreEvent, StoreView } from '../store/types.ts'

export interface AttachmentsOptions {
  readonly view: StoreView
  readonly subscribe: (listener: (events: readonly StoreEvent[]) => void) => () => void
  readonly proposer: Proposer
  readonly clock: Clock
  readonly random: Random
}

/** As Swarm waits. */
const ALLOCATION_TIMEOUT_MS = 20_000
const ATTEMPTS = 5

export class Attachments {
  readonly #options: AttachmentsOptions

  constructor(options: AttachmentsOptions) {
    this.#options = options
  }

  /** Never throws. */
  async attach(nodeId: string, request: AttachmentRequest): Promise<AttachmentAnswer> {
    try {
      return await this.#attach(nodeId, request)
    } catch (error) {
      return refusedFor(error)
    }
  }

  /** What is gone already is no error. Never throws. */
  async detach(nodeId: string, attachmentId: string): Promise<AttachmentAnswer> {
    try {
      await this.#detach(nodeId, attachmentId)
      return { kind: 'detached' }
    } catch (error) {
      return refusedFor(error)
    }
  }

  async #attach(nodeId: string, request: AttachmentRequest): Promise<AttachmentAnswer> {
    const { view, proposer, clock, random } = this.#options
    const network = attachable(view, request)
    const now = formatTime(clock.wallMs())
    const task: Task = {
      kind: 'task',
      id: random.id(),
      meta: { version: 0, createdAt: now, updatedAt: now },
      spec: {
        NetworkAttachmentSpec: { ContainerID: request.containerName },
        Networks: [{ Target: network.id, Aliases: request.aliases, Addresses: request.addresses }],
        Runtime: 'attachment',
      },
      specVersion: 0,
      serviceId: '',
      serviceName: '',
      serviceLabels: {},
      slot: 0,
      nodeId,
      desiredState: 'running',
      status: { state: 'new', timestamp: now, message: 'created', error: '', container: undefined, ports: [] },
      statusVersion: 0,
      endpoint: undefined,
      attachments: [],
      genericResources: [],
      jobIteration: undefined,
      startAfter: '',
    }
    await proposer.propose([
      { kind: 'check', objectKind: 'network', id: network.id, expectedVersion: network.meta.version },
      { kind: 'create', object: task },
    ])
    const given = await this.#allocated(task.id)
    if (given?.status.state === 'assigned') {
      const addresses = given.attachments.flatMap((attachment) => attachment.addresses)
      return { kind: 'attached', attachmentId: task.id, network, addresses }
    }
    await this.#detach(nodeId, task.id)
    const message = given?.status.error || `network ${network.spec.Name ?? network.id} gave no address in time`
    return { kind: 'refused', code: 'NO_ADDRESS', message }
  }

  /** The task once it is decided, or as it is when it took too long. */
  #allocated(taskId: string): Promise<Task | undefined> {
    const { view, subscribe, clock } = this.#options
    return new Promise((resolve) => {
      const done = (): void => {
        timer.cancel()
        unsubscribe()
        resolve(view.get('task', taskId))
      }
      const look = (): void => {
        const task = view.get('task', taskId)
        if (!task || compareTaskStates(task.status.state, 'assigned') >= 0) done()
      }
      const timer = clock.setTimer(ALLOCATION_TIMEOUT_MS, done)
      const unsubscribe = subscribe((events) => {
        if (events.some(({ id }) => id === taskId)) look()
      })
      look()
    })
  }

  async #detach(nodeId: string, attachmentId: string): Promise<void> {
    const { view, proposer, clock } = this.#options
    for (let attempt = 1; ; attempt++) {
      const task = view.get('task', attachmentId)
      if (!task || !isAttachment(task) || task.nodeId !== nodeId) return
      const ended = { state: 'shutdown', message: 'detached' } as const
      try {
        await proposer.propose([
          { kind: 'update', object: { ...task, desiredState: 'remove' }, expectedVersion: task.meta.version },
          { kind: 'task-status', taskId: task.id, status: statusAfter(task, ended, clock.wallMs()) },
        ])
        return
      } catch (error) {
        if (errorCode(error) === 'NOT_FOUND') return
        if (errorCode(error) !== 'OUT_OF_SEQUENCE' || attempt === ATTEMPTS) throw error
      }
    }
  }
}

/** @throws {CodedError} NO_SUCH_OBJECT, AMBIGUOUS, PERMISSION_DENIED, INVALID_PARAMETER */
function attachable(view: StoreView, request: AttachmentRequest): Network {
  const network = find(view, 'network', request.network)
  const name = network.spec.Name ?? network.id
  if (!network.spec.Attachable || !network.allocated)
    throw new CodedError(
      'PERMISSION_DENIED',
      `Could not attach to network ${name}: rpc error: code = PermissionDenied desc = network ${name} not manually attachable`,
    )
  const subnets = network.allocated.subnets.flatMap(({ subnet }) => parseCidr(subnet) ?? [])
  for (const text of request.addresses) {
    const address = parseAddress(text)
    if (!address) throw new CodedError('INVALID_PARAMETER', `invalid IP address: ${text}`)
    if (!subnets.some((subnet) => containsAddress(subnet, address)))
      throw new CodedError(
        'INVALID_PARAMETER',
        `Invalid address ${text}: It does not belong to any of this network's subnets`,
      )
  }
  return network
}

function refusedFor(error: unknown): AttachmentAnswer {
  const code = errorCode(error) ?? 'INTERNAL'
  return { kind: 'refused', code, message: error instanceof Error ? error.message : String(error) }
}
