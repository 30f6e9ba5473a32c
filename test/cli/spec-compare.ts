// Two service specs that mean the same have the same text here: as Go's structs write them, with lists sorted whose
// order Docker's CLI leaves to chance (it walks Go maps).

import type { PortConfig, ServiceSpec } from '../../src/api/spec.ts'
import { layoutJson } from '../../src/cli/format/json.ts'
import { portKey } from '../../src/cli/service/ports.ts'
import { encode } from '../../src/cli/shapes/shape.ts'
import { serviceSpecShape } from '../../src/cli/shapes/swarm.ts'

const byText = (a: unknown, b: unknown) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1)
const sorted = <T>(list: readonly T[] | null | undefined) => (list ? [...list].sort(byText) : list)

const sortedPorts = (ports: readonly PortConfig[] | null | undefined) =>
  ports && [...ports].sort((a, b) => (portKey(a) < portKey(b) ? -1 : 1))

export function comparableSpec(spec: ServiceSpec | undefined): string {
  const container = spec?.TaskTemplate?.ContainerSpec
  const reserved = spec?.TaskTemplate?.Resources?.Reservations
  const changed = {
    ...spec,
    TaskTemplate: {
      ...spec?.TaskTemplate,
      ContainerSpec: {
        ...container,
        Env: sorted(container?.Env),
        Secrets: sorted(container?.Secrets),
        Configs: sorted(container?.Configs),
      },
      Resources: spec?.TaskTemplate?.Resources && {
        ...spec.TaskTemplate.Resources,
        Reservations: reserved && { ...reserved, GenericResources: sorted(reserved.GenericResources) },
      },
    },
    EndpointSpec: spec?.EndpointSpec && { ...spec.EndpointSpec, Ports: sortedPorts(spec.EndpointSpec.Ports) },
  }
  return layoutJson(encode(serviceSpecShape, changed), ' ')
}
