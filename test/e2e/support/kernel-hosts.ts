// Hosts without engines: network namespaces on a switch of their own, with "containers" that are namespaces as well. What the
// data plane's kernel part is tried on.

import { execFile, execFileSync } from 'node:child_process'
import type { DataPlaneRecord, OverlayNetwork, Peer } from '../../../src/api/data-plane.ts'
import { SystemClock } from '../../../src/lib/clock.ts'
import { silentLog } from '../../../src/lib/log.ts'
import { DesiredStore, type LocalAttachment, type Self } from '../../../src/overlay/desired-state.ts'
import type { Drift } from '../../../src/overlay/kernel/drift.ts'
import { Fabric, type FabricSettings } from '../../../src/overlay/kernel/fabric.ts'
import { type FabricConfig, fabricConfig } from '../../../src/overlay/kernel/fabric-config.ts'
import { DATA_PATH_PORT, endpoint, INGRESS, localOf, peer } from '../../overlay/support/records.ts'

export function ip(...args: readonly string[]): string {
  return execFileSync('ip', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

export function inNamespace(namespace: string, ...command: readonly string[]): string {
  return execFileSync('nsenter', [`--net=/run/netns/${namespace}`, ...command], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

/** Resolves with whether all `count` packets came back. */
export function pings(namespace: string, address: string, count = 1): Promise<boolean> {
  const args = [
    `--net=/run/netns/${namespace}`,
    'busybox',
    'ping',
    '-i',
    '0.2',
    '-c',
    String(count),
    '-W',
    '2',
    address,
  ]
  return new Promise((resolve) => {
    execFile('nsenter', args, (error, stdout) => resolve(error === null && stdout.includes(' 0% packet loss')))
  })
}

export interface KernelHost {
  readonly number: number
  readonly namespace: string
  readonly address: string
  readonly config: FabricConfig
  readonly self: Self
  readonly peer: Peer
  /** Another start of its data plane. */
  fabric(settings?: Partial<FabricSettings>): Fabric
}

export interface RunningHost {
  readonly host: KernelHost
  readonly fabric: Fabric
  readonly store: DesiredStore
  /** What the fabric mended by itself. */
  readonly drift: Drift[]
  readonly local: LocalAttachment
  /** Namespace of its container. */
  readonly container: string
}

export class KernelLab {
  readonly #prefix: string
  readonly hosts: readonly KernelHost[]
  readonly #containers: string[] = []
  readonly #fabrics: Fabric[] = []

  constructor(name: string, numbers: readonly number[]) {
    this.#prefix = `k${process.pid}${name}`
    const link = `${this.#prefix}-sw`
    ip('netns', 'add', link)
    ip('-n', link, 'link', 'add', 'br0', 'type', 'bridge')
    ip('-n', link, 'link', 'set', 'br0', 'up')
    this.hosts = numbers.map((number, at) => this.#host(number, at, link))
  }

  #host(number: number, at: number, link: string): KernelHost {
    const namespace = `${this.#prefix}-h${number}`
    const address = `10.78.0.${at + 1}`
    ip('netns', 'add', namespace)
    ip('-n', namespace, 'link', 'set', 'lo', 'up')
    ip('-n', namespace, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', `p${at}`, 'netns', link)
    ip('-n', link, 'link', 'set', `p${at}`, 'master', 'br0', 'up')
    ip('-n', namespace, 'addr', 'add', `${address}/24`, 'dev', 'eth0')
    ip('-n', namespace, 'link', 'set', 'eth0', 'up')
    const config = fabricConfig({ dataPathPort: DATA_PATH_PORT, namespace: `${namespace}f` })
    const self: Self = { nodeId: `node${number}`, number, address, dataPathPort: DATA_PATH_PORT }
    return {
      number,
      namespace,
      address,
      config,
      self,
      peer: peer(number, address),
      fabric: (settings = {}) => this.#fabric(config, namespace, settings),
    }
  }

  #fabric(config: FabricConfig, namespace: string, settings: Partial<FabricSettings>): Fabric {
    const hostNamespace = `/run/netns/${namespace}`
    const fabric = new Fabric({ config, log: silentLog, clock: new SystemClock(), hostNamespace, ...settings })
    this.#fabrics.push(fabric)
    return fabric
  }

  /** What an engine does with an end point's link. Answers the container's namespace. */
  container(host: KernelHost, device: string, local: LocalAttachment, prefix: number, gateway = ''): string {
    const namespace = `${host.namespace}c${local.addresses[0]}`
    ip('netns', 'add', namespace)
    this.#containers.push(namespace)
    ip('-n', namespace, 'link', 'set', 'lo', 'up')
    inNamespace(namespace, 'sysctl', '-qw', 'net.ipv6.conf.default.disable_ipv6=1')
    ip('-n', host.namespace, 'link', 'set', device, 'netns', namespace, 'name', 'eth0', 'address', local.mac)
    inNamespace(namespace, 'sysctl', '-qw', 'net.ipv6.conf.eth0.disable_ipv6=0')
    for (const address of local.addresses) {
      const length = address.includes(':') ? 64 : prefix
      ip(
        '-n',
        namespace,
        'addr',
        'add',
        `${address}/${length}`,
        'dev',
        'eth0',
        ...(address.includes(':') ? ['nodad'] : []),
      )
    }
    ip('-n', namespace, 'link', 'set', 'eth0', 'up')
    if (gateway !== '') ip('-n', namespace, 'route', 'add', 'default', 'via', gateway)
    return namespace
  }

  /** A network with a container on each host, all of it applied. */
  async overlay(
    on: OverlayNetwork,
    addresses: (host: KernelHost) => readonly string[],
    config: (host: KernelHost) => FabricConfig = (host) => host.config,
  ): Promise<readonly RunningHost[]> {
    const endpoints = this.hosts.map((host) => endpoint(`t${host.number}`, on.id, host.number, addresses(host)))
    const set: readonly DataPlaneRecord[] = [
      ...this.hosts.map(({ peer }) => ({ kind: 'peer', peer }) as const),
      { kind: 'overlay-network', network: INGRESS },
      { kind: 'overlay-network', network: on },
      ...endpoints.map((one) => ({ kind: 'end-point', endpoint: one }) as const),
    ]
    const running: RunningHost[] = []
    for (const [at, host] of this.hosts.entries()) {
      const store = new DesiredStore()
      const drift: Drift[] = []
      const fabric = host.fabric({ config: config(host), onDrift: (found) => drift.push(...found) })
      await fabric.open(store.state, [])
      const changed = store.apply({ self: host.self, revision: 1, complete: true, set, removed: [] })
      await fabric.apply(store.state, changed)
      const own = endpoints[at]
      if (!own) throw new Error('no end point')
      const local = { ...localOf(own), sandbox: `/run/netns/${host.namespace}c${addresses(host)[0]}` }
      const { device } = await fabric.attach(local)
      running.push({ host, fabric, store, drift, local, container: this.container(host, device, local, 24) })
    }
    return running
  }

  /** Of the wires between the hosts. */
  setUnderlayMtu(mtu: number): void {
    for (const [at, { namespace }] of this.hosts.entries()) {
      ip('-n', namespace, 'link', 'set', 'eth0', 'mtu', String(mtu))
      ip('-n', `${this.#prefix}-sw`, 'link', 'set', `p${at}`, 'mtu', String(mtu))
    }
  }

  async down(): Promise<void> {
    await Promise.all(this.#fabrics.map((fabric) => fabric.close()))
    const made = [...this.#containers, ...this.hosts.flatMap(({ namespace, config }) => [config.namespace, namespace])]
    for (const namespace of [...made, `${this.#prefix}-sw`]) {
      try {
        ip('netns', 'del', namespace)
      } catch {
        // Gone already: the test took it.
      }
    }
  }
}
