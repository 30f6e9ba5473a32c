/**
 * Create until all replicas run, beside Docker Swarm, and beside what the engines take for the same containers without
 * any cluster: create and start of each, all at once, spread over all engines.
 */
import { callApi } from '../lab/engine-api.ts'
import type { Lab } from '../lab/lab.ts'
import { type BenchCluster, until } from './bench-cluster.ts'
import { type Bench, type Figure, type Measure, rounds, sides, Values } from './measure.ts'
import { createService, removeServices, runningTasks, serviceSpec } from './services.ts'

const ENGINE = 'engine alone'
const TARGET_ENGINE = 1.15

/** Milliseconds from the request until all replicas run. `more` goes into the spec. */
export async function deployed(
  cluster: BenchCluster,
  replicas: number,
  more: Readonly<Record<string, unknown>> = {},
): Promise<number> {
  const leader = await cluster.leader()
  const startedMs = performance.now()
  const id = await createService(cluster, leader, serviceSpec('deployed', { replicas, more }))
  await until('all replicas run', async () => (await runningTasks(cluster, leader, id)) === replicas)
  const tookMs = performance.now() - startedMs
  await removeServices(cluster)
  return tookMs
}

async function engineCall(socketPath: string, method: string, path: string, body?: unknown): Promise<string> {
  const answer = await callApi(socketPath, { method, path, body })
  if (answer.status >= 400) throw new Error(`${method} ${path}: ${answer.status} ${answer.body.trim()}`)
  return answer.body
}

async function bare(lab: Lab, containers: number): Promise<number> {
  const sockets = lab.hosts.map((host) => host.paths.engineSocket)
  const places = Array.from({ length: containers }, (_, index) => sockets[index % sockets.length] ?? '')
  const startedMs = performance.now()
  const made = await Promise.all(
    places.map(async (socketPath) => {
      const created = await engineCall(socketPath, 'POST', '/containers/create', { Image: 'busybox:latest' })
      const { Id } = JSON.parse(created) as { Id: string }
      await engineCall(socketPath, 'POST', `/containers/${Id}/start`)
      return { socketPath, Id }
    }),
  )
  const tookMs = performance.now() - startedMs
  await Promise.all(made.map(({ socketPath, Id }) => engineCall(socketPath, 'DELETE', `/containers/${Id}?force=1&v=1`)))
  return tookMs
}

async function run(bench: Bench): Promise<readonly Figure[]> {
  const figures: Figure[] = []
  for (const replicas of bench.quick ? [1, 10] : [1, 10, 50]) {
    const values = new Values()
    for (const round of rounds(bench)) {
      const steps = [
        async () => values.add(ENGINE, (await bare(bench.ours.lab, replicas)) / 1000),
        ...sides(bench, 0).map((cluster) => async () => {
          const seconds = (await deployed(cluster, replicas)) / 1000
          values.add(cluster.title, seconds)
          bench.say(`${cluster.title}, ${replicas} replicas: ${seconds.toFixed(2)} s`)
        }),
      ]
      for (const step of round % 2 === 0 ? steps : steps.toReversed()) await step()
    }
    const about = { name: `create → all Running, ${replicas}`, unit: 's', better: 'lower' } as const
    figures.push(
      values.figure(bench, about),
      values.figure(bench, { ...about, name: `${about.name}: engine alone`, target: TARGET_ENGINE }, ENGINE),
    )
  }
  return figures
}

export const deploy: Measure = { name: 'deploy', minutes: 4, run }
