/**
 * What the data plane carries: two containers on two hosts, over our overlay and over Docker's, beside the same hosts without
 * either; through a virtual address, through published ports at an entry with and without the task, and encrypted.
 */
import type { LabHost } from '../lab/lab-host.ts'
import { type BenchCluster, until } from './bench-cluster.ts'
import { type Bench, type Figure, type Measure, rounds, sides, Values } from './measure.ts'
import { createService, removeServices } from './services.ts'
import {
  connectionsPerSecond,
  datagramsPerSecond,
  gigabits,
  inContainer,
  onHost,
  type Place,
  roundTrips,
  startEcho,
} from './traffic.ts'

const NETWORK = 'bench-overlay'
const SECRET = 'bench-secret'
const IPERF_PORT = 5201
const ECHO_PORT = 7007
/** Published ports are held on the hosts: what is measured there without them has others. */
const BARE = { iperf: 5301, echo: 7107 } as const
/** Many short samples in turns: what else goes on here meets all paths alike. */
const SAMPLE_SECONDS = 1
const SAMPLE_MS = 500
const BARE_HOSTS = 'bare hosts'

interface TaskJson {
  readonly Status: { readonly State: string; readonly ContainerStatus?: { readonly ContainerID: string } }
  readonly NetworksAttachments?: readonly {
    readonly Network: { readonly Spec: { readonly Name: string } }
    readonly Addresses: readonly string[]
  }[]
}

/** A container at either end. */
interface End {
  readonly host: LabHost
  readonly place: Place
  /** Own address on a network. */
  readonly address: (network: string) => string
}

interface Pair {
  readonly client: End
  readonly server: End
  /** On the encrypted network. */
  readonly hidden: End | undefined
  /** of the server's service on a network; empty with dnsrr */
  readonly virtualIp: (network: string) => string
}

async function makeEnd(
  cluster: BenchCluster,
  name: string,
  host: LabHost,
  { networks, ports }: { readonly networks: readonly string[]; readonly ports: readonly number[] },
): Promise<End> {
  const leader = await cluster.leader()
  const ours = cluster.to === 'swarmd'
  const port = (PublishedPort: number) => ({
    Protocol: 'tcp',
    TargetPort: PublishedPort,
    PublishedPort,
    PublishMode: 'ingress',
  })
  const id = await createService(cluster, leader, {
    Name: name,
    TaskTemplate: {
      ContainerSpec: { Image: 'busybox:latest', Command: ['sleep', '3600'], StopGracePeriod: 1_000_000_000 },
      Placement: { Constraints: [`node.hostname==${host.name}`] },
      Networks: networks.map((Target) => ({ Target })),
      ForceUpdate: 0,
    } as never,
    Mode: { Replicated: { Replicas: 1 } },
    // Docker's virtual addresses and published ports need IPVS, which not every kernel has.
    EndpointSpec: ours ? { Mode: 'vip', Ports: ports.map(port) } : { Mode: 'dnsrr' },
  } as never)
  const filters = encodeURIComponent(JSON.stringify({ service: [id], 'desired-state': ['running'] }))
  const task = await until(`${name} runs`, async () => {
    const tasks = await cluster.api<readonly TaskJson[]>(leader, 'GET', `/tasks?filters=${filters}`)
    return tasks.find(({ Status }) => Status.State === 'running')
  })
  const address = (network: string) => {
    const attached = task.NetworksAttachments?.find(({ Network }) => Network.Spec.Name === network)
    return attached?.Addresses[0]?.split('/')[0] ?? ''
  }
  return { host, address, place: await inContainer(host, task.Status.ContainerStatus?.ContainerID ?? '') }
}

async function makePair(cluster: BenchCluster): Promise<Pair> {
  const leader = await cluster.leader()
  const [clientHost, serverHost] = cluster.lab.workers
  if (!clientHost || !serverHost) throw new Error('a lab without two workers')
  const network = (Name: string, Options: Readonly<Record<string, string>>) =>
    cluster.api<{ Id: string }>(leader, 'POST', '/networks/create', { Name, Driver: 'overlay', Options })
  const { Id } = await network(NETWORK, {})
  const ids = new Map([[NETWORK, Id]])
  if (cluster.to === 'swarmd') ids.set(SECRET, (await network(SECRET, { encrypted: '' })).Id)
  const ports = cluster.to === 'swarmd' ? [IPERF_PORT, ECHO_PORT] : []
  const server = await makeEnd(cluster, 'bench-server', serverHost, { networks: [NETWORK], ports })
  const client = await makeEnd(cluster, 'bench-client', clientHost, { networks: [...ids.keys()], ports: [] })
  // Not the same server: what enters for a service on an encrypted network is encrypted between nodes as well.
  const hidden = ids.has(SECRET)
    ? await makeEnd(cluster, 'bench-hidden', serverHost, { networks: [SECRET], ports: [] })
    : undefined
  const { Endpoint } = await cluster.api<{
    readonly Endpoint: { readonly VirtualIPs?: readonly { readonly NetworkID: string; readonly Addr: string }[] }
  }>(leader, 'GET', '/services/bench-server')
  const virtualIp = (name: string) =>
    Endpoint.VirtualIPs?.find(({ NetworkID }) => NetworkID === ids.get(name))?.Addr.split('/')[0] ?? ''
  return { client, server, hidden, virtualIp }
}

async function removePair(cluster: BenchCluster): Promise<void> {
  await removeServices(cluster)
  const leader = await cluster.leader()
  for (const name of cluster.to === 'swarmd' ? [NETWORK, SECRET] : [NETWORK])
    await until(`${name} is removed`, async () => {
      await cluster.api(leader, 'DELETE', `/networks/${name}`)
      return true
    })
}

/** Where the packets go in a measurement. */
interface Path {
  readonly title: string
  readonly from: Place
  readonly to: Place
  readonly address: string
  readonly iperf: number
  readonly echo: number
}

const CONTAINERS = { iperf: IPERF_PORT, echo: ECHO_PORT } as const
const path = (
  title: string,
  from: Place,
  to: Place,
  address: string,
  ports: typeof CONTAINERS | typeof BARE = CONTAINERS,
): Path => ({
  title,
  from,
  to,
  address,
  ...ports,
})

interface Taken {
  readonly one: Values
  readonly four: Values
  readonly p50: Values
  readonly p99: Values
  readonly connections: Values
  readonly datagrams: Values
}

async function measurePath(bench: Bench, taken: Taken, { title, from, to, address, iperf, echo }: Path): Promise<void> {
  const one = await gigabits(from, to, address, { port: iperf, streams: 1, seconds: SAMPLE_SECONDS })
  const four = await gigabits(from, to, address, { port: iperf, streams: 4, seconds: SAMPLE_SECONDS })
  taken.one.add(title, one)
  taken.four.add(title, four)
  const server = await startEcho(to, echo)
  try {
    const { p50Us, p99Us } = await roundTrips(from, address, echo, SAMPLE_MS)
    taken.p50.add(title, p50Us)
    taken.p99.add(title, p99Us)
    const perSecond = await connectionsPerSecond(from, address, echo, SAMPLE_MS)
    taken.connections.add(title, perSecond)
    bench.say(
      `${title}: ${one.toFixed(2)} Gbit/s, four streams ${four.toFixed(2)}; round trip ${p50Us.toFixed(0)} µs ` +
        `(p99 ${p99Us.toFixed(0)}); ${perSecond.toFixed(0)} connections/s`,
    )
  } finally {
    await server.stop()
  }
}

const VIP = 'virtual address'
const REMOTE = 'published port, remote entry'
const LOCAL = 'published port, local entry'
const CLIENT = 'client to bare host'
const ENCRYPTED = 'encrypted overlay'

/** A network's first answers wait for neighbours, tunnels and sessions. */
async function warmUp({ from, to, address, echo }: Path): Promise<void> {
  const server = await startEcho(to, echo)
  try {
    await until(`${address} answers`, async () => (await connectionsPerSecond(from, address, echo, 20)) > 0)
  } finally {
    await server.stop()
  }
}

async function run(bench: Bench): Promise<readonly Figure[]> {
  const pairs = new Map<BenchCluster, Pair>()
  for (const cluster of sides(bench, 0)) pairs.set(cluster, await makePair(cluster))
  const ours = pairs.get(bench.ours)!
  const outside = bench.ours.lab.clientArgv([])
  const { client, server, hidden } = ours
  const bare = onHost(server.host)
  const paths: readonly Path[] = [
    path(BARE_HOSTS, onHost(client.host), bare, server.host.address, BARE),
    ...[...pairs].map(([{ title }, pair]) =>
      path(title, pair.client.place, pair.server.place, pair.server.address(NETWORK)),
    ),
    path(VIP, client.place, server.place, ours.virtualIp(NETWORK)),
    path(CLIENT, outside, bare, server.host.address, BARE),
    path(REMOTE, outside, server.place, client.host.address),
    path(LOCAL, outside, server.place, server.host.address),
    ...(hidden ? [path(ENCRYPTED, client.place, hidden.place, hidden.address(SECRET))] : []),
  ]
  const taken: Taken = {
    one: new Values(),
    four: new Values(),
    p50: new Values(),
    p99: new Values(),
    connections: new Values(),
    datagrams: new Values(),
  }
  for (const each of paths) await warmUp(each)
  for (const round of rounds(bench, bench.quick ? 2 : 3 * bench.runs)) {
    for (const each of round % 2 === 0 ? paths : paths.toReversed()) await measurePath(bench, taken, each)
    for (const { title, from, to, address, iperf } of paths.filter(
      ({ title }) => title !== ENCRYPTED && title !== LOCAL && title !== REMOTE,
    )) {
      taken.datagrams.add(title, await datagramsPerSecond(from, to, address, { port: iperf, seconds: SAMPLE_SECONDS }))
    }
  }
  for (const cluster of pairs.keys()) await removePair(cluster)
  return figures(bench, taken)
}

/** A figure of one title beside another's. */
function named(values: Values, about: Omit<Figure, 'ours' | 'reference'>, of: string, beside?: string): Figure {
  const ours = values.sample(of)
  if (!ours) throw new Error(`nothing was measured of ${about.name}`)
  const sample = beside === undefined ? undefined : values.sample(beside)
  return { ...about, ours, ...(beside !== undefined && sample && { reference: { what: beside, sample } }) }
}

function figures(bench: Bench, taken: Taken): Figure[] {
  const overlay = bench.ours.title
  const docker = bench.theirs?.title
  const all: Figure[] = []
  const streams = [
    ['1 stream', taken.one],
    ['4 streams', taken.four],
  ] as const
  for (const [what, values] of streams) {
    const about = (name: string, target?: number) =>
      ({ name: `${name}, ${what}`, unit: 'Gbit/s', better: 'higher', ...(target !== undefined && { target }) }) as const
    all.push(
      named(values, about('overlay', 1), overlay, docker),
      named(values, about('overlay: bare'), overlay, BARE_HOSTS),
      { ...named(values, about('virtual address', 0.95), VIP, overlay) },
      named(values, about('published port, remote entry'), REMOTE, CLIENT),
      named(values, about('published port, local entry'), LOCAL, CLIENT),
      named(values, about('encrypted overlay'), ENCRYPTED, overlay),
    )
  }
  all.push(
    named(
      taken.one,
      { name: 'published port, remote entry, target', unit: 'Gbit/s', better: 'higher', target: 6 },
      REMOTE,
    ),
  )
  for (const [what, values] of [
    ['p50', taken.p50],
    ['p99', taken.p99],
  ] as const) {
    const about = (name: string, target?: number) =>
      ({
        name: `round trip ${what}, ${name}`,
        unit: 'µs',
        better: 'lower',
        ...(target !== undefined && { target }),
      }) as const
    all.push(
      named(values, about('overlay', 1), overlay, docker),
      named(values, about('overlay: bare'), overlay, BARE_HOSTS),
      named(values, about('virtual address'), VIP, overlay),
      named(values, about('published port, remote entry'), REMOTE, CLIENT),
      named(values, about('encrypted overlay'), ENCRYPTED, overlay),
    )
  }
  const perSecond = (name: string) => ({ name: `connections, ${name}`, unit: '/s', better: 'higher' }) as const
  all.push(
    named(taken.connections, perSecond('overlay'), overlay, docker),
    named(taken.connections, perSecond('overlay: bare'), overlay, BARE_HOSTS),
    named(taken.connections, perSecond('virtual address'), VIP, overlay),
    named(taken.connections, perSecond('published port, remote entry'), REMOTE, CLIENT),
    named(taken.connections, perSecond('published port, local entry'), LOCAL, CLIENT),
  )
  const packets = (name: string) =>
    ({ name: `UDP packets of 64 bytes, ${name}`, unit: '/s', better: 'higher' }) as const
  all.push(
    named(taken.datagrams, packets('overlay'), overlay, docker),
    named(taken.datagrams, packets('overlay: bare'), overlay, BARE_HOSTS),
  )
  return all
}

export const overlay: Measure = { name: 'overlay', minutes: 3, run }
