/**
 * What the worker costs: the time until 50 containers run on an engine of its own, created and started bare through
 * dockerode (all at once, and at most so many at once) and through the task manager with its executor.
 *   node build/bench/worker.js [CONTAINERS] [ROUNDS]
 */
import Docker from 'dockerode'
import type { Task } from '../src/api/objects.ts'
import { SystemClock } from '../src/lib/clock.ts'
import { silentLog } from '../src/lib/log.ts'
import { SystemRandom } from '../src/lib/random.ts'
import { DockerExecutor } from '../src/worker/docker/docker-executor.ts'
import { Limiter } from '../src/worker/docker/limiter.ts'
import { TaskManager } from '../src/worker/task-manager.ts'
import { BOX_IMAGE, WorkerEngine } from '../test/e2e/worker-engine.ts'
import { makeOrder, makeTask } from '../test/worker/task-factory.ts'

const [containers = 50, rounds = 3] = process.argv.slice(2).map(Number)
const NODE_ID = 'bench'
const clock = new SystemClock()
const random = new SystemRandom()
const COMMAND = ['/bin/sh', '-c', 'trap "exit 0" TERM; while :; do sleep 60 & wait $!; done']

async function bare(engine: WorkerEngine, image: string, atOnce: number): Promise<number> {
  const docker = new Docker({ socketPath: engine.socket })
  const limiter = new Limiter(atOnce)
  const startedMs = clock.nowMs()
  const made = await Promise.all(
    Array.from({ length: containers }, () =>
      limiter.run('begin', async () => {
        const container = await docker.createContainer({ Image: image, Cmd: COMMAND })
        await container.start()
        return container
      }),
    ),
  )
  const tookMs = clock.nowMs() - startedMs
  await Promise.all(made.map((container) => limiter.run('begin', () => container.remove({ force: true, v: true }))))
  return tookMs
}

async function managed(engine: WorkerEngine, image: string, concurrency: number): Promise<number> {
  const executor = new DockerExecutor({
    ...{ nodeId: NODE_ID, engine: engine.socket, execRoot: engine.execRoot, clock, log: silentLog, concurrency },
  })
  const running = new Set<string>()
  let done = () => {}
  const manager = new TaskManager({
    executor,
    clock,
    random,
    log: silentLog,
    order: (task) => makeOrder(task),
    onStatus: (task, status) => {
      if (status.state === 'running' && running.add(task.id).size === containers) done()
    },
  })
  const abort = new AbortController()
  const listed = new Promise<void>((resolve) => {
    const watcher = Object.assign(Object.create(manager) as TaskManager, {
      onList: (list: Parameters<TaskManager['onList']>[0]) => {
        manager.onList(list)
        resolve()
      },
      onChange: manager.onChange.bind(manager),
      onGone: manager.onGone.bind(manager),
      onLost: manager.onLost.bind(manager),
    })
    void executor.watch(watcher, abort.signal)
  })
  await listed
  const startedMs = clock.nowMs()
  const all = new Promise<void>((resolve) => {
    done = resolve
  })
  const spec = { ContainerSpec: { Image: image, Args: COMMAND, StopGracePeriod: 0 } }
  const tasks: Task[] = Array.from({ length: containers }, () => makeTask({ id: random.id(), nodeId: NODE_ID, spec }))
  for (const task of tasks) manager.assign(task)
  await all
  const tookMs = clock.nowMs() - startedMs
  for (const task of tasks) manager.unassign(task.id)
  await manager.untilEmpty(abort.signal)
  abort.abort()
  await manager.close()
  return tookMs
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0
}

const engine = await WorkerEngine.up('swarmctl-bench')
try {
  const image = (await engine.docker('image', 'inspect', '-f', '{{.Id}}', BOX_IMAGE)).trim()
  await bare(engine, image, 8)
  const variants: Readonly<Record<string, () => Promise<number>>> = {
    'bare, all at once': () => bare(engine, image, containers),
    'bare, 8 at once': () => bare(engine, image, 8),
    'task manager, 8 at once': () => managed(engine, image, 8),
    'task manager, 16 at once': () => managed(engine, image, 16),
    'task manager, no limit': () => managed(engine, image, containers),
  }
  const results = new Map<string, number[]>()
  for (let round = 0; round < rounds; round++)
    for (const [name, run] of Object.entries(variants)) results.set(name, [...(results.get(name) ?? []), await run()])
  console.log(`${containers} containers until all run, median of ${rounds} rounds`)
  for (const [name, times] of results)
    console.log(
      `${name.padEnd(26)} ${(median(times) / 1_000).toFixed(2)} s  (${times.map((ms) => (ms / 1_000).toFixed(2)).join(' ')})`,
    )
} finally {
  await engine.down()
}
