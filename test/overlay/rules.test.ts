// The rules as texts: what stands in them, and that the way from one state to the next ends where loading the next would.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import type {
  DataPlaneRecord,
  OverlayEndpoint,
  OverlayNetwork,
  OverlayService,
  Peer,
} from '../../src/api/data-plane.ts'
import { dataPlaneKey } from '../../src/api/data-plane.ts'
import { DesiredStore, EGRESS_NETWORK_ID, type LocalAttachment } from '../../src/overlay/desired-state.ts'
import { inboundOf } from '../../src/overlay/kernel/container-sockets.ts'
import { fabricConfig, fabricPort } from '../../src/overlay/kernel/fabric-config.ts'
import { noteKnown } from '../../src/overlay/rules/balanced-replies.ts'
import { drainingPackets, hasConnections } from '../../src/overlay/rules/draining.ts'
import { hostHoles, rulesByChain } from '../../src/overlay/rules/host-holes.ts'
import { hostTable } from '../../src/overlay/rules/host-table.ts'
import { type RuleChange, RuleSet } from '../../src/overlay/rules/rule-set.ts'
import { flowDeletions, flowListings } from '../../src/overlay/rules/stale-flows.ts'

const config = fabricConfig({ dataPathPort: 4789 })

function network(
  id: string,
  vni: number,
  subnets: readonly string[],
  more: Partial<OverlayNetwork> = {},
): DataPlaneRecord {
  return {
    kind: 'overlay-network',
    network: {
      id,
      name: id,
      vni,
      subnets: subnets.map((subnet) => ({ subnet, gateway: subnet.replace(/0\/\d+$|\/\d+$/, '1') })),
      internal: false,
      encrypted: false,
      attachable: false,
      ingress: false,
      mtu: 0,
      ...more,
    },
  }
}

function peer(number: number, more: Partial<Peer> = {}): DataPlaneRecord {
  return {
    kind: 'peer',
    peer: {
      nodeId: `node${number}`,
      hostname: '',
      number,
      address: `192.0.2.${number}`,
      port: 4789,
      mtu: 1500,
      encryptionKeys: [],
      encryptionProblem: '',
      ...more,
    },
  }
}

function service(serviceId: string, networkId: string, more: Partial<OverlayService> = {}): DataPlaneRecord {
  return {
    kind: 'overlay-service',
    service: {
      serviceId,
      networkId,
      name: serviceId,
      aliases: [],
      virtualIps: [],
      ports: [],
      affinity: false,
      ...more,
    },
  }
}

function endpoint(
  taskId: string,
  networkId: string,
  address: string,
  more: Partial<OverlayEndpoint> = {},
): DataPlaneRecord {
  return {
    kind: 'end-point',
    endpoint: {
      taskId,
      networkId,
      nodeNumber: 1,
      addresses: address.split(' '),
      serviceId: 'web',
      serviceName: 'web',
      slot: 1,
      name: taskId,
      hostname: taskId,
      aliases: [],
      serving: true,
      encrypted: false,
      ...more,
    },
  }
}

function local(serial: number, networkId: string, address: string): LocalAttachment {
  return {
    endpointId: String(serial).padStart(64, '0').split('').reverse().join(''),
    engineNetworkId: 'e'.repeat(64),
    networkId,
    mac: '',
    addresses: [address],
  }
}

const ingress = network('ingress', 4096, ['100.64.0.0/11'], { ingress: true })
const front = network('front', 4097, ['10.0.1.0/24', 'fd00:1::/64'])
const published = { protocol: 'tcp', published: 8080, target: 80, preferLocal: false } as const
const base = [
  ingress,
  front,
  peer(1),
  peer(2),
  service('web', 'front', { virtualIps: ['10.0.1.2', 'fd00:1::2'] }),
  service('web', 'ingress', { ports: [published] }),
  ...[11, 12, 13].flatMap((last) => [
    endpoint(`task${last}`, 'front', `10.0.1.${last} fd00:1::${last}`, { nodeNumber: last % 2 }),
    endpoint(`task${last}`, 'ingress', `100.64.2.${last}`, { nodeNumber: last % 2 }),
  ]),
]

/** A node's rules, and what its kernel would hold. */
class Node {
  readonly store = new DesiredStore()
  readonly rules = new RuleSet({ config, controlPorts: [2377] })
  readonly kernel = new Kernel()
  readonly number: number
  #revision = 0

  constructor(records: readonly DataPlaneRecord[], number = 1, locals: readonly LocalAttachment[] = []) {
    this.number = number
    this.#apply(true, records, [])
    this.kernel.run(this.rules.full(this.store.state, locals))
  }

  #apply(complete: boolean, set: readonly DataPlaneRecord[], removed: readonly DataPlaneRecord[]) {
    const self = { nodeId: `node${this.number}`, number: this.number, address: '', dataPathPort: 4789 }
    this.#revision++
    return this.store.apply({ self, revision: this.#revision, complete, set, removed: removed.map(dataPlaneKey) })
  }

  change(set: readonly DataPlaneRecord[], removed: readonly DataPlaneRecord[] = []): RuleChange {
    return this.run(this.rules.change(this.store.state, this.#apply(false, set, removed)))
  }

  run(change: RuleChange): RuleChange {
    this.kernel.run(change)
    return change
  }
}

/** As much of nft as the scripts use: refuses what nft refuses. */
class Kernel {
  readonly chains = new Map<string, string[]>()
  readonly sets = new Map<string, Map<string, string>>()

  run({ host, fabric }: RuleChange): void {
    this.#script(host, 'host ')
    this.#script(fabric, '')
  }

  set(name: string): ReadonlyMap<string, string> {
    return this.sets.get(name) ?? new Map()
  }

  #script(text: string, where: string): void {
    const blocks = [...text.matchAll(/^table (\S+ \S+) \{\n([\s\S]*?)\n\}$/gm)]
    for (const [, table = ''] of text.matchAll(/^delete table (.*)$/gm)) {
      for (const map of [this.chains, this.sets]) {
        for (const key of map.keys()) if (key.startsWith(`${where}${table} `)) map.delete(key)
      }
    }
    for (const [, table = '', body = ''] of blocks) {
      for (const [, name = '', rules = ''] of body.matchAll(/^ {2}chain (\S+) \{\n([\s\S]*?)\n {2}\}$/gm)) {
        this.chains.set(
          `${where}${table} ${name}`,
          rules.split('\n').map((rule) => rule.trim()),
        )
      }
    }
    const commands = blocks.length === 0 ? text : text.slice(text.lastIndexOf('\n}\n') + 3)
    for (const line of commands.split('\n').filter((one) => one !== '')) this.#command(line, where)
  }

  #command(line: string, where: string): void {
    const element = /^(add|delete) element (\S+ \S+ \S+) \{ (.*) \}$/.exec(line)
    if (element) {
      const [, verb, name = '', list = ''] = element
      const set = this.sets.get(where + name) ?? new Map<string, string>()
      this.sets.set(where + name, set)
      for (const one of list.split(', ')) this.#element(verb === 'add', set, one)
      return
    }
    const [verb, what, family, table, name, ...rest] = line.split(' ')
    const key = `${where}${family} ${table} ${name}`
    if (verb === 'flush' && what === 'map') {
      this.sets.delete(key)
      return
    }
    const rules = this.chains.get(key)
    if (verb === 'add' && what === 'chain') this.chains.set(key, rules ?? [])
    else if (!rules) throw new Error(`no such chain: ${line}`)
    else if (verb === 'flush') rules.length = 0
    else if (verb === 'add' && what === 'rule') rules.push(rest.join(' '))
    else if (verb === 'delete' && rules.length > 0) throw new Error(`not empty: ${line}`)
    else if (verb === 'delete') this.#drop(key, name ?? '')
    else throw new Error(`not understood: ${line}`)
  }

  #drop(key: string, name: string): void {
    const users = [...this.sets.values()].filter((set) => [...set.values()].includes(`goto ${name}`))
    if (users.length > 0) throw new Error(`chain ${name} is used`)
    this.chains.delete(key)
  }

  #element(add: boolean, set: Map<string, string>, text: string): void {
    const cut = text.indexOf(' : ')
    const [key, value] = cut < 0 ? [text, ''] : [text.slice(0, cut), text.slice(cut + 3)]
    const old = set.get(key)
    if (add && old !== undefined && old !== value) throw new Error(`there with another value: ${text}`)
    const chain = /^goto (.*)$/.exec(value)?.[1]
    if (add && chain && !this.chains.has(`inet swarmctl ${chain}`)) throw new Error(`no chain for ${text}`)
    if (!add && old === undefined) throw new Error(`not there: ${text}`)
    if (add) set.set(key, value)
    else set.delete(key)
  }

  /** Chains with the addresses instead of the numbers that stand for them, and all elements but those. */
  get meaning(): {
    readonly chains: Record<string, readonly string[]>
    readonly elements: readonly string[]
    readonly members: number
  } {
    const members = [...this.sets].filter(([name]) => name.includes(' members'))
    const named = (rule: string) =>
      rule.replace(/ mod (\d+)( seed \S+)? offset (\d+) map @(\S+)/, (_, count, seed = '', first, map) => {
        const set = this.set(`inet swarmctl ${map}`)
        return `${seed} ${Array.from({ length: Number(count) }, (_, at) => set.get(String(Number(first) + at)) ?? '?').join(' ')}`
      })
    const elements = [...this.sets].flatMap(([name, set]) =>
      name.includes(' members') ? [] : [...set].map(([key, value]) => `${name} ${key} ${value}`),
    )
    return {
      chains: Object.fromEntries([...this.chains].map(([name, rules]) => [name, rules.map(named)] as const)),
      elements: elements.toSorted(),
      members: members.reduce((sum, [, set]) => sum + set.size, 0),
    }
  }
}

const chainOf = (node: Node, name: string) => node.kernel.meaning.chains[`inet swarmctl ${name}`]

t.test('a virtual address leads to the serving tasks, in an order that begins elsewhere on each node', async (t) => {
  const orders = [1, 2, 3].map((number) => chainOf(new Node(base, number), 'v4_web_front'))
  t.same(orders, [
    ['dnat ip to numgen inc 10.0.1.12 10.0.1.13 10.0.1.11'],
    ['dnat ip to numgen inc 10.0.1.13 10.0.1.11 10.0.1.12'],
    ['dnat ip to numgen inc 10.0.1.11 10.0.1.12 10.0.1.13'],
  ])
  const node = new Node(base)
  t.equal(node.kernel.set('inet swarmctl vips4').get('"br4097" . 10.0.1.2'), 'goto v4_web_front')
  t.equal(node.kernel.set('inet swarmctl vips6').get('"br4097" . fd00:1::2'), 'goto v6_web_front')
  node.change([endpoint('task12', 'front', '10.0.1.12 fd00:1::12', { serving: false })])
  t.same(chainOf(node, 'v4_web_front'), ['dnat ip to numgen inc 10.0.1.13 10.0.1.11'])
})

t.test('with affinity the order is the same on all nodes', async (t) => {
  const records = [...base, service('web', 'front', { virtualIps: ['10.0.1.2'], affinity: true })]
  const [first, ...others] = [1, 2, 3].map((number) => chainOf(new Node(records, number), 'v4_web_front'))
  t.match(first?.[0], /^dnat ip to jhash ip saddr .* 10\.0\.1\.11 10\.0\.1\.12 10\.0\.1\.13$/)
  for (const other of others) t.same(other, first)
})

t.test('what has nobody to serve it is refused, and led again when somebody comes', async (t) => {
  const node = new Node(base)
  const gone = [11, 12, 13].flatMap((last) => [
    endpoint(`task${last}`, 'front', ''),
    endpoint(`task${last}`, 'ingress', ''),
  ])
  node.change([], gone)
  t.equal(node.kernel.set('inet swarmctl vips4').get('"br4097" . 10.0.1.2'), 'goto refuse')
  t.equal(node.kernel.set('inet swarmctl ports6').get('tcp . 8080'), 'goto refuse')
  t.ok(node.kernel.set('host inet swarmctl ports').has('tcp . 8080'), 'by the fabric: the port stays taken')
  t.equal(chainOf(node, 'v4_web_front'), undefined)
  t.equal(node.kernel.meaning.members, 0)
  node.change([endpoint('new', 'front', '10.0.1.40'), endpoint('new', 'ingress', '100.64.2.40')])
  t.same(chainOf(node, 'v4_web_front'), ['dnat ip to 10.0.1.40'])
  t.same(chainOf(node, 'p6_tcp_8080'), ['meta l4proto tcp dnat ip6 to fd73:7761:726d:1::6440:228 : 80'])
})

t.test('a change is as large as what it concerns', async (t) => {
  const many = Array.from({ length: 500 }, (_, at) => [
    service(`s${at}`, 'front', { virtualIps: [`10.0.${100 + (at >> 8)}.${at & 255}`] }),
    ...[1, 2].map((slot) => endpoint(`s${at}-${slot}`, 'front', `10.0.${slot}.${at & 255}`, { serviceId: `s${at}` })),
  ]).flat()
  const node = new Node([...base, ...many])
  const change = node.change([endpoint('s7-1', 'front', '10.0.1.7', { serviceId: 's7', serving: false })])
  t.equal(change.host, '')
  t.ok(change.fabric.split('\n').length < 12)
  t.notMatch(change.fabric, /s8/)
  const idle = node.change([endpoint('s7-1', 'front', '10.0.1.7', { serviceId: 's7', serving: false })])
  t.same(idle, { host: '', fabric: '', flows: [] }, 'nothing new is nothing to do')
})

t.test('a port that prefers local tasks has only those, where there are some', async (t) => {
  const ports = [{ ...published, preferLocal: true }]
  const records = [...base, service('web', 'ingress', { ports })]
  const rule = (number: number) => chainOf(new Node(records, number), 'p4_tcp_8080')?.[0]
  t.match(rule(1), /100\.64\.2\.13 100\.64\.2\.11 : 80$/)
  t.match(rule(3), /100\.64\.2\.11 100\.64\.2\.12 100\.64\.2\.13 : 80$/)
})

t.test('ports that others have on this host are left to them, while the fabric still knows them', async (t) => {
  const node = new Node(base)
  node.run(node.rules.setPortsHere(node.store.state, { taken: new Set(['8080/tcp']), at: new Map() }))
  t.notOk(node.kernel.set('host inet swarmctl ports').has('tcp . 8080'))
  t.ok(node.kernel.set('inet swarmctl ports4').has('tcp . 8080'))
  node.run(node.rules.setPortsHere(node.store.state, { taken: new Set(), at: new Map() }))
  t.ok(node.kernel.set('host inet swarmctl ports').has('tcp . 8080'))
})

t.test('a port that is for some addresses is led in at those of this node alone', async (t) => {
  const udp = { ...published, protocol: 'udp', addresses: ['10.1.0.0/16', 'fd00::5'] } as const
  const node = new Node([...base, service('web', 'ingress', { ports: [], portsAt: [udp] })])
  const sets = () =>
    ['ports', 'ports_at4', 'ports_at6'].map((name) => [...node.kernel.set(`host inet swarmctl ${name}`).keys()])
  const hold = (...addresses: string[]) =>
    node.rules.setPortsHere(node.store.state, { taken: new Set(), at: new Map([['8080/udp', addresses]]) })
  t.same(sets(), [[], [], []], 'at none before they are held')
  t.ok(node.kernel.set('inet swarmctl ports4').has('udp . 8080'), 'the fabric knows the port')
  const change = hold('10.1.2.3', 'fd00::5')
  node.run(change)
  t.same(sets(), [[], ['10.1.2.3 . udp . 8080'], ['fd00::5 . udp . 8080']])
  t.same(change.flows, [{ kind: 'port', port: 8080 }])
  const other = hold('10.1.2.4', 'fd00::5')
  node.run(other)
  t.same(sets(), [[], ['10.1.2.4 . udp . 8080'], ['fd00::5 . udp . 8080']])
  t.same(other.flows, [{ kind: 'port', port: 8080 }], 'datagrams to the address that went are led in no longer')
  node.run(node.rules.setPortsHere(node.store.state, { taken: new Set(), at: new Map() }))
  t.same(sets(), [[], [], []])

  const here = { ...local(7, 'ingress', '100.64.1.9'), ports: [{ ...udp, published: 53, target: 53 }] }
  node.run(node.rules.attach(node.store.state, here))
  t.same(sets(), [[], [], []])
  node.run(node.rules.setPortsHere(node.store.state, { taken: new Set(), at: new Map([['53/udp', ['10.1.2.3']]]) }))
  t.same(sets(), [[], ['10.1.2.3 . udp . 53'], []], 'and so is one container’s')
})

t.test('a container may send with its own addresses, on the gateway network with the derived one', async (t) => {
  const here = local(7, EGRESS_NETWORK_ID, '100.96.0.9')
  const node = new Node(base)
  node.run(node.rules.attach(node.store.state, here))
  const port = `"${fabricPort(here.endpointId)}" . 02:42:64:60:00:09`
  t.same([...node.kernel.set('bridge swarmctl ports4').keys()], [`${port} . 100.96.0.9`])
  t.same([...node.kernel.set('bridge swarmctl ports6').keys()].toSorted(), [
    `${port} . fd73:7761:726d:1::6460:9`,
    `${port} . fe80::42:64ff:fe60:9`,
  ])
  t.equal(node.kernel.set('bridge swarmctl targets6').size, 2)
  node.run(node.rules.detach(node.store.state, here.endpointId))
  for (const set of ['ports4', 'ports6', 'targets6']) t.equal(node.kernel.set(`bridge swarmctl ${set}`).size, 0)
})

t.test('a task on internal networks only has no way out, whatever it publishes', async (t) => {
  const node = new Node([
    ...base,
    network('inner', 4099, ['10.0.3.0/24'], { internal: true }),
    endpoint('shut', 'inner', '10.0.3.9'),
    endpoint('shut', 'ingress', '100.64.2.99'),
  ])
  const confined = () => [...node.kernel.set('inet swarmctl confined4').keys()]
  t.same(confined(), ['100.64.2.99'])
  node.change([endpoint('shut', 'front', '10.0.1.99')])
  t.same(confined(), [])
})

t.test('nodes are known by tunnel address, port and MAC', async (t) => {
  const node = new Node([...base, peer(3, { port: 4800, address: '2001:db8::3', controlPort: 3377 })])
  t.same([...node.kernel.set('host inet swarmctl nodes4').keys()], ['192.0.2.1', '192.0.2.2'])
  t.same([...node.kernel.set('host inet swarmctl nodes6').keys()], ['2001:db8::3'])
  t.same([...node.kernel.set('host inet swarmctl tunnels').keys()].toSorted(), ['4789', '4800'])
  t.same([...node.kernel.set('host inet swarmctl tunnels_sealed').keys()].toSorted(), ['5789', '5800'])
  const control = ['tcp . 2377', 'tcp . 3377', 'udp . 4789', 'udp . 4800', 'udp . 5789', 'udp . 5800']
  t.same(
    [...node.kernel.set('host inet swarmctl control').keys()].toSorted(),
    control,
    'nothing of it is for containers',
  )
  t.equal(node.kernel.set('inet swarmctl marks').get('02:42:64:40:06:01'), String(0x20003))
  t.equal(node.kernel.set('inet swarmctl zones_sealed').get('02:42:64:40:06:01'), String(0x2003))
  node.change([], [peer(3)])
  t.same([...node.kernel.set('host inet swarmctl tunnels').keys()], ['4789'])
})

t.test("bridges of the engine's own networks are known by name", async (t) => {
  const node = new Node(base)
  const bridges = () => [...node.kernel.set('host inet swarmctl engine_bridges').keys()]
  node.run(node.rules.setEngineBridges(node.store.state, ['br-0123456789ab', 'br-0123456789ac']))
  node.run(node.rules.setEngineBridges(node.store.state, ['br-0123456789ac']))
  t.same(bridges(), ['"br-0123456789ac"'])
  node.run(node.rules.full(node.store.state, []))
  t.same(bridges(), ['"br-0123456789ac"'], 'also after all was loaded anew')
})

t.test('subnets that lie in one another make one range', async (t) => {
  const node = new Node([
    ...base,
    network('wide', 4100, ['10.0.0.0/16', '10.0.4.0/24']),
    network('far', 4101, ['10.1.0.0/16']),
  ])
  t.same([...node.kernel.set('inet swarmctl subnets4').keys()].toSorted(), ['10.0.0.0/16', '10.1.0.0/16'])
  const host = [...node.kernel.set('host inet swarmctl subnets4').keys()].toSorted()
  t.same(host, ['10.0.0.0/16', '10.1.0.0/16', '100.64.0.0/11', '100.96.0.0/16', '100.97.0.0/16'])
})

t.test('datagrams to who serves no more are forgotten, and those to ports that lead elsewhere', async (t) => {
  const node = new Node(base)
  const off = node.change([endpoint('task12', 'front', '10.0.1.12 fd00:1::12', { nodeNumber: 0, serving: false })])
  t.same(off.flows, [
    { kind: 'back-end', address: '10.0.1.12' },
    { kind: 'back-end', address: 'fd00:1::12' },
  ])
  const ports = [published, { ...published, protocol: 'udp', published: 53 } as const]
  t.same(node.change([service('web', 'ingress', { ports })]).flows, [{ kind: 'port', port: 53 }])
  const listing = [
    'udp      17 29 src=10.0.1.21 dst=10.0.1.2 sport=4 dport=80 src=10.0.1.12 dst=10.0.1.21 sport=80 dport=4 mark=0 use=1',
    'udp      17 29 src=10.0.1.22 dst=10.0.1.2 sport=4 dport=80 [UNREPLIED] src=10.0.1.12 dst=10.0.1.22 sport=80 dport=4 use=1',
    'udp      17 29 src=10.0.1.22 dst=10.0.1.2 sport=5 dport=80 src=10.0.1.11 dst=10.0.1.22 sport=80 dport=5 mark=0 use=1',
    'udp      17 29 src=10.0.1.22 dst=10.0.1.12 sport=6 dport=80 src=10.0.1.12 dst=10.0.1.22 sport=80 dport=6 mark=0 use=1',
    'udp      17 29 src=fd00:1:0:0::9 dst=fd00:1::2 sport=4 dport=80 src=fd00:1:0::12 dst=fd00:1::9 sport=80 dport=4 use=1',
  ].join('\n')
  const args = (flows: RuleChange['flows']) =>
    flowDeletions(flows, listing).map((one) => `${one.place} ${one.args.join(' ')}`)
  const expected = [
    'fabric -D -f ipv4 -p udp --orig-dst 10.0.1.2 --reply-src 10.0.1.12',
    'fabric -D -f ipv6 -p udp --orig-dst fd00:1::2 --reply-src fd00:1::12',
  ]
  t.same(args(off.flows), expected, 'not those that named the task themselves')
  const listed = (flows: RuleChange['flows']) => flowListings(flows).map((one) => one.join(' '))
  t.same(listed(off.flows), ['-L -f ipv4 -p udp', '-L -f ipv6 -p udp'])
  t.same(listed([{ kind: 'gone', address: '10.0.1.12' }]), ['-L -f ipv4 -p tcp'], 'each walks the whole table')
  t.same(listed([{ kind: 'port', port: 53 }]), [])
  t.same(
    args([{ kind: 'others', addresses: ['10.0.1.11'], known: [], virtualIps: [] }]),
    expected,
    'nor those of a start',
  )
  t.same(args([{ kind: 'port', port: 53 }]), [
    'host -D -f ipv4 -p udp --orig-port-dst 53',
    'host -D -f ipv6 -p udp --orig-port-dst 53',
  ])
})

t.test('connections to an end point that is gone are forgotten, not those that are ending or that stay', async (t) => {
  const node = new Node(base)
  const task = endpoint('task12', 'front', '10.0.1.12 fd00:1::12', { nodeNumber: 2 })
  const kinds = (flows: RuleChange['flows']) => flows.map(({ kind }) => kind)
  t.same(kinds(node.change([endpoint('task12', 'front', '10.0.1.12 fd00:1::12', { serving: false })]).flows), [
    'back-end',
    'back-end',
  ])
  const { flows } = node.change([], [task])
  t.same(flows, [
    { kind: 'gone', address: '10.0.1.12' },
    { kind: 'gone', address: 'fd00:1::12' },
  ])
  t.same(node.change([], [task]).flows, [], 'once')
  const other = (more: Partial<OverlayEndpoint>) => endpoint('task13', 'front', '10.0.1.13', { nodeNumber: 2, ...more })
  node.change([other({})])
  const lost = [{ kind: 'gone', address: '10.0.1.13' }]
  t.same(node.change([other({ serving: false, lost: true })]).flows.slice(1), lost, 'nor those to a node that is down')
  t.same(node.change([], [other({})]).flows, [], 'once')
  node.change([other({})])
  const line = (state: string, from: string, to: string, by: string) =>
    `tcp      6 431999 ${state} src=${from} dst=${to} sport=4 dport=80 src=${by} dst=${from} sport=80 dport=4 [ASSURED] mark=0 use=1`
  const listing = [
    line('ESTABLISHED', '10.0.1.21', '10.0.1.2', '10.0.1.12'),
    line('SYN_SENT', '10.0.1.21', '10.0.1.2', '10.0.1.12'),
    line('FIN_WAIT', '10.0.1.22', '10.0.1.2', '10.0.1.12'),
    line('ESTABLISHED', '10.0.1.22', '10.0.1.2', '10.0.1.11'),
    line('ESTABLISHED', '10.0.1.22', '10.0.1.12', '10.0.1.12'),
    line('ESTABLISHED', 'fd00:1::9', 'fd00:1::2', 'fd00:1::12'),
    'udp      17 29 src=10.0.1.21 dst=10.0.1.2 sport=4 dport=80 src=10.0.1.12 dst=10.0.1.21 sport=80 dport=4 mark=0 use=1',
  ].join('\n')
  const args = (flushes: RuleChange['flows']) => flowDeletions(flushes, listing).map((one) => one.args.join(' '))
  const expected = [
    '-D -f ipv4 -p tcp --state ESTABLISHED --orig-dst 10.0.1.2 --reply-src 10.0.1.12',
    '-D -f ipv4 -p tcp --state SYN_SENT --orig-dst 10.0.1.2 --reply-src 10.0.1.12',
    '-D -f ipv6 -p tcp --state ESTABLISHED --orig-dst fd00:1::2 --reply-src fd00:1::12',
  ]
  t.same(args(flows), expected)
  const [start] = node.rules.full(node.store.state, []).flows
  t.same(start && args([start]).filter((one) => one.includes('tcp')), expected, 'also where they went before a start')
})

t.test('packets and connections of what is about to stop, as nft and conntrack print them', async (t) => {
  const listing = `table inet swarmctl {
	set draining4 {
		type ipv4_addr
		counter
		elements = { 10.0.0.1 counter packets 12 bytes 700, 10.0.0.2 counter packets 0 bytes 0 }
	}
}`
  t.same(
    [...drainingPackets(listing)],
    [
      ['10.0.0.1', 12],
      ['10.0.0.2', 0],
    ],
  )
  const flow = 'src=10.0.1.21 dst=10.0.1.2 sport=4 dport=80 src=10.0.1.12 dst=10.0.1.21 sport=80 dport=4'
  t.ok(hasConnections(`tcp      6 431999 ESTABLISHED ${flow} [ASSURED] mark=0 use=1\n`))
  t.ok(hasConnections(`tcp      6 119 FIN_WAIT ${flow} [ASSURED] mark=0 use=1\n`), 'half closed: an answer may come')
  t.ok(hasConnections(`udp      17 29 ${flow} mark=0 use=1\n`))
  for (const state of ['TIME_WAIT', 'CLOSE', 'LAST_ACK', 'SYN_SENT']) {
    t.notOk(hasConnections(`tcp      6 119 ${state} ${flow} [ASSURED] mark=0 use=1\n`), state)
  }
  t.notOk(hasConnections(''))
})

t.test("what is missing of the host's table, as nft prints it", async (t) => {
  const rules = rulesByChain(hostTable(config))
  t.equal(rules.get('postrouting'), 4)
  t.equal(rules.get('raw_output'), 5)
  const listing = (forward: string, ports: string) => `table inet swarmctl {
	set ports {
		type inet_proto . inet_service${ports}
	}

	chain forward {
		type filter hook forward priority filter; policy accept;${forward}
	}
}
`
  const wanted = new Map([['forward', 2]])
  const elements = new Map([['ports', 3]])
  const two = '\n\t\tiifname != "fab0" accept\n\t\tct status dnat accept'
  const three = '\n\t\telements = { tcp . 80,\n\t\t\t     tcp . 8080, udp . 53 }'
  t.same(hostHoles(listing(two, three), wanted, elements), [])
  t.same(hostHoles(listing('\n\t\tct status dnat accept', three), wanted, elements), ['chain forward'])
  t.same(hostHoles(listing('', ''), wanted, elements), ['chain forward', 'set ports'])
  t.same(hostHoles('table inet swarmctl {\n}\n', wanted, elements), ['chain forward', 'set ports'])
})

t.test('connections to a container, as its own sockets tell of them', async (t) => {
  const info = (segments: number) => `cubic rto:204 bytes_acked:3 segs_out:${segments} segs_in:1 send 9Mbps`
  const listing = [
    'LISTEN 0 511 *:80 *:* cubic cwnd:10',
    'LISTEN 0 511 0.0.0.0:40000 0.0.0.0:* cubic cwnd:10',
    `ESTAB 0 0 [::ffff:10.0.1.12]:80 [::ffff:10.0.1.21]:4001 ${info(5)}`,
    `CLOSE-WAIT 1 0 10.0.1.12:40000 10.0.1.21:4002 ${info(7)}`,
    `ESTAB 0 0 10.0.1.12%eth0:22 10.0.1.21:4003 ${info(1)}`,
    `FIN-WAIT-1 0 9 [fd00:1::c]:80 [fd00:1::15]:4004 ${info(1)}`,
    `ESTAB 0 0 10.0.1.12:50000 10.0.1.13:80 ${info(100)}`,
    `ESTAB 0 0 127.0.0.1:80 127.0.0.1:4005 ${info(100)}`,
    'TIME-WAIT 0 0 10.0.1.12:80 10.0.1.21:4006',
    `LAST-ACK 0 0 10.0.1.12:80 10.0.1.21:4007 ${info(100)}`,
    '',
  ].join('\n')
  t.same(inboundOf(listing, ['10.0.1.12', 'fd00:1:0::c']), { connections: 4, segments: 18 })
  t.same(inboundOf(listing, ['fd00:1::c']), { connections: 1, segments: 2 })
  t.same(inboundOf('', ['10.0.1.12']), { connections: 0, segments: 0 })
})

t.test('what conntrack knows of virtual addresses is noted, where an answer may come', async (t) => {
  const flow = (from: string, to: string, by: string) =>
    `src=${from} dst=${to} sport=4 dport=80 src=${by} dst=${from} sport=80 dport=4 [ASSURED] mark=0 use=1`
  const listing = [
    `tcp      6 431999 ESTABLISHED ${flow('10.0.1.21', '10.0.1.2', '10.0.1.12')}`,
    `tcp      6 100 CLOSE_WAIT ${flow('10.0.1.22', '10.0.1.2', '10.0.1.12')}`,
    `tcp      6 10 TIME_WAIT ${flow('10.0.1.23', '10.0.1.2', '10.0.1.12')}`,
    `tcp      6 431999 ESTABLISHED ${flow('10.0.1.24', '10.0.1.12', '10.0.1.12')}`,
    `tcp      6 431999 ESTABLISHED ${flow('10.78.0.9', '169.254.77.2', '100.64.1.12')}`,
    `tcp      6 431999 ESTABLISHED ${flow('fd00:1::9', 'fd00:0001:0000:0000:0000:0000:0000:0002', 'fd00:1::12')}`,
    'udp      17 29 src=10.0.1.21 dst=10.0.1.2 sport=5 dport=53 [UNREPLIED] src=10.0.1.13 dst=10.0.1.21 sport=53 dport=5 mark=0',
  ].join('\n')
  t.same(noteKnown(listing, new Set(['10.0.1.2', 'fd00:1::2'])).split('\n'), [
    `add element bridge swarmctl_balanced balanced4 { 10.0.1.12 . tcp . 80 . 10.0.1.21 . 4 timeout 5d, 10.0.1.12 . tcp . 80 . 10.0.1.22 . 4 timeout 3m, 10.0.1.13 . udp . 53 . 10.0.1.21 . 5 timeout 3m }`,
    `add element bridge swarmctl_balanced balanced6 { fd00:1::12 . tcp . 80 . fd00:1::9 . 4 timeout 5d }`,
    '',
  ])
  t.equal(noteKnown(listing, new Set()), '')
})

t.test('whatever changes, in whatever order: the tables are those that a start would load', async () => {
  const networks = [
    front,
    network('back', 4098, ['10.0.2.0/24']),
    network('back', 4098, ['10.0.2.0/24'], { internal: true }),
  ]
  const record = fc.oneof(
    fc.constantFrom(ingress, ...networks),
    fc.integer({ min: 1, max: 3 }).map((number) => peer(number)),
    fc
      .record({ id: fc.constantFrom('web', 'api'), at: fc.constantFrom('front', 'back'), affinity: fc.boolean() })
      .map(({ id, at, affinity }) =>
        service(id, at, { affinity, virtualIps: [`10.0.${at === 'front' ? 1 : 2}.${id === 'web' ? 2 : 3}`] }),
      ),
    fc
      .record({ id: fc.constantFrom('web', 'api'), ports: fc.subarray([8080, 8081]), preferLocal: fc.boolean() })
      .map(({ id, ports, preferLocal }) =>
        service(id, 'ingress', {
          ports: ports.map((port) => ({ ...published, published: id === 'web' ? port : port + 10, preferLocal })),
        }),
      ),
    fc
      .record({
        task: fc.integer({ min: 1, max: 5 }),
        at: fc.constantFrom('front', 'back', 'ingress'),
        serving: fc.boolean(),
        encrypted: fc.boolean(),
        nodeNumber: fc.integer({ min: 1, max: 2 }),
      })
      .map(({ task, at, ...more }) => {
        const prefix = { front: '10.0.1', back: '10.0.2', ingress: '100.64.2' }[at]
        return endpoint(`task${task}`, at, `${prefix}.${10 + task}`, { ...more, serviceId: task % 2 ? 'web' : 'api' })
      }),
  )
  const step = fc.record({ set: fc.array(record, { maxLength: 4 }), removed: fc.array(record, { maxLength: 3 }) })
  const here = local(3, 'back', '10.0.2.13')
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
      const node = new Node(base, 1, [here])
      for (const { set, removed } of steps) node.change(set, removed)
      const anew = new Kernel()
      anew.run(new RuleSet({ config, controlPorts: [2377] }).full(node.store.state, [here]))
      assert.deepEqual(node.kernel.meaning, anew.meaning)
    }),
    { numRuns: 100 },
  )
})
