// A node whose swarmd was away long enough to be held for down, and which comes back without its swarmd-net: its tasks have been
// replaced elsewhere and must stop, but its kernel still balances to them, and nobody there can tell it otherwise for a while.

import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { Lab } from '../../lab/lab.ts'
import { defaultLabDir } from '../../lab/layout.ts'
import { stateLockPath } from '../../src/overlay/instance.ts'
import { Cluster } from '../e2e/support/cluster.ts'
import { ask, startLoad } from '../e2e/support/outside.ts'
import { taskContainers, tasksOf, wantedTasks } from '../e2e/support/workload.ts'

const WAIT_MS = 180_000
const PORT = 8080
const REPLICAS = 4
/** Longer than a swarmd-net takes to be started again on a busy machine. */
const AWAY_MS = 4_000

const name = 'e2ereturn'
const dir = defaultLabDir(name)
t.setTimeout(600_000)
t.teardown(() => Lab.down({ name, dir }))
const lab = await Lab.up({ name, dir, managers: 1, workers: 1, log: (line) => t.comment(line) })
const cluster = await Cluster.form(lab)
const [n1, n2] = [lab.host('n1'), lab.host('n2')]

interface NodeJson {
  readonly ID: string
  readonly Status: { readonly State: string }
}
const node = (host: { readonly name: string }) => cluster.api<NodeJson>(n1, 'GET', `/nodes/${host.name}`)
const runningOn = async (nodeId: string) =>
  wantedTasks(await tasksOf(cluster, n1, 'web')).filter(
    (task) => task.NodeID === nodeId && task.Status.State === 'running',
  ).length

await cluster.docker(
  n1,
  ...['service', 'create', '-d', '--no-resolve-image', '--name', 'web', '--replicas', String(REPLICAS)],
  ...['--publish', `${PORT}:8080`, 'hello:1'],
)
const [first, second] = [(await node(n1)).ID, (await node(n2)).ID]
const spread = async () => (await runningOn(first)) + (await runningOn(second)) === REPLICAS
await cluster.waitFor(`${REPLICAS} tasks run`, spread, WAIT_MS)
await cluster.waitFor('the port is open', async () => (await ask(lab, n2.address, PORT)).hostname, WAIT_MS)

t.test('a node that returns without its swarmd-net loses nobody whom it sends to tasks that must stop', async (t) => {
  const before = (await taskContainers(n2)).length
  t.ok(before > 0, `${before} tasks on n2`)
  const load = startLoad(lab, 50, [`http://${n2.address}:${PORT}/`])
  await n2.killSwarmd()
  await cluster.waitFor('n2 is down', async () => (await node(n2)).Status.State === 'down', WAIT_MS)
  await cluster.waitFor('all run on n1', async () => (await runningOn(first)) === REPLICAS, WAIT_MS)
  t.equal((await taskContainers(n2)).length, before, 'and on n2, where nobody has said anything')

  // nobody else can start on that state while somebody has the lock
  const lock = `require('net').createServer().listen(${JSON.stringify(stateLockPath(join(n2.paths.swarmdData, 'net')))})`
  await n2.exec(['pkill', '-KILL', '-f', 'swarmd-net.mjs'])
  const [command = '', ...args] = n2.execArgv([
    process.execPath,
    '-e',
    `${lock}; setTimeout(() => process.exit(), ${AWAY_MS})`,
  ])
  spawn(command, args, { stdio: 'ignore' })
  await delay(500)
  await n2.startSwarmd()
  const done = async () => (await node(n2)).Status.State === 'ready' && (await taskContainers(n2)).length === 0
  await cluster.waitFor('n2 is back, and its old tasks have ended', done, WAIT_MS)
  await delay(1_000)
  const result = await load.stop()
  t.comment(JSON.stringify(result))
  t.strictSame(result.failures, [], `none of ${result.sent} was lost`)
})
