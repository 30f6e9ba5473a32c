// Reads what a worker sent: its bytes are checked before anything believes them.

import type { DataPathReport } from '../../api/data-plane.ts'
import { DISPATCHER_PROTOCOL_VERSION, type WorkerMessage } from '../../api/dispatcher.ts'
import type { TaskStatus } from '../../api/objects.ts'
import { TASK_STATES } from '../../api/spec.ts'
import { parseCidr } from '../../lib/cidr.ts'
import { decode } from '../../lib/codec.ts'
import { CodedError } from '../../lib/errors.ts'

export const MAX_STATUS_UPDATES = 500
const MAX_TEXT = 4096
const MAX_KEYS = 8
const MAX_NAMES = 100
/** A host has hundreds of routes at most; a router that runs tasks sends none that do not fit. */
const MAX_LIST = 1_000

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

/** The same, where the field is a text or absent: people and other machines look for it. */
function withText(value: Fields, name: string): Fields {
  return value[name] === undefined ? value : { ...value, [name]: text(value[name], name) }
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
      status.container === undefined
        ? undefined
        : (withText(fields(status.container, 'container'), 'ContainerID') as TaskStatus['container']),
    ports: Array.isArray(status.ports) ? (status.ports as TaskStatus['ports']) : [],
  }
}

function list<T>(value: unknown, what: string, most: number, item: (value: unknown) => T): readonly T[] {
  if (!Array.isArray(value) || value.length > most) throw malformed(what)
  return value.map(item)
}

function within(value: unknown, least: number, most: number, what: string): number {
  const given = number(value, what)
  if (!Number.isInteger(given) || given < least || given > most) throw malformed(what)
  return given
}

/** What another version says differently is left out, where it is for people; a port that is none is refused. */
function parseDataPath(value: unknown): DataPathReport {
  const report = fields(value, 'report')
  return {
    port: within(report.port, 0, 65_535, 'port'),
    mtu: within(report.mtu, 0, 65_535, 'mtu'),
    encryptionKeys: list(report.encryptionKeys, 'encryptionKeys', MAX_KEYS, (key) => text(key, 'key')),
    encryptionProblem: text(report.encryptionProblem, 'encryptionProblem'),
    routes: list(report.routes, 'routes', MAX_LIST, (route) => text(route, 'route')).filter(
      (route) => parseCidr(route) !== undefined,
    ),
    problems: list(report.problems, 'problems', MAX_LIST, (each) => {
      const problem = fields(each, 'problem')
      return {
        code: text(problem.code, 'code'),
        message: text(problem.message, 'message'),
        subject: text(problem.subject, 'subject'),
      }
    }),
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
        description: withText(fields(message.description, 'description'), 'Hostname'),
        address: text(message.address, 'address'),
        dataPathAddress: text(message.dataPathAddress, 'dataPathAddress'),
        previousSessionId: text(message.previousSessionId, 'previousSessionId'),
        featureLevel: number(message.featureLevel, 'featureLevel'),
        ...(message.dataPath !== undefined && { dataPath: parseDataPath(message.dataPath) }),
      }
    case 'data-path':
      return { kind: 'data-path', report: parseDataPath(message.report) }
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
      return { kind: 'describe', description: withText(fields(message.description, 'description'), 'Hostname') }
    case 'goodbye':
      return { kind: 'goodbye', graceMs: number(message.graceMs, 'graceMs') }
    case 'applied':
      return { kind: 'applied', sequence: number(message.sequence, 'sequence') }
    case 'attach': {
      const request = fields(message.request, 'request')
      const texts = (value: unknown, what: string): readonly string[] =>
        list(value, what, MAX_NAMES, (one) => text(one, what))
      return {
        kind: 'attach',
        requestId: text(message.requestId, 'requestId'),
        request: {
          network: text(request.network, 'network'),
          containerName: text(request.containerName, 'containerName'),
          aliases: texts(request.aliases, 'aliases'),
          addresses: texts(request.addresses, 'addresses'),
        },
      }
    }
    case 'detach':
      return {
        kind: 'detach',
        requestId: text(message.requestId, 'requestId'),
        attachmentId: text(message.attachmentId, 'attachmentId'),
      }
    case 'programmed':
      return { kind: 'programmed', sequence: number(message.sequence, 'sequence') }
    case 'resync':
      return { kind: 'resync' }
    default:
      throw malformed(`kind '${String(message.kind)}'`)
  }
}
