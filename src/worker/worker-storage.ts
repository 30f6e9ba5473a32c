// What a worker remembers over its restarts: what was assigned, what it last reported, which managers it knows. Never
// a secret's payload and never registry credentials: `durable` takes them out before anything comes near a disk.

import type { Assigned, AssignedKey, ManagerAddress } from '../api/dispatcher.ts'
import type { TaskStatus } from '../api/objects.ts'
import { decode, encode } from '../lib/codec.ts'
import { CodedError } from '../lib/errors.ts'

export interface KnownStatus {
  readonly status: TaskStatus
  readonly unhealthy: boolean
}

export interface WorkerState {
  readonly assigned: readonly Assigned[]
  readonly statuses: ReadonlyMap<string, KnownStatus>
  readonly managers: readonly ManagerAddress[]
  readonly sessionId: string
}

export type WorkerChange =
  | { readonly kind: 'assigned'; readonly assigned: Assigned }
  /** Of a task, its status goes with it. */
  | { readonly kind: 'removed'; readonly key: AssignedKey }
  | { readonly kind: 'status'; readonly taskId: string; readonly known: KnownStatus }
  | { readonly kind: 'managers'; readonly managers: readonly ManagerAddress[] }
  | { readonly kind: 'session'; readonly sessionId: string }

/** Two implementations, LevelDB and memory, pass test/worker/worker-storage.test.ts. */
export interface WorkerStorage {
  /** @throws {CodedError} WORKER_STORAGE_LOCKED, WORKER_STORAGE_FAILED, WORKER_STORAGE_UNKNOWN_FORMAT. */
  open(): Promise<WorkerState>
  /** All or nothing, in the order of the calls; with `sync` it survives a loss of power once resolved. */
  write(changes: readonly WorkerChange[], options: { readonly sync: boolean }): Promise<void>
  close(): Promise<void>
  /** Of a storage that may wait for room on its disk: it waits no more, before it is closed. */
  giveUp?(): void
}

export const WORKER_FORMAT = 1

export type RecordChange =
  | { readonly kind: 'put'; readonly key: string; readonly value: Uint8Array }
  | { readonly kind: 'delete'; readonly key: string }

/** The records that a change writes; values are encode([WORKER_FORMAT, value]). */
export function toRecords(changes: readonly WorkerChange[]): readonly RecordChange[] {
  return changes.flatMap(recordsOf)
}

function recordsOf(change: WorkerChange): readonly RecordChange[] {
  switch (change.kind) {
    case 'assigned': {
      const kept = durable(change.assigned)
      return kept ? [put(`assigned/${kept.key.kind}/${kept.key.id}`, kept.assigned)] : []
    }
    case 'removed': {
      const gone: RecordChange = { kind: 'delete', key: `assigned/${change.key.kind}/${change.key.id}` }
      return change.key.kind === 'task' ? [gone, { kind: 'delete', key: `status/${change.key.id}` }] : [gone]
    }
    case 'status':
      return [put(`status/${change.taskId}`, change.known)]
    case 'managers':
      return [put('managers', change.managers)]
    case 'session':
      return [put('session', change.sessionId)]
  }
}

/** @throws {CodedError} WORKER_STORAGE_UNKNOWN_FORMAT: a newer release wrote it. */
export function fromRecords(records: Iterable<readonly [key: string, value: Uint8Array]>): WorkerState {
  const assigned: Assigned[] = []
  const statuses = new Map<string, KnownStatus>()
  let managers: readonly ManagerAddress[] = []
  let sessionId = ''
  for (const [key, bytes] of records) {
    const value = unwrap(key, bytes)
    if (key.startsWith('assigned/')) assigned.push(value as Assigned)
    else if (key.startsWith('status/')) statuses.set(key.slice('status/'.length), value as KnownStatus)
    else if (key === 'managers') managers = value as readonly ManagerAddress[]
    else if (key === 'session') sessionId = value as string
    else throw unknownFormat(key)
  }
  return { assigned, statuses, managers, sessionId }
}

/**
 * A secret is kept without its payload (and so counts as not there after a restart), credentials not at all. The data plane
 * keeps its records itself: they are of the whole cluster, and many.
 */
function durable(assigned: Assigned): { readonly key: AssignedKey; readonly assigned: Assigned } | undefined {
  switch (assigned.kind) {
    case 'registry-auth':
    case 'peer':
    case 'overlay-network':
    case 'end-point':
    case 'overlay-service':
      return undefined
    case 'secret': {
      const { Data: _payload, ...spec } = assigned.secret.spec
      return {
        key: { kind: 'secret', id: assigned.secret.id },
        assigned: { ...assigned, secret: { ...assigned.secret, spec } },
      }
    }
    case 'task':
      return { key: { kind: 'task', id: assigned.task.id }, assigned }
    case 'config':
      return { key: { kind: 'config', id: assigned.config.id }, assigned }
    case 'network':
      return { key: { kind: 'network', id: assigned.network.id }, assigned }
  }
}

function put(key: string, value: unknown): RecordChange {
  return { kind: 'put', key, value: encode([WORKER_FORMAT, value]) }
}

function unwrap(key: string, bytes: Uint8Array): unknown {
  const record = decode(bytes)
  if (!Array.isArray(record) || record.length !== 2 || record[0] !== WORKER_FORMAT) throw unknownFormat(key)
  return record[1]
}

function unknownFormat(key: string): CodedError {
  return new CodedError(
    'WORKER_STORAGE_UNKNOWN_FORMAT',
    `the worker's record ${key} was written by a newer release: run that release, or remove the worker's directory`,
  )
}
