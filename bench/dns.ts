/**
 * Names: how long one answer takes a container that asks one after the other and reads each, beside the engine's Swarm mode (how many
 * it gets is in overlay.ts), and what our resolver does by itself, with 10,000 end points and while they change.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LabHost } from '../lab/lab-host.ts'
import { must } from '../lab/run.ts'
import { type BenchCluster, until } from './bench-cluster.ts'
import type { DnsClientResult } from './dns-client.ts'
import { type Bench, type Figure, type Measure, rounds, sampleOf, sides, Values } from './measure.ts'
import { createService, removeServices, runningTasks, serviceSpec } from './services.ts'

const NETWORK = 'bench-dns'
const SERVICE = 'named'
const REPLICAS = 3
const SECONDS = 4
const CLIENTS = ['-c', '4', '-q', '200']
const SLOW_QUESTIONS = 5000
const SERVICES = 1000
const CHANGES_PER_SECOND = 50
/** Beside dnsperf on a second core. */
const TARGET_PER_SECOND = 40_000

interface Container {
  readonly Id: string
  readonly State: { readonly Pid: number }
  readonly NetworkSettings: { readonly Networks: Readonly<Record<string, { readonly IPAddress: string }>> }
}

interface Prepared {
  readonly host: LabHost
  readonly server: string
  /** Into the network namespace of a container. */
  readonly enter: readonly string[]
  readonly addresses: readonly string[]
  remove(): Promise<void>
}

async function prepare(cluster: BenchCluster): Promise<Prepared> {
  const leader = await cluster.leader()
  const network = { Name: NETWORK, Driver: 'overlay' }
  const { Id } = await cluster.api<{ Id: string }>(leader, 'POST', '/networks/create', network)
  const spec = serviceSpec(SERVICE, { replicas: REPLICAS })
  const placed = { Constraints: [`node.hostname==${leader.name}`] }
  const id = await createService(cluster, leader, {
    ...spec,
    TaskTemplate: { ...spec.TaskTemplate, Networks: [{ Target: Id }], Placement: placed },
    // what works without IPVS on either side
    EndpointSpec: { Mode: 'dnsrr' },
  } as typeof spec)
  await until('all tasks run', async () => (await runningTasks(cluster, leader, id)) === REPLICAS)
  const list = await cluster.api<Container[]>(leader, 'GET', '/containers/json')
  const containers = await Promise.all(
    list.map((one) => cluster.api<Container>(leader, 'GET', `/containers/${one.Id}/json`)),
  )
  const ours = containers.filter((one) => one.NetworkSettings.Networks[NETWORK] !== undefined)
  const asker = ours[0]
  if (!asker) throw new Error('no container to ask from')
  const enter = leader.execArgv(['nsenter', `--net=/proc/${asker.State.Pid}/ns/net`])
  const resolvConf = (await leader.docker(['exec', asker.Id, 'cat', '/etc/resolv.conf'])).stdout
  return {
    host: leader,
    server: /^nameserver (\S+)/m.exec(resolvConf)?.[1] ?? '',
    enter,
    addresses: ours.map((one) => one.NetworkSettings.Networks[NETWORK]?.IPAddress ?? ''),
    remove: async () => {
      await removeServices(cluster)
      await until('the network is gone', async () => {
        await cluster.api(leader, 'DELETE', `/networks/${NETWORK}`)
        return true
      })
    },
  }
}

/** @throws where an answer is lost beyond a retry, or of another code than NOERROR */
function answersPerSecond(report: string): number {
  const rate = Number(/Queries per second:\s+([\d.]+)/.exec(report)?.[1])
  const [, code = '', share = ''] = /Response codes:\s+(\w+) \d+ \((\S+)%\)/.exec(report) ?? []
  const lost = Number(/Queries lost:\s+\d+ \(([\d.]+)%\)/.exec(report)?.[1])
  if (!(rate > 0) || code !== 'NOERROR' || share !== '100.00' || lost > 0.1) throw new Error(`dnsperf: ${report}`)
  return rate
}

async function throughput(target: readonly string[], questions: readonly string[]): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'bench-dns-'))
  try {
    const file = join(folder, 'questions')
    writeFileSync(file, `${questions.join('\n')}\n`)
    return answersPerSecond(await must(['dnsperf', ...target, '-d', file, '-l', `${SECONDS}`, ...CLIENTS]))
  } finally {
    rmSync(folder, { recursive: true })
  }
}

async function slowly({ enter, server, addresses }: Prepared): Promise<DnsClientResult> {
  const program = join(import.meta.dirname, 'dns-client.js')
  const argv = [...enter, process.execPath, program, server, String(SLOW_QUESTIONS), SERVICE, ...addresses]
  const result = JSON.parse(await must(argv)) as DnsClientResult
  if (result.wrong > 0) throw new Error(`${result.wrong} answers were wrong`)
  return result
}

/** Our resolver without anything around it. */
async function alone(changesPerSecond: number): Promise<number> {
  const program = join(import.meta.dirname, 'dns-resolver.js')
  const resolver = spawn(process.execPath, [program, String(changesPerSecond)], { stdio: ['pipe', 'pipe', 'inherit'] })
  try {
    const [line] = (await once(resolver.stdout, 'data')) as [Buffer]
    const { port } = JSON.parse(line.toString()) as { port: number }
    const questions = Array.from({ length: SERVICES }, (_, at) => {
      const service = (at * 389) % SERVICES
      return [`svc${service} A`, `tasks.svc${service} A`]
    }).flat()
    return await throughput(['-s', '127.0.0.1', '-p', String(port)], questions)
  } finally {
    resolver.stdin.end()
  }
}

async function run(bench: Bench): Promise<readonly Figure[]> {
  const clusters = sides(bench, 0)
  const prepared = new Map<BenchCluster, Prepared>()
  const p50 = new Values()
  const p99 = new Values()
  const quiet: number[] = []
  const changing: number[] = []
  try {
    for (const cluster of clusters) prepared.set(cluster, await prepare(cluster))
    for (const round of rounds(bench)) {
      for (const cluster of sides(bench, round)) {
        const place = prepared.get(cluster)
        if (!place) throw new Error('not prepared')
        const { p50Us, p99Us } = await slowly(place)
        p50.add(cluster.title, p50Us)
        p99.add(cluster.title, p99Us)
        bench.say(`${cluster.title}: an answer p50 ${p50Us.toFixed(0)} µs, p99 ${p99Us.toFixed(0)} µs`)
      }
      quiet.push(await alone(0))
      changing.push(await alone(CHANGES_PER_SECOND))
      bench.say(`the resolver alone: ${quiet.at(-1)?.toFixed(0)}/s, with changes ${changing.at(-1)?.toFixed(0)}/s`)
    }
  } finally {
    for (const place of prepared.values()) await place.remove()
  }
  return [
    p50.figure(bench, { name: 'a name, p50', unit: 'µs', better: 'lower' }),
    p99.figure(bench, { name: 'a name, p99', unit: 'µs', better: 'lower' }),
    {
      name: `names, resolver alone, ${SERVICES} services`,
      unit: '/s',
      better: 'higher',
      ours: sampleOf(quiet),
      target: TARGET_PER_SECOND,
    },
    {
      name: `the same with ${CHANGES_PER_SECOND} changes a second`,
      unit: '/s',
      better: 'higher',
      ours: sampleOf(changing),
    },
  ]
}

export const dns: Measure = { name: 'dns', minutes: 1, run }
