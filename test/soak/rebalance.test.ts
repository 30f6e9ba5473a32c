// A node was drained and is back: its share of the tasks is moved to it, when somebody asks for it and, where the cluster is set so,
// by itself. Clients ask all the while and miss nothing. On the way: a task that keeps failing says when it starts next.

import t from 'tap'
import { sharedCluster } from '../e2e/support/cluster.ts'
import { insideOf } from '../e2e/support/inside.ts'
import { ask, startLoad } from '../e2e/support/outside.ts'

const DEADLINE_MS = 120_000
const PORT = 8490
const RATE = 25
const SETTINGS = {
  'io.swarmctl.rebalance': 'on-join',
  'io.swarmctl.rebalance.after': '1s',
  'io.swarmctl.rebalance.at-once': '3',
}

const cluster = await sharedCluster()
const { lab } = cluster
const [one, two, three] = lab.hosts
if (!one || !two || !three) throw new Error('a lab of three hosts')
t.teardown(async () => {
  for (const host of [two, three]) await cluster.swarmctl(one, 'node', 'update', '--availability', 'active', host.name)
  const labels = Object.keys(SETTINGS).flatMap((label) => ['--label-rm', label])
  await one.swarmctl(['swarm', 'update', ...labels])
  await cluster.reset('rebalance-')
})

const spread = async (service: string): Promise<readonly number[]> => {
  const tasks = await insideOf(cluster, service)
  return lab.hosts.map((host) => tasks.filter((task) => task.host === host).length)
}
const untilSpread = (what: string, service: string, holds: (counts: readonly number[]) => boolean) =>
  cluster.waitFor(what, async () => holds(await spread(service)), DEADLINE_MS)
const availability = (name: string, to: string) => cluster.swarmctl(one, 'node', 'update', '--availability', to, name)

const update = ['--update-order', 'start-first', '--update-monitor', '500ms', '--label', 'io.swarmctl.drain=20s']
const health = ['--health-cmd', 'healthy', '--health-interval', '500ms', '--health-start-period', '60s']
const web = ['--name', 'rebalance-web', '--replicas', '6', '--publish', `${PORT}:8080`, ...update, ...health]
await cluster.docker(one, 'service', 'create', '-d', ...web, 'hello:1')
await cluster.docker(
  one,
  'service',
  'create',
  '-d',
  '--name',
  'rebalance-auto',
  '--replicas',
  '3',
  ...update,
  'hello:1',
)
const failing = ['--name', 'rebalance-failing', '--restart-delay', '100ms', '--entrypoint', '/nothing']
await cluster.docker(one, 'service', 'create', '-d', ...failing, 'hello:1')
await untilSpread('two tasks on each host', 'rebalance-web', (counts) => counts.every((count) => count === 2))
await untilSpread('one task on each host', 'rebalance-auto', (counts) => counts.every((count) => count === 1))
await cluster.waitFor('an answer', () => ask(lab, one.address, PORT).catch(() => undefined), DEADLINE_MS)

const load = startLoad(
  lab,
  RATE,
  lab.hosts.map((host) => `http://${host.address}:${PORT}/`),
)

t.test('what a drained node had comes back when it is asked for', async (t) => {
  await availability(three.name, 'drain')
  await untilSpread('all tasks elsewhere', 'rebalance-web', ([a, b, c]) => a === 3 && b === 3 && c === 0)
  await untilSpread('all tasks elsewhere', 'rebalance-auto', ([a = 0, b = 0, c]) => a + b === 3 && c === 0)
  await availability(three.name, 'active')
  const plan = await cluster.swarmctl(two, 'service', 'rebalance', '--dry-run', 'rebalance-web')
  t.match(plan, /^TASK +ID +FROM +TO +ORDER +WHY\n/)
  t.match(
    plan,
    new RegExp(
      `rebalance-web\\.\\d +\\w{12} +\\S+ +${three.name} +start-first +\\S+ has 3 tasks of the service, ${three.name} none`,
    ),
  )
  t.match(plan, /\n2 tasks would be moved, 1 at a time\. Nothing was changed\.\n$/)
  t.same(await spread('rebalance-web'), [3, 3, 0])
  const moved = await cluster.swarmctl(two, 'service', 'rebalance', '--at-once', '2', 'rebalance-web')
  t.match(moved, /2 tasks to move, 2 at a time\.\n/)
  t.match(moved, /\nrebalance-web: 2 moved\n$/)
  t.same(await spread('rebalance-web'), [2, 2, 2])
  t.match(
    await cluster.swarmctl(one, 'service', 'rebalance', 'rebalance-web'),
    /^Nothing to move: the service is spread as evenly as can be\.\n$/,
  )
  const task = (await insideOf(cluster, 'rebalance-web')).find(({ host }) => host === three)
  t.match(
    await cluster.swarmctl(one, 'why', task?.taskId ?? ''),
    /made to take over from task \S+: \S+ has \d tasks of the service/,
  )
  for (const [words, stderr] of [
    [['service', 'rebalance', '--stop', 'rebalance-web'], /service rebalance-web is not being rebalanced/],
    [['service', 'rebalance', '--at-once', '0', 'rebalance-web'], /invalid argument "0" for "--at-once" flag/],
    [['node', 'rebalance', '--dry-run', 'nowhere'], /node nowhere not found/],
  ] as const) {
    t.match(await one.swarmctl(words), { code: 1, stdout: /^$/, stderr })
  }
  t.match(
    await cluster.swarmctl(one, 'node', 'rebalance', '--dry-run', '--format', '{{.Service}}', 'self'),
    /^(rebalance-auto\n)?$/,
  )
  const none = await one.swarmctl(['service', 'rebalance', 'rebalance-failing'])
  t.match(none, { code: 1, stderr: /service rebalance-failing is left as it is: 0 of 1 replicas run/ })
})

t.test('and by itself where the cluster is set so', async (t) => {
  const labels = Object.entries(SETTINGS).flatMap(([label, value]) => ['--label-add', `${label}=${value}`])
  const bad = await one.swarmctl(['swarm', 'update', '--label-add', 'io.swarmctl.rebalance=always'])
  t.match(bad, { code: 1, stderr: /invalid value "always": must be off or on-join/ })
  await cluster.swarmctl(one, 'swarm', 'update', ...labels)
  await availability(two.name, 'drain')
  await untilSpread('all tasks elsewhere', 'rebalance-web', ([a, b, c]) => a === 3 && b === 0 && c === 3)
  await availability(two.name, 'active')
  await untilSpread('two tasks on each host', 'rebalance-web', (counts) => counts.every((count) => count === 2))
  await untilSpread('one task on each host', 'rebalance-auto', (counts) => counts.every((count) => count === 1))
})

t.test('a task that keeps failing waits longer and longer, and says so', async (t) => {
  const shown = await cluster.waitFor(
    'a third failure',
    async () => {
      const { stdout } = await one.docker(
        ['service', 'ps', '--no-trunc', '--format', '{{.DesiredState}} {{.Error}}', 'rebalance-failing'],
        { to: 'swarmd' },
      )
      return /^Ready .*next start at \S+Z \(\d+\w\w failure in a row\)/m.exec(stdout)?.[0]
    },
    DEADLINE_MS,
  )
  t.comment(shown)
  t.match(await cluster.swarmctl(one, 'why', 'rebalance-failing.1'), /failure in a row/)
})

t.test('no request was lost meanwhile', async (t) => {
  const result = await load.stop()
  t.comment(JSON.stringify(result))
  t.same(result.failures, [])
  t.equal(result.answered, result.sent)
})
