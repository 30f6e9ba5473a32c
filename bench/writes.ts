/** How many services a second the API takes (no replicas: a write and nothing else), and what a write costs. */
import type { BenchCluster } from './bench-cluster.ts'
import { load } from './load.ts'
import { type Bench, type Figure, type Measure, rounds, sampleOf, sides, Values } from './measure.ts'
import { removeServices, serviceSpec } from './services.ts'

const CLIENTS = [1, 8, 32] as const
const TARGETS: Readonly<Record<number, number>> = { 1: 1.5, 8: 4, 32: 6 }

interface Written {
  readonly perSecond: number
  readonly cpuMsPerWrite: number
}

async function write(cluster: BenchCluster, clients: number, count: number): Promise<Written> {
  const socketPath = cluster.socket(await cluster.leader())
  const requests = Array.from({ length: count }, (_, index) => ({
    method: 'POST',
    path: '/services/create',
    body: serviceSpec(`w${String(index).padStart(6, '0')}`, { replicas: 0 }),
  }))
  const cpuMs = cluster.cpuMs()
  const { elapsedMs } = await load({ socketPath, clients, requests })
  const written = { perSecond: count / (elapsedMs / 1000), cpuMsPerWrite: (cluster.cpuMs() - cpuMs) / count }
  await removeServices(cluster)
  return written
}

async function run(bench: Bench): Promise<readonly Figure[]> {
  const count = bench.quick ? 500 : 1000
  // a just started daemon is no fair picture of one that has run for an hour
  for (const cluster of sides(bench, 0)) await write(cluster, 8, count)
  const loads = CLIENTS.map((clients) => ({ clients, perSecond: new Values(), cpu: new Values() }))
  const term = bench.ours.raftTerm()
  // all loads in each round: what one round meets, and where time ends, concerns all of them
  for (const round of rounds(bench)) {
    for (const { clients, perSecond, cpu } of loads) {
      for (const cluster of sides(bench, round)) {
        const written = await write(cluster, clients, count)
        perSecond.add(cluster.title, written.perSecond)
        cpu.add(cluster.title, written.cpuMsPerWrite)
        bench.say(
          `${cluster.title}, ${clients} clients: ${written.perSecond.toFixed(0)} services/s, ` +
            `${written.cpuMsPerWrite.toFixed(2)} CPU-ms each`,
        )
      }
    }
  }
  const elections: Figure = {
    ...{ name: 'elections while writes were measured', unit: '', better: 'lower' },
    ...{ ours: sampleOf([bench.ours.raftTerm() - term]), target: 0 },
  }
  const figures = loads.flatMap(({ clients, perSecond, cpu }) => {
    const who = `${clients} client${clients > 1 ? 's' : ''}`
    const target = TARGETS[clients]
    return [
      perSecond.figure(bench, {
        name: `services created, ${who}`,
        unit: '/s',
        better: 'higher',
        ...(target !== undefined && { target }),
      }),
      cpu.figure(bench, { name: `CPU of all hosts a write, ${who}`, unit: 'ms', better: 'lower' }),
    ]
  })
  return [...figures, elections]
}

export const writes: Measure = { name: 'writes', minutes: 2.2, run }
