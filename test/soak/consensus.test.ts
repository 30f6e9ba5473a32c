// Faults between managers, on real processes: partitions of both kinds, a leader that stands still, a follower that fell far
// behind, clocks that jump. What was acknowledged stays, clients are told the truth, and no container is touched.

import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { LabHost } from '../../lab/lab-host.ts'
import { Cluster } from '../e2e/support/cluster.ts'
import { bareLab } from '../e2e/support/fresh-cluster.ts'
import { electionsSince, linesSince, markLogs } from '../e2e/support/raft-log.ts'
import { settled, taskContainers, tasksOf, wantedTasks } from '../e2e/support/workload.ts'
import { startWriters, storedSecrets, type Writers, whatWasSeen } from '../e2e/support/writers.ts'

const WAIT_MS = 120_000
const SERVICE = 'consensus-web'
const REPLICAS = 6

const lab = await bareLab(t)
const [n1] = lab.hosts as [LabHost]
const others = (host: LabHost): LabHost[] => lab.hosts.filter((other) => other !== host)

// Each host's clock is the machine's and what its file says besides; timers take no notice, as on a machine whose clock is set.
const clockFile = (host: LabHost): string => join(host.paths.dir, 'clock')
const setClock = (host: LabHost, seconds: number): void =>
  writeFileSync(clockFile(host), `+${seconds}\n`.replace('+-', '-'))
for (const host of lab.hosts) setClock(host, 0)
await Promise.all(
  lab.hosts.map((host) =>
    host.restartSwarmd({
      env: {
        LD_PRELOAD: libfaketime(),
        FAKETIME_TIMESTAMP_FILE: clockFile(host),
        FAKETIME_CACHE_DURATION: '1',
        FAKETIME_DONT_FAKE_MONOTONIC: '1',
        DONT_FAKE_MONOTONIC: '1',
      },
    }),
  ),
)
t.teardown(async () => {
  await Promise.all(lab.hosts.map((host) => host.restartSwarmd({})))
})
const cluster = await Cluster.form(lab)
const service = ['service', 'create', '-d', '--no-resolve-image', '--name', SERVICE, '--replicas', String(REPLICAS)]
await cluster.docker(n1, ...service, '--restart-delay', '2500ms', 'busybox')
await settled(cluster, n1, SERVICE, REPLICAS, WAIT_MS)

const allContainers = () => Promise.all(lab.hosts.map(taskContainers))
const wanted = async (asked: LabHost) =>
  wantedTasks(await tasksOf(cluster, asked, SERVICE))
    .map((task) => task.ID)
    .toSorted()

/** Every write that was acknowledged is on every manager, and all say the same. */
async function nothingLost(t: Test, stream: Writers, prefix: string): Promise<void> {
  const stored = await Promise.all(lab.hosts.map((host) => storedSecrets(cluster, host, prefix)))
  for (const [at, host] of lab.hosts.entries()) {
    const lost = [...stream.acknowledged].filter(([name, id]) => stored[at]?.get(name) !== id)
    t.strictSame(lost, [], `all ${stream.acknowledged.size} acknowledged writes are on ${host.name}`)
  }
  t.strictSame(stored[1], stored[0])
  t.strictSame(stored[2], stored[0])
}

const acknowledgedBy = (stream: Writers, host: LabHost, fromMs: number): number =>
  stream.attempts.filter((each) => each.host === host.name && each.status === 201 && each.startMs >= fromMs).length

/** Resolves once each of `hosts` took a write that was begun after `fromMs`, with how long that took. */
async function writesGoOn(stream: Writers, hosts: readonly LabHost[], fromMs: number): Promise<number> {
  const all = () => hosts.every((host) => acknowledgedBy(stream, host, fromMs) > 0)
  await cluster.waitFor(`writes through ${hosts.map((host) => host.name)}`, async () => all(), WAIT_MS)
  return Math.max(
    ...hosts.map((host) => {
      const first = stream.attempts.find(
        (each) => each.host === host.name && each.status === 201 && each.startMs >= fromMs,
      )
      return (first?.endMs ?? Infinity) - fromMs
    }),
  )
}

t.test('a leader that is cut off acknowledges nothing that is lost, and its clients are told', async (t) => {
  const leader = await cluster.leader()
  const stream = startWriters(lab.hosts, 'parted', 6)
  await stream.more(30, WAIT_MS)
  for (const other of others(leader)) await lab.cut(leader.name, other.name)
  const cutMs = performance.now()
  const refusal = async () =>
    stream.attempts.some((each) => each.host === leader.name && each.endMs >= cutMs && each.status !== 201)
  const [elsewhereMs, read] = await Promise.all([
    writesGoOn(stream, others(leader), cutMs),
    cluster.tryDocker(leader, ['secret', 'ls', '-q']).then((read) => ({ ...read, tookMs: performance.now() - cutMs })),
    cluster.waitFor('a client of the one that was cut off is refused', refusal, WAIT_MS, leader),
  ])
  const healMs = performance.now()
  await lab.heal()
  const healedMs = await writesGoOn(stream, [leader], healMs)
  await stream.stop()
  for (const line of whatWasSeen(stream.attempts, cutMs, healMs)) t.comment(line)
  t.comment(`cut off for ${seconds(healMs - cutMs)} s: elsewhere a write after ${seconds(elsewhereMs)} s`)
  t.comment(`its clients could write ${seconds(healedMs)} s after the links were whole`)
  t.comment(`a read there was refused after ${seconds(read.tookMs)} s: ${read.stderr.trim()}`)

  const there = stream.attempts.filter((each) => each.host === leader.name && each.status === 201)
  const inside = there.filter(({ startMs, endMs }) => startMs > cutMs && endMs < healMs)
  t.strictSame(inside, [], 'the one that was cut off acknowledged nothing')
  t.match(read, { code: 1, stderr: /The swarm does not have a leader/ }, 'it does not read from the past either')
  t.not((await cluster.leader()).name, leader.name)
  await nothingLost(t, stream, 'parted')
  // Whether its tasks were replaced depends on how long its clients took: a node is down after some seconds of silence.
  await settled(cluster, leader, SERVICE, REPLICAS, WAIT_MS)
})

t.test('links that carry nothing in one direction, or between two of three, depose no leader', async (t) => {
  const leader = await cluster.leader()
  const [far, near] = others(leader) as [LabHost, LabHost]
  const mark = markLogs(lab.hosts)
  const stream = startWriters(lab.hosts, 'oneway', 6)
  for (const [what, from, to, oneWay] of [
    ['nothing from the leader reaches a follower', leader, far, true],
    ['nothing from a follower reaches the leader', far, leader, true],
    ['a follower and the leader have lost each other', far, leader, false],
  ] as const) {
    await stream.more(10, WAIT_MS)
    await lab.cut(from.name, to.name, { oneWay })
    const cutMs = performance.now()
    await delay(2_500) // longer than any member's election timeout
    await writesGoOn(stream, [leader, near], performance.now())
    const healMs = performance.now()
    await lab.heal(from.name, to.name, { oneWay })
    const healedMs = await writesGoOn(stream, [far], healMs)
    t.comment(`${what} (${far.name}, the leader is ${leader.name}):`)
    for (const line of whatWasSeen(stream.attempts, cutMs, healMs)) t.comment(`  ${line}`)
    t.comment(`  its clients could write ${seconds(healedMs)} s after the link was whole`)
  }
  await stream.stop()
  t.strictSame(electionsSince(mark, lab.hosts), [], 'nobody was elected')
  t.equal((await cluster.leader(far)).name, leader.name)
  await nothingLost(t, stream, 'oneway')
  await settled(cluster, leader, SERVICE, REPLICAS, WAIT_MS)
})

t.test('a leader that stands still for five seconds is replaced, and steps down when it goes on', async (t) => {
  const before = await allContainers()
  const tasks = await wanted(n1)
  const leader = await cluster.leader()
  const rest = others(leader) as [LabHost, LabHost]
  const stream = startWriters(lab.hosts, 'paused', 6)
  await stream.more(30, WAIT_MS)
  leader.pause('swarmd')
  const pauseMs = performance.now()
  const [elsewhereMs] = await Promise.all([writesGoOn(stream, rest, pauseMs), delay(5_000)])
  const resumeMs = performance.now()
  leader.resume('swarmd')
  const resumedMs = await writesGoOn(stream, [leader], resumeMs)
  await stream.stop()
  for (const line of whatWasSeen(stream.attempts, pauseMs, resumeMs)) t.comment(line)
  t.comment(`elsewhere a write after ${seconds(elsewhereMs)} s; there ${seconds(resumedMs)} s after it went on`)
  t.not((await cluster.leader(leader)).name, leader.name, 'it knows that it does not lead')
  await nothingLost(t, stream, 'paused')
  t.strictSame(await allContainers(), before, 'no container was touched')
  t.strictSame(await wanted(leader), tasks, 'no task was moved')
})

t.test('a follower that fell too far behind gets a snapshot while writes go on', async (t) => {
  const leader = await cluster.leader()
  const [slow, near] = others(leader) as [LabHost, LabHost]
  interface Swarm {
    readonly Version: { readonly Index: number }
    readonly Spec: { readonly Raft: Record<string, unknown> } & Record<string, unknown>
  }
  const { Version, Spec } = await cluster.api<Swarm>(leader, 'GET', '/swarm')
  const Raft = { ...Spec.Raft, SnapshotInterval: 100, LogEntriesForSlowFollowers: 10 }
  await cluster.api(leader, 'POST', `/swarm/update?version=${Version.Index}`, { ...Spec, Raft })
  const mark = markLogs(lab.hosts)
  await slow.killSwarmd()
  const stream = startWriters([leader, near], 'behind', 6)
  const startedMs = performance.now()
  await cluster.waitFor(
    'the leader keeps too little for the one that is away',
    async () => linesSince(mark, leader, 'took a snapshot').length >= 2,
    WAIT_MS,
  )
  const count = stream.acknowledged.size
  const returnMs = performance.now()
  await slow.startSwarmd()
  const again = startWriters([slow], 'behind-returned', 1)
  await again.more(1, WAIT_MS)
  const backMs = performance.now() - returnMs
  await again.stop()
  const longestMs = await stream.stop()
  t.comment(
    `${count} writes in ${seconds(returnMs - startedMs)} s while it was away, and ${stream.acknowledged.size - count}`,
  )
  t.comment(
    `in the ${seconds(backMs)} s from its start to a write through it; never ${seconds(longestMs)} s without one`,
  )
  t.ok(linesSince(mark, slow, 'receiving a snapshot').length > 0, 'it got a snapshot')
  t.strictSame(electionsSince(mark, lab.hosts), [], 'nobody was elected')
  await nothingLost(t, stream, 'behind')
  await nothingLost(t, again, 'behind-returned')
})

t.test("a leader's clock that jumps by an hour elects nobody, moves nothing, and holds nothing up", async (t) => {
  const leader = await cluster.leader()
  const mark = markLogs(lab.hosts)
  const stream = startWriters([leader], 'clock', 3)
  for (const [jump, offset, returning] of [
    ['an hour ahead', 3_600, others(leader)[0]],
    ['two hours back', -3_600, others(leader)[1]],
  ] as const) {
    await stream.more(10, WAIT_MS)
    // A restart's delay is running while the clock jumps.
    const containers = await allContainers()
    const at = containers.findIndex((list) => list.length > 0)
    const before = await wanted(leader)
    await lab.hosts[at]?.docker(['kill', containers[at]?.[0]?.split(' ')[0] ?? ''])
    const killedMs = performance.now()
    const untouched = await cluster.waitFor(
      'its successor waits for its delay',
      async () => {
        const now = await wanted(leader)
        return now.length === REPLICAS - 1 && now
      },
      WAIT_MS,
      leader,
    )
    setClock(leader, offset)
    await cluster.waitFor('the clock jumped', async () => Math.abs((await skewOf(leader)) - offset) < 60, WAIT_MS)
    const [returnedMs] = await Promise.all([
      restarted(returning, leader),
      settled(cluster, leader, SERVICE, REPLICAS, WAIT_MS),
    ])
    t.comment(`${jump}: a killed container's successor ran after ${seconds(performance.now() - killedMs)} s at most,`)
    t.comment(`a manager that was restarted took a write after ${seconds(returnedMs)} s`)
    const now = await wanted(leader)
    t.strictSame(
      untouched.filter((id) => !now.includes(id)),
      [],
      'no other task was moved',
    )
    t.equal(before.filter((id) => !now.includes(id)).length, 1)
  }
  await stream.stop()
  setClock(leader, 0)
  for (const line of whatWasSeen(stream.attempts, 0)) t.comment(line)
  t.strictSame(electionsSince(mark, lab.hosts), [], 'nobody was elected')
  t.strictSame(
    stream.attempts.filter(({ status }) => status !== 201),
    [],
    'every write was acknowledged',
  )
  await nothingLost(t, stream, 'clock')
})

/** Restarts a manager's `swarmd`. @returns after how long a write went through it */
async function restarted(host: LabHost | undefined, leader: LabHost): Promise<number> {
  if (!host) throw new Error('three managers are needed')
  const startMs = performance.now()
  const { NodeID } = await cluster.swarmState(host)
  await host.restartSwarmd()
  const node = () => cluster.api<{ Status: { State: string } }>(leader, 'GET', `/nodes/${NodeID}`)
  await cluster.waitFor(`${host.name} is back`, async () => (await node()).Status.State === 'ready', WAIT_MS, leader)
  const own = startWriters([host], `restarted-${host.name}`, 1)
  await own.more(1, WAIT_MS)
  await own.stop()
  return performance.now() - startMs
}

let looks = 0
/** How far the leader is from the machine's time, in seconds. */
async function skewOf(leader: LabHost): Promise<number> {
  const body = { Name: `look-${looks++}`, Data: 'eA==' }
  const { ID } = await cluster.api<{ ID: string }>(leader, 'POST', '/secrets/create', body)
  const { CreatedAt } = await cluster.api<{ CreatedAt: string }>(leader, 'GET', `/secrets/${ID}`)
  return (Date.parse(CreatedAt) - Date.now()) / 1_000
}

function seconds(ms: number): string {
  return (ms / 1_000).toFixed(1)
}

function libfaketime(): string {
  for (const folder of existsSync('/usr/lib') ? readdirSync('/usr/lib') : []) {
    const file = join('/usr/lib', folder, 'faketime/libfaketimeMT.so.1')
    if (existsSync(file)) return file
  }
  throw new Error('libfaketime is missing: apt-get install libfaketime')
}
