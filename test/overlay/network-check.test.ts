// `swarmctl network check`: what a node tries, how it tries it, and what a manager makes of the answers.

import { createServer } from 'node:net'
import t from 'tap'
import type { OverlayEndpoint, OverlayNetwork, Peer } from '../../src/api/data-plane.ts'
import type { ProbeResult } from '../../src/api/network-check.ts'
import { SystemClock } from '../../src/lib/clock.ts'
import { type CheckedNode, checkResult, planCheck } from '../../src/manager/control/network-check.ts'
import { Store } from '../../src/manager/store/store.ts'
import { type DesiredState, EMPTY_STATE, type LocalAttachment } from '../../src/overlay/desired-state.ts'
import { planProbes } from '../../src/overlay/probe/probe-plan.ts'
import { probe } from '../../src/overlay/probe/prober.ts'
import { aCluster, aNetwork, aNode } from '../support/objects.ts'

const FABRIC = '/run/netns/swarmctl'

function peer(number: number, more: Partial<Peer> = {}): Peer {
  return {
    nodeId: `n${number}`,
    hostname: `n${number}`,
    number,
    address: `10.77.0.${number}`,
    port: 4789,
    mtu: 1500,
    encryptionKeys: [],
    encryptionProblem: '',
    ...more,
  }
}

function network(id: string, vni: number, subnet: string, more: Partial<OverlayNetwork> = {}): OverlayNetwork {
  return {
    id,
    name: id,
    vni,
    subnets: [{ subnet, gateway: '' }],
    internal: false,
    encrypted: false,
    attachable: false,
    ingress: false,
    mtu: 0,
    ...more,
  }
}

function endpoint(taskId: string, networkId: string, nodeNumber: number, address: string | string[], serving = true) {
  const made: OverlayEndpoint = {
    taskId,
    networkId,
    nodeNumber,
    addresses: [address].flat(),
    serviceId: 's',
    serviceName: 's',
    slot: 1,
    name: taskId,
    hostname: taskId,
    aliases: [],
    serving,
    encrypted: false,
  }
  return [`${taskId}/${networkId}`, made] as const
}

const STATE: DesiredState = {
  ...EMPTY_STATE,
  self: { nodeId: 'n1', number: 1, address: '10.77.0.1', dataPathPort: 4789 },
  peers: new Map([peer(1), peer(2), peer(3), peer(4, { port: 0 })].map((one) => [one.nodeId, one])),
  networks: new Map(
    [
      network('ingress', 4096, '100.64.0.0/11', { ingress: true }),
      network('front', 4097, '10.0.1.0/24'),
      network('secret', 4098, '10.0.2.0/24', { encrypted: true }),
      network('six', 4099, 'fd00:6::/64'),
    ].map((one) => [one.id, one]),
  ),
  endpoints: new Map([
    endpoint('a', 'front', 1, '10.0.1.2'),
    endpoint('b', 'front', 2, '10.0.1.3', false),
    endpoint('c', 'front', 2, '10.0.1.4'),
    endpoint('d', 'secret', 3, ['10.0.2.5', 'fd00:2::5']),
    endpoint('e', 'six', 2, 'fd00:6::5'),
  ]),
}

function local(networkId: string, sandbox: string): LocalAttachment {
  return { endpointId: networkId, engineNetworkId: 'e', networkId, mac: '', addresses: [], sandbox } as LocalAttachment
}

t.test('each network is tried from a container of this node, and the gateway network from the fabric', async (t) => {
  const managers = [
    { nodeId: 'n1', address: '10.77.0.1:2377' },
    { nodeId: 'n2', address: '[fd00::2]:2377' },
  ]
  const locals = [
    local('front', '/run/docker/netns/one'),
    local('secret', '/run/docker/netns/two'),
    local('six', '/run/docker/netns/three'),
  ]
  const plan = (networkIds: string[]) =>
    planProbes({ request: { networkIds, managers }, state: STATE, locals, fabric: FABRIC }).map(
      ({ namespace, targets }) => [
        namespace,
        ...targets.map(({ subject, host, port, mtu }) => `${subject.kind} ${subject.to} ${host} ${port} ${mtu}`),
      ],
    )
  const host = ['', 'host n2 10.77.0.2 9 0', 'host n3 10.77.0.3 9 0', 'control n2 fd00::2 2377 0']
  t.same(plan([]), [
    host,
    [FABRIC, 'network n2 100.64.4.1 9 1450', 'network n3 100.64.6.1 9 1450'],
    ['/run/docker/netns/one', 'network n2 10.0.1.4 9 1450'],
    ['/run/docker/netns/two', 'network n3 10.0.2.5 9 1370', 'network n3 fd00:2::5 9 1370'],
    ['/run/docker/netns/three', 'network n2 fd00:6::5 9 1450'],
  ])
  t.same(plan(['front']), [host, ['/run/docker/netns/one', 'network n2 10.0.1.4 9 1450']])
  const nowhere = planProbes({ request: { networkIds: [], managers }, state: EMPTY_STATE, locals, fabric: FABRIC })
  t.same(nowhere, [], 'a node in no cluster tries nothing')
})

t.test('a closed port answers, and tells what size of packet passes', async (t) => {
  const server = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const address = server.address()
  const port = typeof address === 'object' && address ? address.port : 0
  t.teardown(() => server.close())
  const subject = { kind: 'network', networkId: 'x', to: 'n2' } as const
  const targets = [
    { subject, host: '127.0.0.1', port, count: 4, mtu: 0 },
    { subject, host: '127.0.0.1', port: 9, count: 4, mtu: 1450 },
    { subject: { ...subject, kind: 'control' } as const, host: '::1', port: 9, count: 1, mtu: 0 },
  ]
  const [open, closed, control] = await probe(targets, new SystemClock())
  t.match(open, { state: 'open', sent: 4, answered: 4, mtu: 0, mtuPasses: false, address: '127.0.0.1' })
  t.match(closed, { state: 'refused', sent: 4, answered: 4, mtu: 1450, mtuPasses: true, to: 'n2' })
  t.ok((closed?.roundTripMs ?? 0) > 0)
  t.equal(control?.address, '[::1]:9')
})

const store = new Store()
store.apply(1, 0, [
  [
    { kind: 'create', object: aCluster() },
    {
      kind: 'create',
      object: aNode('n2', { manager: { raftId: 'n2-a', address: '10.77.0.2:2377', featureLevel: 2 } }),
    },
    { kind: 'create', object: aNode('n1') },
    { kind: 'create', object: aNode('n3', { status: { state: 'down', message: '', address: '' } }) },
    { kind: 'create', object: aNetwork('ingress') },
    { kind: 'create', object: aNetwork('front') },
    {
      kind: 'create',
      object: aNetwork('secret', {
        spec: { Name: 'secret', DriverConfiguration: { Name: 'overlay', Options: { encrypted: '' } } },
      }),
    },
  ],
])

function result(
  kind: ProbeResult['kind'],
  networkId: string,
  to: string,
  over: Partial<ProbeResult> = {},
): ProbeResult {
  const state = kind === 'control' ? 'open' : 'refused'
  const good = { state, sent: 10, answered: 10, roundTripMs: 0.5, mtu: 1450, mtuPasses: true } as const
  return { kind, networkId, to, address: `10.77.0.${to.slice(1)}`, ...good, ...over }
}

const NOTHING = { state: 'silent', sent: 3, answered: 0, roundTripMs: 0, mtuPasses: false } as const

/** What n1 says, as people read it. */
function problems(...results: readonly ProbeResult[]): readonly string[] {
  const checked: CheckedNode[] = [{ node: store.get('node', 'n1')!, answer: { results } }]
  return checkResult(store, checked).Problems
}

t.test('nodes that are up are asked, for one network or for all', async (t) => {
  const all = planCheck(store, '')
  t.same(
    all.nodes.map(({ id }) => id),
    ['n1', 'n2'],
  )
  t.same(all.request, { networkIds: [], managers: [{ nodeId: 'n2', address: '10.77.0.2:2377' }] })
  t.same(planCheck(store, 'front').request.networkIds, ['front'])
  t.throws(() => planCheck(store, 'nope'), { code: 'NO_SUCH_OBJECT', message: 'network nope not found' })
})

t.test('what works is shown, by network and node, and nothing is said of nodes that are down', async (t) => {
  const checked: CheckedNode[] = [
    { node: store.get('node', 'n2')!, answer: { error: 'it is busy' } },
    {
      node: store.get('node', 'n1')!,
      answer: {
        results: [
          result('host', '', 'n2'),
          result('control', '', 'n2'),
          result('network', 'ingress', 'n2'),
          result('network', 'front', 'n2', { answered: 9 }),
          result('network', 'front', 'n3', NOTHING),
        ],
      },
    },
  ]
  const { Nodes, Probes, Problems } = checkResult(store, checked)
  t.same(
    Nodes.map((node) => [node.Hostname, node.Error]),
    [
      ['n2', 'it is busy'],
      ['n1', ''],
    ],
  )
  t.same(
    Probes.map(({ Network, From, To, State }) => `${Network} ${From} ${To} ${State}`),
    ['front n1 n2 loss', 'ingress n1 n2 ok'],
  )
  t.same(Problems, ['nothing was tried from n2: it is busy', 'network front: from n1 to n2 1 of 10 packets are lost'])
})

t.test('what does not work is explained', async (t) => {
  const silent = result('network', 'front', 'n2', { ...NOTHING, address: '10.0.1.4' })
  t.match(problems(result('host', '', 'n2'), silent), [/UDP 4789 let through both ways\?$/])
  t.match(problems(result('host', '', 'n2', NOTHING), silent), [/n2 does not answer at 10\.77\.0\.2 at all/])
  t.match(problems(result('network', 'ingress', 'n2'), silent), [/the container at 10\.0\.1\.4 does not answer$/])
  const six = result('network', 'front', 'n2', { ...NOTHING, address: 'fd00::4' })
  t.match(problems(result('network', 'front', 'n2'), six), [
    /^network front: from n1 to n2 by IPv6 nothing passes: IPv4 passes .*, IPv6 does not: the container at fd00::4 has it switched off/,
  ])
  t.match(
    problems(result('network', 'secret', 'n2'), silent),
    [/UDP 4789/],
    'that WireGuard passes says nothing of VXLAN',
  )
  t.match(problems(result('network', 'secret', 'n2', NOTHING)), [/UDP 51833 and 51834 \(WireGuard\)/])
  t.match(problems(result('network', 'front', 'n2', { mtuPasses: false })), [/packets of 1450 bytes do not pass/])
  t.match(problems(result('control', '', 'n2', { ...NOTHING, address: '10.77.0.2:2377' })), [
    /^n1 cannot reach manager n2 at 10\.77\.0\.2:2377\/tcp: a firewall seems to drop it$/,
  ])
  t.match(problems(result('control', '', 'n2', { state: 'refused' })), [/rejects it, or swarmd does not listen/])
})
