/**
 * The kernel work of a large cluster, on one node: 1,000 services of 10 tasks over 100 nodes and 20 networks into an empty fabric,
 * and one change of them. In a network namespace of its own, without containers.
 */
import { readFileSync } from 'node:fs'
import { inNetns, netnsPath } from '../lab/network.ts'
import { must, run as runCommand } from '../lab/run.ts'
import type { DataPlaneRecord, OverlayEndpoint, OverlayNetwork, Peer } from '../src/api/data-plane.ts'
import { SystemClock } from '../src/lib/clock.ts'
import { silentLog } from '../src/lib/log.ts'
import { DesiredStore } from '../src/overlay/desired-state.ts'
import { Fabric } from '../src/overlay/kernel/fabric.ts'
import { fabricConfig } from '../src/overlay/kernel/fabric-config.ts'
import { type Bench, type Figure, type Measure, rounds, sampleOf } from './measure.ts'

const NODES = 100
const NETWORKS = 20
const SERVICES = 1000
const TASKS = 10
const CHANGES = 20
const CHANGE_TARGET_MS = 20
const DATA_PATH_PORT = 4789
const SELF = { nodeId: 'node1', number: 1, address: '10.79.0.1', dataPathPort: DATA_PATH_PORT }

function network(at: number): OverlayNetwork {
  const base = { internal: false, encrypted: false, attachable: false, mtu: 0 }
  if (at === 0) {
    const subnets = [{ subnet: '100.64.0.0/11', gateway: '100.64.0.1' }]
    return { ...base, id: 'ingress', name: 'ingress', vni: 4096, subnets, ingress: true }
  }
  const subnets = [{ subnet: `10.${at}.0.0/16`, gateway: `10.${at}.0.1` }]
  return { ...base, id: `n${at}`, name: `n${at}`, vni: 4096 + at, subnets, ingress: false }
}

const peer = (number: number): Peer => ({
  nodeId: `node${number}`,
  hostname: `node${number}`,
  number,
  address: `10.79.0.${number}`,
  port: DATA_PATH_PORT,
  mtu: 1500,
  encryptionKeys: [],
  encryptionProblem: '',
})

function endpoint(service: number, slot: number): OverlayEndpoint {
  const at = service * TASKS + slot
  const inNetwork = Math.floor(service / NETWORKS) * TASKS + slot
  return {
    taskId: `task${at}`,
    networkId: `n${1 + (service % NETWORKS)}`,
    // none of them here: those would have containers
    nodeNumber: 2 + (at % (NODES - 1)),
    addresses: [`10.${1 + (service % NETWORKS)}.${8 + (inNetwork >> 8)}.${inNetwork & 255}`],
    serviceId: `service${service}`,
    serviceName: `service${service}`,
    slot: slot + 1,
    name: `service${service}.${slot + 1}.task${at}`,
    hostname: `task${at}`,
    aliases: [],
    serving: true,
    encrypted: false,
  }
}

function allRecords(): readonly DataPlaneRecord[] {
  const numbers = (count: number) => Array.from({ length: count }, (_, at) => at)
  return [
    ...numbers(NODES).map((at) => ({ kind: 'peer' as const, peer: peer(at + 1) })),
    ...numbers(NETWORKS + 1).map((at) => ({ kind: 'overlay-network' as const, network: network(at) })),
    ...numbers(SERVICES).map((at) => ({
      kind: 'overlay-service' as const,
      service: {
        serviceId: `service${at}`,
        networkId: `n${1 + (at % NETWORKS)}`,
        name: `service${at}`,
        aliases: [],
        virtualIps: [`10.${1 + (at % NETWORKS)}.4.${Math.floor(at / NETWORKS) + 1}`],
        ports: [],
        affinity: false,
      },
    })),
    ...numbers(SERVICES).flatMap((service) =>
      numbers(TASKS).map((slot) => ({ kind: 'end-point' as const, endpoint: endpoint(service, slot) })),
    ),
  ]
}

interface Taken {
  readonly loadMs: number
  readonly loadCpuMs: number
  readonly changeMs: readonly number[]
  /** of one, on average */
  readonly changeCpuMs: number
}

/** Of /proc: USER_HZ is 100 on every Linux that runs containers. */
const MS_PER_TICK = 10

/** What this process and the tools that it ran have used so far. It says more than elapsed time on a busy machine. */
function cpuMs(): number {
  const stat = readFileSync('/proc/self/stat', 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0) * MS_PER_TICK
}

async function measureOnce(name: string): Promise<Taken> {
  await must(['ip', 'netns', 'add', name])
  const config = fabricConfig({ dataPathPort: DATA_PATH_PORT, namespace: `${name}-fabric` })
  const hostNamespace = netnsPath(name)
  try {
    await must([...inNetns(name), 'ip', 'link', 'set', 'lo', 'up'])
    const clock = new SystemClock()
    const fabric = new Fabric({ config, hostNamespace, clock, log: silentLog })
    const store = new DesiredStore()
    await fabric.open(store.state, [])
    const changed = store.apply({ self: SELF, revision: 1, complete: true, set: allRecords(), removed: [] })
    const startedCpuMs = cpuMs()
    const startedMs = performance.now()
    await fabric.apply(store.state, changed)
    const loadMs = performance.now() - startedMs
    const loadedCpuMs = cpuMs()
    const changeMs: number[] = []
    for (let at = 0; at < CHANGES; at++) {
      const moved: DataPlaneRecord = { kind: 'end-point', endpoint: { ...endpoint(at, 0), serving: false } }
      const keys = store.apply({ self: SELF, revision: 2 + at, complete: false, set: [moved], removed: [] })
      const beganMs = performance.now()
      await fabric.apply(store.state, keys)
      changeMs.push(performance.now() - beganMs)
    }
    const changeCpuMs = (cpuMs() - loadedCpuMs) / CHANGES
    await fabric.close()
    return { loadMs, loadCpuMs: loadedCpuMs - startedCpuMs, changeMs, changeCpuMs }
  } finally {
    await Fabric.remove(config, hostNamespace)
    await runCommand(['ip', 'netns', 'delete', name])
  }
}

async function run(bench: Bench): Promise<readonly Figure[]> {
  const loads: number[] = []
  const loadsCpu: number[] = []
  const changes: number[] = []
  const changesCpu: number[] = []
  for (const _ of rounds(bench)) {
    const { loadMs, loadCpuMs, changeMs, changeCpuMs } = await measureOnce(`bench-tables-${process.pid}`)
    loads.push(loadMs)
    changes.push(...changeMs)
    loadsCpu.push(loadCpuMs)
    changesCpu.push(changeCpuMs)
    bench.say(
      `loaded in ${loadMs.toFixed(0)} ms (CPU ${loadCpuMs}), a change in ${sampleOf(changeMs).median.toFixed(1)} ms ` +
        `(CPU ${changeCpuMs.toFixed(1)})`,
    )
  }
  const about = { unit: 'ms', better: 'lower' } as const
  return [
    { ...about, name: '1,000 services × 10 tasks into an empty node', ours: sampleOf(loads) },
    { ...about, name: '1,000 services × 10 tasks, CPU time', ours: sampleOf(loadsCpu) },
    { ...about, name: 'one change of 10,000 end points, CPU time', ours: sampleOf(changesCpu) },
    { ...about, name: 'one change of 10,000 end points', ours: sampleOf(changes), target: CHANGE_TARGET_MS },
  ]
}

export const tables: Measure = { name: 'tables', minutes: 0.5, run }
