// The agent with a real engine and a disk: what restarts of swarmd and of the engine do to containers. Its manager is one
// that answers as told.

import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { run } from '../../lab/run.ts'
import type { Assigned } from '../../src/api/dispatcher.ts'
import type { ContainerSpec } from '../../src/api/spec.ts'
import { SystemClock } from '../../src/lib/clock.ts'
import { silentLog } from '../../src/lib/log.ts'
import { SeededRandom, SystemRandom } from '../../src/lib/random.ts'
import { Agent } from '../../src/worker/agent.ts'
import { DockerExecutor } from '../../src/worker/docker/docker-executor.ts'
import { TaskFiles } from '../../src/worker/docker/task-files.ts'
import { LevelWorkerStorage } from '../../src/worker/level-worker-storage.ts'
import { SimulatedNetwork } from '../sim/network.ts'
import { FakeManager } from '../worker/fake-manager.ts'
import { makeOrder, makeSecret, makeTask } from '../worker/task-factory.ts'
import { BOX_IMAGE, WorkerEngine } from './worker-engine.ts'

const clock = new SystemClock()
const random = new SystemRandom()
const engine = await WorkerEngine.up('swarmctl-agent')
t.teardown(() => engine.down())

const network = new SimulatedNetwork({ clock, random: new SeededRandom(1) })
const manager = new FakeManager(network, 'm1')
const SPEC: ContainerSpec = {
  Image: BOX_IMAGE,
  Args: ['/bin/sh', '-c', 'trap "exit 0" TERM; while :; do sleep 60 & wait $!; done'],
}

const running = new Set<() => Promise<void>>()
t.afterEach(async () => {
  for (const stop of running) await stop()
})

function startAgent() {
  const { address } = manager
  const executor = new DockerExecutor({
    ...{ nodeId: 'node1', engine: engine.socket, execRoot: engine.execRoot, clock, log: silentLog },
  })
  const agent = new Agent({
    ...{ nodeId: 'node1', dialer: network.dialer('worker1'), executor, clock, random, log: silentLog },
    storage: new LevelWorkerStorage(join(engine.dir, 'worker')),
    managers: [address],
    address: '',
    dataPathAddress: '',
    featureLevel: 1,
    describe: (description) => description,
    onClusterChange: () => {},
  })
  const abort = new AbortController()
  const ended = agent.run({ signal: abort.signal })
  ended.catch(() => {}) // `stop` throws it
  const stop = async () => {
    running.delete(stop)
    abort.abort()
    await ended
  }
  running.add(stop)
  return { agent, stop }
}

const task = (over: ContainerSpec = {}): Assigned & { kind: 'task' } => ({
  kind: 'task',
  task: makeTask({ id: random.id(), spec: { ContainerSpec: { ...SPEC, ...over } } }),
})

async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let waitedMs = 0; !(await condition()); waitedMs += 20) {
    if (waitedMs > 60_000) throw new Error(`${what} did not come true`)
    await delay(20)
  }
}

/** Name, start and state of every container. */
async function containers(): Promise<readonly string[]> {
  const ids = (await engine.docker('ps', '-aq')).split('\n').filter((id) => id !== '')
  if (ids.length === 0) return []
  const format = '{{.Name}} {{.State.StartedAt}} {{.State.Status}}'
  // One may go in between: then the exit code is 1, and the others are printed.
  const { stdout } = await run(['docker', '-H', `unix://${engine.socket}`, 'inspect', '-f', format, ...ids])
  return stdout.split('\n').filter((line) => line !== '')
}

t.test('a restart of swarmd leaves healthy containers as they were, and tells what happened meanwhile', async (t) => {
  const [kept, crashed] = [task(), task()]
  const keptId = kept.task.id
  manager.assigned = [kept, crashed]
  const first = startAgent()
  await until(() => [keptId, crashed.task.id].every((id) => manager.state(id) === 'running'), 'both tasks running')
  await first.stop()
  const before = await containers()
  await engine.docker('kill', `web.1.${crashed.task.id}`)
  await engine.docker('run', '-d', '--name', 'own', BOX_IMAGE, 'sleep', '600')
  const second = startAgent()
  await until(() => manager.state(crashed.task.id) === 'failed', 'the crash to be told')
  t.match(manager.statuses.get(crashed.task.id), { error: 'task: non-zero exit (137)', container: { ExitCode: 137 } })
  const after = await containers()
  t.ok(after.includes(before.find((line) => line.includes(keptId))!), 'the other was not restarted')
  manager.assign([], [{ kind: 'task', id: crashed.task.id }])
  await until(async () => (await containers()).length === 2, 'the removed task’s container to be gone')
  t.ok(
    (await containers()).some((line) => line.startsWith('/own ')),
    'a container of the machine’s own stays',
  )
  await engine.docker('rm', '-f', 'own')
  await second.stop()
})

t.test('a container removed behind the worker’s back is a failed task', async (t) => {
  const one = task()
  manager.assigned = [one]
  const { stop } = startAgent()
  await until(() => manager.state(one.task.id) === 'running', 'a running task')
  await engine.docker('rm', '-f', `web.1.${one.task.id}`)
  await until(() => manager.state(one.task.id) === 'failed', 'its failure')
  t.match(manager.statuses.get(one.task.id)?.error, /^task: non-zero exit \(137\)$|^dockerexec: container destroyed$/)
  manager.assign([], [{ kind: 'task', id: one.task.id }])
  await stop()
})

t.test(
  'a restart of the engine fails its tasks and the worker goes on; with live-restore nothing happens',
  async (t) => {
    const one = task({ Args: ['/bin/sh', '-c', 'trap "exit 7" TERM; while :; do sleep 60 & wait $!; done'] })
    manager.assigned = [one]
    const { stop, agent } = startAgent()
    await until(() => manager.state(one.task.id) === 'running', 'a running task')
    await engine.stop()
    await engine.start(['--live-restore'])
    await until(() => manager.state(one.task.id) === 'failed', 'the killed task to be told')
    t.equal(manager.statuses.get(one.task.id)?.error, 'task: non-zero exit (7)')
    const two = task()
    manager.assign([two], [{ kind: 'task', id: one.task.id }])
    await until(() => manager.state(two.task.id) === 'running', 'a task after the restart')

    const before = await containers()
    await engine.stop()
    const three = task()
    manager.assign([three])
    await engine.start(['--live-restore'])
    await until(() => manager.state(three.task.id) === 'running', 'a task that came while the engine was away')
    t.ok((await containers()).includes(before[0]!), 'the container ran through')
    t.equal(manager.state(two.task.id), 'running')
    await stop()
    await agent.removeContainers({ signal: new AbortController().signal })
    t.strictSame(await containers(), [], 'a node that leaves takes its containers with it')
  },
)

t.test('the directory of secrets is mounted in memory where the disk would be, and given back', async (t) => {
  const root = mkdtempSync('/tmp/swarmctl-files-')
  t.teardown(() => rmSync(root, { recursive: true, force: true }))
  const files = new TaskFiles(root)
  const spec = { Image: 'x', Secrets: [{ SecretID: 's1', File: { Name: 'pw' } }] }
  const order = makeOrder(makeTask({ id: 'a', spec: { ContainerSpec: spec } }), { secrets: [makeSecret('s1', 'hush')] })
  const [mount] = await files.write(order, spec)
  t.equal(mount?.target, '/run/secrets/pw')
  t.equal((await statfs(join(root, 'task-files'))).type, 0x01021994, 'tmpfs')
  const again = new TaskFiles(root)
  await again.write({ ...order, task: makeTask({ id: 'b' }) }, spec)
  t.strictSame(readdirSync(join(root, 'task-files')).sort(), ['a', 'b'], 'the next process finds the same mount')
  await again.sweep((taskId) => taskId === 'b')
  t.strictSame(readdirSync(join(root, 'task-files')), ['b'])
  await again.unmount()
  t.notOk(existsSync(join(root, 'task-files')))
})
