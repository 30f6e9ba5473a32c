// What a service's spec allows and its user may not have meant.

import { addressesOfPort, isLoopback6 } from '../../api/publish-addresses.ts'
import type { HealthConfig, ServiceSpec, UpdateConfig } from '../../api/spec.ts'
import { updateSettings } from '../orchestrator/service-settings.ts'

/** Docker's, where the spec and the image are silent. */
const DEFAULT_INTERVAL_NS = 30e9
const DEFAULT_RETRIES = 3

/** Shown by clients beside what they did. */
export function serviceWarnings(spec: ServiceSpec): readonly string[] {
  const { TaskTemplate, UpdateConfig, RollbackConfig } = spec
  const horizonMs = healthHorizonMs(TaskTemplate?.ContainerSpec?.Healthcheck)
  if (horizonMs === undefined) return loopbackWarnings(spec)
  return [
    ...loopbackWarnings(spec),
    ...monitorWarning('update', UpdateConfig, horizonMs),
    ...monitorWarning('rollback', RollbackConfig, horizonMs),
  ]
}

function loopbackWarnings({ Labels, EndpointSpec }: ServiceSpec): readonly string[] {
  const ports = (EndpointSpec?.Ports ?? []).filter((port) => addressesOfPort(Labels, port).some(isLoopback6))
  return ports.map(
    ({ PublishedPort, Protocol = 'tcp' }) =>
      `published port ${PublishedPort}/${Protocol} is refused at ::1, from which the kernel has no way to a container; it is open on its other addresses`,
  )
}

/** How long a container may be sick before its health check says so. The image may have a check of its own: nothing is known of that. */
function healthHorizonMs(check: HealthConfig | undefined): number | undefined {
  const { Test = [], Interval, Retries, StartPeriod = 0 } = check ?? {}
  if (!check || Test[0] === 'NONE' || (Test.length === 0 && !Interval && !Retries && !StartPeriod)) return undefined
  return (StartPeriod + (Interval || DEFAULT_INTERVAL_NS) * (Retries || DEFAULT_RETRIES)) / 1e6
}

/** Who says nothing of updates is not told of them either: a check whose monitor is Docker's 5 s would be told of each time. */
function monitorWarning(
  what: 'update' | 'rollback',
  config: UpdateConfig | undefined,
  horizonMs: number,
): readonly string[] {
  if (!config) return []
  const { monitorMs, failureAction } = updateSettings(config)
  if (failureAction === 'continue' || monitorMs >= horizonMs) return []
  return [
    `the ${what} monitor (${monitorMs / 1e3}s) is shorter than what the health check takes to find a task unhealthy ` +
      `(${horizonMs / 1e3}s: start period + interval × retries): one that turns unhealthy after the monitor does not ` +
      `stop the ${what}; --${what}-monitor ${horizonMs / 1e3}s would see it`,
  ]
}
