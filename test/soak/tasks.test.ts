// Containers that somebody kills, stops or removes behind the cluster's back, one by one and all at once: each is replaced in its
// slot, the history says what happened, and the managers take no notice.

import t from 'tap'
import { freshCluster } from '../e2e/support/fresh-cluster.ts'
import { electionsSince, markLogs } from '../e2e/support/raft-log.ts'
import {
  byHand,
  killAllAtOnce,
  running,
  settled,
  type TaskJson,
  tasksOf,
  wantedTasks,
} from '../e2e/support/workload.ts'
import { startWriters, whatWasSeen } from '../e2e/support/writers.ts'

const WAIT_MS = 240_000
const SERVICE = 'tasks-web'
const FEW = 6
const MANY = 60

const cluster = await freshCluster(t)
const { lab } = cluster
const n1 = lab.host('n1')
const service = ['service', 'create', '-d', '--no-resolve-image', '--name', SERVICE, '--replicas', String(FEW)]
await cluster.docker(n1, ...service, '--restart-delay', '100ms', 'busybox')
await settled(cluster, n1, SERVICE, FEW, WAIT_MS)

/** What `service ps` has of each slot: what is wanted there, and what went before. */
async function history(): Promise<readonly { readonly wanted: number; readonly past: readonly TaskJson[] }[]> {
  const all = await tasksOf(cluster, n1, SERVICE)
  const slots = [...new Set(all.map((task) => task.Slot))].toSorted((a, b) => a - b)
  return slots.map((slot) => {
    const own = all.filter((task) => task.Slot === slot)
    const wanted = wantedTasks(own)
    return { wanted: wanted.length, past: own.filter((task) => !wanted.includes(task)) }
  })
}

t.test(
  'a container that is killed, stopped or removed by hand is replaced, and its task says what happened',
  async (t) => {
    const before = wantedTasks(await tasksOf(cluster, n1, SERVICE))
    const startMs = performance.now()
    const done = await Promise.all([
      byHand(lab.host('n1'), 'kill', before),
      byHand(lab.host('n2'), 'stop', before),
      byHand(lab.host('n3'), 'rm -f', before),
    ])
    const after = async () => {
      const now = wantedTasks(await tasksOf(cluster, n1, SERVICE)).map((task) => task.ID)
      return done.every((task) => !now.includes(task.ID))
    }
    await cluster.waitFor('all three are replaced', after, WAIT_MS)
    const now = await settled(cluster, n1, SERVICE, FEW, WAIT_MS)
    t.comment(
      `three containers were replaced ${((performance.now() - startMs) / 1_000).toFixed(1)} s after somebody ended them`,
    )
    t.strictSame(
      before
        .filter((task) => !now.some(({ ID }) => ID === task.ID))
        .map((task) => task.ID)
        .toSorted(),
      done.map((task) => task.ID).toSorted(),
      'no other task was touched',
    )
    const slots = await history()
    t.strictSame(
      slots.map(({ wanted }) => wanted),
      Array.from({ length: FEW }, () => 1),
    )
    const past = slots.flatMap((slot) => slot.past)
    const [killed, stopped, removed] = done.map(({ ID }) => past.find((task) => task.ID === ID))
    for (const task of [killed, stopped, removed])
      t.comment(`${task?.Status.State}: ${task?.Status.Err ?? task?.Status.Message}`)
    t.equal(past.length, 3, 'one past task for each')
    t.match(killed, {
      Status: { State: 'failed', Err: 'task: non-zero exit (137)', ContainerStatus: { ExitCode: 137 } },
    })
    t.match(stopped, { Status: { State: 'complete', ContainerStatus: { ExitCode: 0 } } })
    t.match(removed, { Status: { State: 'failed' } })
  },
)

t.test(`${MANY} containers that are killed at once are all replaced, while the cluster takes writes`, async (t) => {
  await cluster.docker(n1, 'service', 'scale', '-d', `${SERVICE}=${MANY}`)
  await running(cluster, n1, SERVICE, MANY, WAIT_MS)
  const before = await settled(cluster, n1, SERVICE, MANY, WAIT_MS)
  const mark = markLogs(lab.hosts)
  const stream = startWriters(lab.hosts, 'killed', 3)
  await stream.more(3, WAIT_MS)
  const startMs = performance.now()
  const killed = await Promise.all(lab.hosts.map(killAllAtOnce))
  t.comment(
    `${killed.reduce((sum, count) => sum + count, 0)} were killed within ${Math.round(performance.now() - startMs)} ms`,
  )
  await running(cluster, n1, SERVICE, MANY, WAIT_MS, before)
  t.comment(`all run again ${((performance.now() - startMs) / 1_000).toFixed(1)} s later`)
  const longestMs = await stream.stop()
  await settled(cluster, n1, SERVICE, MANY, WAIT_MS)
  for (const line of whatWasSeen(stream.attempts, startMs)) t.comment(line)
  t.comment(`never ${Math.round(longestMs)} ms without a write`)
  t.strictSame(
    stream.attempts.filter(({ status }) => status !== 201),
    [],
    'every write was acknowledged',
  )
  t.strictSame(electionsSince(mark, lab.hosts), [], 'nobody was elected')
  const slots = await history()
  t.strictSame(
    slots.map(({ wanted }) => wanted),
    Array.from({ length: MANY }, () => 1),
    'each slot has one task',
  )
  const failed = slots.map(({ past }) => past.filter((task) => task.Status.Err === 'task: non-zero exit (137)').length)
  t.ok(
    failed.every((count) => count >= 1),
    'and one that was killed',
  )
})
