// The engine's JSON of a container as the worker sees it.

import type { PortConfig } from '../../api/spec.ts'
import { ENDPOINT_PORTS_KEY, portsOf } from '../../overlay/driver-options.ts'
import type { ObservedContainer } from '../executor.ts'
import { NETWORK_COUNT_LABEL, TASK_ID_LABEL } from './container-body.ts'

/** What is read of GET /containers/{id}/json. */
export interface InspectedContainer {
  readonly Id: string
  readonly State: {
    readonly Status: string
    readonly Pid: number
    readonly ExitCode: number
    readonly Error: string
    readonly Health?: { readonly Status: string } | null
  }
  readonly Config: { readonly Labels: Readonly<Record<string, string>> | null; readonly Tty: boolean }
  readonly NetworkSettings: {
    readonly Ports?: Readonly<Record<string, readonly { readonly HostPort: string }[] | null>> | null
    readonly Networks?: Readonly<Record<string, unknown>> | null
  }
}

export function observed(container: InspectedContainer): ObservedContainer {
  const { State: state } = container
  return {
    taskId: container.Config.Labels?.[TASK_ID_LABEL] ?? '',
    containerId: container.Id,
    state: stateOf(state.Status),
    pid: state.Pid,
    exitCode: state.ExitCode,
    error: state.Error,
    health: healthOf(state.Health?.Status),
    ports: [
      ...bindingsOf(container.NetworkSettings.Ports ?? {}),
      ...portsOf(container.Config.Labels?.[ENDPOINT_PORTS_KEY]).map(
        ({ protocol, published, target }): PortConfig => ({
          Protocol: protocol,
          TargetPort: target,
          PublishedPort: published,
          PublishMode: 'host',
        }),
      ),
    ],
  }
}

/** It was made, and who made it did not come to connect it with all of its networks. */
export function isIncomplete({ Config, State, NetworkSettings }: InspectedContainer): boolean {
  const wanted = Number(Config.Labels?.[NETWORK_COUNT_LABEL] ?? 0)
  return stateOf(State.Status) === 'created' && Object.keys(NetworkSettings.Networks ?? {}).length < wanted
}

function stateOf(status: string): ObservedContainer['state'] {
  switch (status) {
    case 'created':
      return 'created'
    case 'running':
    case 'paused':
    case 'restarting':
      return 'running'
    default: // exited, dead, removing
      return 'exited'
  }
}

function healthOf(status: string | undefined): ObservedContainer['health'] {
  return status === 'starting' || status === 'healthy' || status === 'unhealthy' ? status : 'none'
}

/** Host-mode ports as bound; IPv4 and IPv6 of one port are one to Swarm. */
function bindingsOf(ports: NonNullable<InspectedContainer['NetworkSettings']['Ports']>): readonly PortConfig[] {
  return Object.entries(ports).flatMap(([key, bindings]) => {
    const [target = '', protocol = 'tcp'] = key.split('/')
    const published = new Set((bindings ?? []).map(({ HostPort }) => Number(HostPort)).filter((port) => port > 0))
    return [...published].map(
      (port): PortConfig => ({
        Protocol: protocol === 'udp' || protocol === 'sctp' ? protocol : 'tcp',
        TargetPort: Number(target),
        PublishedPort: port,
        PublishMode: 'host',
      }),
    )
  })
}
