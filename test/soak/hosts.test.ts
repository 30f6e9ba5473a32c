// Five hosts, and what takes longer than an end-to-end test may: planned absences, hundreds of tasks killed at once, a power cut
// that takes every host, and minutes of full load. SEED chooses orders, MINUTES how long the load lasts, TASKS how many are killed.

import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { Lab } from '../../lab/lab.ts'
import type { LabHost } from '../../lab/lab-host.ts'
import { defaultLabDir } from '../../lab/layout.ts'
import { SeededRandom } from '../../src/lib/random.ts'
import { Cluster } from '../e2e/support/cluster.ts'
import { ask } from '../e2e/support/outside.ts'
import { electionsSince, markLogs } from '../e2e/support/raft-log.ts'
import { killAllAtOnce, running, settled, taskContainers, tasksOf, wantedTasks } from '../e2e/support/workload.ts'
import { startWriters, storedSecrets, whatWasSeen } from '../e2e/support/writers.ts'
import { reportSection, seconds } from './report.ts'

const WAIT_MS = 600_000
const SERVICE = 'soak'
const REPLICAS = 20
const PORT = 8080
const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)
const minutes = Number(process.env.MINUTES ?? 10)
const many = Number(process.env.TASKS ?? 500)
const random = new SeededRandom(seed)

const name = 'e2esoak'
const dir = defaultLabDir(name)
t.setTimeout(3_600_000)
t.comment(`SEED=${seed} MINUTES=${minutes} TASKS=${many}`)
t.teardown(() => Lab.down({ name, dir }))
const lab = await Lab.up({ name, dir, managers: 3, workers: 2, liveRestore: true, log: (line) => t.comment(line) })
const cluster = await Cluster.form(lab)
const [n1] = lab.managers as [LabHost]
const [n4, n5] = lab.workers as [LabHost, LabHost]

const create = ['service', 'create', '-d', '--no-resolve-image', '--restart-delay', '100ms']
await cluster.docker(n1, ...create, '--name', SERVICE, '--replicas', String(REPLICAS), 'busybox')
await settled(cluster, n1, SERVICE, REPLICAS, WAIT_MS)

const findings: string[] = []
const found = (line: string): void => {
  t.comment(line)
  findings.push(`- ${line}`)
}
const allContainers = () => Promise.all(lab.hosts.map(taskContainers))
const wanted = async () =>
  wantedTasks(await tasksOf(cluster, n1, SERVICE))
    .map((task) => task.ID)
    .toSorted()

t.test('a swarmd that is killed and back after seven seconds, and one stopped for thirty, move nothing', async (t) => {
  const [containers, tasks] = [await allContainers(), await wanted()]
  t.not(containers[3]?.length, 0)
  t.not(containers[4]?.length, 0)
  const away = async (end: Promise<void>, host: LabHost, awayMs: number) => {
    await end
    await delay(awayMs)
    await host.startSwarmd()
  }
  await Promise.all([away(n4.killSwarmd(), n4, 7_000), away(n5.stopSwarmd(), n5, 30_000)])
  await settled(cluster, n1, SERVICE, REPLICAS, WAIT_MS)
  await delay(15_000) // longer than any grace that is still running
  t.strictSame(await allContainers(), containers, 'no container was touched')
  t.strictSame(await wanted(), tasks, 'no task was moved')
  found("a worker's swarmd killed and back after 7 s, another's stopped for 30 s: no container touched, no task moved")
})

for (const [what, end] of [
  ['restarted', (host: LabHost) => host.stopEngine()],
  ['killed and started', (host: LabHost) => host.killEngine()],
] as const) {
  t.test(`with live-restore an engine that is ${what} keeps its containers, and their tasks`, async (t) => {
    const [containers, tasks] = [await allContainers(), await wanted()]
    await end(n4)
    await delay(3_000)
    await n4.startEngine()
    const backMs = performance.now()
    await settled(cluster, n1, SERVICE, REPLICAS, WAIT_MS)
    await delay(5_000)
    t.strictSame(await allContainers(), containers, 'no container was touched')
    t.strictSame(await wanted(), tasks, 'no task was moved')
    found(`an engine with live-restore ${what} after 3 s: no container touched, no task moved`)
    t.comment(`settled ${seconds(performance.now() - backMs)} after it answered`)
  })
}

t.test(`${many} containers that are killed at once are all replaced`, async (t) => {
  const madeMs = performance.now()
  await cluster.docker(n1, 'service', 'scale', '-d', `${SERVICE}=${many}`)
  await running(cluster, n1, SERVICE, many, WAIT_MS)
  const scaledMs = performance.now() - madeMs
  const before = await settled(cluster, n1, SERVICE, many, WAIT_MS)
  const mark = markLogs(lab.managers)
  const stream = startWriters(lab.managers, 'killed', 3)
  await stream.more(3, WAIT_MS)
  const killMs = performance.now()
  const killed = (await Promise.all(lab.hosts.map(killAllAtOnce))).reduce((sum, count) => sum + count, 0)
  await running(cluster, n1, SERVICE, many, WAIT_MS, before)
  const againMs = performance.now() - killMs
  const longestMs = await stream.stop()
  await settled(cluster, n1, SERVICE, many, WAIT_MS)
  for (const line of whatWasSeen(stream.attempts, killMs)) t.comment(line)
  t.strictSame(
    stream.attempts.filter(({ status }) => status !== 201),
    [],
    'every write was acknowledged',
  )
  t.strictSame(electionsSince(mark, lab.managers), [], 'nobody was elected')
  found(
    `${killed} containers killed at once: all replaced and running after ${seconds(againMs)} (scaled up in ${seconds(scaledMs)});` +
      ` meanwhile never ${seconds(longestMs)} without a write, none refused, no election`,
  )
  await cluster.docker(n1, 'service', 'scale', '-d', `${SERVICE}=${REPLICAS}`)
  await settled(cluster, n1, SERVICE, REPLICAS, WAIT_MS)
})

t.test('five hosts that lose their power together come back in any order, with all that there was', async (t) => {
  await cluster.docker(n1, 'network', 'create', '-d', 'overlay', 'soak-net')
  await cluster.docker(n1, 'service', 'scale', '-d', `${SERVICE}=0`)
  await settled(cluster, n1, SERVICE, 0, WAIT_MS)
  const front = ['--name', 'front', '--network', 'soak-net', '--replicas', '6', '--publish', `${PORT}:8080`]
  await cluster.docker(n1, ...create, ...front, 'hello:1')
  await settled(cluster, n1, 'front', 6, WAIT_MS)
  const answers = async () => {
    await Promise.all(lab.hosts.map((host) => ask(lab, host.address, PORT)))
    return true
  }
  await cluster.waitFor('every node serves the port', answers, WAIT_MS)
  for (let round = 1; round <= 3; round++) {
    const prefix = `reboot-${round}`
    const stream = startWriters(lab.managers, prefix, 6)
    await stream.more(50, WAIT_MS)
    const offMs = performance.now()
    await Promise.all(lab.hosts.map((host) => host.powerOff()))
    await stream.stop()
    const order = lab.hosts.map((host) => ({ host, at: random.below(5_000) })).toSorted((a, b) => a.at - b.at)
    const onMs = performance.now()
    const boots = order.map(async ({ host, at }) => {
      await delay(at)
      await host.boot()
    })
    const again = startWriters(lab.managers, `after-${prefix}`, 3)
    await again.more(1, WAIT_MS)
    const writeMs = performance.now() - onMs
    await Promise.all(boots)
    await again.stop()
    await settled(cluster, n1, 'front', 6, WAIT_MS)
    const runMs = performance.now() - onMs
    await cluster.waitFor('every node serves the port', answers, WAIT_MS)
    const serveMs = performance.now() - onMs
    for (const host of lab.managers) {
      const stored = await storedSecrets(cluster, host, prefix)
      const lost = [...stream.acknowledged].filter(([secret, id]) => stored.get(secret) !== id)
      t.strictSame(lost, [], `all ${stream.acknowledged.size} acknowledged writes are on ${host.name}`)
    }
    t.comment(
      `off for ${seconds(onMs - offMs)}, then ${order.map(({ host, at }) => `${host.name} after ${at} ms`).join(', ')}`,
    )
    found(
      `five hosts without power, on again within ${seconds(order.at(-1)?.at ?? 0)} as ${order.map(({ host }) => host.name).join(' ')}:` +
        ` a write after ${seconds(writeMs)}, all tasks after ${seconds(runMs)}, the published port on every node after` +
        ` ${seconds(serveMs)}; ${stream.acknowledged.size} acknowledged writes, none lost`,
    )
  }
  await cluster.docker(n1, 'service', 'rm', 'front')
})

t.test(`${minutes} minutes of full load elect nobody`, async (t) => {
  await cluster.docker(n1, 'service', 'scale', '-d', `${SERVICE}=${REPLICAS}`)
  await settled(cluster, n1, SERVICE, REPLICAS, WAIT_MS)
  const mark = markLogs(lab.managers)
  const endMs = performance.now() + minutes * 60_000
  let [writes, refused, longestMs, updates] = [0, 0, 0, 0]
  const client = async (number: number) => {
    const host = lab.managers[number % lab.managers.length] ?? n1
    for (let at = 0; performance.now() < endMs; at++) {
      const startMs = performance.now()
      try {
        const body = { Name: `load-${number}-${at}`, Data: 'eA==' }
        const { ID } = await cluster.api<{ ID: string }>(host, 'POST', '/secrets/create', body)
        await cluster.api(host, 'DELETE', `/secrets/${ID}`)
        writes += 2
      } catch (error) {
        t.comment(`${host.name}: ${error instanceof Error ? error.message : error}`)
        refused++
      }
      longestMs = Math.max(longestMs, performance.now() - startMs)
    }
  }
  const updater = async () => {
    const force = ['service', 'update', '-d', '--no-resolve-image', '--force', '--update-parallelism', '5']
    while (performance.now() < endMs) {
      await cluster.docker(n1, ...force, '--update-monitor', '1s', SERVICE)
      const state = async () => {
        const service = await cluster.api<{ UpdateStatus?: { State: string } }>(n1, 'GET', `/services/${SERVICE}`)
        return service.UpdateStatus?.State === 'completed'
      }
      await cluster.waitFor('the update is complete', state, WAIT_MS)
      updates++
    }
  }
  await Promise.all([...Array.from({ length: 16 }, (_, number) => client(number)), updater()])
  const elections = electionsSince(mark, lab.managers)
  t.strictSame(elections, [], 'nobody was elected')
  t.equal(refused, 0, 'nothing was refused')
  found(
    `${minutes} minutes of 16 clients' writes and ${updates} updates of ${REPLICAS} tasks, one after the other: ${writes} writes` +
      ` (${Math.round(writes / minutes / 60)}/s), the slowest pair ${seconds(longestMs)}, none refused, no election`,
  )
})

t.test('the result is written down', async () => {
  if (t.passing()) reportSection('Five hosts', `SEED=${seed}\n\n${findings.join('\n')}`)
})
