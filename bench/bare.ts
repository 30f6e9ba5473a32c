/** What the engines take for the same containers without any cluster: all at once, spread over all engines. */
import { callApi } from '../lab/engine-api.ts'
import type { Lab } from '../lab/lab.ts'

export interface BareContainer {
  readonly socketPath: string
  readonly id: string
}

async function engineCall(socketPath: string, method: string, path: string, body?: unknown): Promise<string> {
  const answer = await callApi(socketPath, { method, path, body })
  if (answer.status >= 400) throw new Error(`${method} ${path}: ${answer.status} ${answer.body.trim()}`)
  return answer.body
}

async function begin(socketPath: string, more: Readonly<Record<string, unknown>>): Promise<BareContainer> {
  const body = { Image: 'busybox:latest', StopTimeout: 1, ...more }
  const { Id: id } = JSON.parse(await engineCall(socketPath, 'POST', '/containers/create', body)) as { Id: string }
  await engineCall(socketPath, 'POST', `/containers/${id}/start`)
  return { socketPath, id }
}

const stop = ({ socketPath, id }: BareContainer): Promise<string> =>
  engineCall(socketPath, 'POST', `/containers/${id}/stop`)

const remove = ({ socketPath, id }: BareContainer): Promise<string> =>
  engineCall(socketPath, 'DELETE', `/containers/${id}?force=1&v=1`)

function places(lab: Lab, count: number): readonly string[] {
  const sockets = lab.hosts.map((host) => host.paths.engineSocket)
  return Array.from({ length: count }, (_, index) => sockets[index % sockets.length] ?? '')
}

export interface BareRun {
  /** Create and start of all, all at once. */
  readonly startMs: number
  /** Stop of `stopped` of them. */
  readonly stopMs: number
  /** Stop and removal of the others. */
  readonly removeMs: number
}

/** So many containers, of which `stopped` are stopped first, and the rest stopped and removed. */
export async function bareRun(lab: Lab, count: number, stopped: number): Promise<BareRun> {
  const startedMs = performance.now()
  const made = await Promise.all(places(lab, count).map((socketPath) => begin(socketPath, {})))
  const runningMs = performance.now()
  await Promise.all(made.slice(0, stopped).map(stop))
  const stoppedMs = performance.now()
  await Promise.all(made.slice(stopped).map((container) => stop(container).then(() => remove(container))))
  const removedMs = performance.now()
  await Promise.all(made.slice(0, stopped).map(remove))
  return { startMs: runningMs - startedMs, stopMs: stoppedMs - runningMs, removeMs: removedMs - stoppedMs }
}

/** Stop, create and start of so many, each in its own order: what one round of an update asks of the engines. @returns milliseconds */
export async function bareReplaceMs(lab: Lab, count: number, more: Readonly<Record<string, unknown>>): Promise<number> {
  const before = await Promise.all(places(lab, count).map((socketPath) => begin(socketPath, more)))
  const startedMs = performance.now()
  const after = await Promise.all(
    before.map(async (container) => {
      await stop(container)
      return begin(container.socketPath, more)
    }),
  )
  const tookMs = performance.now() - startedMs
  await Promise.all([...before, ...after].map(remove))
  return tookMs
}
