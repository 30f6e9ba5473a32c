// What a secret driver is asked, in the words of Docker's plugins of the capability `secretprovider` (POST /SecretProvider.GetSecret), and
// what asks one. Numbers stand for what swarmkit's enumerations name.

import { type Secret, type Task, taskName } from '../../api/objects.ts'
import type { Driver, Labels, PortConfig } from '../../api/spec.ts'

export interface SecretRequest {
  readonly SecretName: string
  readonly SecretLabels?: Labels
  /** `Driver.Options` of the secret: an addition of ours, absent where there are none */
  readonly SecretDriverOptions?: Labels
  readonly ServiceHostname?: string
  readonly ServiceID?: string
  readonly ServiceName?: string
  readonly ServiceLabels?: Labels
  readonly TaskID: string
  readonly TaskName: string
  readonly TaskImage?: string
  readonly NodeID: string
  readonly ServiceEndpointSpec?: {
    readonly Mode?: number
    readonly Ports?: readonly Readonly<Record<string, string | number>>[]
  }
}

/** Plugins found and asked on this manager's machine. */
export interface SecretDrivers {
  /**
   * The secret's value; of any size.
   * @throws {CodedError} its message is for the user; retryable where another attempt may well do
   */
  get(driver: Driver, request: SecretRequest, signal: AbortSignal): Promise<Uint8Array>
}

export function secretRequest({ spec }: Secret, task: Task): SecretRequest {
  const { Hostname = '', Image = '' } = task.spec.ContainerSpec ?? {}
  return {
    SecretName: spec.Name ?? '',
    ...filled('SecretLabels', spec.Labels),
    ...filled('SecretDriverOptions', spec.Driver?.Options),
    ...filled('ServiceHostname', Hostname),
    ...filled('ServiceID', task.serviceId),
    ...filled('ServiceName', task.serviceName),
    ...filled('ServiceLabels', task.serviceLabels),
    TaskID: task.id,
    TaskName: taskName(task),
    ...filled('TaskImage', Image),
    NodeID: task.nodeId,
    ...(task.endpoint && { ServiceEndpointSpec: endpointOf(task.endpoint) }),
  }
}

function endpointOf({ spec, ports }: NonNullable<Task['endpoint']>): NonNullable<SecretRequest['ServiceEndpointSpec']> {
  return {
    ...(spec.Mode === 'dnsrr' && { Mode: 1 }),
    ...(ports.length > 0 && { Ports: ports.map(portOf) }),
  }
}

const PROTOCOLS = ['tcp', 'udp', 'sctp']

/** As Go leaves out what is empty. */
function portOf(port: PortConfig): Readonly<Record<string, string | number>> {
  return {
    ...filled('Name', port.Name ?? ''),
    ...filled('Protocol', Math.max(0, PROTOCOLS.indexOf(port.Protocol ?? 'tcp'))),
    ...filled('TargetPort', port.TargetPort ?? 0),
    ...filled('PublishedPort', port.PublishedPort ?? 0),
    ...filled('PublishMode', port.PublishMode === 'host' ? 1 : 0),
  }
}

function filled<K extends string, V extends string | number | Labels>(
  name: K,
  value: V | undefined,
): Partial<Record<K, V>> {
  const isEmpty = typeof value === 'object' ? Object.keys(value).length === 0 : !value
  return isEmpty ? {} : ({ [name]: value } as Record<K, V>)
}
