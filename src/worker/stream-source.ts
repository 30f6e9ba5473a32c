// What this node sends to managers who ask for a stream.

import type { LogOptions, StreamRequest } from '../api/dispatcher.ts'
import { CodedError } from '../lib/errors.ts'
import type { DataPlane } from '../overlay/client.ts'
import type { Executor } from './executor.ts'
import type { TaskManager } from './task-manager.ts'

export interface StreamSourceOptions {
  readonly executor: Pick<Executor, 'logs'>
  readonly dataPlane: Pick<DataPlane, 'probe'> | undefined
  readonly tasks: Pick<TaskManager, 'container' | 'waitForContainer'>
}

/** @throws {CodedError} DATA_PLANE_UNAVAILABLE, STREAM_UNKNOWN, and what the source itself refuses */
export async function* streamSource(
  { executor, dataPlane, tasks }: StreamSourceOptions,
  request: StreamRequest,
  signal: AbortSignal,
): AsyncIterable<Uint8Array> {
  switch (request.kind) {
    case 'task-logs': {
      const container = await containerOf(tasks, request, signal)
      if (container && !signal.aborted) yield* executor.logs(container, request.options, signal)
      return
    }
    case 'probe':
      if (!dataPlane) throw new CodedError('DATA_PLANE_UNAVAILABLE', 'this node has no data plane')
      yield Buffer.from(JSON.stringify(await dataPlane.probe(request.request, signal)))
      return
    case 'tunnel': // goes both ways, and so is not served here
      break
  }
  // Of a newer manager, perhaps.
  throw new CodedError('STREAM_UNKNOWN', 'this node does not know such a stream')
}

async function containerOf(
  tasks: StreamSourceOptions['tasks'],
  { taskId, options }: { readonly taskId: string; readonly options: LogOptions },
  signal: AbortSignal,
) {
  return options.follow ? await tasks.waitForContainer(taskId, signal) : tasks.container(taskId)
}
