/** A cluster at rest: resident memory of the daemons, idle and with many services, and how fast these are listed. */
import { type BenchCluster, pause } from './bench-cluster.ts'
import { load } from './load.ts'
import { type Bench, type Figure, type Measure, type Sample, sampleOf, sides } from './measure.ts'
import { removeServices, serviceSpec } from './services.ts'

const SERVICES = 1000
const LISTINGS = 50
const SETTLE_MS = 2000
const CREATE_CLIENTS = 16
const TARGET_LISTING = 0.5

interface Seen {
  readonly managerMiB: Sample
  readonly workerMiB: Sample
  readonly filledMiB: Sample
  readonly listing: Sample
}

function resident(cluster: BenchCluster, role: 'managers' | 'workers'): Sample {
  return sampleOf(cluster.lab[role].map((host) => cluster.residentMiB(host)))
}

async function look(cluster: BenchCluster, runs: number): Promise<Seen> {
  await pause(SETTLE_MS)
  const managerMiB = resident(cluster, 'managers')
  const workerMiB = resident(cluster, 'workers')
  const socketPath = cluster.socket(await cluster.leader())
  const requests = Array.from({ length: SERVICES }, (_, index) => ({
    method: 'POST',
    path: '/services/create',
    body: serviceSpec(`s${index}`, { replicas: 0 }),
  }))
  await load({ socketPath, clients: CREATE_CLIENTS, requests })
  const listings: number[] = []
  for (let round = 0; round < runs; round++) {
    const get = Array.from({ length: LISTINGS }, () => ({ method: 'GET', path: '/services' }))
    listings.push((await load({ socketPath, clients: 1, requests: get })).p50Ms)
  }
  await pause(SETTLE_MS)
  const filledMiB = resident(cluster, 'managers')
  await removeServices(cluster)
  return { managerMiB, workerMiB, filledMiB, listing: sampleOf(listings) }
}

async function run(bench: Bench): Promise<readonly Figure[]> {
  const seen = new Map<string, Seen>()
  for (const cluster of sides(bench, 0)) seen.set(cluster.title, await look(cluster, bench.runs))
  const figure = (name: string, unit: string, value: (seen: Seen) => Sample, target?: number): Figure => {
    const ours = seen.get(bench.ours.title)
    const theirs = bench.theirs && seen.get(bench.theirs.title)
    if (!ours) throw new Error(`nothing was measured of ${name}`)
    return {
      ...{ name, unit, better: 'lower', ours: value(ours) },
      ...(bench.theirs && theirs && { reference: { what: bench.theirs.title, sample: value(theirs) } }),
      ...(target !== undefined && { target }),
    }
  }
  const figures = [
    figure('resident memory, manager idle', 'MiB', (each) => each.managerMiB),
    figure(`resident memory, manager with ${SERVICES} services`, 'MiB', (each) => each.filledMiB),
    figure('resident memory, worker', 'MiB', (each) => each.workerMiB),
    figure(`GET /services, ${SERVICES} of them, p50`, 'ms', (each) => each.listing, TARGET_LISTING),
  ]
  for (const { name, ours, unit } of figures) bench.say(`${name}: ${ours.median.toFixed(1)} ${unit}`)
  return figures
}

export const standing: Measure = { name: 'standing', minutes: 1.5, run }
