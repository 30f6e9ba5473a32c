// Tasks and orders for tests of the worker.

import type { Config, Secret, Task } from '../../src/api/objects.ts'
import type { PortConfig, TaskSpec } from '../../src/api/spec.ts'
import type { TaskOrder } from '../../src/worker/executor.ts'

export const META = { version: 1, createdAt: '2026-01-01T00:00:00Z', updatedAt: '2026-01-01T00:00:00Z' }

export interface TaskFacts {
  readonly id: string
  readonly nodeId?: string
  readonly spec?: TaskSpec
  readonly serviceLabels?: Readonly<Record<string, string>>
  readonly ports?: readonly PortConfig[]
  readonly desiredState?: Task['desiredState']
  readonly slot?: number
}

export function makeTask(facts: TaskFacts): Task {
  return {
    kind: 'task',
    id: facts.id,
    meta: META,
    spec: facts.spec ?? { ContainerSpec: { Image: 'box:latest' } },
    specVersion: 1,
    serviceId: 'service1',
    serviceName: 'web',
    serviceLabels: facts.serviceLabels ?? {},
    slot: facts.slot ?? 1,
    nodeId: facts.nodeId ?? 'node1',
    desiredState: facts.desiredState ?? 'running',
    status: { state: 'assigned', timestamp: META.createdAt, message: '', error: '', container: undefined, ports: [] },
    statusVersion: 1,
    endpoint: facts.ports && { spec: { Ports: facts.ports }, ports: facts.ports, virtualIps: [] },
    attachments: [],
    genericResources: [],
    jobIteration: undefined,
    startAfter: '',
  }
}

export function makeOrder(
  task: Task,
  given: { readonly secrets?: readonly Secret[]; readonly configs?: readonly Config[] } = {},
): TaskOrder {
  return {
    task,
    node: { id: task.nodeId, hostname: 'host1', platform: { Architecture: 'x86_64', OS: 'linux' } },
    secrets: new Map((given.secrets ?? []).map((secret) => [secret.id, secret])),
    configs: new Map((given.configs ?? []).map((config) => [config.id, config])),
    networks: new Map(),
    registryAuth: '',
  }
}

export function makeSecret(id: string, payload: string, templating = ''): Secret {
  const spec = {
    Name: id,
    Data: Buffer.from(payload).toString('base64'),
    ...(templating && { Templating: { Name: templating } }),
  }
  return { kind: 'secret', id, meta: META, spec }
}

export function makeConfig(id: string, payload: string, templating = ''): Config {
  const spec = {
    Name: id,
    Data: Buffer.from(payload).toString('base64'),
    ...(templating && { Templating: { Name: templating } }),
  }
  return { kind: 'config', id, meta: META, spec }
}
