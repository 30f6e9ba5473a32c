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

const remove = ({ socketPath, id }: BareContainer): Promise<string> =>
  engineCall(socketPath, 'DELETE', `/containers/${id}?force=1&v=1`)

function places(lab: Lab, count: number): readonly string[] {
  const sockets = lab.hosts.map((host) => host.paths.engineSocket)
  return Array.from({ length: count }, (_, index) => sockets[index % sockets.length] ?? '')
}

/** Create and start of so many. @returns milliseconds */
export async function bareStartMs(lab: Lab, count: number): Promise<number> {
  const startedMs = performance.now()
  const made = await Promise.all(places(lab, count).map((socketPath) => begin(socketPath, {})))
  const tookMs = performance.now() - startedMs
  await Promise.all(made.map(remove))
  return tookMs
}

/** Stop, create and start of so many, each in its own order: what one round of an update asks of the engines. @returns milliseconds */
export async function bareReplaceMs(lab: Lab, count: number, more: Readonly<Record<string, unknown>>): Promise<number> {
  const before = await Promise.all(places(lab, count).map((socketPath) => begin(socketPath, more)))
  const startedMs = performance.now()
  const after = await Promise.all(
    before.map(async ({ socketPath, id }) => {
      await engineCall(socketPath, 'POST', `/containers/${id}/stop`)
      return begin(socketPath, more)
    }),
  )
  const tookMs = performance.now() - startedMs
  await Promise.all([...before, ...after].map(remove))
  return tookMs
}
