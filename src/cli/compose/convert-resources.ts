// What a service may use and what is kept for it, and on which kind of node: deploy.resources, and the older keys that
// mean the same.

import type { ResourceRequirements } from '../../api/spec.ts'
import { quote } from '../strconv.ts'
import { parseCpus } from '../units.ts'
import { compact, located } from './fields.ts'
import type { ResourceModel, ServiceModel } from './model.ts'
import { ComposeError } from './node.ts'

/** @throws {ComposeError} where two keys contradict each other */
export function resources(service: ServiceModel): ResourceRequirements {
  const source = service.deploy?.resources ?? {}
  const limits = withOlder(service, source.limits, 'limits', {
    cpus: ['cpus', service.cpus],
    memory: ['mem_limit', service.mem_limit],
    pids: ['pids_limit', service.pids_limit],
  })
  const reservations = withOlder(service, source.reservations, 'reservations', {
    memory: ['mem_reservation', service.mem_reservation],
  })
  const where = { at: service.keyAt.get(service.cpus === undefined ? 'deploy' : 'cpus') ?? service.at }
  const nanoCpus = ({ cpus }: ResourceModel) => (cpus ? located(where, () => parseCpus(cpus)) || undefined : undefined)
  return compact<ResourceRequirements>({
    Limits:
      limits &&
      compact({ NanoCPUs: nanoCpus(limits), MemoryBytes: limits.memory || undefined, Pids: limits.pids || undefined }),
    Reservations:
      reservations &&
      compact({
        NanoCPUs: nanoCpus(reservations),
        MemoryBytes: reservations.memory || undefined,
        GenericResources: nonEmpty(
          (reservations.generic_resources ?? []).map(({ discrete_resource_spec: discrete }) =>
            compact({
              DiscreteResourceSpec: discrete && compact({ Kind: discrete.kind, Value: discrete.value || undefined }),
            }),
          ),
        ),
      }),
  })
}

type Older = Readonly<Record<string, readonly [key: string, value: string | number | undefined]>>

/** @throws {ComposeError} where both say something, and not the same */
function withOlder(
  service: ServiceModel,
  given: ResourceModel | undefined,
  name: string,
  older: Older,
): ResourceModel | undefined {
  let whole = given
  for (const [field, [key, value]] of Object.entries(older)) {
    if (value === undefined || value === 0 || value === -1) continue
    const present = given?.[field as keyof ResourceModel]
    if (present !== undefined && present !== value) {
      throw new ComposeError(
        service.keyAt.get(key) ?? service.at,
        `${key} and deploy.resources.${name}.${field} say different things: only use one of them`,
      )
    }
    whole = { ...whole, [field]: value }
  }
  return whole
}

/** `platform: linux/arm64/v8` is a node of that kind; a variant is no property of nodes. */
export function platformConstraints({ platform, keyAt, at }: ServiceModel): readonly string[] {
  if (!platform) return []
  const [os = '', architecture = '', variant, ...more] = platform.split('/')
  if (!/^[a-z0-9]+$/.test(os) || !/^[a-z0-9_]*$/.test(architecture) || variant === '' || more.length > 0) {
    throw new ComposeError(
      keyAt.get('platform') ?? at,
      `platform: invalid value ${quote(platform)}: must be as linux/amd64`,
    )
  }
  const architectures: Readonly<Record<string, string>> = { amd64: 'x86_64', arm64: 'aarch64' }
  return [
    `node.platform.os==${os}`,
    ...(architecture === '' ? [] : [`node.platform.arch==${architectures[architecture] ?? architecture}`]),
  ]
}

function nonEmpty<T>(items: readonly T[] | undefined): readonly T[] | undefined {
  return items && items.length > 0 ? items : undefined
}
