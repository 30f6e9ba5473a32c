// Networks, virtual addresses and tasks' addresses as replicated state.

import t from 'tap'
import { clusterSettingProblem, INGRESS_SUBNET_LABEL } from '../../src/api/cluster-settings.ts'
import { NODE_SUBNETS } from '../../src/api/defaults.ts'
import { type Network, type Task, taskName } from '../../src/api/objects.ts'
import { blockOf } from '../../src/lib/address-block.ts'
import {
  addressCount,
  containsAddress,
  formatAddress,
  formatCidr,
  overlaps,
  parseAddress,
  parseCidr,
} from '../../src/lib/cidr.ts'
import { ingressNetwork } from '../../src/manager/allocator/ingress-network.ts'
import { overlapProblems, reportedRoutes } from '../../src/manager/allocator/reported-routes.ts'
import { addressHolder, unsuitableAddress, wishedAddresses } from '../../src/manager/allocator/static-addresses.ts'
import { allocateNetwork } from '../../src/manager/allocator/subnets.ts'
import { networkWarnings } from '../../src/manager/control/networks.ts'
import { AssignmentSet } from '../../src/manager/dispatcher/assignment-set.ts'
import { Store } from '../../src/manager/store/store.ts'
import { EGRESS_SUBNET, WIREGUARD_SUBNET } from '../../src/overlay/kernel/fabric-config.ts'
import { aCluster, aNetwork, aNode } from '../support/objects.ts'
import { AllocatorBench } from './support/allocator-bench.ts'

const publishing = { EndpointSpec: { Ports: [{ Protocol: 'tcp', TargetPort: 80, PublishedPort: 8080 }] } } as const

function withIngress(bench: AllocatorBench): Network {
  const object = ingressNetwork({ cluster: bench.store.cluster()!, id: 'ingress0', wallMs: 0 })
  bench.apply([{ kind: 'create', object }])
  return bench.store.ingressNetwork()!
}

function addressesOf(task: Task | undefined): readonly (readonly string[])[] | undefined {
  return task?.attachments.map(({ addresses }) => addresses)
}

t.test('addresses and subnets are read and written as Go does', async (t) => {
  for (const text of [
    '0.0.0.0',
    '10.0.1.255',
    '::',
    '::1',
    'fd00::1:0:0:1',
    '2001:db8::',
    '1:0:0:2::3',
    '1:2:3:4:5:6:7:8',
  ]) {
    t.equal(formatAddress(parseAddress(text)!), text)
  }
  t.equal(formatAddress(parseAddress('FD00:0:0::1.2.3.4')!), 'fd00::102:304')
  t.equal(formatCidr(parseCidr('10.0.1.77/24')!), '10.0.1.0/24')
  t.equal(formatCidr(parseCidr('fd00::77/64')!), 'fd00::/64')
  for (const text of [
    '',
    '10.0.0.0',
    '10.0.0.0/33',
    '10.0.0/8',
    'fd00::/129',
    '1.2.3.4/',
    '1.2.3.4/-1',
    'x/8',
    'fe80::1%a/64',
  ]) {
    t.equal(parseCidr(text), undefined, text)
  }
  t.ok(overlaps(parseCidr('10.0.0.0/8')!, parseCidr('10.9.0.0/24')!))
  t.notOk(overlaps(parseCidr('10.0.0.0/24')!, parseCidr('10.0.1.0/24')!))
  t.notOk(overlaps(parseCidr('0.0.0.0/0')!, parseCidr('::/0')!))
})

t.test('subnets come from the pools, clear of those that were given, and VXLAN ids from 4096 on', async (t) => {
  const bench = new AllocatorBench()
  t.match(withIngress(bench).allocated, { vni: 4096, subnets: [{ subnet: '100.64.0.0/11', gateway: '100.64.0.1' }] })
  const given = bench.network({ IPAMOptions: { Configs: [{ Subnet: '10.0.1.128/25', Gateway: '10.0.1.200' }] } })
  t.same(given?.allocated, { vni: 4097, subnets: [{ subnet: '10.0.1.128/25', gateway: '10.0.1.200', ipRange: '' }] })
  const subnet = (network: Network | undefined) => network?.allocated?.subnets.map((one) => one.subnet).join()
  const first = bench.network()
  t.equal(subnet(first), '10.0.0.0/24')
  t.equal(subnet(bench.network()), '10.0.2.0/24', 'the one that overlaps a given subnet is passed over')
  t.equal(bench.remove('network', first?.id ?? ''), undefined)
  const next = bench.network()
  t.equal(subnet(next), '10.0.0.0/24')
  t.equal(next?.allocated?.vni, 4100, 'an id is used again late')
  const reports = { port: 4789, mtu: 1500, encryptionKeys: [], encryptionProblem: '', problems: [] }
  const routes = ['0.0.0.0/0', '10.0.3.0/24', '192.168.0.0/16']
  bench.apply([{ kind: 'create', object: aNode('n1', { dataPath: { ...reports, routes } }) }])
  t.same(
    reportedRoutes(bench.store).map(({ cidr }) => formatCidr(cidr)),
    ['10.0.3.0/24', '192.168.0.0/16'],
    'a default route leads everywhere',
  )
  const over = bench.network({ IPAMOptions: { Configs: [{ Subnet: '192.168.7.0/24' }] } })
  t.same(networkWarnings(bench.store, over?.id ?? ''), [
    'subnet 192.168.7.0/24 overlaps with the route 192.168.0.0/16 of node n1: containers of the network do not reach what is behind it',
  ])
  t.same(networkWarnings(bench.store, next?.id ?? ''), [])
  const avoid = reportedRoutes(bench.store).map(({ cidr }) => cidr)
  t.match(
    allocateNetwork(bench.store, 'x', {}, { avoid: [parseCidr('10.0.0.0/8')!] }),
    { allocated: { subnets: [{ subnet: '10.0.3.0/24' }] } },
    'where routes cover all pools, one over a route is better than none',
  )
  t.match(allocateNetwork(bench.store, 'x', {}, { avoid }), { allocated: { subnets: [{ subnet: '10.0.4.0/24' }] } })
})

t.test('the ingress network stays clear of the first host’s routes, and is what the cluster was told', async (t) => {
  const made = (routes: string[], told?: string) => {
    const spec = { Name: 'default', Labels: told === undefined ? {} : { [INGRESS_SUBNET_LABEL]: told } }
    const network = ingressNetwork({ cluster: aCluster({ spec }), id: 'ingress0', wallMs: 0, routes })
    return network.allocated?.subnets.map(({ subnet }) => subnet).join()
  }
  t.equal(made(['default', '0.0.0.0/1', '192.168.0.0/16', 'fd00::/8']), '100.64.0.0/11')
  t.equal(made(['100.64.7.0/24']), '100.112.0.0/12')
  t.equal(made(['100.64.7.0/24', '100.120.0.0/16']), '100.104.0.0/13')
  t.equal(made(['100.64.0.0/10']), '198.18.0.0/15')
  t.equal(made(['100.64.0.0/10', '198.0.0.0/8']), '10.240.0.0/12')
  t.equal(made(['100.64.0.0/10', '198.0.0.0/8', '10.0.0.0/8']), '100.64.0.0/11', 'better than none')
  t.equal(made(['100.64.7.0/24'], '172.31.0.0/16'), '172.31.0.0/16')
  t.throws(() => made(['172.31.9.0/24'], '172.31.0.0/16'), {
    code: 'INVALID_ARGUMENT',
    message:
      'label io.swarmctl.ingress-subnet: 172.31.0.0/16 overlaps with the route 172.31.9.0/24 of this host: what is behind it could not be reached from containers',
  })
  for (const good of ['100.64.0.0/11', '10.9.8.0/24', '10.0.0.0/8', '198.18.0.0/16', '192.168.0.0/16'])
    t.equal(clusterSettingProblem({ [INGRESS_SUBNET_LABEL]: good }), undefined, good)
  const bad = ['', 'x', '8.8.0.0/16', '10.0.0.1/16', '10.0.0.0/25', '100.64.0.0/10', '100.97.0.0/16', 'fd00::/64']
  for (const one of bad)
    t.match(clusterSettingProblem({ [INGRESS_SUBNET_LABEL]: one }), /must be an IPv4 subnet of/, one)
  for (const [subnet] of [[EGRESS_SUBNET], [WIREGUARD_SUBNET]])
    t.ok(overlaps(parseCidr(NODE_SUBNETS)!, parseCidr(subnet!)!), 'what nodes use themselves is kept free')
})

t.test('made anew, the ingress network is where the cluster was told, and nothing else is', async (t) => {
  const bench = new AllocatorBench()
  const spec = { Name: 'default', Labels: { [INGRESS_SUBNET_LABEL]: '10.0.0.0/16' } }
  bench.apply([
    {
      kind: 'update',
      object: { ...bench.store.cluster()!, spec },
      expectedVersion: bench.store.cluster()!.meta.version,
    },
  ])
  t.match(withIngress(bench).allocated, { subnets: [{ subnet: '10.0.0.0/16' }] })
  t.equal(bench.remove('network', 'ingress0'), undefined)
  t.match(bench.network()?.allocated, { subnets: [{ subnet: '10.1.0.0/24' }] }, 'its place is kept')
  t.match(allocateNetwork(bench.store, 'x', { Ingress: true }), { allocated: { subnets: [{ subnet: '10.0.0.0/16' }] } })
  t.match(allocateNetwork(bench.store, 'x', { IPAMOptions: { Configs: [{ Subnet: '100.96.4.0/24' }] } }), {
    code: 'SUBNET_OVERLAP',
    message: /subnet 100\.96\.4\.0\/24 overlaps with 100\.96\.0\.0\/15, which swarmd uses on every node$/,
  })
  t.same(
    overlapProblems(bench.store, ['0.0.0.0/1', '10.1.0.0/16', '100.96.0.0/24', '192.168.0.0/24']).map(
      ({ message }) => message,
    ),
    [
      `the route 10.1.0.0/16 of this host overlaps with network ${bench.store.list('network')[0]?.spec.Name}: containers there do not reach what is behind it`,
      'the route 100.96.0.0/24 of this host overlaps with 100.96.0.0/15, which swarmd uses on every node: containers on overlay networks do not reach what is behind it',
    ],
  )
})

t.test('what can’t be given is refused with the network that has it', async (t) => {
  const bench = new AllocatorBench()
  const id = 'com.docker.network.driver.overlay.vxlanid_list'
  const spec = { DriverConfiguration: { Name: 'overlay', Options: { [id]: '5000' } } }
  const holder = bench.network({ ...spec, Name: 'holder', IPAMOptions: { Configs: [{ Subnet: '10.7.0.0/16' }] } })
  t.equal(holder?.allocated?.vni, 5000)
  const ask = (one: Parameters<typeof allocateNetwork>[2]) => allocateNetwork(bench.store, 'x', one)
  t.match(ask(spec), {
    kind: 'refused',
    code: 'VNI_TAKEN',
    message: 'requested vxlan id 5000 is in use by network holder',
  })
  t.match(ask({ IPAMOptions: { Configs: [{ Subnet: '10.7.3.0/24' }] } }), {
    kind: 'refused',
    message:
      'Pool overlaps with other one on this address space: subnet 10.7.3.0/24 overlaps with network holder (10.7.0.0/16)',
  })
  t.match(ask({ Ingress: true, IPAMOptions: { Configs: [{ Subnet: '10.9.0.0/26' }] } }), { code: 'SUBNET_TOO_SMALL' })
  const full = new Store()
  full.apply(1, 0, [[{ kind: 'create', object: aCluster({ defaultAddressPools: ['10.0.0.0/23'] }) }]])
  for (const name of ['a', 'b']) {
    const made = allocateNetwork(full, name, {})
    if (made.kind !== 'allocated') throw new Error(made.message)
    full.apply(full.index + 1, 0, [[{ kind: 'create', object: aNetwork(name, { allocated: made.allocated }) }]])
  }
  t.match(allocateNetwork(full, 'c', {}), { message: /no free \/24 is left in 10.0.0.0\/23/ })
  const late = aNetwork('late', {
    allocated: { vni: 9, subnets: [{ subnet: '10.0.0.0/16', gateway: '10.0.0.1', ipRange: '' }] },
  })
  const [result] = full.apply(9, 0, [[{ kind: 'create', object: late }]])
  t.match(result, { kind: 'refused', code: 'ADDRESS_CONFLICT' }, 'two that were made at once: apply refuses the second')
})

t.test(
  'a service gets one virtual address a network, its tasks one each, with the aliases of their spec',
  async (t) => {
    const bench = new AllocatorBench()
    const [front, back] = [bench.network()!, bench.network()!]
    const service = bench.service([front.id, back.id])
    const task = bench.task(service, {
      spec: { Networks: [{ Target: front.id, Aliases: ['web'] }, { Target: back.id }] },
    })
    bench.settle()
    t.same(bench.store.get('service', service.id)?.endpoint?.virtualIps, [
      { networkId: front.id, address: '10.0.0.2/24' },
      { networkId: back.id, address: '10.0.1.2/24' },
    ])
    t.match(bench.store.get('task', task), {
      status: { state: 'pending' },
      endpoint: { virtualIps: [{ address: '10.0.0.2/24' }, { address: '10.0.1.2/24' }] },
      attachments: [
        { networkId: front.id, addresses: ['10.0.0.3/24'], aliases: ['web'] },
        { networkId: back.id, addresses: ['10.0.1.3/24'], aliases: [] },
      ],
    })
    const change = (spec: object) => {
      const now = bench.store.get('service', service.id)!
      bench.apply([
        { kind: 'update', object: { ...now, spec: { ...now.spec, ...spec } }, expectedVersion: now.meta.version },
      ])
      bench.settle()
      return bench.store.get('service', service.id)?.endpoint?.virtualIps
    }
    t.same(
      change({ TaskTemplate: { Networks: [{ Target: back.id }] } }),
      [{ networkId: back.id, address: '10.0.1.2/24' }],
      'an update keeps the addresses of the networks that stay',
    )
    t.same(change({ EndpointSpec: { Mode: 'dnsrr' } }), [], 'dnsrr has none')
  },
)

t.test('gateway, auxiliary addresses and what lies outside of the range are given to nobody', async (t) => {
  const bench = new AllocatorBench()
  const config = { Subnet: '10.3.0.0/24', IPRange: '10.3.0.16/29', AuxiliaryAddresses: { router: '10.3.0.17' } }
  const network = bench.network({ IPAMOptions: { Configs: [config] } })!
  t.match(network.allocated?.subnets, [
    { gateway: '10.3.0.16', ipRange: '10.3.0.16/29', auxiliary: { router: '10.3.0.17' } },
  ])
  const service = bench.service([network.id], { EndpointSpec: { Mode: 'dnsrr' } })
  for (let n = 0; n < 7; n++) bench.task(service)
  bench.settle()
  const given = bench.store
    .tasksOfService(service.id)
    .flatMap((task) => addressesOf(task) ?? [])
    .flat()
  t.same(
    given.toSorted(),
    [18, 19, 20, 21, 22, 23].map((last) => `10.3.0.${last}/24`),
  )
  const problem =
    /no available .* addresses on network net\d+: 10.3.0.0\/24, range 10.3.0.16\/29 \(6 of 6 addresses are in use\)/
  t.match(bench.store.get('service', service.id)?.problem, {
    source: 'allocator',
    code: 'ADDRESSES_EXHAUSTED',
    message: problem,
  })
  const [waiting] = bench.store.tasksOfService(service.id).filter((task) => task.status.state === 'new')
  t.match(waiting?.status.error, problem)
  bench.report(bench.store.tasksOfService(service.id)[2]!.id, 'failed')
  bench.settle()
  t.equal(
    bench.store.get('task', waiting?.id ?? '')?.status.state,
    'pending',
    'an address that is given back is heard of',
  )
  t.equal(bench.store.get('service', service.id)?.problem, undefined)
})

t.test('a network of both families gives an address of each', async (t) => {
  const bench = new AllocatorBench()
  const dual = { EnableIPv6: true, IPAMOptions: { Configs: [{ Subnet: 'fd00:1::/64' }] } }
  const network = bench.network(dual)!
  t.same(
    network.allocated?.subnets.map((one) => [one.subnet, one.gateway]),
    [
      ['10.0.0.0/24', '10.0.0.1'],
      ['fd00:1::/64', 'fd00:1::1'],
    ],
  )
  const service = bench.service([network.id])
  const task = bench.task(service)
  bench.settle()
  t.same(
    bench.store.get('service', service.id)?.endpoint?.virtualIps.map(({ address }) => address),
    ['10.0.0.2/24', 'fd00:1::2/64'],
  )
  t.same(addressesOf(bench.store.get('task', task)), [['10.0.0.3/24', 'fd00:1::3/64']])

  const ask = (wished: string) => {
    const old = bench.store.get('service', service.id)!
    const Labels = { [`io.swarmctl.network.${network.id}.ip`]: wished }
    const object = { ...old, spec: { ...old.spec, Labels }, specVersion: 0 }
    t.equal(bench.apply([{ kind: 'update', object, expectedVersion: old.meta.version }]), undefined)
    bench.settle()
    const { endpoint, problem } = bench.store.get('service', service.id)!
    return problem?.message ?? endpoint?.virtualIps.map(({ address }) => address)
  }
  t.same(ask('10.0.0.77'), ['10.0.0.77/24', 'fd00:1::2/64'], 'of the other family it keeps its own')
  t.same(ask('10.0.0.77,fd00:1::77'), ['10.0.0.77/24', 'fd00:1::77/64'])
  t.match(ask('10.0.0.78,fd00:1::3'), /^address fd00:1::3 of network net\d+ is in use by task/)
  t.same(ask('fd00:1::78'), ['10.0.0.77/24', 'fd00:1::78/64'])
  const other = bench.service([network.id], { Labels: { [`io.swarmctl.network.${network.id}.ip`]: '10.0.0.78' } })
  bench.settle()
  t.match(bench.store.get('service', other.id)?.endpoint?.virtualIps[0], { address: '10.0.0.78/24' })
})

t.test('a service has the address that it asks for, keeps it, and gives it back', async (t) => {
  const bench = new AllocatorBench()
  const network = bench.network({ Name: 'front', IPAMOptions: { Configs: [{ Subnet: '10.9.0.0/24' }] } })!
  const vips = (id: string) => bench.store.get('service', id)?.endpoint?.virtualIps.map(({ address }) => address)
  const problem = (id: string) => bench.store.get('service', id)?.problem
  const asking = (address: string, label = 'front') => ({ Labels: { [`io.swarmctl.network.${label}.ip`]: address } })
  const update = (id: string, over: object) => {
    const old = bench.store.get('service', id)!
    const object = { ...old, spec: { ...old.spec, Labels: {}, ...over }, specVersion: 0 }
    t.equal(bench.apply([{ kind: 'update', object, expectedVersion: old.meta.version }]), undefined)
    bench.settle()
  }
  const first = bench.service([network.id], asking('10.9.0.77'))
  const task = bench.task(first)
  bench.settle()
  t.same(vips(first.id), ['10.9.0.77/24'])
  t.same(addressesOf(bench.store.get('task', task)), [['10.9.0.2/24']], 'its tasks have others')
  bench.elect()
  update(first.id, { ...asking('10.9.0.77', network.id), EndpointSpec: { Mode: 'vip' } })
  t.same(vips(first.id), ['10.9.0.77/24'], 'over an election and an update')

  const second = bench.service([network.id], asking('10.9.0.77'))
  const waiting = bench.task(second)
  bench.settle()
  const message = `address 10.9.0.77 of network front is in use by service ${first.id}`
  t.match(problem(second.id), { source: 'allocator', code: 'ADDRESS_CONFLICT', message })
  t.match(bench.store.get('task', waiting)?.status, { state: 'new', error: message })
  update(first.id, asking('10.9.0.88'))
  t.same(vips(first.id), ['10.9.0.88/24'], 'another one when it asks for another')
  bench.settle()
  t.same(
    [vips(second.id), problem(second.id)],
    [['10.9.0.77/24'], undefined],
    'and the one that waited has the old one',
  )
  t.equal(bench.store.get('task', waiting)?.status.state, 'pending')

  for (const [address, why] of [
    ['10.9.1.1', 'address 10.9.1.1 is not in network front, which is 10.9.0.0/24'],
    ['fd00::1', 'address fd00::1 is not in network front, which is 10.9.0.0/24'],
    ['10.9.0.1', 'address 10.9.0.1 is the gateway of network front'],
    ['10.9.0.255', 'address 10.9.0.255 is reserved on network front'],
    ['10.9.0.2', `address 10.9.0.2 of network front is in use by task ${taskName(bench.store.get('task', task)!)}`],
  ] as const) {
    update(second.id, asking(address))
    t.equal(problem(second.id)?.message, why)
    t.same(vips(second.id), ['10.9.0.77/24'], 'it keeps what it has')
  }
  bench.report(task, 'shutdown')
  bench.settle()
  t.same([vips(second.id), problem(second.id)], [['10.9.0.2/24'], undefined])
  update(second.id, {})
  t.same(vips(second.id), ['10.9.0.2/24'], 'without the label nothing changes')
  bench.remove('service', first.id)
  const third = bench.service([network.id], asking('10.9.0.88'))
  bench.settle()
  t.same(vips(third.id), ['10.9.0.88/24'])
})

t.test(
  'on the ingress network a task has an address of its node’s block, before the node hears of the task',
  async (t) => {
    const bench = new AllocatorBench()
    const ingress = withIngress(bench)
    bench.apply([{ kind: 'create', object: aNode('n7', { number: 7 }) }])
    const service = bench.service([], publishing)
    const task = bench.task(service)
    const everywhere = bench.task(service, { nodeId: 'n7' })
    bench.settle()
    t.same(bench.store.get('service', service.id)?.endpoint?.virtualIps, [
      { networkId: ingress.id, address: '100.64.0.2/11' },
    ])
    t.same(addressesOf(bench.store.get('task', task)), [[]], 'its node is not known')
    t.same(
      addressesOf(bench.store.get('task', everywhere)),
      [['100.64.14.2/11']],
      'a global task’s is: block 7 of 512 addresses',
    )
    t.equal(bench.assign(task, 'n7'), undefined)
    const set = new AssignmentSet('n7', { get: () => undefined })
    t.same(set.complete(bench.store).set, [], 'held back')
    bench.settle()
    t.same(addressesOf(bench.store.get('task', task)), [['100.64.14.3/11']])
    t.match(set.difference(bench.store, [task]).set, [
      { kind: 'network', network: { id: ingress.id } },
      { kind: 'task', task: { id: task } },
    ])
  },
)

t.test('a task whose node has no ingress address left is rejected, and says which network and how full', async (t) => {
  const bench = new AllocatorBench()
  bench.network({ Name: 'in', Ingress: true, IPAMOptions: { Configs: [{ Subnet: '10.11.0.0/24' }] } })
  bench.apply([{ kind: 'create', object: aNode('n1', { number: 1 }) }])
  bench.apply([{ kind: 'create', object: aNode('n300', { number: 300 }) }])
  const service = bench.service([], publishing)
  const tasks = Array.from({ length: 14 }, () => bench.task(service))
  const stray = bench.task(service)
  bench.settle()
  for (const task of tasks) bench.assign(task, 'n1')
  bench.assign(stray, 'n300')
  bench.settle()
  const rejected = tasks.filter((task) => bench.store.get('task', task)?.status.state === 'rejected')
  t.equal(rejected.length, 1, 'a block of 16 has 13 for tasks')
  t.match(
    bench.store.get('task', rejected[0] ?? '')?.status.error,
    /on network in: block 1 of 10.11.0.0\/24 \(13 of 13 /,
  )
  t.match(bench.store.get('task', stray)?.status.error, /10.11.0.0\/24 \(which ends before block 300\)/)
})

t.test('IPv6 without a subnet gets one of the cluster’s own', async (t) => {
  const bench = new AllocatorBench()
  const made = [bench.network({ EnableIPv6: true }), bench.network({ EnableIPv6: true })]
  const own = made.map((network) => network?.allocated?.subnets[1]?.subnet ?? '')
  t.match(own[0], /^fd[0-9a-f]{2}:[0-9a-f]{1,4}:[0-9a-f]{1,4}::\/64$/)
  t.equal(own[1], own[0]?.replace('::/64', ':1::/64'))
})

t.test('a network without IPv4 has an IPv6 subnet, or is refused', async (t) => {
  const bench = new AllocatorBench()
  const ask = (one: Parameters<typeof allocateNetwork>[2]) =>
    allocateNetwork(bench.store, 'x', { EnableIPv4: false, ...one })
  const six = ask({ EnableIPv6: true })
  t.match(six.kind === 'allocated' && six.allocated.subnets.map(({ subnet }) => subnet), [/^fd.*\/64$/])
  t.match(ask({ IPAMOptions: { Configs: [{ Subnet: 'fd00:9::/64' }] } }), { kind: 'allocated' })
  t.match(ask({}), { kind: 'refused', message: 'IPv4 or IPv6 must be enabled' })
  t.match(ask({ EnableIPv6: true, Ingress: true }), { kind: 'refused', message: /^an ingress network needs IPv4/ })
  t.match(ask({ EnableIPv6: true, IPAMOptions: { Configs: [{ Subnet: '10.3.0.0/24' }] } }), {
    message: 'IPv4 is switched off for the network, but has a subnet: 10.3.0.0/24',
  })
})

t.test('blocks of the default ingress network hold every node number', async (t) => {
  const subnet = parseCidr('100.64.0.0/11')!
  t.equal(formatCidr(blockOf(subnet, 4094)!), '100.95.252.0/23')
  t.equal(blockOf(subnet, 4096), undefined)
  t.equal(formatCidr(blockOf(parseCidr('10.11.0.0/16')!, 254)!), '10.11.254.0/24')
})

t.test('networks of a store that knew no subnets are allocated when they are first used', async (t) => {
  const bench = new AllocatorBench()
  bench.apply([{ kind: 'create', object: aNetwork('old', { spec: { Name: 'old' } }) }])
  const task = bench.task(bench.service(['old']))
  bench.settle()
  t.match(bench.store.get('network', 'old')?.allocated, { vni: 4096, subnets: [{ subnet: '10.0.0.0/24' }] })
  t.same(addressesOf(bench.store.get('task', task)), [['10.0.0.3/24']])
})

t.test(
  '500 tasks that come and go on a /24 use an address again as late as can be, also under new leaders',
  async (t) => {
    const bench = new AllocatorBench()
    const network = bench.network()!
    const service = bench.service([network.id])
    bench.settle()
    const last = new Map<string, number>()
    let soonest = Number.POSITIVE_INFINITY
    for (let n = 0; n < 500; n++) {
      const task = bench.task(service)
      bench.settle()
      const [address = ''] = addressesOf(bench.store.get('task', task))?.[0] ?? []
      soonest = Math.min(soonest, n - (last.get(address) ?? Number.NEGATIVE_INFINITY))
      last.set(address, n)
      bench.report(task, 'shutdown')
      if (n % 50 === 49) bench.elect()
      if (n > 5) bench.remove('task', bench.store.tasksOfService(service.id)[0]!.id)
    }
    t.equal(soonest, 252, '254 addresses without the gateway and the virtual one')
  },
)

t.test('whatever comes and goes: no address twice, none that is reserved, exhausted exactly when full', async (t) => {
  for (let seed = 1; seed <= 12; seed++) {
    const bench = new AllocatorBench(seed, 28)
    const { store, random } = bench
    const pick = <T>(list: readonly T[]): T | undefined => list[random.below(list.length || 1)]
    const asked = (network: Network | undefined) => {
      const subnet = network?.allocated?.subnets[0]?.subnet ?? ''
      const cidr = parseCidr(subnet)
      if (!network || !cidr || random.below(3) > 0) return {}
      const address = formatAddress({ family: 4, value: cidr.base + BigInt(random.below(10)) })
      return { Labels: { [`io.swarmctl.network.${network.id}.ip`]: address } }
    }
    const steps: readonly (() => void)[] = [
      () => {
        if (store.count('network') < 4) {
          const Configs = [{ Subnet: `10.0.${random.below(2)}.${random.below(8) * 16}/29`, AuxiliaryAddresses: {} }]
          bench.network(random.below(2) === 0 ? {} : { IPAMOptions: { Configs } })
        }
      },
      () => bench.remove('network', pick(store.list('network'))?.id ?? ''),
      () => {
        const targets = [...new Set([pick(store.list('network')), pick(store.list('network'))])]
        const ids = targets.flatMap((network) => network?.id ?? [])
        bench.service(ids, random.below(4) === 0 ? { EndpointSpec: { Mode: 'dnsrr' } } : asked(pick(targets)))
      },
      () => {
        const service = pick(store.list('service'))
        const [target] = service?.spec.TaskTemplate?.Networks ?? []
        if (!service || random.below(3) > 0) return
        const spec = { ...service.spec, Labels: {}, ...asked(store.get('network', target?.Target ?? '')) }
        const object = { ...service, spec, specVersion: 0 }
        bench.apply([{ kind: 'update', object, expectedVersion: service.meta.version }])
      },
      () => {
        const service = pick(store.list('service'))
        if (service && random.below(3) === 0) bench.remove('service', service.id)
      },
      () => {
        if (random.below(10) === 0) bench.elect()
      },
      () => bench.answer(random.below(5) === 0),
      ...Array.from({ length: 3 }, () => () => {
        const service = pick(store.list('service'))
        if (service) bench.task(service)
      }),
      ...Array.from({ length: 2 }, () => () => {
        const task = pick(store.list('task'))
        if (task) bench.report(task.id, 'shutdown')
      }),
      () => {
        const task = pick(store.list('task').filter((one) => one.status.state === 'shutdown'))
        if (task) bench.remove('task', task.id)
      },
      ...Array.from({ length: 4 }, () => () => void bench.decide()),
      ...Array.from({ length: 3 }, () => () => void bench.answer()),
    ]
    for (let n = 0; n < 600; n++) {
      pick(steps)!()
      const wrong = inconsistency(store)
      if (wrong) t.fail(`seed ${seed} step ${n}: ${wrong}`)
      if (n % 100 === 99) {
        bench.settle()
        const stuck = wrongWait(store)
        if (stuck) t.fail(`seed ${seed} step ${n}: ${stuck}`)
      }
    }
  }
  t.pass('held')
})

function inUse(store: Store, networkId: string): readonly string[] {
  const vips = store.list('service').flatMap((service) => service.endpoint?.virtualIps ?? [])
  const live = store.list('task').filter((task) => !['shutdown', 'rejected'].includes(task.status.state))
  return [
    ...vips.filter((vip) => vip.networkId === networkId).map(({ address }) => address),
    ...live.flatMap((task) =>
      task.attachments.filter((one) => one.networkId === networkId).flatMap((one) => one.addresses),
    ),
  ]
}

function inconsistency(store: Store): string | undefined {
  for (const network of store.list('network')) {
    const used = inUse(store, network.id)
    if (new Set(used).size !== used.length) return `twice in ${network.id}: ${used.toSorted().join(' ')}`
    for (const text of used) {
      const address = parseAddress(text.split('/')[0] ?? '')!
      const subnet = network.allocated?.subnets.find((one) => containsAddress(parseCidr(one.subnet)!, address))
      if (!subnet) return `${text} is not of ${network.id}`
      const cidr = parseCidr(subnet.subnet)!
      const offset = address.value - cidr.base
      if (offset === 0n || offset === addressCount(cidr) - 1n) return `${text} is the subnet's own`
      if (formatAddress(address) === subnet.gateway) return `${text} is the gateway`
    }
  }
  return undefined
}

/** At rest a task waits only where one of its networks, or one of its service's, is full. */
function wrongWait(store: Store): string | undefined {
  const isFull = (id: string) => {
    const subnets = store.get('network', id)?.allocated?.subnets ?? []
    const usable = subnets.reduce((sum, { subnet }) => sum + addressCount(parseCidr(subnet)!) - 3n, 0n)
    return BigInt(inUse(store, id).length) >= usable
  }
  for (const service of store.list('service')) {
    if (service.problem?.code !== 'ADDRESS_CONFLICT') continue
    const stands = (service.spec.TaskTemplate?.Networks ?? []).some(({ Target = '' }) => {
      const network = store.get('network', Target)
      const wished = wishedAddresses(service.spec.Labels, network)
      return network && (unsuitableAddress(network, wished) ?? addressHolder(store, network, wished, service.id))
    })
    if (!stands) return `${service.id} could have its address: ${service.problem.message}`
  }
  for (const task of store.list('task')) {
    const service = store.get('service', task.serviceId)
    if (task.status.state !== 'new' || !service || service.problem?.code === 'ADDRESS_CONFLICT') continue
    const networks = (service.spec.TaskTemplate?.Networks ?? []).map(({ Target = '' }) => Target)
    if (!networks.some(isFull)) return `${task.id} waits, and none of ${networks.join(' ')} is full`
    if (!/^no available/.test(task.status.error)) return `${task.id} does not say why it waits: ${task.status.error}`
    if (service.problem?.source !== 'allocator') return `${service.id} does not say why its tasks wait`
  }
  return undefined
}
