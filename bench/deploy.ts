/**
 * Create until all replicas run, beside Docker Swarm, and beside what the engines take for the same containers without
 * any cluster; and how soon containers are gone that a smaller scale, or a removal, leaves over.
 */
import { bareRun } from './bare.ts'
import { type BenchCluster, until } from './bench-cluster.ts'
import { type Bench, type Figure, type Measure, rounds, sides, Values } from './measure.ts'
import { allRun, containers, createService, removeServices, serviceSpec } from './services.ts'

const ENGINE = 'engine alone'
const TARGET_ENGINE = 1.15
const TARGET_STOP = 0.6
/** One round: what is over in a moment is done more often. */
const SIZES: readonly number[] = [1, 10, 50, 1, 100, 10, 1]
const QUICK_SIZES: readonly number[] = [1, 10, 50]
const REMOVED = 50
const SCALED = { from: 100, to: 10 } as const

interface Deployed {
  readonly runMs: number
  /** Where it was scaled down first. */
  readonly scaleMs: number | undefined
  readonly removeMs: number
}

async function measureOnce(
  cluster: BenchCluster,
  replicas: number,
  more: Readonly<Record<string, unknown>>,
): Promise<Deployed> {
  const leader = await cluster.leader()
  const spec = serviceSpec('deployed', { replicas, more })
  const startedMs = performance.now()
  const id = await createService(cluster, leader, spec)
  await allRun(cluster, leader, id, replicas)
  const runMs = performance.now() - startedMs
  const scaleMs =
    replicas === SCALED.from
      ? await scaledMs(cluster, id, { ...spec, Mode: { Replicated: { Replicas: SCALED.to } } })
      : undefined
  return { runMs, scaleMs, removeMs: await removeServices(cluster) }
}

/** Until no more containers than wanted run: really stopped, whatever the cluster says. */
async function scaledMs(cluster: BenchCluster, id: string, spec: unknown): Promise<number> {
  const leader = await cluster.leader()
  const path = `/services/${id}`
  const { Version } = await cluster.api<{ Version: { Index: number } }>(leader, 'GET', path)
  const startedMs = performance.now()
  await cluster.api(leader, 'POST', `${path}/update?version=${Version.Index}`, spec)
  await until(`${SCALED.to} run`, async () => (await containers(cluster, 'running')) === SCALED.to)
  return performance.now() - startedMs
}

/** Milliseconds from the request until all replicas run. `more` goes into the spec. */
export async function deployed(
  cluster: BenchCluster,
  replicas: number,
  more: Readonly<Record<string, unknown>> = {},
): Promise<number> {
  return (await measureOnce(cluster, replicas, more)).runMs
}

async function run(bench: Bench): Promise<readonly Figure[]> {
  const sizes = bench.quick ? QUICK_SIZES : SIZES
  const starts = new Map([...new Set(sizes)].toSorted((a, b) => a - b).map((size) => [size, new Values()]))
  const scaled = new Values()
  const removed = new Values()
  const measure = async (cluster: BenchCluster, replicas: number): Promise<void> => {
    const { runMs, scaleMs, removeMs } = await measureOnce(cluster, replicas, {})
    starts.get(replicas)?.add(cluster.title, runMs / 1000)
    if (scaleMs !== undefined) scaled.add(cluster.title, scaleMs / 1000)
    if (replicas === REMOVED) removed.add(cluster.title, removeMs / 1000)
    const scale = scaleMs === undefined ? '' : `scaled to ${SCALED.to} in ${(scaleMs / 1000).toFixed(2)} s, `
    bench.say(
      `${cluster.title}, ${replicas} replicas: ${(runMs / 1000).toFixed(2)} s, ${scale}` +
        `removed in ${(removeMs / 1000).toFixed(2)} s`,
    )
  }
  const measureEngine = async (replicas: number): Promise<void> => {
    const bare = await bareRun(bench.ours.lab, replicas, replicas === SCALED.from ? SCALED.from - SCALED.to : 0)
    starts.get(replicas)?.add(ENGINE, bare.startMs / 1000)
    if (replicas === SCALED.from) scaled.add(ENGINE, bare.stopMs / 1000)
    if (replicas === REMOVED) removed.add(ENGINE, bare.removeMs / 1000)
  }
  let step = 0
  for (const _ of rounds(bench)) {
    for (const replicas of sizes) {
      const steps = [
        () => measureEngine(replicas),
        ...sides(bench, 0).map((cluster) => () => measure(cluster, replicas)),
      ]
      // each goes first as often as the others
      for (const at of steps.keys()) await steps[(at + step) % steps.length]?.()
      step++
    }
  }
  const figures = [...starts].flatMap(([replicas, values]) => {
    const about = { name: `create → all Running, ${replicas}`, unit: 's', better: 'lower' } as const
    return [
      values.figure(bench, about),
      values.figure(bench, { ...about, name: `${about.name}: engine alone`, target: TARGET_ENGINE }, ENGINE),
    ]
  })
  const ends = [
    { name: `scale ${SCALED.from} → ${SCALED.to}, stopped`, values: scaled },
    { name: `remove ${REMOVED}, gone`, values: removed },
  ].filter(({ values }) => values.sample(bench.ours.title))
  const about = { unit: 's', better: 'lower' } as const
  for (const { name, values } of ends) {
    figures.push(values.figure(bench, { ...about, name, target: TARGET_STOP }))
    figures.push(values.figure(bench, { ...about, name: `${name}: engine alone` }, ENGINE))
  }
  return figures
}

export const deploy: Measure = { name: 'deploy', minutes: 5, run }
