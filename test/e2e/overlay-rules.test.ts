// The rules in real kernels' tables: two nodes, containers on two overlays and a client outside, all in namespaces.
import t from 'tap'
import type { DataPlaneRecord, OverlayEndpoint, OverlayNetwork, OverlayService } from '../../src/api/data-plane.ts'
import { gatewayBlock } from '../../src/overlay/kernel/fabric-config.ts'
import { CONTROL_PORT, endpoint, ingress, overlayNetwork, Place, PlainNode, service } from './support/plain-fabric.ts'

const prefix = `swr${process.pid}`
const front = overlayNetwork('front', 4097, 1)
const back = overlayNetwork('back', 4098, 2)
const places: Place[] = []
const place = (name: string) => {
  const made = new Place(`${prefix}${name}`)
  places.push(made)
  return made
}

const gatewayAddress = (node: number, last: number) => {
  const block = gatewayBlock(ingress, node)
  return (block?.address ?? '').replace(/\.\d+$/, `.${last}`)
}

const nodes = [new PlainNode(prefix, 1), new PlainNode(prefix, 2)] as const
const [one, two] = nodes
process.on('exit', () => {
  for (const node of nodes) node.close()
  for (const made of places) made.close()
})

// The world: a switch, the hosts, and a client that is no part of the cluster.
const world = place('sw')
const client = place('out')
world.ip('link add br0 type bridge', 'link set br0 up')
function plug(what: Place, name: string, ...addresses: readonly string[]): void {
  world.ip(`link add ${name} type veth peer name eth0 netns ${what.namespace}`, `link set ${name} master br0 up`)
  what.exec('sysctl', '-qw', 'net.ipv6.conf.all.accept_dad=0', 'net.ipv6.conf.default.accept_dad=0')
  what.ip(
    ...addresses.map((address) => `addr add ${address} dev eth0${address.includes(':') ? ' nodad' : ''}`),
    'link set eth0 up',
  )
}
// 10.0.1.5 lies in the subnet of an overlay.
plug(client, 'p0', '10.78.0.100/24', 'fd78::100/64', '10.0.1.5/32')
for (const node of nodes) {
  plug(node.host, `p${node.number}`, `${node.address}/24`, `${node.addressV6}/64`)
  node.host.ip('route add 10.0.1.5 via 10.78.0.100')
  node.wire([1, 2], [front, back])
}

interface Container {
  readonly place: Place
  readonly taskId: string
  readonly network: OverlayNetwork
  readonly address: string
  readonly gateway: string
  readonly node: PlainNode
}

/** A container on one overlay and the gateway network. */
function container(taskId: string, node: PlainNode, network: OverlayNetwork, last: number): Container {
  const made = place(taskId)
  const octet = network === front ? 1 : 2
  const address = `10.0.${octet}.${last}`
  const addresses = [address, `fd00:${octet}::${last}`]
  const gateway = gatewayAddress(node.number, last)
  node.attach(made, network, addresses, 'eth0')
  node.attach(made, ingress, [gateway], 'eth1')
  for (const other of nodes) if (other !== node) other.know(network, addresses, node.number)
  return { place: made, taskId, network, address, gateway, node }
}

const web1 = container('web1', one, front, 11)
const web2 = container('web2', two, front, 12)
const web3 = container('web3', two, front, 13)
const asker = container('ask1', one, front, 21)
const other = container('oth1', one, back, 31)
const webs = [web1, web2, web3]

function endpointsOf(made: Container, serviceId: string, serving = true): readonly OverlayEndpoint[] {
  const octet = made.network === front ? 1 : 2
  const last = made.address.split('.').at(-1)
  const common = { taskId: made.taskId, nodeNumber: made.node.number, serviceId, serving }
  return [
    endpoint({ ...common, networkId: made.network.id, addresses: [made.address, `fd00:${octet}::${last}`] }),
    endpoint({ ...common, networkId: ingress.id, addresses: [made.gateway] }),
  ]
}

const ports = [
  { protocol: 'tcp', published: 8080, target: 80, preferLocal: false },
  { protocol: 'udp', published: 8080, target: 80, preferLocal: false },
  { protocol: 'tcp', published: 8099, target: 80, preferLocal: false },
] as const
const onFront = service({ serviceId: 'web', networkId: front.id, virtualIps: ['10.0.1.2', 'fd00:1::2'] })
const onIngress = service({ serviceId: 'web', networkId: ingress.id, ports })
const empty = service({ serviceId: 'none', networkId: front.id, virtualIps: ['10.0.1.3', 'fd00:1::3'] })
const emptyIngress = service({
  serviceId: 'none',
  networkId: ingress.id,
  ports: [{ protocol: 'tcp', published: 8090, target: 80, preferLocal: false }],
})
for (const node of nodes) {
  node.know(front, ['10.0.1.2', 'fd00:1::2', '10.0.1.3', 'fd00:1::3'], undefined)
}

const networkRecord = (network: OverlayNetwork): DataPlaneRecord => ({ kind: 'overlay-network', network })
const serviceRecord = (one: OverlayService): DataPlaneRecord => ({ kind: 'overlay-service', service: one })
const endpointRecord = (one: OverlayEndpoint): DataPlaneRecord => ({ kind: 'end-point', endpoint: one })
const peerRecord = (node: PlainNode): DataPlaneRecord => ({
  kind: 'peer',
  peer: {
    nodeId: `node${node.number}`,
    hostname: '',
    number: node.number,
    address: node.address,
    port: 4789,
    mtu: 1500,
    encryptionKeys: [],
    encryptionProblem: '',
  },
})

const selfOf = (node: PlainNode) => ({
  nodeId: `node${node.number}`,
  number: node.number,
  address: node.address,
  dataPathPort: 4789,
})
const records: readonly DataPlaneRecord[] = [
  ...nodes.map(peerRecord),
  ...[ingress, front, back].map(networkRecord),
  ...[onFront, onIngress, empty, emptyIngress].map(serviceRecord),
  ...webs.flatMap((web) => endpointsOf(web, 'web')).map(endpointRecord),
  ...[asker, other].flatMap((made) => endpointsOf(made, '')).map(endpointRecord),
]

let revision = 0
function change(...set: readonly DataPlaneRecord[]): void {
  revision++
  for (const node of nodes) {
    const keys = node.store.apply({ self: selfOf(node), revision, complete: false, set, removed: [] })
    node.run(node.rules.change(node.store.state, keys))
  }
}

for (const node of nodes) {
  node.store.apply({ self: selfOf(node), revision, complete: true, set: records, removed: [] })
  node.load()
}
await Promise.all([
  ...webs.map((web) => web.place.request({ op: 'serve', name: web.taskId, port: 80 })),
  other.place.request({ op: 'serve', name: 'other', port: 80 }),
  ...nodes.map((node) => node.host.request({ op: 'serve', name: `host${node.number}`, port: CONTROL_PORT })),
])

const count = (names: readonly string[]) =>
  Object.fromEntries([...new Set(names)].toSorted().map((name) => [name, names.filter((n) => n === name).length]))
const evenly = { web1: 4, web2: 4, web3: 4 }

t.test('connections to a virtual address go to the tasks in turn, on whatever node they are', async (t) => {
  t.same(count(await asker.place.answerers('10.0.1.2', 80, 12)), evenly)
  t.same(count(await asker.place.answerers('10.0.1.2', 80, 12, 'udp')), evenly)
  t.same(count(await asker.place.answerers('fd00:1::2', 80, 12)), evenly)
  t.match(await asker.place.ask('10.0.1.2', 80, { localPort: 4001 }), /^web\d 10\.0\.1\.21 4001$/, 'who see the caller')
})

t.test('a task reaches its own service, itself included', async (t) => {
  t.same(count(await web1.place.answerers('10.0.1.2', 80, 12)), evenly)
  t.same(count(await web2.place.answerers('fd00:1::2', 80, 12)), evenly)
})

t.test('a virtual address without tasks refuses at once', async (t) => {
  t.equal(await asker.place.ask('10.0.1.3', 80), 'ECONNREFUSED')
  t.equal(await asker.place.ask('fd00:1::3', 80), 'ECONNREFUSED')
  t.equal(await asker.place.ask('10.0.1.3', 80, { protocol: 'udp' }), 'ECONNREFUSED')
  t.equal(await client.ask('10.78.0.1', 8090), 'ECONNREFUSED')
})

t.test('a published port is reached through every node, and the client is seen', async (t) => {
  for (const node of nodes) {
    t.same(count(await client.answerers(node.address, 8080, 12)), evenly)
    t.same(count(await client.answerers(node.address, 8080, 12, 'udp')), evenly)
    t.same(count(await client.answerers(node.addressV6, 8080, 12)), evenly)
    for (let at = 0; at < 3; at++) {
      t.match(
        await client.ask(node.address, 8080, { localPort: 5001 + at }),
        new RegExp(`^web\\d 10.78.0.100 ${5001 + at}$`),
      )
      t.match(await client.ask(node.address, 8080, { localPort: 5001 + at, protocol: 'udp' }), / 10.78.0.100 500\d$/)
      t.match(await client.ask(node.addressV6, 8080, { localPort: 5001 + at }), / fd78::100 500\d$/)
    }
  }
})

t.teardown(() => process.exit())
