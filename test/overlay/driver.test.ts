/** The two drivers of the engine, without one: what is answered, what is remembered, and what of it is forgotten again. */
import t, { type Test } from 'tap'
import type { OverlayNetwork } from '../../src/api/data-plane.ts'
import { CodedError } from '../../src/lib/errors.ts'
import { silentLog } from '../../src/lib/log.ts'
import { DesiredStore, EGRESS_NETWORK_ID } from '../../src/overlay/desired-state.ts'
import { EngineState } from '../../src/overlay/driver/engine-state.ts'
import { ipamDriverMethods } from '../../src/overlay/driver/ipam-driver.ts'
import { Leftovers } from '../../src/overlay/driver/leftovers.ts'
import { type Answer, networkDriverMethods } from '../../src/overlay/driver/network-driver.ts'
import { ENDPOINT_SIBLINGS_KEY, NETWORK_ID_KEY } from '../../src/overlay/driver-options.ts'

const id = (digit: string) => digit.repeat(64)
const NET = id('a')
const EGRESS = id('e')
const GATEWAY = id('9')
const overlay: OverlayNetwork = {
  id: 'overlay0',
  name: 'front',
  vni: 4097,
  subnets: [{ subnet: '10.0.1.0/24', gateway: '10.0.1.1' }],
  internal: false,
  encrypted: false,
  attachable: true,
  ingress: false,
  mtu: 0,
}

interface DriverOptions {
  readonly ipv6?: boolean
  /** What making a link waits for; a rejection is the kernel's refusal. */
  readonly link?: (endpointId: string) => Promise<void>
}

async function driver(t: Test, options: DriverOptions = {}) {
  const path = `${t.testdir({})}/engine.json`
  const engine = new EngineState(path, silentLog)
  await engine.load()
  const store = new DesiredStore()
  store.apply({
    self: { nodeId: 'node1', number: 3, address: '192.0.2.1', dataPathPort: 4789 },
    revision: 1,
    complete: true,
    set: [
      { kind: 'overlay-network', network: overlay },
      {
        kind: 'overlay-network',
        network: {
          ...overlay,
          id: 'ingress0',
          ingress: true,
          subnets: [{ subnet: '100.64.0.0/11', gateway: '100.64.0.1' }],
        },
      },
    ],
    removed: [],
  })
  const kernel: string[] = []
  const methods = {
    ...networkDriverMethods({
      engine,
      state: () => store.state,
      network: async (networkId) => {
        if (networkId !== EGRESS_NETWORK_ID && !store.state.networks.has(networkId)) {
          throw new CodedError('NETWORK_UNKNOWN', 'unknown')
        }
      },
      attach: async (local) => {
        await options.link?.(local.endpointId)
        kernel.push(`attach ${local.endpointId.slice(0, 2)} ${local.addresses.join(' ')}`)
      },
      detach: async (endpointId) => void kernel.push(`detach ${endpointId.slice(0, 2)}`),
      ipv6: options.ipv6 ?? false,
    }),
    ...ipamDriverMethods(engine),
  }
  const call = async (name: string, request: Answer = {}): Promise<Answer> => {
    const method = methods[name]
    if (!method) throw new Error(`no ${name}`)
    return method(request, new AbortController().signal)
  }
  const create = (NetworkID: string, networkId: string, pool: string) =>
    call('NetworkDriver.CreateNetwork', {
      NetworkID,
      Options: { 'com.docker.network.generic': { [NETWORK_ID_KEY]: networkId } },
      IPv4Data: [{ Pool: pool }],
    })
  await create(NET, 'overlay0', '10.0.1.0/24')
  await create(EGRESS, EGRESS_NETWORK_ID, '100.96.0.0/16')
  await create(GATEWAY, 'ingress0', '100.64.6.0/23')
  const join = async (NetworkID: string, EndpointID: string, Address: string, Options: Answer = {}) => {
    const Interface = { Address }
    const created = await call('NetworkDriver.CreateEndpoint', { NetworkID, EndpointID, Interface, Options })
    const joined = await call('NetworkDriver.Join', { NetworkID, EndpointID, SandboxKey: '/box' })
    return { created, joined }
  }
  return { call, join, engine, kernel, path }
}

t.test('only a network of the cluster can be made', async (t) => {
  const { call } = await driver(t)
  await t.rejects(call('NetworkDriver.CreateNetwork', { NetworkID: NET, Options: {} }), {
    code: 'NOT_A_CLUSTER_NETWORK',
  })
  await t.rejects(call('NetworkDriver.CreateNetwork', { NetworkID: '../../etc', Options: {} }), CodedError)
})

t.test('an end point gets a MAC of its address, is joined by a link, and has no gateway on an overlay', async (t) => {
  const { join, kernel } = await driver(t)
  const { created, joined } = await join(NET, id('1'), '10.0.1.20/24')
  t.same(created, { Interface: { MacAddress: '02:42:0a:00:01:14' } }, 'what the engine knows is not said again')
  t.same(joined, {
    InterfaceName: { SrcName: 'fc11111111111', DstPrefix: 'eth' },
    DisableGatewayService: true,
  })
  t.same(kernel, ['attach 11 10.0.1.20'])
})

t.test('links of a container are made side by side, and the last Join answers when all are there', async (t) => {
  const two = { [ENDPOINT_SIBLINGS_KEY]: '2' }
  let release = () => {}
  const slow = new Promise<void>((resolve) => {
    release = resolve
  })
  const { join, kernel, path } = await driver(t, { link: async (one) => (one === id('1') ? slow : undefined) })
  await join(NET, id('1'), '10.0.1.20/24', two)
  t.same(kernel, [], 'the first is answered at once')
  const read = new EngineState(path, silentLog)
  await read.load()
  t.same(
    [...read.endpoints.values()].map(({ joined, siblings }) => [joined, siblings]),
    [[true, 2]],
    'and known on disk, so that a killed driver counts on',
  )
  let answered = false
  const last = join(EGRESS, id('2'), '100.96.0.2/16', two).then(() => {
    answered = true
  })
  while (kernel.length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
  t.same([kernel, answered], [['attach 22 100.96.0.2'], false])
  release()
  await last
  t.same(kernel, ['attach 22 100.96.0.2', 'attach 11 10.0.1.20'])
})

t.test('a link that cannot be made fails the last Join of its container', async (t) => {
  const link = async (one: string) => {
    if (one === id('1')) throw new CodedError('NETWORK_UNUSABLE', 'no')
  }
  const { call, join } = await driver(t, { link })
  const two = { [ENDPOINT_SIBLINGS_KEY]: '2' }
  await join(NET, id('1'), '10.0.1.20/24', two)
  await t.rejects(join(EGRESS, id('2'), '100.96.0.2/16', two), { code: 'NETWORK_UNUSABLE' })
  for (const [NetworkID, EndpointID] of [
    [NET, id('1')],
    [EGRESS, id('2')],
  ])
    await call('NetworkDriver.Leave', { NetworkID, EndpointID })
  await join(NET, id('3'), '10.0.1.21/24', two)
  await join(EGRESS, id('4'), '100.96.0.3/16', two)
  t.pass('the next container is another matter')
})

t.test('the default route is the gateway networks’, with IPv6 where the host has it', async (t) => {
  const four = await driver(t)
  t.match((await four.join(EGRESS, id('2'), '100.96.0.2/16')).joined, { Gateway: '100.96.0.1' })
  t.notOk('GatewayIPv6' in (await four.join(GATEWAY, id('3'), '100.64.6.9/23')).joined)
  const both = await driver(t, { ipv6: true })
  const { created, joined } = await both.join(GATEWAY, id('3'), '100.64.6.9/23')
  t.match(created, { Interface: { AddressIPv6: 'fd73:7761:726d:1::6440:609/119' } })
  t.match(joined, { Gateway: '100.64.6.1', GatewayIPv6: 'fd73:7761:726d:1::6440:601' })
})

t.test('what the engine does twice, or only half after a crash, does no harm', async (t) => {
  const { call, join, engine, kernel } = await driver(t)
  await join(NET, id('1'), '10.0.1.20/24')
  // the engine died; a new container has the address
  await join(NET, id('2'), '10.0.1.20/24')
  t.same(kernel, ['attach 11 10.0.1.20', 'detach 11', 'attach 22 10.0.1.20'])
  t.same([...engine.endpoints.keys()], [id('2')])
  for (const EndpointID of [id('2'), id('2'), id('7')]) {
    await call('NetworkDriver.Leave', { NetworkID: NET, EndpointID })
    await call('NetworkDriver.DeleteEndpoint', { NetworkID: NET, EndpointID })
  }
  t.same([...engine.locals()], [])
  await t.rejects(call('NetworkDriver.Join', { NetworkID: NET, EndpointID: id('2') }), { code: 'NO_END_POINT' })
})

t.test('a restart knows networks, end points and given addresses', async (t) => {
  const { join, call, path } = await driver(t)
  const pool = await call('IpamDriver.RequestPool', { Pool: '100.96.0.0/16' })
  await call('IpamDriver.RequestAddress', { PoolID: pool.PoolID })
  await join(NET, id('1'), '10.0.1.20/24')
  const again = new EngineState(path, silentLog)
  await again.load()
  t.same([...again.networks.keys()], [NET, EGRESS, GATEWAY])
  t.match(
    [...again.locals()],
    [{ endpointId: id('1'), networkId: 'overlay0', sandbox: '/box', addresses: ['10.0.1.20'] }],
  )
  t.same([...again.egress], ['100.96.0.2'])
})

t.test('IPAM repeats the cluster’s wishes, also those that overlap', async (t) => {
  const { call } = await driver(t)
  const request = { Pool: '10.0.1.0/24', Options: { [NETWORK_ID_KEY]: 'overlay0' } }
  const [one, two] = [await call('IpamDriver.RequestPool', request), await call('IpamDriver.RequestPool', request)]
  t.same(one, two)
  t.equal(one.Pool, '10.0.1.0/24')
  const { PoolID } = one
  for (const _ of [1, 2]) {
    t.same(await call('IpamDriver.RequestAddress', { PoolID, Address: '10.0.1.20' }), {
      Address: '10.0.1.20/24',
      Data: {},
    })
  }
  const Options = { RequestAddressType: 'com.docker.network.gateway' }
  t.match(await call('IpamDriver.RequestAddress', { PoolID, Options }), { Address: '10.0.1.1/24' })
  await t.rejects(
    call('IpamDriver.RequestAddress', { PoolID }),
    { code: 'NO_ADDRESS' },
    'made behind the cluster’s back',
  )
  t.same(await call('IpamDriver.ReleaseAddress', { PoolID, Address: '10.0.1.20' }), {})
  await call('IpamDriver.ReleaseAddress', { PoolID: '', Address: 'fd73::1' })
  await t.rejects(call('IpamDriver.RequestPool', {}), { code: 'INVALID_POOL' })
})

t.test('addresses for the way out come round late', async (t) => {
  const { call, engine } = await driver(t)
  const { PoolID } = await call('IpamDriver.RequestPool', { Pool: '100.96.0.0/16' })
  const next = async () => String((await call('IpamDriver.RequestAddress', { PoolID })).Address)
  t.same([await next(), await next()], ['100.96.0.2/16', '100.96.0.3/16'])
  await call('IpamDriver.ReleaseAddress', { PoolID, Address: '100.96.0.2' })
  t.equal(await next(), '100.96.0.4/16')
  engine.egress.clear()
  engine.egress.add('100.96.255.254')
  t.equal(await next(), '100.96.0.2/16', 'after the last comes the first that is no gateway')
})

t.test('left-overs of a crash are forgotten when they have been so for a while, and only then', async (t) => {
  const { call, join, engine, kernel } = await driver(t)
  const { PoolID } = await call('IpamDriver.RequestPool', { Pool: '100.96.0.0/16' })
  for (const [EndpointID, Address] of [
    [id('1'), '100.96.0.2/16'],
    [id('2'), '100.96.0.3/16'],
  ] as const) {
    await call('IpamDriver.RequestAddress', { PoolID })
    await join(EGRESS, EndpointID, Address)
  }
  await call('IpamDriver.RequestAddress', { PoolID })
  const leftovers = new Leftovers({ engine, forget: async (endpointId) => void kernel.push(`forgot ${endpointId[0]}`) })
  const sweep = (seconds: number, ...cables: string[]) => leftovers.sweep(new Set(cables), seconds * 1000)
  t.same(await sweep(0, id('1')), [])
  t.same(await sweep(20, id('1'), id('2')), [], 'it was there again')
  t.same(await sweep(40, id('1')), [])
  t.same(await sweep(71, id('1')), [id('2')])
  t.same([...engine.egress], ['100.96.0.2', '100.96.0.4'])
  t.same(await sweep(700, id('1')), ['100.96.0.4'], 'no end point ever had it')
  t.equal(kernel.at(-1), 'forgot 2')
})
