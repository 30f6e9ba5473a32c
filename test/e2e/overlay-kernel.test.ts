// The kernel's part of the data plane on hosts that are namespaces: needs root, and no engine.

import t from 'tap'
import type { DataPlaneRecord } from '../../src/api/data-plane.ts'
import { DesiredStore } from '../../src/overlay/desired-state.ts'
import { endpoint, INGRESS, inNamespace, ip, KernelLab, localOf, network, pings } from './support/kernel-hosts.ts'

const front = network('front', 4097, {
  subnets: [
    { subnet: '10.0.1.0/24', gateway: '10.0.1.1' },
    { subnet: 'fd00:1::/64', gateway: 'fd00:1::1' },
  ],
})

function records(lab: KernelLab, more: readonly DataPlaneRecord[]): readonly DataPlaneRecord[] {
  return [
    ...lab.hosts.map(({ peer }) => ({ kind: 'peer', peer }) as const),
    { kind: 'overlay-network', network: INGRESS },
    { kind: 'overlay-network', network: front },
    ...more,
  ]
}

t.test('containers of two nodes reach each other on an overlay, by IPv4 and IPv6', async (t) => {
  const lab = new KernelLab('a', [1, 2])
  t.teardown(() => lab.down())
  const [one, two] = lab.hosts
  if (!one || !two) throw new Error('no hosts')
  const a = endpoint('a', 'front', 1, ['10.0.1.5', 'fd00:1::5'])
  const a2 = endpoint('a2', 'front', 1, ['10.0.1.7', 'fd00:1::7'])
  const b = endpoint('b', 'front', 2, ['10.0.1.6', 'fd00:1::6'])
  const set = records(
    lab,
    [a, a2, b].map((one) => ({ kind: 'end-point', endpoint: one })),
  )
  const fabrics = []
  const containers = new Map<string, string>()
  for (const host of lab.hosts) {
    const store = new DesiredStore()
    const fabric = host.fabric()
    await fabric.open(store.state, [])
    const changed = store.apply({ self: host.self, revision: 1, complete: true, set, removed: [] })
    await fabric.apply(store.state, changed)
    for (const own of [a, a2, b].filter(({ nodeNumber }) => nodeNumber === host.number)) {
      const local = localOf(own)
      const { device, mtu } = await fabric.attach(local)
      t.equal(mtu, 1450)
      containers.set(own.taskId, lab.container(host, device, local, 24))
    }
    fabrics.push({ fabric, store, host })
  }
  const ca = containers.get('a') ?? ''
  const cb = containers.get('b') ?? ''
  t.ok(await pings(ca, '10.0.1.6'), 'to the other node')
  t.ok(await pings(cb, '10.0.1.5'), 'and back')
  t.ok(await pings(ca, '10.0.1.7'), 'on one node')
  t.ok(await pings(ca, '10.0.1.1'), 'the gateway')
  t.ok(await pings(ca, 'fd00:1::6'), 'IPv6 to the other node')
  t.ok(await pings(ca, 'fd00:1::7'), 'IPv6 on one node')
  t.ok(await pings(ca, 'fd00:1::1'), 'IPv6 gateway')
  for (const { fabric } of fabrics) t.same(await fabric.audit(), [], 'the kernel is as planned')
  t.ok(inNamespace(one.namespace, 'sysctl', '-n', 'net.ipv4.ip_forward').startsWith('1'))
  t.ok(ip('-n', one.config.namespace, 'link', 'show', 'vxg').includes('vxg'))
})
