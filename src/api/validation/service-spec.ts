// Every limit that Swarm puts on a service's spec, each with Swarm's text. What needs the store (names taken, ports
// in use, secrets that exist) is checked by the handlers.

import { serviceLabelProblem } from '../service-labels.ts'
import type { ContainerSpec, HealthConfig, Labels, Resources, ServiceSpec, TaskSpec, UpdateConfig } from '../spec.ts'
import { parseConstraint } from './constraint.ts'
import { isImageReference } from './image-reference.ts'
import { validateDnsName } from './names.ts'
import { invalidArgument, managerRefusal, refusal } from './refusal.ts'
import { validateTemplate } from './template-text.ts'

const LEAST_NANO_CPUS = 1_000_000
const LEAST_MEMORY_BYTES = 4 * 1024 * 1024
const LEAST_HEALTH_NS = 1_000_000

/** What dockerd refuses while it converts a request, before a manager sees it. */
export function validateServiceRequest(spec: ServiceSpec): void {
  const task = spec.TaskTemplate ?? {}
  const mode = spec.Mode ?? {}
  validateRuntime(task)
  const given = [mode.Global, mode.Replicated, mode.ReplicatedJob, mode.GlobalJob].filter((one) => one !== undefined)
  if (given.length > 1) throw refusal('must specify only one service mode')
  if (task.Resources?.SwapBytes !== undefined && !task.Resources.Limits?.MemoryBytes) {
    throw refusal('memory swap provided, but no memory-limit was set')
  }
  for (const config of task.ContainerSpec?.Configs ?? []) {
    if (config.Runtime === undefined && config.File === undefined) {
      throw refusal('invalid Config: either File or Runtime should be set')
    }
    if (config.Runtime !== undefined && config.File !== undefined) {
      throw refusal('invalid Config: cannot specify both File and Runtime')
    }
  }
  validateCredentialSpec(task)
}

function validateRuntime(task: TaskSpec): void {
  const runtime = task.Runtime ?? 'container'
  if (runtime === 'plugin') {
    throw managerRefusal(
      'UNIMPLEMENTED',
      'RuntimeSpec: swarmd runs containers only, TaskTemplate.Runtime "plugin" is not supported',
    )
  }
  if (runtime !== 'container') throw refusal('unsupported runtime')
  if (task.ContainerSpec === undefined) throw refusal('mismatched Runtime and *Spec fields')
}

function validateCredentialSpec(task: TaskSpec): void {
  const spec = task.ContainerSpec?.Privileges?.CredentialSpec
  if (spec === undefined) return
  const given = [
    ...(spec.Config ? ['"config"'] : []),
    ...(spec.File ? ['"file"'] : []),
    ...(spec.Registry ? ['"registry"'] : []),
  ]
  const prefix = 'invalid CredentialSpec: '
  if (given.length === 0) {
    throw refusal(`${prefix}must either provide "file", "registry", or "config" for credential spec`)
  }
  if (given.length > 1) {
    const last = given.at(-1)
    const others = given.slice(0, -1).join(', ')
    throw refusal(`${prefix}cannot specify both ${others}${given.length > 2 ? ',' : ''} and ${last} credential specs`)
  }
}

/** What a manager refuses. `spec` is as it would be stored. */
export function validateServiceSpec(spec: ServiceSpec): void {
  validateDnsName(spec.Name)
  const problem = serviceLabelProblem(spec.Labels)
  if (problem !== undefined) throw invalidArgument(problem)
  validateTask(spec.TaskTemplate ?? {}, spec.Labels ?? {})
  const isJob = spec.Mode?.ReplicatedJob !== undefined || spec.Mode?.GlobalJob !== undefined
  if (isJob && spec.UpdateConfig !== undefined) throw invalidArgument('Jobs may not have an update config')
  validateUpdate(spec.UpdateConfig, 'update')
  validateUpdate(spec.RollbackConfig, 'rollback')
  validateEndpoint(spec)
}

function validateTask(task: TaskSpec, labels: Labels): void {
  validateResources(task.Resources?.Limits)
  validateResources(task.Resources?.Reservations)
  if ((task.RestartPolicy?.Delay ?? 0) < 0) throw invalidArgument('TaskSpec: restart-delay cannot be negative')
  if ((task.RestartPolicy?.Window ?? 0) < 0) throw invalidArgument('TaskSpec: restart-window cannot be negative')
  for (const expression of task.Placement?.Constraints ?? []) {
    const parsed = parseConstraint(expression)
    if (parsed.kind === 'refused') throw managerRefusal('UNKNOWN', parsed.why)
  }
  validateSecretReferences(task)
  validateConfigReferences(task)
  validateTemplates(task.ContainerSpec ?? {}, labels)
  validateContainer(task.ContainerSpec ?? {})
}

/** As Go prints it: exponents have two digits. */
function goNumber(value: number): string {
  return String(value).replace(/e-(\d)$/, 'e-0$1')
}

function validateResources(resources: Resources | undefined): void {
  const { NanoCPUs = 0, MemoryBytes = 0, GenericResources = [] } = resources ?? {}
  if (NanoCPUs !== 0 && NanoCPUs < LEAST_NANO_CPUS) {
    throw invalidArgument(`invalid cpu value ${goNumber(NanoCPUs / 1e9)}: Must be at least 0.001`)
  }
  if (MemoryBytes !== 0 && MemoryBytes < LEAST_MEMORY_BYTES) {
    throw invalidArgument(`invalid memory value ${MemoryBytes}: Must be at least 4MiB`)
  }
  for (const { NamedResourceSpec, DiscreteResourceSpec } of GenericResources) {
    const kind = NamedResourceSpec?.Kind ?? DiscreteResourceSpec?.Kind
    if (!kind) throw invalidArgument('Resources: a generic resource needs a Kind')
    if ((DiscreteResourceSpec?.Value ?? 0) < 0) {
      throw invalidArgument(`Resources: generic resource "${kind}" cannot be negative`)
    }
  }
}

function validateSecretReferences(task: TaskSpec): void {
  const targets = new Map<string, string>()
  for (const { SecretID, SecretName, File } of task.ContainerSpec?.Secrets ?? []) {
    if (!SecretID || !SecretName) throw invalidArgument('malformed secret reference')
    if (File === undefined) throw invalidArgument('malformed secret reference, no target provided')
    if (!File.Name) throw invalidArgument('malformed file secret reference, invalid target file name provided')
    const other = targets.get(File.Name)
    if (other !== undefined) {
      throw invalidArgument(
        `secret references '${other}' and '${SecretName}' have a conflicting target: '${File.Name}'`,
      )
    }
    targets.set(File.Name, SecretName)
  }
}

function validateConfigReferences(task: TaskSpec): void {
  const targets = new Map<string, string>()
  const credentials = task.ContainerSpec?.Privileges?.CredentialSpec?.Config
  let credentialsFound = false
  for (const { ConfigID, ConfigName, File, Runtime } of task.ContainerSpec?.Configs ?? []) {
    if (!ConfigID || !ConfigName) throw invalidArgument('malformed config reference')
    if (Runtime !== undefined) credentialsFound ||= ConfigID === credentials
    if (File === undefined) continue
    if (!File.Name) throw invalidArgument('malformed file config reference, invalid target file name provided')
    const other = targets.get(File.Name)
    if (other !== undefined) {
      throw invalidArgument(
        `config references '${other}' and '${ConfigName}' have a conflicting target: '${File.Name}'`,
      )
    }
    targets.set(File.Name, ConfigName)
  }
  if (credentials && !credentialsFound) {
    throw invalidArgument(
      `CredentialSpec references config '${credentials}', but that config isn't in config references with RuntimeTarget`,
    )
  }
}

function validateTemplates(container: ContainerSpec, labels: Labels): void {
  if (container.Hostname) validateTemplate('hostname', container.Hostname, labels)
  for (const variable of container.Env ?? []) {
    const equals = variable.indexOf('=')
    const detail = `expanding env ${JSON.stringify(variable)}: `
    if (equals >= 0) validateTemplate('env', variable.slice(equals + 1), labels, detail)
  }
  for (const { Source = '', Target = '' } of container.Mounts ?? []) {
    validateTemplate('mounts', Source, labels, `expanding mount source ${JSON.stringify(Source)}: `)
    validateTemplate('mounts', Target, labels, `expanding mount target ${JSON.stringify(Target)}: `)
  }
}

function validateContainer(container: ContainerSpec): void {
  const image = container.Image ?? ''
  if (image === '') throw invalidArgument('ContainerSpec: image reference must be provided')
  if (!isImageReference(image)) {
    throw invalidArgument(`ContainerSpec: ${JSON.stringify(image)} is not a valid repository/tag`)
  }
  const targets = new Set<string>()
  for (const mount of container.Mounts ?? []) {
    const target = mount.Target ?? ''
    if (targets.has(target)) throw invalidArgument(`ContainerSpec: duplicate mount point: ${target}`)
    targets.add(target)
  }
  if (container.Healthcheck !== undefined) validateHealth(container.Healthcheck)
}

function validateHealth(health: HealthConfig): void {
  for (const field of ['Interval', 'Timeout', 'StartPeriod', 'StartInterval'] as const) {
    const duration = health[field] ?? 0
    if (duration !== 0 && duration < LEAST_HEALTH_NS) {
      throw invalidArgument(`ContainerSpec: ${field} in HealthConfig cannot be less than 1ms`)
    }
  }
  if ((health.Retries ?? 0) < 0) throw invalidArgument('ContainerSpec: Retries in HealthConfig cannot be negative')
}

function validateUpdate(config: UpdateConfig | undefined, which: 'update' | 'rollback'): void {
  if ((config?.Delay ?? 0) < 0) throw invalidArgument(`TaskSpec: ${which}-delay cannot be negative`)
  if ((config?.Monitor ?? 0) < 0) throw invalidArgument(`TaskSpec: ${which}-monitor cannot be negative`)
  const ratio = config?.MaxFailureRatio ?? 0
  if (ratio < 0 || ratio > 1) {
    throw invalidArgument(`TaskSpec: ${which}-maxfailureratio cannot be less than 0 or bigger than 1`)
  }
}

function validateEndpoint(spec: ServiceSpec): void {
  const published = new Set<string>()
  for (const port of spec.EndpointSpec?.Ports ?? []) {
    if (spec.EndpointSpec?.Mode === 'dnsrr' && port.PublishMode !== 'host') {
      throw invalidArgument("EndpointSpec: port published with ingress mode can't be used with dnsrr mode")
    }
    for (const [name, number] of [
      ['TargetPort', port.TargetPort ?? 0],
      ['PublishedPort', port.PublishedPort ?? 0],
    ] as const) {
      if (number > 65_535) throw invalidArgument(`EndpointSpec: ${name} ${number} is no port number`)
    }
    if ((port.TargetPort ?? 0) === 0) throw invalidArgument('EndpointSpec: TargetPort must be provided')
    if (!port.PublishedPort) continue
    const key = `${port.Protocol ?? 'tcp'}/${port.PublishedPort}`
    if (published.has(key)) throw invalidArgument('EndpointSpec: duplicate published ports provided')
    published.add(key)
  }
}
