/**
 * A worker lost: its cable cut, and all its processes killed, until all replicas run elsewhere. And what must move nothing: a
 * `swarmd` that is killed and back within 8 s, and a planned stop of 30 s.
 */
import type { LabHost } from '../lab/lab-host.ts'
import { type BenchCluster, pause, until } from './bench-cluster.ts'
import { type Bench, type Figure, type Measure, rounds, sampleOf, sides, Values } from './measure.ts'
import { allRun, createService, removeServices, serviceSpec, tasksThatRun } from './services.ts'

const REPLICAS = 10
const ROUNDS = 3
const LIMIT = { cut: 7, killed: 12 } as const
const AWAY_MS = { killed: 7000, planned: 30_000 } as const

const KINDS = ['cut', 'killed'] as const
type Kind = (typeof KINDS)[number]

async function nodeId(cluster: BenchCluster, host: LabHost): Promise<string> {
  const nodes = await cluster.api<readonly { ID: string; Description: { Hostname: string } }[]>(
    await cluster.leader(),
    'GET',
    '/nodes',
  )
  const node = nodes.find(({ Description }) => Description.Hostname === host.name)
  if (!node) throw new Error(`${host.name} is no node of ${cluster.title}`)
  return node.ID
}

/** All but the host's first process, and the sleep that it waits for. */
const KILL_REST = `for each in /proc/[0-9]*; do
  pid=\${each#/proc/}
  case "$pid $(tr '\\0' ' ' <"$each/cmdline" 2>/dev/null)" in "1 "* | "$$ "* | *" sleep infinity ") ;; *) kill -9 "$pid" ;; esac
done`

/** Daemons first, then whatever else ran on the host: containers and what holds them. The kernel stays, and says that they ended. */
async function killAll(cluster: BenchCluster, host: LabHost): Promise<void> {
  await Promise.all([cluster.to === 'swarmd' && host.killSwarmd(), host.killEngine()])
  await host.exec(['sh', '-c', KILL_REST])
}

async function lostMs(cluster: BenchCluster, kind: Kind): Promise<number> {
  const leader = await cluster.leader()
  const [worker] = cluster.lab.workers
  if (!worker) throw new Error('a lab without workers')
  const gone = await nodeId(cluster, worker)
  const id = await createService(cluster, leader, serviceSpec('lost', { replicas: REPLICAS }))
  await allRun(cluster, leader, id, REPLICAS)
  const startedMs = performance.now()
  const done = kind === 'cut' ? cluster.lab.cut(worker.name) : killAll(cluster, worker)
  await until('all replicas run elsewhere', async () => {
    const tasks = await tasksThatRun(cluster, leader, id)
    return tasks.filter((task) => task.NodeID !== gone).length === REPLICAS
  })
  const tookMs = performance.now() - startedMs
  await done
  await (kind === 'cut' ? cluster.lab.heal(worker.name) : worker.boot({ swarmd: cluster.to === 'swarmd' }))
  await cluster.whole()
  await removeServices(cluster)
  return tookMs
}

/** How many tasks are others after each of two workers was away, one without a word and one that had said so. */
async function movedTasks(cluster: BenchCluster): Promise<number> {
  const leader = await cluster.leader()
  const [one, other] = cluster.lab.workers
  if (!one || !other) throw new Error('a lab without two workers')
  const id = await createService(cluster, leader, serviceSpec('staying', { replicas: REPLICAS }))
  await allRun(cluster, leader, id, REPLICAS)
  const before = new Set((await tasksThatRun(cluster, leader, id)).map((task) => task.ID))
  await Promise.all([
    one
      .killSwarmd()
      .then(() => pause(AWAY_MS.killed))
      .then(() => one.startSwarmd()),
    other
      .stopSwarmd()
      .then(() => pause(AWAY_MS.planned))
      .then(() => other.startSwarmd()),
  ])
  await cluster.whole()
  const after = await tasksThatRun(cluster, leader, id)
  await removeServices(cluster)
  return after.filter((task) => !before.has(task.ID)).length
}

async function run(bench: Bench): Promise<readonly Figure[]> {
  const values = { cut: new Values(), killed: new Values() }
  for (const round of rounds(bench, bench.quick ? 1 : Math.min(bench.runs, ROUNDS))) {
    for (const kind of KINDS) {
      // silence is waited for, not worked through: both sides at once
      await Promise.all(
        sides(bench, round).map(async (cluster) => {
          const seconds = (await lostMs(cluster, kind)) / 1000
          values[kind].add(cluster.title, seconds)
          bench.say(`${cluster.title}, worker ${kind}: ${seconds.toFixed(2)} s until its tasks run elsewhere`)
        }),
      )
    }
  }
  const about = { unit: 's', better: 'lower' } as const
  const figures: Figure[] = [
    values.cut.figure(bench, {
      ...about,
      name: "worker's link cut → its tasks Running elsewhere",
      limit: { worst: LIMIT.cut },
    }),
    values.killed.figure(bench, {
      ...about,
      name: "worker's processes killed → its tasks Running elsewhere",
      limit: { worst: LIMIT.killed },
    }),
  ]
  if (bench.quick) return figures
  const moved = await movedTasks(bench.ours)
  bench.say(`tasks moved by a swarmd killed for 7 s and one stopped for 30 s: ${moved}`)
  figures.push({
    ...{ name: 'tasks moved: swarmd back within 8 s, planned stop of 30 s', unit: 'tasks', better: 'lower' },
    ...{ ours: sampleOf([moved]), target: 0 },
  })
  return figures
}

export const loss: Measure = { name: 'loss', minutes: 2.5, run }
