// What a deployment of a stack would do to the cluster: decided from what the files want and what is there, and nothing else. The
// server decides it over its store; a daemon without such a route is asked for its objects, and the client decides.

import { storedServiceSpec } from './defaults.ts'
import type { ConfigReference, Driver, IpamConfig, Labels, Platform, SecretReference, ServiceSpec } from './spec.ts'
import { diffSpecs, type FieldChange } from './spec-diff.ts'
import { specsEqual } from './spec-equality.ts'

export const STACK_LABEL = 'com.docker.stack.namespace'
/** The image as the compose file names it, before it is pinned. */
export const STACK_IMAGE_LABEL = 'com.docker.stack.image'
/** On a secret or config that has taken the place of another with other contents: the name that the files use. */
export const VERSION_OF_LABEL = 'io.swarmctl.version-of'

/** In place of the id of what is still to be made. */
const NEW_ID = 'new'

export interface WantedNetwork {
  readonly Name: string
  readonly Driver?: string
  readonly Options?: Labels
  readonly IPAM?: { readonly Driver?: string; readonly Config?: readonly IpamConfig[] }
  readonly Internal?: boolean
  readonly Attachable?: boolean
  readonly EnableIPv6?: boolean
  readonly Labels?: Labels
}

/** A secret or a config, without its contents. */
export interface WantedPayload {
  readonly Name: string
  readonly Labels?: Labels
  /** SHA-256 of the contents in hex; '' where a driver keeps them. */
  readonly Digest: string
  readonly Driver?: Driver
  readonly Templating?: Driver
}

export interface WantedService {
  /** Without `Secrets` and `Configs`. */
  readonly Spec: ServiceSpec
  readonly Secrets: readonly SecretReference[]
  readonly Configs: readonly ConfigReference[]
  /** An image that the files name as they did before stays the one that is pinned now. */
  readonly KeepImage: boolean
}

export interface WantedStack {
  readonly Networks: readonly WantedNetwork[]
  readonly Secrets: readonly WantedPayload[]
  readonly Configs: readonly WantedPayload[]
  readonly Services: readonly WantedService[]
  /** What the stack has beside that is removed. */
  readonly Prune: boolean
}

export type StackObjectKind = 'network' | 'secret' | 'config' | 'service'

export interface PlannedAction {
  readonly Kind: StackObjectKind
  readonly Name: string
  /**
   * `rotate`: contents change, so a new object takes the place of `From`. `keep`: it differs from what is wanted and can't be changed.
   * `remove` of secrets, configs and networks comes last, once nothing uses them.
   */
  readonly Action: 'create' | 'update' | 'rotate' | 'none' | 'keep' | 'remove'
  /** Of what is there. */
  readonly ID?: string
  /** Of what is there, as it was seen. */
  readonly Version?: number
  readonly From?: string
  /** Of secrets and configs: the name that the files use; the object's own may have a version's number behind it. */
  readonly Base?: string
  readonly Changes: readonly FieldChange[]
  /** Of services: how many running tasks are replaced, or stop. */
  readonly Tasks?: number
  /** Of services: what the files do not say, and stays. */
  readonly Kept?: { readonly ForceUpdate?: number; readonly Image?: string; readonly Platforms?: readonly Platform[] }
}

export interface StackPlan {
  readonly Stack: string
  /** Of the cluster; absent where the client has decided. */
  readonly StoreVersion?: number
  /** In the order in which they are done. */
  readonly Actions: readonly PlannedAction[]
  /** What services refer to and is nowhere: `service st_web: secret not found: x`. */
  readonly Missing: readonly string[]
  /** Every object that the decision rests on: what must not have moved when it is carried out. */
  readonly Base: readonly BaseObject[]
}

export interface BaseObject {
  readonly Kind: StackObjectKind
  readonly Name: string
  readonly ID: string
  readonly Version: number
}

export interface CurrentNetwork extends WantedNetwork {
  readonly Id: string
  readonly Version: number
}

export interface CurrentPayload extends Omit<WantedPayload, 'Digest'> {
  readonly ID: string
  readonly Version: number
  /** undefined: not to be had. */
  readonly Digest: string | undefined
}

export interface CurrentService {
  readonly ID: string
  /** That of the spec: how far its tasks are is no change. */
  readonly Version: number
  readonly Spec: ServiceSpec
  readonly PreviousSpec: ServiceSpec | undefined
}

export interface CurrentStack {
  readonly networks: readonly CurrentNetwork[]
  /** Those of the stack, and all that have a name that it wants or that its services refer to. */
  readonly secrets: readonly CurrentPayload[]
  readonly configs: readonly CurrentPayload[]
  /** Those of the stack. */
  readonly services: readonly CurrentService[]
  /** Ids of secrets and configs that services of others refer to. */
  readonly usedByOthers: ReadonlySet<string>
  /** The name of a network that a service names by its id. */
  networkName(target: string): string
  /** How many tasks of the service an update to this spec replaces. */
  tasksReplaced(service: CurrentService, spec: ServiceSpec): number
  /** How many tasks of the service run. */
  tasksOf(service: CurrentService): number
}

export function planStack(stack: string, wanted: WantedStack, current: CurrentStack): StackPlan {
  const secrets = planPayloads('secret', wanted.Secrets, current.secrets, stack)
  const configs = planPayloads('config', wanted.Configs, current.configs, stack)
  const wantedNames = new Set(wanted.Services.map(({ Spec }) => Spec.Name))
  const surplus = wanted.Prune ? current.services.filter(({ Spec }) => !wantedNames.has(Spec.Name)) : []
  const remaining = current.services.filter((service) => !surplus.includes(service))
  const services = wanted.Services.map((each) => planService(each, secrets.ids, configs.ids, current))
  const actions = [
    ...surplus.map(
      (service): PlannedAction => ({
        ...target('service', service.Spec.Name, service.ID, service.Version),
        Action: 'remove',
        Changes: [],
        Tasks: current.tasksOf(service),
      }),
    ),
    ...wanted.Networks.map((network) => planNetwork(network, current.networks)),
    ...secrets.actions,
    ...configs.actions,
    ...services.map(({ action }) => action),
  ]
  const used = new Set(current.usedByOthers)
  for (const service of remaining) {
    // What a rollback needs: an updated service's present spec, another one's previous.
    const update = services.find(({ action }) => action.ID === service.ID)
    const changed = update !== undefined && update.action.Action !== 'none'
    for (const spec of [service.Spec, changed ? undefined : service.PreviousSpec]) collectReferences(spec, used)
  }
  for (const { spec } of services) collectReferences(spec, used)
  return {
    Stack: stack,
    Actions: [
      ...actions,
      ...planRemovals('secret', stack, wanted, current.secrets, secrets.kept, used),
      ...planRemovals('config', stack, wanted, current.configs, configs.kept, used),
      ...surplusNetworks(stack, wanted, current),
    ],
    Missing: wanted.Services.flatMap((service) => missingOf(service, wanted, current)),
    Base: [
      ...current.networks.map((each) => baseOf('network', each.Name, each.Id, each.Version)),
      ...current.secrets.map((each) => baseOf('secret', each.Name, each.ID, each.Version)),
      ...current.configs.map((each) => baseOf('config', each.Name, each.ID, each.Version)),
      ...current.services.map((each) => baseOf('service', each.Spec.Name ?? '', each.ID, each.Version)),
    ],
  }
}

function baseOf(Kind: StackObjectKind, Name: string, ID: string, Version: number): BaseObject {
  return { Kind, Name, ID, Version }
}

function target(Kind: StackObjectKind, Name: string | undefined, ID: string, Version: number) {
  return { Kind, Name: Name ?? '', ID, Version }
}

function planNetwork(wanted: WantedNetwork, current: readonly CurrentNetwork[]): PlannedAction {
  const existing = current.find(({ Name }) => Name === wanted.Name)
  if (!existing) return { Kind: 'network', Name: wanted.Name, Action: 'create', Changes: [] }
  const Changes = diffSpecs(comparableNetwork(existing, wanted), comparableNetwork(wanted, wanted))
  const Action = Changes.length === 0 ? 'none' : 'keep'
  return { ...target('network', existing.Name, existing.Id, existing.Version), Action, Changes }
}

/** What was left to the cluster is no difference. */
function comparableNetwork(network: WantedNetwork, wanted: WantedNetwork) {
  const asked = Object.keys(wanted.Options ?? {})
  return {
    Driver: network.Driver || 'overlay',
    Options: Object.fromEntries(Object.entries(network.Options ?? {}).filter(([name]) => asked.includes(name))),
    Internal: network.Internal,
    Attachable: network.Attachable,
    EnableIPv6: network.EnableIPv6,
    Labels: network.Labels,
    Subnets: wanted.IPAM?.Config?.length ? (network.IPAM?.Config ?? []).map(({ Subnet }) => Subnet) : [],
  }
}

interface PlannedPayloads {
  readonly actions: readonly PlannedAction[]
  /** By the name that the files use: the object that services will refer to. */
  readonly ids: ReadonlyMap<string, { readonly name: string; readonly id: string }>
  /** Ids of the objects that stay in use. */
  readonly kept: ReadonlySet<string>
}

function planPayloads(
  kind: 'secret' | 'config',
  wanted: readonly WantedPayload[],
  current: readonly CurrentPayload[],
  stack: string,
): PlannedPayloads {
  const ids = new Map<string, { readonly name: string; readonly id: string }>()
  const kept = new Set<string>()
  const actions = wanted.map((payload): PlannedAction => {
    const action = planPayload(kind, payload, versionsOf(payload.Name, current, stack))
    const isNew = action.Action === 'create' || action.Action === 'rotate'
    ids.set(payload.Name, { name: action.Name, id: isNew ? NEW_ID : (action.ID ?? NEW_ID) })
    if (!isNew && action.ID !== undefined) kept.add(action.ID)
    return action
  })
  return { actions, ids, kept }
}

/** The latest first. */
function versionsOf(name: string, current: readonly CurrentPayload[], stack: string): readonly CurrentPayload[] {
  return current
    .filter((each) => each.Name === name || (each.Labels?.[VERSION_OF_LABEL] === name && isOf(each.Labels, stack)))
    .toSorted((a, b) => versionNumber(name, b.Name) - versionNumber(name, a.Name))
}

function versionNumber(base: string, name: string): number {
  return name === base ? 1 : Number(/\.(\d+)$/.exec(name)?.[1] ?? 0)
}

function planPayload(
  kind: 'secret' | 'config',
  wanted: WantedPayload,
  versions: readonly CurrentPayload[],
): PlannedAction {
  const latest = versions[0]
  const Base = wanted.Name
  if (!latest) return { Kind: kind, Name: Base, Base, Action: 'create', Changes: [] }
  const same = versions.find((each) => each.Digest === undefined || holdsTheSame(each, wanted))
  if (!same) {
    const Name = `${wanted.Name}.${versionNumber(wanted.Name, latest.Name) + 1}`
    return { Kind: kind, Name, Base, Action: 'rotate', From: latest.Name, Changes: [] }
  }
  const Changes = diffSpecs({ Labels: same.Labels }, { Labels: payloadLabels(wanted, same.Name) })
  const Action = Changes.length === 0 && same.Digest !== undefined ? 'none' : 'update'
  return { ...target(kind, same.Name, same.ID, same.Version), Base, Action, Changes }
}

function holdsTheSame(current: CurrentPayload, wanted: WantedPayload): boolean {
  return (
    current.Digest === wanted.Digest &&
    specsEqual(current.Driver, wanted.Driver) &&
    specsEqual(current.Templating, wanted.Templating)
  )
}

/** The labels of a secret or config that bears this name in the cluster. */
export function payloadLabels(wanted: Pick<WantedPayload, 'Name' | 'Labels'>, name: string): Labels {
  return { ...wanted.Labels, ...(name === wanted.Name ? {} : { [VERSION_OF_LABEL]: wanted.Name }) }
}

/** Versions that others have replaced go as soon as nothing refers to them; all else of the stack only where it is asked for. */
function planRemovals(
  kind: 'secret' | 'config',
  stack: string,
  wanted: WantedStack,
  current: readonly CurrentPayload[],
  kept: ReadonlySet<string>,
  used: ReadonlySet<string>,
): readonly PlannedAction[] {
  const names = new Set((kind === 'secret' ? wanted.Secrets : wanted.Configs).map(({ Name }) => Name))
  return current
    .filter(({ ID, Labels: labels, Name }) => {
      if (!isOf(labels, stack) || kept.has(ID) || used.has(ID)) return false
      return wanted.Prune || names.has(labels?.[VERSION_OF_LABEL] ?? Name)
    })
    .map((each) => ({ ...target(kind, each.Name, each.ID, each.Version), Action: 'remove', Changes: [] }))
}

function surplusNetworks(stack: string, wanted: WantedStack, current: CurrentStack): readonly PlannedAction[] {
  const names = new Set(wanted.Networks.map(({ Name }) => Name))
  return current.networks
    .filter(({ Name, Labels: labels }) => wanted.Prune && isOf(labels, stack) && !names.has(Name))
    .map((each) => ({ ...target('network', each.Name, each.Id, each.Version), Action: 'remove', Changes: [] }))
}

function isOf(labels: Labels | undefined, stack: string): boolean {
  return labels?.[STACK_LABEL] === stack
}

function collectReferences(spec: ServiceSpec | undefined, ids: Set<string>): void {
  const { Secrets = [], Configs = [] } = spec?.TaskTemplate?.ContainerSpec ?? {}
  for (const { SecretID } of Secrets) if (SecretID !== undefined) ids.add(SecretID)
  for (const { ConfigID } of Configs) if (ConfigID !== undefined) ids.add(ConfigID)
}

function planService(
  wanted: WantedService,
  secrets: PlannedPayloads['ids'],
  configs: PlannedPayloads['ids'],
  current: CurrentStack,
): { readonly action: PlannedAction; readonly spec: ServiceSpec } {
  const name = wanted.Spec.Name ?? ''
  const existing = current.services.find(({ Spec }) => Spec.Name === name)
  const Kept = existing && keptOf(wanted, existing.Spec)
  const spec = withReferences(withKept(wanted.Spec, Kept), {
    secrets: wanted.Secrets.map((reference) => {
      const { name, id } = referTo(reference.SecretName, secrets, current.secrets)
      return { ...reference, SecretName: name, SecretID: id }
    }),
    configs: wanted.Configs.map((reference) => {
      const { name, id } = referTo(reference.ConfigName, configs, current.configs)
      return { ...reference, ConfigName: name, ConfigID: id }
    }),
  })
  if (!existing) return { action: { Kind: 'service', Name: name, Action: 'create', Changes: [] }, spec }
  const stored = storedServiceSpec(spec, name)
  const Changes = diffSpecs(byNetworkName(existing.Spec, current), byNetworkName(stored, current))
  const action: PlannedAction = {
    ...target('service', name, existing.ID, existing.Version),
    Action: Changes.length === 0 ? 'none' : 'update',
    Changes,
    Tasks: Changes.length === 0 ? 0 : current.tasksReplaced(existing, stored),
    ...(Kept && Object.keys(Kept).length > 0 ? { Kept } : {}),
  }
  return { action, spec }
}

/** What the files do not say is no change: how often an update was forced, and the digest of an image that is the same. */
function keptOf({ Spec, KeepImage }: WantedService, current: ServiceSpec): PlannedAction['Kept'] {
  const forced = current.TaskTemplate?.ForceUpdate
  const image = current.TaskTemplate?.ContainerSpec?.Image
  const platforms = current.TaskTemplate?.Placement?.Platforms
  const isSameImage = Spec.Labels?.[STACK_IMAGE_LABEL] === (current.Labels?.[STACK_IMAGE_LABEL] ?? '')
  const keepsImage = KeepImage && isSameImage && image
  return {
    ...(forced ? { ForceUpdate: forced } : {}),
    ...(keepsImage ? { Image: image } : {}),
    ...(keepsImage && platforms?.length ? { Platforms: platforms } : {}),
  }
}

/** The service's spec with what stays as it is. */
export function withKept(spec: ServiceSpec, kept: PlannedAction['Kept']): ServiceSpec {
  const template = spec.TaskTemplate ?? {}
  const { ForceUpdate, Image, Platforms } = kept ?? {}
  return {
    ...spec,
    TaskTemplate: {
      ...template,
      ...(ForceUpdate === undefined ? {} : { ForceUpdate }),
      ...(Image === undefined ? {} : { ContainerSpec: { ...template.ContainerSpec, Image } }),
      ...(Platforms === undefined ? {} : { Placement: { ...template.Placement, Platforms } }),
    },
  }
}

export interface References {
  readonly secrets: readonly SecretReference[]
  readonly configs: readonly ConfigReference[]
}

/** What the stack makes itself comes first, then what is there by this name. */
function referTo(name = '', own: PlannedPayloads['ids'], current: readonly CurrentPayload[]) {
  return own.get(name) ?? { name, id: current.find(({ Name }) => Name === name)?.ID ?? NEW_ID }
}

function missingOf({ Spec, Secrets, Configs }: WantedService, wanted: WantedStack, current: CurrentStack) {
  const missing = (kind: string, names: readonly string[], known: readonly { readonly Name: string }[]) =>
    names
      .filter((name) => !known.some(({ Name }) => Name === name))
      .map((name) => `service ${Spec.Name}: ${kind} not found: ${name}`)
  return [
    ...missing(
      'secret',
      Secrets.map(({ SecretName = '' }) => SecretName),
      [...wanted.Secrets, ...current.secrets],
    ),
    ...missing(
      'config',
      Configs.map(({ ConfigName = '' }) => ConfigName),
      [...wanted.Configs, ...current.configs],
    ),
  ]
}

const byCode = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)

/** The whole spec, its references in the order of names, as Docker's client sends them. */
export function withReferences(spec: ServiceSpec, { secrets, configs }: References): ServiceSpec {
  const container = spec.TaskTemplate?.ContainerSpec ?? {}
  const Secrets = secrets.toSorted((a, b) => byCode(a.SecretName ?? '', b.SecretName ?? ''))
  const Configs = configs.toSorted((a, b) => byCode(a.ConfigName ?? '', b.ConfigName ?? ''))
  const credentials = Configs.find(({ Runtime }) => Runtime)
  return {
    ...spec,
    TaskTemplate: {
      ...spec.TaskTemplate,
      ContainerSpec: {
        ...container,
        ...(Secrets.length > 0 ? { Secrets } : {}),
        ...(Configs.length > 0 ? { Configs } : {}),
        ...(credentials?.ConfigID === undefined
          ? {}
          : { Privileges: { ...container.Privileges, CredentialSpec: { Config: credentials.ConfigID } } }),
      },
    },
  }
}

function byNetworkName(spec: ServiceSpec, { networkName }: CurrentStack): ServiceSpec {
  const networks = spec.TaskTemplate?.Networks
  if (networks === undefined) return spec
  const Networks = networks.map((each) => ({ ...each, Target: networkName(each.Target ?? '') }))
  return { ...spec, TaskTemplate: { ...spec.TaskTemplate, Networks } }
}
