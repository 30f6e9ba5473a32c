// GET /services/{id}/logs and /tasks/{id}/logs: the streams of all tasks concerned, in one. The leader answers: workers
// hold their sessions with it.

import type { LogOptions } from '../../api/dispatcher.ts'
import type { Task } from '../../api/objects.ts'
import { compareTaskStates } from '../../api/spec.ts'
import { refusal } from '../../api/validation/refusal.ts'
import { errorMessage } from '../../lib/errors.ts'
import { type Call, flagParameter, parameter, writeChunk } from './call.ts'
import type { ClusterAccess } from './cluster-access.ts'
import { parseUnixTime } from './events-route.ts'
import { encodeDetails, encodeFrame, FrameReader, STREAM, styleLine } from './log-frames.ts'
import type { ManagerState } from './node-state.ts'

/** Tasks that are read at once, where the stream ends by itself. */
const PARALLEL_TASKS = 8

export interface LogSource {
  /** of one service, or one task */
  readonly serviceId: string | undefined
  readonly tasks: readonly Task[]
  readonly tty: boolean
}

function logOptions(call: Call): LogOptions {
  const stdout = flagParameter(call, 'stdout')
  const stderr = flagParameter(call, 'stderr')
  if (!stdout && !stderr) throw refusal("must specify at least one of 'stdout' or 'stderr'")
  const since = parameter(call, 'since')
  const until = parameter(call, 'until')
  parseUnixTime(since, 'since')
  parseUnixTime(until, 'until')
  const tail = parameter(call, 'tail')
  const lines = tail === '' || tail === 'all' ? undefined : Number(tail)
  if (lines !== undefined && !Number.isSafeInteger(lines)) {
    throw refusal('tail value must be a positive integer or "all"')
  }
  if (lines !== undefined && lines < 0) throw refusal('negative tail values not supported')
  return { follow: flagParameter(call, 'follow'), tail: lines, since, until, stdout, stderr }
}

/** Its container was there once, so that it may have said something. */
function hasLogs(task: Task): boolean {
  return task.nodeId !== '' && task.status.container !== undefined
}

export async function streamLogs(
  call: Call,
  cluster: ClusterAccess,
  state: ManagerState,
  source: LogSource,
): Promise<void> {
  const options = logOptions(call)
  const multiplexed = !source.tty
  call.response.writeHead(200, {
    'Content-Type':
      multiplexed && call.version >= 42
        ? 'application/vnd.docker.multiplexed-stream'
        : 'application/vnd.docker.raw-stream',
  })
  call.response.flushHeaders()
  const problems: string[] = []
  const relay = async (task: Task) => {
    try {
      await relayTask(call, cluster, task, options, multiplexed)
    } catch (error) {
      if (!call.signal.aborted) problems.push(`task ${task.id} on node ${task.nodeId}: ${errorMessage(error)}`)
    }
  }
  const known = new Set(source.tasks.filter(hasLogs).map((task) => task.id))
  const waiting = source.tasks.filter(hasLogs)
  if (options.follow && source.serviceId !== undefined) {
    await followService(call, state, source.serviceId, waiting, known, relay)
  } else {
    const workers = Array.from({ length: options.follow ? waiting.length : PARALLEL_TASKS }, async () => {
      for (let task = waiting.shift(); task !== undefined; task = waiting.shift()) await relay(task)
    })
    await Promise.all(workers)
  }
  if (problems.length > 0 && multiplexed && !call.signal.aborted) {
    const text = `Error grabbing logs: rpc error: code = Unknown desc = warning: incomplete log stream. some logs could not be retrieved for the following reasons: ${problems.join(', ')}\n`
    call.response.write(encodeFrame(STREAM.systemError, Buffer.from(text, 'utf8')))
  }
  call.response.end()
}

/** Tasks that start later join in; it ends with the client, or with the service and its last task. */
function followService(
  call: Call,
  state: ManagerState,
  serviceId: string,
  tasks: readonly Task[],
  known: Set<string>,
  relay: (task: Task) => Promise<void>,
): Promise<void> {
  return new Promise((resolve) => {
    let running = 0
    const finish = () => {
      stop()
      resolve()
    }
    const settle = () => {
      if (running === 0 && state.view.get('service', serviceId) === undefined) finish()
    }
    const start = (task: Task) => {
      running++
      void relay(task).then(() => {
        running--
        settle()
      })
    }
    const stop = state.subscribe((events) => {
      for (const { new: next, id, objectKind } of events) {
        if (objectKind === 'service' && id === serviceId) settle()
        if (next?.kind !== 'task' || next.serviceId !== serviceId || known.has(next.id)) continue
        if (!hasLogs(next) || compareTaskStates(next.status.state, 'starting') < 0) continue
        known.add(next.id)
        start(next)
      }
    })
    call.signal.addEventListener('abort', finish, { once: true })
    for (const task of tasks) start(task)
    if (call.signal.aborted) finish()
  })
}

async function relayTask(
  call: Call,
  cluster: ClusterAccess,
  task: Task,
  options: LogOptions,
  multiplexed: boolean,
): Promise<void> {
  const style = {
    timestamps: flagParameter(call, 'timestamps'),
    details: flagParameter(call, 'details')
      ? encodeDetails({
          'com.docker.swarm.node.id': task.nodeId,
          'com.docker.swarm.service.id': task.serviceId,
          'com.docker.swarm.task.id': task.id,
        })
      : undefined,
  }
  const reader = new FrameReader()
  for await (const chunk of cluster.taskLogs(task, options, call.signal)) {
    const frames = reader.push(chunk)
    if (frames === undefined) throw new Error('the stream is malformed')
    const lines = frames.map(({ stream, payload }) => {
      const line = styleLine(payload, style)
      return multiplexed ? encodeFrame(stream, line) : line
    })
    if (lines.length > 0) await writeChunk(call, Buffer.concat(lines))
    if (call.signal.aborted) return
  }
}
