// What the engine says of containers, networks and events, as Docker would say it in a swarm: networks of the cluster bear
// their cluster's id and driver, what only this node needs is left out, and the traces of swarmd on containers as well.

import type { HostModePort } from '../../overlay/desired-state.ts'
import {
  EGRESS_NETWORK_NAME,
  ENDPOINT_DNS_KEY,
  ENDPOINT_PORTS_KEY,
  ENDPOINT_SIBLINGS_KEY,
  NETWORK_VNI_KEY,
  NO_ENGINE_RESOLVER,
  PORTS_NETWORK_NAME,
  portsOf,
  upstreamsOf,
} from '../../overlay/driver-options.ts'
import { NETWORK_COUNT_LABEL } from '../../worker/docker/container-body.ts'
import { asList, asObject, asText, type JsonObject } from './engine-json.ts'
import type { NetworkPart } from './network-parts.ts'

const TASK_ID_LABEL = 'com.docker.swarm.task.id'
const HIDDEN_NAMES: ReadonlySet<string> = new Set([EGRESS_NETWORK_NAME, PORTS_NETWORK_NAME])
/** Where nodes share a machine, the name of their driver has a number. */
const OUR_DRIVER = /^swarmctl\d*$/
const VXLAN_OPTION = 'com.docker.network.driver.overlay.vxlanid_list'

export interface NetworkNames {
  /** By id of the engine. */
  readonly parts: ReadonlyMap<string, NetworkPart>
  /** The id of the cluster's network of this name, where the engine's is gone; '' none. */
  readonly idOf: (name: string) => string
}

/** Ids of the engine networks that a container (of /containers/json, or inspected) was on when it ran last. */
export function networkIdsOf(container: JsonObject): readonly string[] {
  return Object.values(asObject(asObject(container.NetworkSettings).Networks))
    .map((settings) => asText(asObject(settings).NetworkID))
    .filter((id) => id !== '')
}

/** @returns the same object where there is nothing to change. */
export function shownContainer(container: JsonObject, names: NetworkNames): JsonObject {
  const networkSettings = asObject(container.NetworkSettings)
  const networks = Object.entries(asObject(networkSettings.Networks))
  const labels = asObject(container.Labels ?? asObject(container.Config).Labels)
  const taskId = asText(labels[TASK_ID_LABEL])
  const idOf = (name: string) => (taskId === '' ? '' : names.idOf(name))
  const shown = networks.flatMap(([name, settings]) => shownEndpoint(name, asObject(settings), { ...names, idOf }))
  const isChanged = shown.length < networks.length || shown.some(([, , changed]) => changed)
  if (!isChanged && taskId === '') return container
  const isRunning = container.State === 'running' || asObject(container.State).Running === true
  const ports = isRunning ? portsOf(labels[ENDPOINT_PORTS_KEY]) : []
  const files = taskId === '' ? '/swarm/resolvers/' : `/task-files/${taskId}/`
  const visible = (mount: unknown) => !asText(asObject(mount).Source).includes(files)
  const host = asObject(container.HostConfig)
  const isTask = taskId !== '' && networks.length > 0
  return {
    ...container,
    NetworkSettings: {
      ...networkSettings,
      Networks: Object.fromEntries(shown.map(([name, settings]) => [name, settings])),
      ...(networkSettings.Ports !== undefined && { Ports: withOwnPorts(asObject(networkSettings.Ports), ports) }),
    },
    ...(container.Ports !== undefined && { Ports: [...asList(container.Ports), ...ports.flatMap(listedPort)] }),
    ...(container.HostConfig !== undefined && {
      HostConfig: {
        ...host,
        ...(isTask && isChanged && { NetworkMode: 'default' }),
        // A plain container's are told to our resolver, which it asks instead.
        ...(taskId === '' && host.Dns !== undefined && { Dns: ownNameServers(networks) }),
        ...(taskId !== '' && host.DnsOptions !== undefined && { DnsOptions: ownOptions(host.DnsOptions) }),
        ...(host.Mounts !== undefined && { Mounts: asList(host.Mounts).filter(visible) }),
      },
    }),
    ...(container.Mounts !== undefined && { Mounts: asList(container.Mounts).filter(visible) }),
    ...(container.Labels !== undefined && { Labels: shownLabels(asObject(container.Labels)) }),
    ...(container.Config !== undefined && {
      Config: { ...asObject(container.Config), Labels: shownLabels(asObject(asObject(container.Config).Labels)) },
    }),
  }
}

/** As in the listing of containers. */
function listedPort({ protocol, published, target, addresses }: HostModePort): readonly JsonObject[] {
  return shownAddresses(addresses).map((IP) => ({ IP, PrivatePort: target, PublicPort: published, Type: protocol }))
}

/** A subnet or an interface is shown as it was asked for. */
function shownAddresses(addresses: readonly string[] | undefined): readonly string[] {
  return addresses && addresses.length > 0 ? addresses : ['0.0.0.0']
}

/** As in an inspected container. */
function withOwnPorts(bindings: JsonObject, ports: readonly HostModePort[]): JsonObject {
  const targets = new Set(ports.map(({ protocol, target }) => `${target}/${protocol}`))
  const own = [...targets].map((key) => {
    const lead = ports.filter(({ protocol, target }) => `${target}/${protocol}` === key)
    const shown = lead.flatMap(({ published, addresses }) =>
      shownAddresses(addresses).map((HostIp) => ({ HostIp, HostPort: String(published) })),
    )
    return [key, shown] as const
  })
  return { ...bindings, ...Object.fromEntries(own) }
}

function ownOptions(options: unknown): readonly unknown[] {
  return asList(options).filter((option) => option !== NO_ENGINE_RESOLVER)
}

function ownNameServers(networks: readonly (readonly [string, unknown])[]): readonly string[] {
  const options = networks.map(([, settings]) => asObject(asObject(settings).DriverOpts)[ENDPOINT_DNS_KEY])
  return upstreamsOf(options.find((option) => option !== undefined))
}

function shownEndpoint(
  name: string,
  settings: JsonObject,
  { parts, idOf }: NetworkNames,
): readonly (readonly [string, JsonObject, boolean])[] {
  const engineId = asText(settings.NetworkID)
  const part = parts.get(engineId)
  if (part?.hidden || HIDDEN_NAMES.has(name)) return []
  const NetworkID = part?.clusterId ?? idOf(name)
  if (NetworkID === '') return [[name, settings, false]]
  const {
    [ENDPOINT_DNS_KEY]: _dns,
    [ENDPOINT_PORTS_KEY]: _ports,
    [ENDPOINT_SIBLINGS_KEY]: _siblings,
    ...options
  } = asObject(settings.DriverOpts)
  const hasOptions = Object.keys(options).length > 0
  const DriverOpts = settings.DriverOpts === undefined ? {} : { DriverOpts: hasOptions ? options : null }
  return [[name, { ...settings, ...DriverOpts, NetworkID }, true]]
}

function shownLabels(labels: JsonObject): JsonObject {
  const { [NETWORK_COUNT_LABEL]: _count, [ENDPOINT_PORTS_KEY]: _ports, ...rest } = labels
  return rest
}

/** A node's part of a cluster network where nothing more is known of that network: on workers. */
export function shownPart(local: JsonObject, part: NetworkPart): JsonObject {
  const options = asObject(local.Options)
  return {
    ...local,
    Id: part.clusterId,
    Scope: 'swarm',
    Driver: 'overlay',
    IPAM: { ...asObject(local.IPAM), Driver: 'default', Options: null },
    Ingress: part.name === 'ingress',
    Options: { [VXLAN_OPTION]: asText(options[NETWORK_VNI_KEY]) },
    Labels: {},
  }
}

/** An event of the engine, as it is to be told; undefined: not at all. */
export function shownEvent(event: JsonObject, names: NetworkNames): JsonObject | undefined {
  const actor = asObject(event.Actor)
  const attributes = asObject(actor.Attributes)
  if (event.Type === 'container') {
    if (attributes[NETWORK_COUNT_LABEL] === undefined && attributes[ENDPOINT_PORTS_KEY] === undefined) return event
    return { ...event, Actor: { ...actor, Attributes: shownLabels(attributes) } }
  }
  if (event.Type !== 'network') return event
  const part = names.parts.get(asText(actor.ID))
  const name = asText(attributes.name)
  const isOurs = part !== undefined || OUR_DRIVER.test(asText(attributes.type))
  if (part?.hidden || HIDDEN_NAMES.has(name)) return undefined
  if (!isOurs) return event
  // The cluster tells itself when its networks come and go.
  if (event.Action === 'create' || event.Action === 'destroy') return undefined
  const ID = part?.clusterId ?? names.idOf(name)
  return { ...event, Actor: { ...actor, ...(ID !== '' && { ID }), Attributes: { ...attributes, type: 'overlay' } } }
}
