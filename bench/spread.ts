/**
 * How soon a change that is committed is in the kernels of all nodes that it concerns: five hosts, all with tasks on one network,
 * each of them watched by `nft monitor` in its fabric. A service's affinity changes the records of its virtual address and no task,
 * so that the API's answer is the moment of the commit; a smaller scale withdraws one end point, which is a second commit.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import type { LabHost } from '../lab/lab-host.ts'
import { type BenchCluster, pause, until } from './bench-cluster.ts'
import { type Bench, type Figure, type Measure, rounds, sampleOf } from './measure.ts'
import { createService, removeServices, serviceSpec, tasksThatRun } from './services.ts'

const NETWORK = 'bench-spread'
const CHANGES = 4
const LIMIT_MS = 100
const WITHIN_MS = 5_000
const QUIET_MS = 500
/** A table that is made and deleted to see whether a watch has begun: it shows nothing by itself until something changes. */
const PROBE = 'swarmctl_bench'
/** What `nft monitor` writes at the end of each transaction. */
const TRANSACTION = /^# new generation/m

/** When the kernel of a host's fabric took its last changes. */
class KernelWatch {
  readonly host: LabHost
  readonly #process: ChildProcess
  readonly #atMs: number[] = []

  constructor(host: LabHost) {
    this.host = host
    const [program = '', ...args] = host.execArgv(['nsenter', '--net=/run/netns/swarmctl', 'nft', 'monitor'])
    this.#process = spawn(program, args, { stdio: ['ignore', 'pipe', 'ignore'] })
    this.#process.stdout?.on('data', (text: Buffer) => {
      if (TRANSACTION.test(text.toString())) this.#atMs.push(performance.now())
    })
  }

  /** Until it sees what changes. */
  async begun(): Promise<void> {
    await until(`the kernel of ${this.host.name} is watched`, async () => {
      for (const verb of ['add', 'delete']) {
        await this.host.exec(['nsenter', '--net=/run/netns/swarmctl', 'nft', verb, 'table', 'inet', PROBE])
      }
      return this.#atMs.length > 0
    })
  }

  /** The first change from `sinceMs` on; undefined: none yet. */
  first(sinceMs: number): number | undefined {
    return this.#atMs.find((atMs) => atMs >= sinceMs)
  }

  get lastMs(): number {
    return this.#atMs.at(-1) ?? 0
  }

  close(): void {
    this.#process.kill('SIGKILL')
  }
}

interface Spread {
  /** From the API's answer to the first kernel that has the change, and to the last. */
  readonly firstMs: number
  readonly lastMs: number
  /** To the last one, from the request. */
  readonly askedMs: number
}

async function quiet(watches: readonly KernelWatch[]): Promise<void> {
  await until('no kernel changes', async () => watches.every(({ lastMs }) => performance.now() - lastMs > QUIET_MS))
}

async function spread(watches: readonly KernelWatch[], change: () => Promise<unknown>): Promise<Spread> {
  await quiet(watches)
  const askedMs = performance.now()
  await change()
  const answeredMs = performance.now()
  let took: readonly (number | undefined)[] = []
  do {
    await pause(5)
    took = watches.map((watch) => watch.first(askedMs))
    if (performance.now() - askedMs > WITHIN_MS) {
      const silent = watches.filter((_, at) => took[at] === undefined).map(({ host }) => host.name)
      throw new Error(`the change did not come to ${silent.join(', ')} within ${WITHIN_MS / 1000} s`)
    }
  } while (took.includes(undefined))
  const all = took.flatMap((atMs) => atMs ?? [])
  const [first, last] = [Math.min(...all), Math.max(...all)]
  return { firstMs: first - answeredMs, lastMs: last - answeredMs, askedMs: last - askedMs }
}

async function update(cluster: BenchCluster, host: LabHost, id: string, spec: unknown): Promise<void> {
  const { Version } = await cluster.api<{ Version: { Index: number } }>(host, 'GET', `/services/${id}`)
  await cluster.api(host, 'POST', `/services/${id}/update?version=${Version.Index}`, spec)
}

function describe({ firstMs, lastMs, askedMs }: Spread): string {
  return `first kernel ${firstMs.toFixed(0)} ms, last ${lastMs.toFixed(0)} ms after the answer (${askedMs.toFixed(0)} ms after the request)`
}

async function run(bench: Bench): Promise<readonly Figure[]> {
  const { ours } = bench
  const leader = await ours.leader()
  const hosts = ours.lab.hosts
  await ours.api(leader, 'POST', '/networks/create', { Name: NETWORK, Driver: 'overlay' })
  const changes = CHANGES * bench.runs
  const replicas = hosts.length + changes
  const spec = serviceSpec('spread', { replicas })
  const wanted = (count: number, labels: Readonly<Record<string, string>>) => ({
    ...spec,
    Labels: labels,
    TaskTemplate: { ...spec.TaskTemplate, Networks: [{ Target: NETWORK }] },
    Mode: { Replicated: { Replicas: count } },
  })
  const id = await createService(ours, leader, wanted(replicas, {}))
  await until('all replicas run, on all hosts', async () => {
    const tasks = await tasksThatRun(ours, leader, id)
    return tasks.length === replicas && new Set(tasks.map(({ NodeID }) => NodeID)).size === hosts.length
  })
  const watches = hosts.map((host) => new KernelWatch(host))
  const records: Spread[] = []
  const withdrawals: Spread[] = []
  try {
    await Promise.all(watches.map((watch) => watch.begun()))
    let left = replicas
    let labels: Readonly<Record<string, string>> = {}
    for (const _ of rounds(bench)) {
      for (let at = 0; at < CHANGES; at++) {
        labels = at % 2 === 0 ? { 'io.swarmctl.affinity': 'client' } : {}
        const record = await spread(watches, () => update(ours, leader, id, wanted(left, labels)))
        bench.say(`a service's record: ${describe(record)}`)
        left--
        const withdrawal = await spread(watches, () => update(ours, leader, id, wanted(left, labels)))
        bench.say(`an end point: ${describe(withdrawal)}`)
        records.push(record)
        withdrawals.push(withdrawal)
      }
    }
  } finally {
    for (const watch of watches) watch.close()
  }
  await removeServices(ours)
  await until(`${NETWORK} is removed`, async () => {
    await ours.api(leader, 'DELETE', `/networks/${NETWORK}`)
    return true
  })
  const about = { unit: 'ms', better: 'lower' } as const
  return [
    {
      ...about,
      name: 'commit → in the kernels of all nodes that it concerns',
      ours: sampleOf(records.map(({ lastMs }) => lastMs)),
      limit: { worst: LIMIT_MS },
    },
    {
      ...about,
      name: 'smaller scale answered → end point withdrawn by all nodes',
      ours: sampleOf(withdrawals.map(({ lastMs }) => lastMs)),
    },
  ]
}

export const spreading: Measure = { name: 'spread', minutes: 2, run }
