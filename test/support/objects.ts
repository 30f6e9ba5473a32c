// Store objects for tests, with everything that does not matter filled in.

import type { Cluster, Config, Meta, Network, Node, Secret, Service, Task, TaskStatus } from '../../src/api/objects.ts'
import type { TaskState } from '../../src/api/spec.ts'

export const UNSTORED: Meta = { version: 0, createdAt: '', updatedAt: '' }

export function statusOf(state: TaskState, over: Partial<TaskStatus> = {}): TaskStatus {
  const timestamp = '2026-01-01T00:00:00.000000000Z'
  return { state, timestamp, message: '', error: '', container: undefined, ports: [], ...over }
}

export function aCluster(over: Partial<Cluster> = {}): Cluster {
  return {
    kind: 'cluster',
    id: 'cluster0000000000000000001',
    meta: UNSTORED,
    spec: { Name: 'default' },
    rootCa: { certPem: '', keyPem: '', digest: '', joinTokens: { worker: '', manager: '' } },
    defaultAddressPools: ['10.0.0.0/8'],
    subnetSize: 24,
    dataPathPort: 4789,
    featureLevel: 1,
    unlockKey: '',
    ...over,
  }
}

export function aNode(id: string, over: Partial<Node> = {}): Node {
  return {
    kind: 'node',
    id,
    meta: UNSTORED,
    spec: { Role: 'worker', Availability: 'active' },
    role: 'worker',
    description: { Hostname: id, Platform: { OS: 'linux', Architecture: 'x86_64' } },
    status: { state: 'ready', message: '', address: '127.0.0.1' },
    manager: undefined,
    number: 0,
    dataPathAddress: '',
    downSince: '',
    ...over,
  }
}

export function aService(id: string, over: Partial<Service> = {}): Service {
  return {
    kind: 'service',
    id,
    meta: UNSTORED,
    spec: { Name: id, TaskTemplate: { ContainerSpec: { Image: 'busybox' } }, Mode: { Replicated: { Replicas: 1 } } },
    specVersion: 0,
    previousSpec: undefined,
    previousSpecVersion: undefined,
    endpoint: undefined,
    updateStatus: undefined,
    jobStatus: undefined,
    updateProgress: undefined,
    registryAuth: '',
    previousRegistryAuth: '',
    ...over,
  }
}

export function aTask(id: string, serviceId: string, over: Partial<Task> = {}): Task {
  return {
    kind: 'task',
    id,
    meta: UNSTORED,
    spec: { ContainerSpec: { Image: 'busybox' } },
    specVersion: 1,
    serviceId,
    serviceName: serviceId,
    serviceLabels: {},
    slot: 1,
    nodeId: '',
    desiredState: 'running',
    status: statusOf('new'),
    statusVersion: 0,
    endpoint: undefined,
    attachments: [],
    genericResources: [],
    jobIteration: undefined,
    startAfter: '',
    ...over,
  }
}

export function aSecret(id: string, over: Partial<Secret> = {}): Secret {
  return { kind: 'secret', id, meta: UNSTORED, spec: { Name: id, Data: 'c2VjcmV0' }, ...over }
}

export function aConfig(id: string, over: Partial<Config> = {}): Config {
  return { kind: 'config', id, meta: UNSTORED, spec: { Name: id, Data: 'Y29uZmln' }, ...over }
}

export function aNetwork(id: string, over: Partial<Network> = {}): Network {
  return { kind: 'network', id, meta: UNSTORED, spec: { Name: id }, allocated: undefined, ...over }
}
