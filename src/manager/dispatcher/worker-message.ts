// Reads what a worker sent: its bytes are checked before anything believes them.

import { DISPATCHER_PROTOCOL_VERSION, type WorkerMessage } from '../../api/dispatcher.ts'
import type { TaskStatus } from '../../api/objects.ts'
import { TASK_STATES } from '../../api/spec.ts'
import { decode } from '../../lib/codec.ts'
import { CodedError } from '../../lib/errors.ts'

export const MAX_STATUS_UPDATES = 500
const MAX_TEXT = 4096

type Fields = Readonly<Record<string, unknown>>

function malformed(what: string): CodedError {
  return new CodedError('MALFORMED', `malformed session message: ${what}`)
}

function fields(value: unknown, what: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw malformed(what)
  return value as Fields
}

function text(value: unknown, what: string): string {
  if (typeof value !== 'string') throw malformed(what)
  return value.length > MAX_TEXT ? value.slice(0, MAX_TEXT) : value
}

function number(value: unknown, what: string): number {
  if (typeof value !== 'number' || !Number.isFinite(value)) throw malformed(what)
  return value
}

function parseStatus(value: unknown): TaskStatus {
  const status = fields(value, 'status')
  const state = text(status.state, 'state')
  if (!Object.hasOwn(TASK_STATES, state)) throw malformed(`state '${state}'`)
  return {
    state: state as TaskStatus['state'],
    timestamp: text(status.timestamp, 'timestamp'),
    message: text(status.message, 'message'),
    error: text(status.error, 'error'),
    container:
      status.container === undefined ? undefined : (fields(status.container, 'container') as TaskStatus['container']),
    ports: Array.isArray(status.ports) ? (status.ports as TaskStatus['ports']) : [],
  }
}

/** @throws {CodedError} MALFORMED; PROTOCOL_UNKNOWN for another version of the protocol. */
export function parseWorkerMessage(bytes: Uint8Array): WorkerMessage {
  const frame = decode(bytes)
  if (!Array.isArray(frame)) throw malformed('frame')
  if (frame[0] !== DISPATCHER_PROTOCOL_VERSION) {
    throw new CodedError('PROTOCOL_UNKNOWN', `session protocol ${String(frame[0])} is not known to this manager`)
  }
  const message = fields(frame[1], 'message')
  switch (message.kind) {
    case 'hello':
      return {
        kind: 'hello',
        description: fields(message.description, 'description'),
        address: text(message.address, 'address'),
        dataPathAddress: text(message.dataPathAddress, 'dataPathAddress'),
        previousSessionId: text(message.previousSessionId, 'previousSessionId'),
        featureLevel: number(message.featureLevel, 'featureLevel'),
      }
    case 'heartbeat':
      return { kind: 'heartbeat', sequence: number(message.sequence, 'sequence') }
    case 'status': {
      if (!Array.isArray(message.updates) || message.updates.length > MAX_STATUS_UPDATES) throw malformed('updates')
      const updates = message.updates.map((value) => {
        const update = fields(value, 'update')
        return { taskId: text(update.taskId, 'taskId'), status: parseStatus(update.status) }
      })
      return { kind: 'status', sequence: number(message.sequence, 'sequence'), updates }
    }
    case 'describe':
      return { kind: 'describe', description: fields(message.description, 'description') }
    case 'goodbye':
      return { kind: 'goodbye', graceMs: number(message.graceMs, 'graceMs') }
    case 'applied':
      return { kind: 'applied', sequence: number(message.sequence, 'sequence') }
    case 'resync':
      return { kind: 'resync' }
    default:
      throw malformed(`kind '${String(message.kind)}'`)
  }
}
