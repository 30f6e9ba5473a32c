// A service of a compose file → Docker's ServiceSpec, field by field what `docker stack deploy` sends. Secrets and configs
// are named here and get their ids where they are known (stack/carry-out.ts).

import type {
  ConfigReference,
  ContainerSpec,
  EndpointSpec,
  HealthConfig,
  NetworkAttachmentConfig,
  Privileges,
  RestartPolicy,
  SecretReference,
  ServiceMode,
  ServiceSpec,
  UpdateConfig,
} from '../../api/spec.ts'
import { STACK_IMAGE_LABEL } from '../../api/stack-plan.ts'
import { cut, quote, ValueError } from '../strconv.ts'
import { addressLabels, publishedPorts } from './convert-addresses.ts'
import { extraLabels, tmpfsMounts } from './convert-container.ts'
import { convertMount } from './convert-mount.ts'
import { networksOf } from './convert-objects.ts'
import { platformConstraints, resources } from './convert-resources.ts'
import { compact } from './fields.ts'
import type {
  ComposeModel,
  DeployModel,
  FileObjectModel,
  FileReferenceModel,
  HealthcheckModel,
  ServiceModel,
  UpdateModel,
} from './model.ts'
import { isUserDefinedNetwork, scopedName, stackLabels } from './names.ts'
import { ComposeError } from './node.ts'

/** A spec whose references to secrets and configs have names, but no ids yet. */
export interface NamedSpec {
  readonly spec: ServiceSpec
  readonly secrets: readonly SecretReference[]
  /** The last one may be a credential spec's: it has `Runtime` instead of `File`. */
  readonly configs: readonly ConfigReference[]
}

/** @throws {ComposeError} for what cannot be said to the cluster. */
export function convertService(stack: string, name: string, service: ServiceModel, compose: ComposeModel): NamedSpec {
  const explain = <T>(make: () => T): T => {
    try {
      return make()
    } catch (error) {
      if (error instanceof ComposeError) throw new ComposeError(error.at, `service ${name}: ${error.reason}`)
      if (error instanceof ValueError) throw new ComposeError(service.at, `service ${name}: ${error.message}`)
      throw error
    }
  }
  return explain(() => convert(stack, name, service, compose))
}

function convert(stack: string, name: string, service: ServiceModel, compose: ComposeModel): NamedSpec {
  const deploy: DeployModel = service.deploy ?? {}
  const [capAdd, capDrop] = capabilities(service.cap_add ?? [], service.cap_drop ?? [])
  const hosts = (service.extra_hosts ?? []).map((line) => {
    const at = line.indexOf(':')
    return `${line.slice(at + 1)} ${line.slice(0, at)}`
  })
  const container = compact<ContainerSpec>({
    Image: service.image,
    Labels: stackLabels(stack, service.labels),
    Command: nonEmpty(service.entrypoint),
    Args: nonEmpty(service.command),
    Hostname: service.hostname,
    Env: nonEmpty(
      [...(service.environment ?? [])].map(([key, value]) => (value === null ? key : `${key}=${value}`)).sort(byCode),
    ),
    Dir: service.working_dir,
    User: service.user,
    Privileges: privileges(service),
    TTY: service.tty || undefined,
    OpenStdin: service.stdin_open || undefined,
    ReadOnly: service.read_only || undefined,
    Groups: nonEmpty(service.group_add),
    Mounts: nonEmpty([
      ...(service.volumes ?? []).map((mount) => convertMount(stack, mount, compose.volumes)),
      ...tmpfsMounts(service),
    ]),
    StopSignal: service.stop_signal,
    StopGracePeriod: service.stop_grace_period,
    Healthcheck: service.healthcheck && healthcheck(service.healthcheck),
    Hosts: nonEmpty(hosts),
    DNSConfig: dns(service),
    Isolation: service.isolation,
    Init: service.init,
    Sysctls: service.sysctls?.size ? Object.fromEntries(service.sysctls) : undefined,
    CapabilityAdd: nonEmpty(capAdd),
    CapabilityDrop: nonEmpty(capDrop),
    Ulimits: nonEmpty(ulimits(service)),
    OomScoreAdj: service.oom_score_adj || undefined,
  })
  const placement = deploy.placement ?? {}
  const preferences = (placement.preferences ?? []).map(({ spread = '' }) => ({ Spread: { SpreadDescriptor: spread } }))
  const spec = compact<ServiceSpec>({
    Name: scopedName(stack, name),
    Labels: {
      ...extraLabels(stack, service, compose.services),
      ...addressLabels(stack, service, compose),
      ...stackLabels(stack, deploy.labels),
      [STACK_IMAGE_LABEL]: service.image ?? '',
    },
    TaskTemplate: compact({
      ContainerSpec: container,
      Resources: resources(service),
      RestartPolicy: restartPolicy(service),
      Placement: compact({
        Constraints: nonEmpty([...(placement.constraints ?? []), ...platformConstraints(service)]),
        Preferences: nonEmpty(preferences),
        MaxReplicas: placement.max_replicas_per_node || undefined,
      }),
      Networks: networks(stack, name, service, compose),
      LogDriver:
        service.logging &&
        compact({
          Name: service.logging.driver,
          Options: service.logging.options && Object.fromEntries(service.logging.options),
        }),
    }),
    Mode: mode(service),
    UpdateConfig: deploy.update_config && updateConfig(deploy.update_config),
    RollbackConfig: deploy.rollback_config && updateConfig(deploy.rollback_config),
    EndpointSpec: endpoint(service),
  })
  return {
    spec,
    secrets: fileReferences(stack, 'secret', service.secrets ?? [], compose.secrets).map(({ File, name }) => ({
      File,
      SecretName: name,
    })),
    configs: [
      ...fileReferences(stack, 'config', service.configs ?? [], compose.configs).map(({ File, name }) => ({
        File,
        ConfigName: name,
      })),
      ...credentialConfig(stack, service, compose.configs),
    ],
  }
}

const byCode = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)

function nonEmpty<T>(items: readonly T[] | undefined): readonly T[] | undefined {
  return items && items.length > 0 ? items : undefined
}

/** Upper case with CAP_ before; what is added is not dropped; ALL swallows the others. */
function capabilities(add: readonly string[], drop: readonly string[]): readonly [string[], string[]] {
  const normal = (names: readonly string[]): ReadonlySet<string> => {
    const all = new Set(
      names.map((name) => {
        const upper = name.trim().toUpperCase()
        return upper === 'ALL' || upper === 'RESET' || upper.startsWith('CAP_') ? upper : `CAP_${upper}`
      }),
    )
    return all.has('ALL') ? new Set(['ALL']) : all
  }
  const [added, dropped] = [normal(add), normal(drop)]
  const real = (names: Iterable<string>) => [...names].filter((name) => name !== 'RESET').sort(byCode)
  return [real(added), real([...dropped].filter((name) => !added.has(name)))]
}

function privileges(service: ServiceModel): Privileges {
  const spec = service.credential_spec ?? {}
  const used = (
    [
      ['Config', spec.config],
      ['File', spec.file],
      ['Registry', spec.registry],
    ] as const
  ).flatMap(([name, value]) => (value ? [[name, value] as const] : []))
  const names = used.map(([name]) => `"${name}"`)
  if (names.length === 2)
    throw new ValueError(`invalid credential spec: cannot specify both ${names[0]} and ${names[1]}`)
  if (names.length > 2) {
    throw new ValueError(
      `invalid credential spec: cannot specify both ${names.slice(0, -1).join(', ')}, and ${names.at(-1)}`,
    )
  }
  const [only] = used
  return only ? { CredentialSpec: { [only[0]]: only[1] } } : {}
}

function healthcheck(check: HealthcheckModel): HealthConfig {
  if (check.disable) {
    if (check.test?.length) throw new ValueError("test and disable can't be set at the same time")
    return { Test: ['NONE'] }
  }
  return compact<HealthConfig>({
    Test: nonEmpty(check.test),
    Interval: check.interval || undefined,
    Timeout: check.timeout || undefined,
    StartPeriod: check.start_period || undefined,
    StartInterval: check.start_interval || undefined,
    Retries: check.retries || undefined,
  })
}

function dns(service: ServiceModel): ContainerSpec['DNSConfig'] {
  const { dns: servers, dns_search: search, dns_opt: options } = service
  if (!servers && !search && !options) return undefined
  return compact({ Nameservers: nonEmpty(servers), Search: nonEmpty(search), Options: nonEmpty(options) })
}

function ulimits(service: ServiceModel) {
  return [...(service.ulimits ?? [])]
    .map(([Name, { single, soft = 0, hard = 0 }]) =>
      single
        ? { Name, Soft: single, Hard: single }
        : compact({ Name, Soft: soft || undefined, Hard: hard || undefined }),
    )
    .sort((a, b) => byCode(a.Name, b.Name))
}

/** deploy.restart_policy, else what `restart` says; "no" is the cluster's own default there, as in Docker. */
function restartPolicy(service: ServiceModel): RestartPolicy | undefined {
  const policy = service.deploy?.restart_policy
  if (policy) {
    return compact<RestartPolicy>({
      Condition: policy.condition as RestartPolicy['Condition'],
      Delay: policy.delay,
      MaxAttempts: policy.max_attempts,
      Window: policy.window,
    })
  }
  const restart = service.restart ?? ''
  if (restart === '' || restart === 'no') return undefined
  const { before: name, after: attempts, found } = cut(restart, ':')
  if (name === '') throw new ValueError('invalid restart policy format: no policy provided before colon')
  if (found && !/^[-+]?[0-9]+$/.test(attempts)) {
    throw new ValueError('invalid restart policy format: maximum retry count must be an integer')
  }
  if (name === 'always' || name === 'unless-stopped') return { Condition: 'any' }
  if (name === 'on-failure') return { Condition: 'on-failure', MaxAttempts: Number(attempts) }
  throw new ValueError(`unknown restart policy: ${restart}`)
}

function updateConfig(source: UpdateModel): UpdateConfig {
  return compact<UpdateConfig>({
    Parallelism: source.parallelism ?? 1,
    Delay: source.delay || undefined,
    FailureAction: (source.failure_action || undefined) as UpdateConfig['FailureAction'],
    Monitor: source.monitor || undefined,
    MaxFailureRatio: source.max_failure_ratio ?? 0,
    Order: (source.order || undefined) as UpdateConfig['Order'],
  })
}

function mode({ deploy = {}, scale, keyAt, at }: ServiceModel): ServiceMode {
  const { mode = '' } = deploy
  if (scale !== undefined && deploy.replicas !== undefined && scale !== deploy.replicas) {
    throw new ComposeError(
      keyAt.get('scale') ?? at,
      'scale and deploy.replicas say different things: only use one of them',
    )
  }
  const replicas = deploy.replicas ?? scale
  if (mode === 'global' || mode === 'global-job') {
    if (replicas !== undefined) {
      throw new ValueError('replicas can only be used with replicated or replicated-job mode')
    }
    return mode === 'global' ? { Global: {} } : { GlobalJob: {} }
  }
  if (mode === 'replicated-job') {
    return { ReplicatedJob: replicas === undefined ? {} : { MaxConcurrent: replicas, TotalCompletions: replicas } }
  }
  if (mode !== '' && mode !== 'replicated') throw new ValueError(`Unknown mode: ${mode}`)
  return { Replicated: replicas === undefined ? {} : { Replicas: replicas } }
}

function endpoint(service: ServiceModel): EndpointSpec {
  const ports = publishedPorts(service).toSorted((a, b) => (a.PublishedPort ?? 0) - (b.PublishedPort ?? 0))
  const mode = service.deploy?.endpoint_mode?.toLowerCase()
  return compact<EndpointSpec>({ Mode: (mode || undefined) as EndpointSpec['Mode'], Ports: nonEmpty(ports) })
}

/** A service that names no network is on the stack's default one; on each, its short name is an alias. */
function networks(
  stack: string,
  name: string,
  service: ServiceModel,
  compose: ComposeModel,
): readonly NetworkAttachmentConfig[] {
  const nodeNetwork = networkMode(service)
  if (nodeNetwork !== undefined) return [{ Target: nodeNetwork }]
  return [...networksOf(service)]
    .map(([key, attachment]) => {
      const network = compose.networks.get(key)
      if (!network && key !== 'default') {
        throw new ComposeError(attachment?.at ?? service.at, `undefined network ${quote(key)}`)
      }
      const target = network?.name || scopedName(stack, key)
      const aliases = [...(attachment?.aliases ?? []), ...(isUserDefinedNetwork(target) ? [name] : [])]
      return compact<NetworkAttachmentConfig>({
        Target: target,
        Aliases: nonEmpty(aliases),
        DriverOpts: attachment?.driver_opts?.size ? Object.fromEntries(attachment.driver_opts) : undefined,
      })
    })
    .sort((a, b) => byCode(a.Target ?? '', b.Target ?? ''))
}

/** A network of each node that `network_mode` names. */
function networkMode({ network_mode: mode = '', networks, keyAt, at }: ServiceModel): string | undefined {
  if (mode === '') return undefined
  const where = keyAt.get('network_mode') ?? at
  if (!['host', 'none', 'bridge'].includes(mode)) {
    const reason = /^(?:service|container):/.test(mode)
      ? 'tasks of services may run on different nodes'
      : 'name networks under `networks`'
    throw new ComposeError(where, `network_mode: ${quote(mode)} cannot be: it must be host, none or bridge; ${reason}`)
  }
  if (networks?.size) throw new ComposeError(where, 'network_mode and networks cannot be used together')
  return mode
}

const DEFAULT_FILE_MODE = 0o444

/** Two may not become one file. */
function fileReferences(
  stack: string,
  kind: 'secret' | 'config',
  references: readonly FileReferenceModel[],
  objects: ReadonlyMap<string, FileObjectModel>,
) {
  const targets = new Set<string>()
  return references.map((reference) => {
    const file = fileReference(stack, kind, reference, objects)
    if (targets.has(file.File.Name)) {
      throw new ComposeError(reference.at, `duplicate ${kind} target for ${file.name} not allowed`)
    }
    targets.add(file.File.Name)
    return file
  })
}

function fileReference(
  stack: string,
  kind: 'secret' | 'config',
  reference: FileReferenceModel,
  objects: ReadonlyMap<string, FileObjectModel>,
) {
  const source = reference.source ?? ''
  const object = objects.get(source)
  if (!object) throw new ComposeError(reference.at, `undefined ${kind} ${quote(source)}`)
  return {
    name: object.name || scopedName(stack, source),
    File: {
      Name: reference.target || source,
      UID: reference.uid || '0',
      GID: reference.gid || '0',
      Mode: reference.mode ?? DEFAULT_FILE_MODE,
    },
  }
}

/** A credential spec in a config is one more reference, for the runtime and not for a file. */
function credentialConfig(
  stack: string,
  service: ServiceModel,
  configs: ReadonlyMap<string, FileObjectModel>,
): readonly ConfigReference[] {
  const key = service.credential_spec?.config
  if (!key) return []
  const object = configs.get(key)
  if (!object) throw new ComposeError(service.at, `undefined config ${quote(key)}`)
  return [{ Runtime: {}, ConfigName: object.name || scopedName(stack, key) }]
}
