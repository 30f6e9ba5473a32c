// The users of a simulated cluster: they draw what to ask for and ask the manager that they believe to lead, through the same
// handlers as the API.

import { DEPENDS_ON_LABEL } from '../../src/api/depends-on.ts'
import type { Network, Node, Service } from '../../src/api/objects.ts'
import { publishLabel } from '../../src/api/publish-addresses.ts'
import { DRAIN_LABEL, RESTART_MAX_DELAY_LABEL } from '../../src/api/service-labels.ts'
import type { Labels, PortConfig, ServiceSpec, UpdateConfig } from '../../src/api/spec.ts'
import { staticAddresses, staticAddressLabel } from '../../src/api/static-addresses.ts'
import { formatAddress, parseCidr } from '../../src/lib/cidr.ts'
import { CodedError } from '../../src/lib/errors.ts'
import type { SeededRandom } from '../../src/lib/random.ts'
import { makeJoinToken } from '../../src/manager/ca/join-token.ts'
import { requireCluster, updateCluster } from '../../src/manager/control/cluster.ts'
import type { ControlContext } from '../../src/manager/control/context.ts'
import { createNetwork, removeNetwork } from '../../src/manager/control/networks.ts'
import { removeNode, updateNode } from '../../src/manager/control/nodes.ts'
import { beginRebalance, planRebalance, rebalanceOrder, stopRebalance } from '../../src/manager/control/rebalance.ts'
import { createSecret, removeUnused } from '../../src/manager/control/secrets-configs.ts'
import { createService, removeService, updateService } from '../../src/manager/control/services.ts'
import { ClusterMap } from '../../src/manager/scheduler/cluster-map.ts'
import { noExternalCa } from '../support/no-external-ca.ts'
import type { ClusterProfile } from './cluster-profile.ts'
import { PROGRAMS } from './cluster-programs.ts'

const NANOS_PER_MS = 1e6

export interface OperatorContext extends ControlContext {
  readonly sight: {
    readonly leaderId: string | undefined
    readonly reachability: (nodeId: string) => 'reachable' | 'unreachable' | 'unknown'
  }
}

export interface Operation {
  readonly text: string
  readonly scope:
    | { readonly kind: 'service'; readonly name: string }
    | { readonly kind: 'node' }
    | { readonly kind: 'other' }
  /** The spec that a service gets, where the operation changes nothing but its image. */
  readonly image?: ServiceSpec
  readonly perform: (context: OperatorContext) => Promise<unknown>
}

const ROOT_ROTATION: Operation = {
  text: 'rotate the root',
  scope: { kind: 'other' },
  perform: async (context) => {
    const cluster = requireCluster(context.view)
    const { CAConfig } = cluster.spec
    const spec = { ...cluster.spec, CAConfig: { ...CAConfig, ForceRotate: (CAConfig?.ForceRotate ?? 0) + 1 } }
    const rotate = { workerToken: false, managerToken: false, unlockKey: false }
    const newToken = (digest: string) => makeJoinToken(digest, context.random)
    await updateCluster(context, cluster.meta.version, spec, rotate, newToken, noExternalCa)
  },
}

interface Named {
  readonly id: string
  readonly spec: { readonly Name?: string }
}

export class Operator {
  readonly #random: SeededRandom
  readonly #profile: ClusterProfile
  #made = 0

  constructor(random: SeededRandom, profile: ClusterProfile) {
    this.#random = random
    this.#profile = profile
  }

  /** @param calm without operations that disturb what runs */
  draw(context: OperatorContext, calm: boolean): Operation {
    const { view } = context
    const services = view.list('service')
    if (this.#random.float() < 0.03) return ROOT_ROTATION
    if (!calm && this.#random.float() < this.#profile.nodeOperationShare) return this.#nodeOperation(context)
    if (services.length === 0 || (services.length < this.#profile.maxServices && this.#random.float() < 0.3))
      return this.#create(context)
    const service = this.#pick(services)!
    return this.#random.float() < 0.1 ? this.#rebalance(service) : this.#change(service, context)
  }

  /** What it does to the replicas the availability's checker reads from the store. */
  #rebalance(service: Service): Operation {
    const name = service.spec.Name ?? ''
    const scope = { kind: 'other' } as const
    const kind = this.#random.float()
    if (kind < 0.1) {
      const perform = (context: OperatorContext) => stopRebalance(context, service.id)
      return { text: `stop the rebalancing of ${name}`, scope, perform }
    }
    const AtOnce = this.#random.float() < 0.5 ? 1 + this.#random.below(4) : undefined
    const request = { ...(kind < 0.7 ? { Services: [service.id] } : {}), ...(AtOnce ? { AtOnce } : {}) }
    const perform = async (context: OperatorContext) => {
      const { view } = context
      const map = new ClusterMap()
      for (const _ of map.build(view)) void _
      const order = rebalanceOrder(view, request)
      const planned = [...planRebalance(view, map, order, context.clock.wallMs())].filter((one) => one !== undefined)
      await beginRebalance(context, order, planned)
    }
    return { text: `rebalance ${kind < 0.7 ? name : 'everything'}`, scope, perform }
  }

  #create({ view }: OperatorContext): Operation {
    const name = `s${++this.#made}`
    if (this.#random.float() < 0.1) {
      const content =
        this.#made % 2 === 0
          ? { Data: Buffer.from(`secret of ${name}`).toString('base64') }
          : { Driver: { Name: 'vault' } }
      return {
        text: `create secret ${name}`,
        scope: { kind: 'other' },
        perform: (context) => createSecret(context, { Name: name, ...content }),
      }
    }
    if (this.#random.float() < 0.15) {
      const EnableIPv6 = this.#random.float() < 0.3
      const spec = { Name: name, DriverConfiguration: { Name: 'overlay' }, Scope: 'swarm', EnableIPv6 }
      return {
        text: `create network ${name}`,
        scope: { kind: 'other' },
        perform: (context) => createNetwork(context, spec),
      }
    }
    const networks = view.list('network').filter((network) => !network.spec.Ingress)
    const others = view.list('service').flatMap(({ spec: { Name } }) => Name ?? [])
    const spec = this.#spec(name, view.list('secret'), networks, this.#dependsOn(others))
    return {
      text: `create ${name} ${describe(spec)}`,
      scope: { kind: 'service', name },
      perform: (context) => createService(context, spec, ''),
    }
  }

  /** On services that are there, or on one that may come yet; empty: on none. */
  #dependsOn(others: readonly string[]): string {
    const random = this.#random
    if (random.float() > 0.25) return ''
    const one = () => {
      const name = random.float() < 0.8 ? this.#pick(others) : undefined
      const condition = this.#pick(['started', 'healthy', 'healthy', 'completed'] as const)!
      return `${name ?? `s${this.#made + 1 + random.below(4)}`}:${condition}`
    }
    return random.float() < 0.3 ? `${one()},${one()}` : one()
  }

  #spec(Name: string, secrets: readonly Named[], networks: readonly Network[], dependsOn: string): ServiceSpec {
    const random = this.#random
    const global = random.float() < 0.2
    const secret = random.float() < 0.3 ? this.#pick(secrets) : undefined
    const attached = networks.filter(() => random.float() < 0.3)
    const port = random.float()
    const published = 30_000 + this.#made
    const Ports =
      port < 0.15
        ? [{ TargetPort: 80, PublishedPort: published, PublishMode: 'ingress' as const, Protocol: 'tcp' as const }]
        : port < 0.25
          ? [{ TargetPort: 80, PublishedPort: published, PublishMode: 'host' as const, Protocol: 'tcp' as const }]
          : port < 0.35
            ? [{ TargetPort: 80, PublishMode: 'ingress' as const, Protocol: 'tcp' as const }]
            : undefined
    const addresses = { ...this.#ownAddress(attached[0]), ...this.#publishedAt(Ports) }
    const drain = random.float()
    const restart = random.float()
    return {
      Name,
      Labels: {
        ...addresses,
        ...(dependsOn !== '' && { [DEPENDS_ON_LABEL]: dependsOn }),
        ...(drain < 0.3 && { [DRAIN_LABEL]: drain < 0.1 ? '0s' : '5s' }),
        ...(restart < 0.3 && { [RESTART_MAX_DELAY_LABEL]: restart < 0.1 ? '0s' : '30s' }),
      },
      TaskTemplate: {
        ContainerSpec: {
          Image: this.#image(),
          ...(random.float() < 0.4 && { Healthcheck: { Test: ['CMD', 'true'] } }),
          ...(secret && {
            Secrets: [
              {
                SecretID: secret.id,
                SecretName: secret.spec.Name ?? '',
                File: { Name: 's', UID: '0', GID: '0', Mode: 0o444 },
              },
            ],
          }),
        },
        RestartPolicy: {
          Condition: this.#pick(['any', 'any', 'any', 'any', 'on-failure', 'none'] as const)!,
          Delay: (300 + Math.floor(random.float() * 4_000)) * NANOS_PER_MS,
        },
        ...(attached.length > 0 && { Networks: attached.map(({ id }) => ({ Target: id })) }),
        ...(random.float() < 0.2 && { Resources: { Reservations: { NanoCPUs: 1e8 } } }),
        Placement: {
          ...(random.float() < 0.3 && {
            Constraints: [random.float() < 0.6 ? 'node.role==worker' : 'node.labels.zone!=b'],
          }),
          ...(random.float() < 0.15 && !global && { MaxReplicas: 1 + random.below(3) }),
        },
      },
      Mode: global ? { Global: {} } : { Replicated: { Replicas: random.below(this.#profile.maxReplicas + 1) } },
      UpdateConfig: this.#updateConfig(true),
      RollbackConfig: this.#updateConfig(false),
      ...(Ports && { EndpointSpec: { Ports } }),
    }
  }

  /** Of a few that services may well both ask for. */
  #ownAddress(network: Network | undefined): Labels {
    const cidr = parseCidr(network?.allocated?.subnets[0]?.subnet ?? '')
    if (!network || !cidr || this.#random.float() > 0.7) return {}
    const value = cidr.base + BigInt(200 + this.#random.below(3))
    return { [staticAddressLabel(network.spec.Name ?? '')]: formatAddress({ family: cidr.family, value }) }
  }

  #publishedAt(ports: readonly PortConfig[] | undefined): Labels {
    const { PublishedPort: published = 0, Protocol: protocol = 'tcp' } = ports?.[0] ?? {}
    if (published === 0 || this.#random.float() > 0.4) return {}
    return { [publishLabel({ protocol, published })]: '127.0.0.1' }
  }

  #updateConfig(update: boolean): UpdateConfig {
    const random = this.#random
    return {
      Parallelism: random.below(4),
      Delay: random.float() < 0.5 ? 0 : Math.floor(random.float() * 3_000) * NANOS_PER_MS,
      FailureAction: this.#pick(
        update ? (['pause', 'continue', 'rollback'] as const) : (['pause', 'continue'] as const),
      )!,
      Monitor: (500 + Math.floor(random.float() * 5_000)) * NANOS_PER_MS,
      MaxFailureRatio: random.float() < 0.7 ? 0 : random.float() * 0.5,
      Order: random.float() < 0.5 ? 'start-first' : 'stop-first',
    }
  }

  #image(): string {
    const random = this.#random
    const bad = random.float() < this.#profile.badImageRate
    const sound = this.#pick(['good', 'good', 'good', 'slow', 'stubborn'] as const)!
    return `${bad ? this.#pick(PROGRAMS)! : sound}:${++this.#made}`
  }

  #change(service: Service, { view }: OperatorContext): Operation {
    const { spec } = service
    const name = spec.Name ?? ''
    const scope = { kind: 'service', name } as const
    const kind = this.#random.float()
    const update = (next: ServiceSpec, rollback = '') => {
      return (context: OperatorContext) => {
        const version = context.view.get('service', service.id)?.meta.version ?? 0
        return updateService(context, {
          service: service.id,
          version,
          spec: next,
          registryAuth: '',
          registryAuthFrom: '',
          rollback,
        })
      }
    }
    if (kind < 0.4) {
      const Image = this.#image()
      const TaskTemplate = { ...spec.TaskTemplate, ContainerSpec: { ...spec.TaskTemplate?.ContainerSpec, Image } }
      const next = { ...spec, TaskTemplate }
      return { text: `update ${name} ${describe(next)}`, scope, image: next, perform: update(next) }
    }
    if (kind < 0.6 && spec.Mode?.Replicated) {
      const Replicas = this.#random.below(this.#profile.maxReplicas + 1)
      const next = { ...spec, Mode: { Replicated: { Replicas } } }
      return { text: `scale ${name} to ${Replicas}`, scope, perform: update(next) }
    }
    if (kind < 0.7) {
      const ForceUpdate = (spec.TaskTemplate?.ForceUpdate ?? 0) + 1
      const next = { ...spec, TaskTemplate: { ...spec.TaskTemplate, ForceUpdate } }
      return { text: `force ${name}`, scope, image: next, perform: update(next) }
    }
    if (kind < 0.8 && service.previousSpec)
      return { text: `roll back ${name}`, scope, perform: update(spec, 'previous') }
    if (kind < 0.88) {
      return { text: `remove ${name}`, scope, perform: (context) => removeService(context, service.id) }
    }
    const secret = spec.TaskTemplate?.ContainerSpec?.Secrets?.[0]?.SecretID
    if (kind < 0.9 && secret)
      return {
        text: `remove secret of ${name}`,
        scope: { kind: 'other' },
        perform: (context) => removeUnused(context, 'secret', secret),
      }
    const network = spec.TaskTemplate?.Networks?.[0]?.Target
    if (kind < 0.92 && network)
      return {
        text: `remove network of ${name}`,
        scope: { kind: 'other' },
        perform: (context) => removeNetwork(context, network),
      }
    if (kind < 0.95) {
      const { [DEPENDS_ON_LABEL]: _before, ...labels } = spec.Labels ?? {}
      const dependsOn = this.#dependsOn(view.list('service').flatMap(({ spec: { Name } }) => Name ?? []))
      const next = { ...spec, Labels: { ...labels, ...(dependsOn !== '' && { [DEPENDS_ON_LABEL]: dependsOn }) } }
      return { text: `${name} depends on ${dependsOn || 'nothing'}`, scope, perform: update(next) }
    }
    const attached = network === undefined ? undefined : view.get('network', network)
    if (kind < 0.98 && attached) {
      const next = { ...spec, Labels: { ...spec.Labels, ...this.#ownAddress(attached) } }
      return { text: `address of ${name} ${describe(next)}`, scope, perform: update(next) }
    }
    const next = { ...spec, UpdateConfig: this.#updateConfig(true), RollbackConfig: this.#updateConfig(false) }
    return { text: `configure updates of ${name}`, scope, perform: update(next) }
  }

  #nodeOperation({ view }: OperatorContext): Operation {
    const node = this.#pick(view.list('node').filter((one) => one.description.Hostname !== undefined))!
    const name = node.description.Hostname ?? node.id
    const scope = { kind: 'node' } as const
    const change = (spec: Partial<Node['spec']>) => async (context: OperatorContext) => {
      const current = context.view.get('node', node.id)
      if (!current) throw new CodedError('NOT_FOUND', 'the node is gone')
      await updateNode(context, context.sight, node.id, current.meta.version, { ...current.spec, ...spec })
    }
    const kind = this.#random.float()
    if (kind < 0.2) return { text: `drain ${name}`, scope, perform: change({ Availability: 'drain' }) }
    if (kind < 0.3) return { text: `pause ${name}`, scope, perform: change({ Availability: 'pause' }) }
    if (kind < 0.55) return { text: `activate ${name}`, scope, perform: change({ Availability: 'active' }) }
    if (kind < 0.65) {
      const zone = this.#random.float() < 0.5 ? 'a' : 'b'
      return { text: `label ${name} zone=${zone}`, scope, perform: change({ Labels: { zone } }) }
    }
    if (kind < 0.75) return { text: `promote ${name}`, scope, perform: change({ Role: 'manager' }) }
    if (kind < 0.9) return { text: `demote ${name}`, scope, perform: change({ Role: 'worker' }) }
    const force = this.#random.float() < 0.5
    return {
      text: `remove node ${name}${force ? ' by force' : ''}`,
      scope,
      perform: (context) => removeNode(context, node.id, force),
    }
  }

  #pick<T>(items: readonly T[]): T | undefined {
    return items[this.#random.below(items.length)]
  }
}

function describe({ Labels, TaskTemplate, Mode, UpdateConfig }: ServiceSpec): string {
  const health = TaskTemplate?.ContainerSpec?.Healthcheck ? ' with a health check' : ''
  const { Order, Parallelism, FailureAction } = UpdateConfig ?? {}
  const size = Mode?.Global ? 'global' : `×${Mode?.Replicated?.Replicas}`
  const after = Labels?.[DEPENDS_ON_LABEL] ? ` after ${Labels[DEPENDS_ON_LABEL]}` : ''
  const own = staticAddresses(Labels).map(({ network, addresses }) => ` at ${addresses.join()} of ${network}`)
  return `${TaskTemplate?.ContainerSpec?.Image}${health} ${size} (${Order}, ${Parallelism}, ${FailureAction})${after}${own.join('')}`
}
