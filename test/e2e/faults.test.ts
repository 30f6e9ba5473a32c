// Faults on real processes: what was acknowledged stays, and containers are moved only where they are lost. Three managers;
// for the worker's faults n3 is demoted.

import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import type { LabHost } from '../../lab/lab-host.ts'
import { freshCluster } from './support/fresh-cluster.ts'
import { settled, taskContainers, tasksOf, wantedTasks } from './support/workload.ts'
import { startWriters, storedSecrets, whatWasSeen } from './support/writers.ts'

const WAIT_MS = 120_000
/** What a client may have to wait until it is told that there is no leader. */
const REFUSAL_MS = 60_000
const SERVICE = 'faults-web'

const cluster = await freshCluster(t)
const { lab } = cluster
t.teardown(async () => {
  for (const host of lab.hosts) await host.boot()
})
const [n1, n2, n3] = [lab.host('n1'), lab.host('n2'), lab.host('n3')]
const others = (host: LabHost): LabHost[] => lab.hosts.filter((other) => other !== host)

const allContainers = () => Promise.all(lab.hosts.map(taskContainers))
const tasks = (asked: LabHost) => tasksOf(cluster, asked, SERVICE)
const settle = (asked: LabHost, replicas = 6) => settled(cluster, asked, SERVICE, replicas, WAIT_MS)

const seconds = (ms: number): string => (ms / 1_000).toFixed(1)

const idOf = async (host: LabHost): Promise<string> => (await cluster.swarmState(host)).NodeID

function nodeState(asked: LabHost, nodeId: string): Promise<string> {
  return cluster.api<{ Status: { State: string } }>(asked, 'GET', `/nodes/${nodeId}`).then((node) => node.Status.State)
}

async function rejoined(host: LabHost, asked: LabHost): Promise<void> {
  const id = await idOf(host)
  await cluster.waitFor(`${host.name} is back`, async () => (await nodeState(asked, id)) === 'ready', WAIT_MS, asked)
}

const service = ['service', 'create', '-d', '--no-resolve-image', '--name', SERVICE, '--replicas', '6']
await cluster.docker(n1, ...service, '--restart-delay', '100ms', 'busybox')
await settle(n1)

for (const [fault, prefix, end] of [
  ['SIGKILL', 'faults-kill', (host: LabHost) => host.killSwarmd()],
  ['SIGTERM', 'faults-term', (host: LabHost) => host.stopSwarmd()],
] as const) {
  t.test(
    `${fault} of the leader under a stream of writes loses none that was acknowledged, and no container`,
    async (t) => {
      const before = await allContainers()
      const tasksBefore = await tasks(n1)
      const leader = await cluster.leader()
      const rest = others(leader)
      const [asked = n1] = rest
      const stream = startWriters(rest, prefix)
      await stream.more(20, WAIT_MS)
      await end(leader)
      await stream.more(60, WAIT_MS)
      const longestMs = await stream.stop()
      t.comment(`${fault}: at most ${Math.round(longestMs)} ms between two acknowledged writes`)

      const stored = await storedSecrets(cluster, asked, prefix)
      const lost = [...stream.acknowledged].filter(([name, id]) => stored.get(name) !== id)
      t.strictSame(lost, [], `${stream.acknowledged.size} writes were acknowledged`)
      t.not((await cluster.leader(asked)).name, leader.name)

      await leader.startSwarmd()
      await rejoined(leader, asked)
      t.strictSame(await storedSecrets(cluster, leader, prefix), stored, 'the one that was gone says the same')
      t.strictSame(await allContainers(), before, 'no container was touched')
      t.strictSame(
        wantedTasks(await tasks(asked))
          .map((task) => task.ID)
          .toSorted(),
        wantedTasks(tasksBefore)
          .map((task) => task.ID)
          .toSorted(),
        'no task was moved',
      )
    },
  )
}

t.test(
  'without a quorum writes and reads are refused in bounded time, and the return of one manager heals',
  async (t) => {
    const before = await allContainers()
    const [survivor = n1, ...killed] = lab.hosts
    const stream = startWriters(lab.hosts, 'faults-quorum')
    await stream.more(20, WAIT_MS)
    await Promise.all(killed.map((host) => host.killSwarmd()))
    const goneMs = performance.now()
    const asked = async (args: readonly string[]) => ({
      ...(await cluster.tryDocker(survivor, args, { timeoutMs: REFUSAL_MS })),
      tookMs: performance.now() - goneMs,
    })
    const no = {
      code: 1,
      stderr:
        /The swarm does not have a leader\. It's possible that too few managers are online\. Make sure more than half of the managers are online\./,
    }
    const [write, read] = await Promise.all([
      asked(['config', 'create', 'faults-none', '/etc/hostname']),
      asked(['service', 'ls']),
    ])
    t.comment(`a write was refused after ${seconds(write.tookMs)} s: ${write.stderr.trim()}`)
    t.comment(`a read after ${seconds(read.tookMs)} s: ${read.stderr.trim()}`)
    t.match(write, no, 'a write')
    t.match(read, no, 'a read')
    t.match(await asked(['ps', '-q']), { code: 0 }, 'the machine itself answers')
    t.strictSame(await allContainers(), before, 'containers run on')

    const [first = n2, second = n3] = killed
    const returnMs = performance.now()
    await first.startSwarmd()
    await cluster.waitFor(
      'writes are taken again',
      async () => (await cluster.tryDocker(survivor, ['config', 'create', 'faults-again', '/etc/hostname'])).code === 0,
      WAIT_MS,
      survivor,
    )
    t.comment(`writes were taken again ${seconds(performance.now() - returnMs)} s after one of the two was started`)
    // A leader that was left alone may have taken the write already; then it has said that nobody can know.
    const found = await cluster.docker(survivor, 'config', 'ls', '-q', '--filter', 'name=faults-none')
    if (!write.stderr.includes('It is not known whether')) t.equal(found, '', 'refused is refused')
    await second.startSwarmd()
    await rejoined(second, survivor)
    await stream.stop()
    for (const line of whatWasSeen(stream.attempts, goneMs)) t.comment(line)
    for (const host of lab.hosts) {
      const stored = await storedSecrets(cluster, host, 'faults-quorum')
      const lost = [...stream.acknowledged].filter(([name, id]) => stored.get(name) !== id)
      t.strictSame(lost, [], `all ${stream.acknowledged.size} acknowledged writes are on ${host.name}`)
    }
    t.strictSame(await allContainers(), before, 'no container was touched')
  },
)

t.test("a worker's faults", async (t) => {
  await cluster.docker(n1, 'node', 'demote', 'n3')
  const nodeId = await idOf(n3)
  await cluster.waitFor('n3 is a worker', async () => !(await cluster.swarmState(n3)).ControlAvailable, WAIT_MS, n1)
  await settle(n1)

  t.test('SIGKILL of its swarmd and a return after three seconds leave its containers and move no task', async (t) => {
    const before = await allContainers()
    const tasksBefore = wantedTasks(await tasks(n1))
    t.not(before[2]?.length, 0, 'the worker has containers')
    await n3.killSwarmd()
    await delay(3_000)
    await n3.startSwarmd()
    await rejoined(n3, n1)
    t.strictSame(await allContainers(), before)
    t.strictSame(
      wantedTasks(await tasks(n1)).map((task) => task.ID),
      tasksBefore.map((task) => task.ID),
    )
  })

  for (const [what, end] of [
    ['a restart', () => n3.stopEngine()],
    ['SIGKILL', () => n3.killEngine()],
  ] as const) {
    t.test(`${what} of its engine, which takes its containers along, has them replaced`, async (t) => {
      const [first, second, third = []] = await allContainers()
      await end()
      await n3.startEngine()
      const backMs = performance.now()
      await settle(n1)
      t.comment(
        `its ${third.length} tasks ran again ${seconds(performance.now() - backMs)} s after the engine answered`,
      )
      const now = (await allContainers()).flat()
      t.strictSame(
        [...(first ?? []), ...(second ?? [])].filter((line) => !now.includes(line)),
        [],
        'no other was touched',
      )
      // Where the replaced ones went is the scheduler's choice of that moment.
      await cluster.docker(n1, 'service', 'scale', '-d', `${SERVICE}=9`)
      const more = await settle(n1, 9)
      t.not(more.filter((task) => task.NodeID === nodeId).length, 0, 'it is worked with again')
      await cluster.docker(n1, 'service', 'scale', '-d', `${SERVICE}=6`)
      await settle(n1)
    })
  }

  t.test('a power loss moves its tasks; when it returns, it takes up none that was superseded', async (t) => {
    const [first = [], second = []] = await allContainers()
    await n3.powerOff()
    const offMs = performance.now()
    await cluster.waitFor('the node is down', async () => (await nodeState(n1, nodeId)) === 'down', WAIT_MS)
    const downMs = performance.now()
    const moved = await settle(n1)
    t.comment(`it was called down after ${seconds(downMs - offMs)} s; its tasks ran elsewhere`)
    t.comment(`${seconds(performance.now() - offMs)} s after its power was gone`)
    t.notOk(moved.some((task) => task.NodeID === nodeId))
    for (const line of [...first, ...second]) {
      t.ok(
        (await Promise.all([n1, n2].map(taskContainers))).flat().includes(line),
        'a container that was not concerned',
      )
    }
    await n3.boot()
    await rejoined(n3, n1)
    // Stopped ones stay, as the history of their tasks does.
    const superseded = async () =>
      (await tasks(n1)).filter((task) => task.NodeID === nodeId && task.DesiredState !== 'running')
    await cluster.waitFor(
      'what it had is over, and it says so',
      async () => (await superseded()).every((task) => ['failed', 'shutdown', 'complete'].includes(task.Status.State)),
      WAIT_MS,
    )
    await settle(n1)
  })
})
