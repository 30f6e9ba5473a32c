/** A cluster at rest: resident memory of the daemons, idle and with many services, and how fast these are listed. */
import type { LabHost } from '../lab/lab-host.ts'
import { type BenchCluster, pause } from './bench-cluster.ts'
import { load } from './load.ts'
import { type Bench, type Figure, type Measure, type Sample, sampleOf, sides } from './measure.ts'
import { removeServices, serviceSpec } from './services.ts'

/** With the first number of them, memory is looked at too. */
const SERVICES = [1000, 5000] as const
/** of each round, in all so many services are listed */
const LISTED = 50_000
const SETTLE_MS = 2000
const CREATE_CLIENTS = 16
const TARGET_LISTING = 0.5
const LIMIT_MIB = { idle: 160, filled: 190, worker: 120 } as const

interface Seen {
  readonly managerMiB: Sample
  readonly workerMiB: Sample
  readonly filledMiB: Sample
  /** by the number of services */
  readonly listings: ReadonlyMap<number, Sample>
}

function resident(cluster: BenchCluster, role: 'managers' | 'workers'): Sample {
  return sampleOf(cluster.lab[role].map((host) => cluster.residentMiB(host)))
}

async function create(cluster: BenchCluster, leader: LabHost, from: number, to: number): Promise<void> {
  const requests = Array.from({ length: to - from }, (_, index) => ({
    method: 'POST',
    path: '/services/create',
    body: serviceSpec(`s${from + index}`, { replicas: 0 }),
  }))
  await load({ socketPath: cluster.socket(leader), clients: CREATE_CLIENTS, requests })
}

async function look(cluster: BenchCluster, runs: number): Promise<Seen> {
  await pause(SETTLE_MS)
  const managerMiB = resident(cluster, 'managers')
  const workerMiB = resident(cluster, 'workers')
  const leader = await cluster.leader()
  const listings = new Map<number, Sample>()
  let filledMiB: Sample | undefined
  let there = 0
  for (const count of SERVICES) {
    await create(cluster, leader, there, count)
    there = count
    const get = Array.from({ length: LISTED / count }, () => ({ method: 'GET', path: '/services' }))
    const p50s: number[] = []
    for (let round = 0; round < runs; round++) {
      p50s.push((await load({ socketPath: cluster.socket(leader), clients: 1, requests: get })).p50Ms)
    }
    listings.set(count, sampleOf(p50s))
    await pause(SETTLE_MS)
    filledMiB ??= resident(cluster, 'managers')
  }
  await removeServices(cluster)
  return { managerMiB, workerMiB, filledMiB: filledMiB ?? managerMiB, listings }
}

async function run(bench: Bench): Promise<readonly Figure[]> {
  const seen = new Map<string, Seen>()
  for (const cluster of sides(bench, 0)) seen.set(cluster.title, await look(cluster, bench.runs))
  const figure = (
    name: string,
    unit: string,
    value: (seen: Seen) => Sample,
    more: Pick<Figure, 'target' | 'limit'>,
  ): Figure => {
    const ours = seen.get(bench.ours.title)
    const theirs = bench.theirs && seen.get(bench.theirs.title)
    if (!ours) throw new Error(`nothing was measured of ${name}`)
    return {
      ...{ name, unit, better: 'lower', ours: value(ours) },
      ...(more.limit && { limit: more.limit }),
      ...(bench.theirs && theirs && { ...more, reference: { what: bench.theirs.title, sample: value(theirs) } }),
    }
  }
  const limit = (median: number) => ({ limit: { median } })
  const figures = [
    figure('resident memory, manager idle', 'MiB', (each) => each.managerMiB, limit(LIMIT_MIB.idle)),
    figure(
      `resident memory, manager with ${SERVICES[0]} services`,
      'MiB',
      (each) => each.filledMiB,
      limit(LIMIT_MIB.filled),
    ),
    figure('resident memory, worker', 'MiB', (each) => each.workerMiB, limit(LIMIT_MIB.worker)),
    ...SERVICES.map((count) =>
      figure(`GET /services, ${count} of them, p50`, 'ms', (each) => each.listings.get(count) ?? sampleOf([]), {
        target: TARGET_LISTING,
      }),
    ),
  ]
  for (const { name, ours, unit } of figures) bench.say(`${name}: ${ours.median.toFixed(1)} ${unit}`)
  return figures
}

export const standing: Measure = { name: 'standing', minutes: 2, run }
