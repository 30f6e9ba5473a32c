// The kernel's part of the data plane, without a kernel: names and numbers, what follows from which record, and the order in which it
// is brought about.

import t from 'tap'
import type { DataPlaneKey, DataPlaneRecord } from '../../src/api/data-plane.ts'
import { dataPlaneKey, endpointMac } from '../../src/api/data-plane.ts'
import { containsAddress, parseAddress, parseCidr } from '../../src/lib/cidr.ts'
import { SystemClock, sleep } from '../../src/lib/clock.ts'
import { SeededRandom } from '../../src/lib/random.ts'
import { inSlices } from '../../src/lib/slices.ts'
import { DesiredStore, EGRESS_NETWORK_ID, type Self } from '../../src/overlay/desired-state.ts'
import { DesiredKernel, type KernelChange } from '../../src/overlay/kernel/desired-kernel.ts'
import { describeEntry, type EntryMap } from '../../src/overlay/kernel/entry.ts'
import {
  bridgeMac,
  DNS_ADDRESS,
  encryptedPortOf,
  fabricConfig,
  fabricPort,
  gatewayBlock,
  gatewayIpv6,
  peerMark,
  routingTable,
  wireguardAddress,
} from '../../src/overlay/kernel/fabric-config.ts'
import { overlayMtu, underlayMtu } from '../../src/overlay/kernel/mtu.ts'
import { observedEntries } from '../../src/overlay/kernel/observe.ts'
import { type Plan, plan } from '../../src/overlay/kernel/plan.ts'
import { tellsOfHostLoss, tellsOfLoss } from '../../src/overlay/kernel/watcher.ts'
import { RuleSet } from '../../src/overlay/rules/rule-set.ts'
import { LineKernel } from './support/line-kernel.ts'
import { endpoint, INGRESS, localOf, network, peer, service } from './support/records.ts'

const config = fabricConfig({ dataPathPort: 4789 })
const self: Self = { nodeId: 'node1', number: 1, address: '10.78.0.1', dataPathPort: 4789 }
const front = network('front', 4097)

function desired(set: readonly DataPlaneRecord[], as: Self = self): DesiredKernel {
  const store = new DesiredStore()
  const kernel = new DesiredKernel(config)
  const changed = store.apply({ self: as, revision: 1, complete: true, set, removed: [] })
  kernel.apply(store.state, changed)
  return kernel
}

const lines = (entries: EntryMap) => [...entries.values()].map(describeEntry)
const peerRecord = (number: number, over = {}): DataPlaneRecord => ({
  kind: 'peer',
  peer: peer(number, `10.78.${number >> 8}.${number & 255}`, over),
})
const gateway: DataPlaneRecord = { kind: 'overlay-network', network: INGRESS }
const overlay: DataPlaneRecord = { kind: 'overlay-network', network: front }

t.test('end points without an IPv4 address have MACs of their own', async (t) => {
  t.equal(endpointMac(['fd00:1::5', '10.0.1.5']), '02:42:0a:00:01:05')
  const six = network('six', 4102, { subnets: [{ subnet: 'fd00:6::/64', gateway: 'fd00:6::1' }] })
  const kernel = desired([
    { kind: 'overlay-network', network: six },
    peerRecord(1),
    peerRecord(2),
    ...['fd00:6::5', 'fd00:6::6'].map((address): DataPlaneRecord => {
      return { kind: 'end-point', endpoint: endpoint(address, 'six', 2, [address]) }
    }),
  ])
  const macs = [...kernel.entries.values()].flatMap((entry) => (entry.kind === 'tunnel-fdb' ? [entry.mac] : []))
  t.equal(new Set([...macs, bridgeMac(six)]).size, 3, macs.join())
})

t.test('names and numbers', async (t) => {
  const taken = new Set<string>()
  for (let instance = 0; instance <= 62; instance++) {
    const one = fabricConfig({ instance, dataPathPort: 4789 })
    const subnet = parseCidr(one.linkSubnet)
    const dns = parseAddress(DNS_ADDRESS)
    t.notOk(subnet && dns && containsAddress(subnet, dns), `instance ${instance}: the resolver's address is no link's`)
    for (const name of [one.namespace, one.hostLink, one.linkSubnet, one.linkSubnetV6]) {
      t.notOk(taken.has(name), 'no two instances share a name or a network')
      taken.add(name)
    }
    t.ok(one.hostLink.length <= 15)
  }
  t.throws(() => fabricConfig({ instance: 63, dataPathPort: 4789 }), { code: 'INSTANCE_OUT_OF_RANGE' })
  t.match(fabricConfig({ dataPathPort: 4789 }), {
    namespace: 'swarmctl',
    hostLink: 'fab0',
    hostLinkAddress: '169.254.77.1',
    fabricLinkAddress: '169.254.77.2',
    hostLinkAddressV6: 'fd73:7761:726d:2::a9fe:4d01',
    encryptedPort: 5789,
  })
  t.equal(encryptedPortOf(65_000), 64_000)
  t.equal(fabricPort('0123456789abcdef'), 'fh0123456789a')
  t.equal(wireguardAddress(300), '100.97.1.44')
  t.equal(gatewayIpv6('100.64.2.1'), 'fd73:7761:726d:1::6440:201')
  t.match(gatewayBlock(INGRESS, 300), {
    subnet: '100.66.88.0/23',
    address: '100.66.88.1',
    mac: '02:42:64:42:58:01',
    subnetV6: 'fd73:7761:726d:1::6442:5800/119',
  })
  t.equal(gatewayBlock({ ...INGRESS, subnets: [{ subnet: '10.11.0.0/24', gateway: '10.11.0.1' }] }, 16), undefined)
  for (const number of [1, 153, 154, 155, 300, 4094]) {
    t.ok(routingTable(number) > 255 && routingTable(number) < 32_766, "no table or priority of the kernel's")
    t.equal(peerMark(number) & 0xfff, number)
  }
})

t.test('the MTU of overlays follows the smallest link between nodes', async (t) => {
  const plain = { mtu: 0, encrypted: false, subnets: [{ subnet: '10.0.1.0/24', gateway: '10.0.1.1' }] }
  const dual = { ...plain, subnets: [{ subnet: 'fd00::/64', gateway: 'fd00::1' }] }
  for (const [underlay, mtu, encrypted] of [
    [1400, 1350, 1270],
    [1450, 1400, 1320],
    [1500, 1450, 1370],
    [9001, 8951, 8871],
  ] as const) {
    t.equal(overlayMtu(plain, underlay, '10.78.0.1'), mtu)
    t.equal(overlayMtu({ ...plain, encrypted: true }, underlay, '10.78.0.1'), encrypted)
    t.equal(overlayMtu(plain, underlay, 'fd00::1'), mtu - 20, 'over IPv6 the outer header is longer')
  }
  t.equal(overlayMtu({ ...plain, mtu: 1200 }, 1500, '10.78.0.1'), 1200, 'as given')
  t.equal(overlayMtu({ ...dual, encrypted: true }, 1400, '10.78.0.1'), 1280, 'IPv6 needs 1280')
  t.equal(overlayMtu(plain, 500, '10.78.0.1'), 576)
  t.equal(underlayMtu([peer(1, '10.78.0.1', { mtu: 9001 }), peer(2, '10.78.0.2', { mtu: 0 })]), 9001)
  t.equal(underlayMtu([peer(1, '10.78.0.1', { mtu: 9001 }), peer(2, '10.78.0.2', { mtu: 1400 })]), 1400)
  t.equal(underlayMtu([]), 1500)

  const store = new DesiredStore()
  const kernel = new DesiredKernel(config)
  const change = (set: readonly DataPlaneRecord[], revision: number) => {
    const changed = store.apply({ self, revision, complete: false, set, removed: [] })
    return kernel.apply(store.state, changed)
  }
  change([gateway, overlay, peerRecord(1), peerRecord(2)], 1)
  const local = localOf(endpoint('a', 'front', 1, ['10.0.1.5']))
  kernel.attach(local)
  const { after } = change([peerRecord(2, { mtu: 1400 })], 2)
  t.same(
    new Set(lines(after).map((line) => /link set (\S+) mtu 1350/.exec(line)?.[1])),
    new Set(['br4097', 'brg', fabricPort(local.endpointId), 'vx4097', 'vxg']),
    'every link of the node follows, and nothing else changes',
  )
})

t.test('what follows from a record', async (t) => {
  const remote = endpoint('b', 'front', 155, ['10.0.1.6', 'fd00:1:0::6'])
  const kernel = desired([
    gateway,
    overlay,
    peerRecord(1),
    peerRecord(155, { port: 4799 }),
    { kind: 'end-point', endpoint: remote },
  ])
  const all = lines(kernel.entries)
  for (const line of [
    'fdb replace 02:42:0a:00:01:06 dev vx4097 dst 10.78.0.155 port 4799 self permanent',
    'fdb replace 02:42:0a:00:01:06 dev vx4097 master static',
    'neigh replace 10.0.1.6 lladdr 02:42:0a:00:01:06 dev vx4097 nud permanent',
    'neigh replace fd00:1::6 lladdr 02:42:0a:00:01:06 dev vx4097 nud permanent',
    'route replace default via 100.65.54.1 dev vxg onlink table 10155',
    '-4 rule add pref 10155 fwmark 0x2009b/0x3ffff lookup 10155',
    '-6 rule add pref 10155 fwmark 0x2009b/0x3ffff lookup 10155',
    'route replace 100.65.54.0/23 via 100.65.54.1 dev vxg onlink',
  ]) {
    t.ok(all.includes(line), line)
  }
  t.notOk(
    all.some((line) => line.includes('vxge')),
    'nothing is encrypted',
  )
  const vip = service('s', 'front', { virtualIps: ['10.0.1.2'] })
  const own = endpoint('a', 'front', 1, ['10.0.1.5'])
  const more = desired([
    gateway,
    overlay,
    peerRecord(1),
    { kind: 'overlay-service', service: vip },
    { kind: 'end-point', endpoint: own },
  ])
  t.ok(
    lines(more.entries).includes('neigh replace 10.0.1.2 lladdr 02:42:0a:00:01:01 dev vx4097 nud permanent'),
    "a VIP is the gateway's",
  )
  t.notOk(
    lines(more.entries).some((line) => line.includes('10.0.1.5')),
    'an own end point is no tunnel entry',
  )
  const alone = desired([overlay], self)
  t.notOk(
    lines(alone.entries).some((line) => line.includes('vxg')),
    'without a gateway network there is no way between gateways',
  )
  t.ok(lines(alone.entries).includes('addr replace 100.96.0.1/16 dev brg'), 'but a way out')
  const noIpv6 = new DesiredKernel(config, false)
  t.notOk(
    lines(noIpv6.entries).some((line) => line.includes('::') || line.startsWith('-6')),
    'a kernel without IPv6',
  )
})

t.test('encrypted networks go to the WireGuard addresses, by a port of their own', async (t) => {
  const sealed = network('sealed', 4098, { encrypted: true })
  const kernel = desired([
    gateway,
    { kind: 'overlay-network', network: sealed },
    peerRecord(1),
    peerRecord(2),
    { kind: 'end-point', endpoint: endpoint('b', 'sealed', 2, ['10.0.1.6']) },
    { kind: 'end-point', endpoint: endpoint('b', 'ingress', 2, ['100.64.4.9'], { encrypted: true }) },
  ])
  const all = lines(kernel.entries)
  t.ok(all.some((line) => line.startsWith('link vx4098 type vxlan id 4098 local 100.97.0.1 dstport 5789 proxy')))
  t.ok(all.includes('fdb replace 02:42:0a:00:01:06 dev vx4098 dst 100.97.0.2 self permanent'))
  t.ok(all.some((line) => line.startsWith('link vxge type vxlan id 4096 local 100.97.0.1 dstport 5789 ')))
  t.ok(all.includes('route replace 100.64.4.9 via 100.64.4.1 dev vxge onlink'))
  t.ok(all.includes('route replace default via 100.64.4.1 dev vxge onlink table 20002'))
  t.ok(all.includes('-4 rule add pref 20002 fwmark 0x30002/0x3ffff lookup 20002'))
  t.notOk(
    all.some((line) => line.includes('vx4098') && line.includes('10.78.')),
    'never to the address in clear',
  )
})

t.test(
  'an address that changes hands is where the newer end point says, and where the older one was when that goes',
  async (t) => {
    const store = new DesiredStore()
    const kernel = new DesiredKernel(config)
    const change = (set: readonly DataPlaneRecord[], removed: readonly DataPlaneKey[] = []) =>
      kernel.apply(store.state, store.apply({ self, revision: 1, complete: false, set, removed }))
    store.apply({ self, revision: 1, complete: true, set: [], removed: [] })
    const at = (task: string, number: number): DataPlaneRecord => ({
      kind: 'end-point',
      endpoint: endpoint(task, 'front', number, ['10.0.1.6']),
    })
    const target = () => {
      const entry = kernel.entries.get('tunnel-fdb vx4097 02:42:0a:00:01:06')
      return entry?.kind === 'tunnel-fdb' ? entry.target : undefined
    }
    change([overlay, peerRecord(1), peerRecord(2), peerRecord(3), at('old', 2)])
    change([at('new', 3)])
    t.equal(target(), '10.78.0.3')
    change([], [dataPlaneKey(at('old', 2))])
    t.equal(target(), '10.78.0.3')
    change([at('old', 2)])
    change([], [dataPlaneKey(at('old', 2))])
    t.equal(target(), '10.78.0.3')
    change([], [dataPlaneKey(at('new', 3))])
    t.equal(target(), undefined)
  },
)

t.test(
  '600 changes of records: each increment leads where a fresh start leads, by lines that a kernel takes',
  async (t) => {
    for (const seed of [1, 2, 3]) {
      const world = new World(seed)
      for (let round = 0; round < 200; round++) {
        world.change()
        const wrong = world.differences()
        if (wrong.length > 0) return t.fail(`seed ${seed}, round ${round}: ${wrong.slice(0, 5).join('; ')}`)
      }
      t.ok(world.entryCount > 50, `${world.entryCount} entries in the end`)
    }
  },
)

/** Random records and a kernel that follows them, and a foreign hand in it. */
class World {
  readonly #random: SeededRandom
  readonly #store = new DesiredStore()
  readonly #desired = new DesiredKernel(config)
  readonly #kernel = new LineKernel(['lo', 'up0'])
  #self: Self = self
  #revision = 0

  constructor(seed: number) {
    this.#random = new SeededRandom(seed)
    this.#whole()
  }

  get entryCount(): number {
    return this.#kernel.entries.size
  }

  change(): void {
    const dice = this.#random.below(20)
    if (dice === 0) this.#break()
    else if (dice === 1) this.#locals()
    else if (dice === 2 && this.#random.below(4) === 0) this.#moveSelf()
    else this.#records()
  }

  differences(): readonly string[] {
    const fresh = new DesiredKernel(config)
    for (const local of this.#desired.locals.values()) fresh.attach(local)
    fresh.apply(this.#store.state, undefined)
    const away = (a: EntryMap, b: EntryMap) =>
      [...a].flatMap(([key, entry]) => {
        const other = b.get(key)
        return other && describeEntry(other) === describeEntry(entry) ? [] : [describeEntry(entry)]
      })
    const { missing, surplus } = plan(this.#desired.entries, this.#kernel.entries, config.namespace)
    return [
      ...missing.map((entry) => `missing ${describeEntry(entry)}`),
      ...surplus.map((entry) => `surplus ${describeEntry(entry)}`),
      // Contested addresses may stand with either of their claimants.
      ...away(fresh.entries, this.#desired.entries).map((entry) => `not kept up ${entry}`),
      ...[...this.#desired.entries.keys()].filter((key) => !fresh.entries.has(key)).map((key) => `left over ${key}`),
    ]
  }

  #whole(): void {
    this.#kernel.perform(plan(this.#desired.entries, this.#kernel.entries, config.namespace))
  }

  #perform({ before, after }: KernelChange): void {
    const made: Plan = plan(after, before, config.namespace)
    if (made.remakes) this.#whole()
    else this.#kernel.perform(made)
  }

  #apply(set: readonly DataPlaneRecord[], removed: readonly DataPlaneKey[]): void {
    const change = { self: this.#self, revision: ++this.#revision, complete: false, set, removed }
    const changed = this.#store.apply(change)
    this.#perform(this.#desired.apply(this.#store.state, changed))
  }

  #moveSelf(): void {
    this.#self = { ...self, number: 1 + this.#random.below(3), address: `10.78.9.${1 + this.#random.below(3)}` }
    this.#apply([], [])
  }

  #break(): void {
    const keys = [...this.#kernel.entries.keys()].filter((key) => !key.startsWith('link fh'))
    this.#kernel.break(keys[this.#random.below(keys.length)] ?? '')
    this.#whole()
  }

  #locals(): void {
    const id = this.#random.below(6)
    const networkId = ['front', 'back', 'ingress', EGRESS_NETWORK_ID][id % 4] ?? ''
    const local = localOf({ networkId, addresses: [`10.9.0.${id}`] })
    if (this.#desired.locals.has(local.endpointId)) this.#perform(this.#desired.detach(local.endpointId))
    else this.#perform(this.#desired.attach(local))
  }

  #records(): void {
    const records = Array.from({ length: 1 + this.#random.below(3) }, () => this.#record())
    const unique = new Map(records.map((record) => [JSON.stringify(dataPlaneKey(record)), record]))
    const set = [...unique.values()].filter(() => this.#random.below(4) > 0)
    const removed = [...unique.values()].filter((record) => !set.includes(record)).map(dataPlaneKey)
    this.#apply(set, removed)
  }

  #record(): DataPlaneRecord {
    const pick = (bound: number) => this.#random.below(bound)
    switch (pick(4)) {
      case 0: {
        const number = 1 + pick(6)
        const over = { mtu: [0, 1400, 1500][pick(3)] ?? 0, port: 4789 + 10 * pick(2) }
        return { kind: 'peer', peer: peer(number, `10.78.${pick(2)}.${number}`, over) }
      }
      case 1:
        if (pick(6) === 0) return { kind: 'overlay-network', network: { ...INGRESS, vni: 4096 + 10 * pick(2) } }
        if (pick(2) === 0) return { kind: 'overlay-network', network: { ...front, encrypted: pick(3) === 0 } }
        return { kind: 'overlay-network', network: network('back', 4098 + pick(2), { mtu: pick(2) * 1300 }) }
      case 2: {
        const networkId = ['front', 'back', 'ingress'][pick(3)] ?? ''
        const task = 1 + pick(12)
        const address = networkId === 'ingress' ? `100.64.4.${task}` : `10.0.1.${task}`
        const more = { encrypted: pick(3) === 0 }
        return {
          kind: 'end-point',
          endpoint: endpoint(`t${task}`, networkId, 1 + pick(6), [address, `fd00::${task}`], more),
        }
      }
      default: {
        const networkId = ['front', 'back'][pick(2)] ?? ''
        const id = pick(4)
        return { kind: 'overlay-service', service: service(`s${id}`, networkId, { virtualIps: [`10.0.1.10${id}`] }) }
      }
    }
  }
}

t.test("the kernel's own texts are read as entries, without what it makes itself", async (t) => {
  const text = (value: unknown) => JSON.stringify(value)
  const slave = { hairpin: true, isolated: false, learning: false, flood: false, mcast_flood: true }
  const entries = observedEntries([
    text([
      { ifname: 'lo', flags: ['LOOPBACK', 'UP'], mtu: 65536 },
      {
        ifname: 'vx4097',
        flags: ['UP'],
        mtu: 1450,
        master: 'br4097',
        address: '36:3d:1f:13:cd:6f',
        linkinfo: {
          info_kind: 'vxlan',
          info_data: { id: 4097, local: '10.78.0.1', port: 4789, proxy: true },
          info_slave_kind: 'bridge',
          info_slave_data: { ...slave, learning: true },
        },
      },
      {},
    ]),
    text([
      {
        ifname: 'br4097',
        addr_info: [
          { local: '10.0.1.1', prefixlen: 24, scope: 'global' },
          { local: 'fe80::42:aff:fe00:101', prefixlen: 64, scope: 'link' },
        ],
      },
    ]),
    text([
      { mac: '02:42:0a:00:01:05', ifname: 'vx4097', dst: '10.78.0.2', port: 4790, flags: ['self'], state: 'permanent' },
      { mac: '36:3d:1f:13:cd:6f', ifname: 'vx4097', flags: [], master: 'br4097', state: 'permanent' },
      { mac: '02:42:0a:00:01:05', ifname: 'vx4097', flags: [], master: 'br4097', state: 'static' },
    ]),
    text([{ dst: 'fd00:1::5', dev: 'vx4097', lladdr: '02:42:0a:00:01:05', state: ['PERMANENT'] }]),
    text([
      { dst: 'default', gateway: '100.64.4.1', dev: 'vxg', table: '10002', flags: ['onlink'] },
      { dst: '10.0.1.0/24', dev: 'br4097', protocol: 'kernel', scope: 'link', flags: [] },
      { type: 'local', dst: '10.0.1.1', dev: 'br4097', table: 'local', protocol: 'kernel', flags: [] },
    ]),
    text([{ type: 'unreachable', dst: 'fd99::1', dev: 'lo', metric: 1024, flags: [] }]),
    text([
      { priority: 0, src: 'all', table: 'local' },
      { priority: 10002, src: 'all', fwmark: '0x20002', fwmask: '0x3ffff', table: '10002' },
    ]),
    '',
  ])
  t.same(lines(entries), [
    'link set lo up',
    'link vx4097 type vxlan id 4097 local 10.78.0.1 dstport 4789 proxy ',
    // A port that learns is not as planned: its flags are to be set.
    'link set vx4097 mtu 1450 master br4097; link set vx4097 up',
    'addr replace 10.0.1.1/24 dev br4097',
    'fdb replace 02:42:0a:00:01:05 dev vx4097 dst 10.78.0.2 port 4790 self permanent',
    'fdb replace 02:42:0a:00:01:05 dev vx4097 master static',
    'neigh replace fd00:1::5 lladdr 02:42:0a:00:01:05 dev vx4097 nud permanent',
    'route replace default via 100.64.4.1 dev vxg onlink table 10002',
    'route replace unreachable fd99::1',
    '-4 rule add pref 10002 fwmark 0x20002/0x3ffff lookup 10002',
  ])
  t.throws(() => observedEntries(['Cannot open network namespace']), { code: 'KERNEL_UNREADABLE' })
})

t.test('a full load lets others have their turn, and what changes meanwhile comes with its own key', async (t) => {
  const records = [
    overlay,
    peerRecord(1),
    peerRecord(2),
    ...Array.from({ length: 200 }, (_, at): DataPlaneRecord => {
      return { kind: 'end-point', endpoint: endpoint(`t${at}`, 'front', 2, [`10.0.1.${at + 20}`]) }
    }),
  ]
  const store = new DesiredStore()
  const kernel = new DesiredKernel(config)
  const rules = new RuleSet({ config, controlPorts: [] })
  store.apply({ self, revision: 1, complete: true, set: records, removed: [] })
  let turns = 0
  let isDone = false
  const others = async () => {
    for (; !isDone; turns++) await sleep(new SystemClock(), 0)
  }
  const load = async () => {
    await inSlices(kernel.applySteps(store.state, undefined), new SystemClock(), 0)
    await inSlices(rules.fullSteps(store.state, []), new SystemClock(), 0)
    isDone = true
  }
  const loading = Promise.all([load(), others()])
  await sleep(new SystemClock(), 5)
  const late: DataPlaneRecord = { kind: 'end-point', endpoint: endpoint('late', 'front', 2, ['10.0.1.240']) }
  const removed: readonly DataPlaneKey[] = [{ kind: 'end-point', id: 't199/front' }]
  const keys = store.apply({ self, revision: 2, complete: false, set: [late], removed })
  await loading
  t.ok(turns > 100, `${turns} turns`)
  kernel.apply(store.state, keys)
  rules.change(store.state, keys)
  const fresh = new DesiredKernel(config)
  fresh.apply(store.state, undefined)
  t.same(new Set(lines(kernel.entries)), new Set(lines(fresh.entries)))
})

t.test("of what the host loses only its own table's is ours", async (t) => {
  for (const line of [
    'delete chain inet swarmctl prerouting',
    'delete rule inet swarmctl forward handle 5',
    'delete element inet swarmctl ports { tcp . 80 }',
    'delete table inet swarmctl',
  ])
    t.ok(tellsOfHostLoss(line, 'swarmctl'), line)
  for (const line of [
    'delete chain inet swarmctl1 prerouting',
    'delete chain ip swarmctl raw',
    'delete rule inet firewalld filter_INPUT handle 5',
    'delete chain ip nat DOCKER',
  ])
    t.notOk(tellsOfHostLoss(line, 'swarmctl'), line)
})

t.test('lines of ip monitor that tell of a loss are told from those that do not', async (t) => {
  const kernel = desired([
    gateway,
    overlay,
    peerRecord(1),
    peerRecord(2),
    { kind: 'end-point', endpoint: endpoint('b', 'front', 2, ['10.0.1.6']) },
  ])
  const tells = (line: string) => tellsOfLoss(line, kernel.entries, config.fabricLink)
  for (const line of [
    'Deleted 3: vx4097: <BROADCAST,MULTICAST> mtu 1500 qdisc noop state DOWN group default ',
    '2: br4097: <BROADCAST,MULTICAST> mtu 1500 qdisc noqueue state DOWN group default ',
    '5: up0@if7: <NO-CARRIER,BROADCAST,MULTICAST,UP> mtu 1500 qdisc noqueue state DOWN group default ',
    'Deleted 2: br4097    inet 10.0.1.1/24 scope global br4097',
    'Deleted 10.0.1.6 dev vx4097 lladdr 02:42:0a:00:01:06 PERMANENT ',
    'Deleted 10.78.0.2 dev vx4097 lladdr 02:42:0a:00:01:06 NOARP PERMANENT ',
    'Deleted dev vx4097 lladdr 02:42:0a:00:01:06 NOARP ',
    'Deleted 10002:\tfrom all fwmark 0x20002/0x3ffff lookup 10002',
    'Deleted default via 100.64.4.1 dev vxg table 10002 onlink ',
    'Deleted 100.64.4.0/23 via 100.64.4.1 dev vxg onlink ',
  ]) {
    t.ok(tells(line), line)
  }
  for (const line of [
    '3: vx4097: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1450 qdisc noqueue master br4097 state UNKNOWN group default ',
    '3: vx4097: <BROADCAST,MULTICAST> mtu 1450 qdisc noop state DOWN group default ',
    '3: vx4097: <BROADCAST,MULTICAST> mtu 1450 master br4097 state DOWN ',
    'Deleted 3: vx9999: <BROADCAST,MULTICAST> mtu 1500 qdisc noop state DOWN group default ',
    'Deleted 10.0.1.7 dev vx4097 lladdr 02:42:0a:00:01:07 PERMANENT ',
    'Deleted dev vx4097 lladdr 02:42:0a:00:01:07 NOARP ',
    'Deleted 10009:\tfrom all fwmark 0x20009/0x3ffff lookup 10009',
    'Deleted fe80::/64 dev vx4097 proto kernel metric 256 pref medium',
    'Deleted multicast ff00::/8 dev br4097 table local proto kernel metric 256 pref medium',
    '10.0.1.6 dev vx4097 lladdr 02:42:0a:00:01:06 PERMANENT ',
    '    link/ether 72:8e:ca:d4:c0:0c brd ff:ff:ff:ff:ff:ff',
  ]) {
    t.notOk(tells(line), line)
  }
})
