// /services and /tasks.

import { serviceSpecDecoder } from '../../api/validation/service-decoder.ts'
import { CodedError } from '../../lib/errors.ts'
import { withField } from '../../manager/control/encoding.ts'
import { parseFilters } from '../../manager/control/filters.ts'
import { find } from '../../manager/control/lookup.ts'
import {
  encodeLegacyService,
  encodeService,
  encodeServiceWithDefaults,
  encodeTask,
} from '../../manager/control/render.ts'
import {
  createService,
  listServices,
  removeService,
  requireContainerService,
  SERVICE_FILTERS,
  serviceStatus,
  updateService,
} from '../../manager/control/services.ts'
import { listTasks, TASK_FILTERS } from '../../manager/control/tasks.ts'
import {
  booleanParameter,
  type Call,
  decodeJson,
  parameter,
  sendEmpty,
  sendJson,
  sendJsonText,
  sendList,
  versionParameter,
} from './call.ts'
import { streamLogs } from './logs-route.ts'
import type { ManagerState } from './node-state.ts'
import type { Route } from './router.ts'
import { controlOf, type ServerContext } from './server-context.ts'
import { specForVersion } from './spec-versions.ts'

function registryAuth(call: Call): string {
  const header = call.request.headers['x-registry-auth']
  return typeof header === 'string' ? header : ''
}

async function list(server: ServerContext, call: Call, state: ManagerState): Promise<void> {
  const filters = parseFilters(parameter(call, 'filters'), SERVICE_FILTERS)
  const status = call.version >= 41 && booleanParameter(call, 'status')
  const services = listServices(state.view, filters)
  const encode = call.version < 25 ? encodeLegacyService : encodeService
  await sendList(
    call,
    server.clock,
    (function* () {
      for (const service of services) {
        const encoded = encode(service)
        yield status ? withField(encoded, 'ServiceStatus', JSON.stringify(serviceStatus(state.view, service))) : encoded
      }
    })(),
  )
}

/** A network that is not the cluster's may be this machine's: Docker says then what is wrong with it. */
async function explainNetwork(server: ServerContext, error: unknown): Promise<never> {
  if (error instanceof CodedError && error.code === 'NO_SUCH_OBJECT' && error.details.kind === 'network') {
    const name = String(error.details.input)
    const path = await server.engine.versionedPath(41, `/networks/${encodeURIComponent(name)}`)
    if ((await server.engine.get(path)).status === 200) {
      throw new CodedError(
        'FORBIDDEN',
        `The network ${name} cannot be used with services. Only networks scoped to the swarm can be used, such as those created with the overlay driver.`,
      )
    }
  }
  throw error
}

export function serviceRoutes(server: ServerContext): readonly Route[] {
  return [
    { place: 'manager', method: 'GET', path: '/services', handle: (call, state) => list(server, call, state) },
    {
      place: 'leader',
      method: 'POST',
      path: '/services/create',
      handle: async (call, state) => {
        const spec = specForVersion(decodeJson(call, serviceSpecDecoder), call.version)
        const { id, warnings } = await createService(controlOf(server, state, call), spec, registryAuth(call)).catch(
          (error: unknown) => explainNetwork(server, error),
        )
        sendJson(call, 201, { ID: id, ...(warnings.length > 0 ? { Warnings: warnings } : {}) })
      },
    },
    {
      place: 'manager',
      method: 'GET',
      path: '/services/{id}',
      handle: async (call, state) => {
        const defaults = booleanParameter(call, 'insertDefaults')
        const service = find(state.view, 'service', call.id)
        const encode = call.version < 25 ? encodeLegacyService : defaults ? encodeServiceWithDefaults : encodeService
        sendJsonText(call, 200, encode(service))
      },
    },
    {
      place: 'leader',
      method: 'POST',
      path: '/services/{id}/update',
      handle: async (call, state) => {
        const spec = specForVersion(decodeJson(call, serviceSpecDecoder), call.version)
        const warnings = await updateService(controlOf(server, state, call), {
          service: call.id,
          version: versionParameter(call, 'service'),
          spec,
          registryAuth: registryAuth(call),
          registryAuthFrom: parameter(call, 'registryAuthFrom'),
          rollback: parameter(call, 'rollback'),
        }).catch((error: unknown) => explainNetwork(server, error))
        sendJson(call, 200, { Warnings: warnings.length > 0 ? warnings : null })
      },
    },
    {
      place: 'leader',
      method: 'DELETE',
      path: '/services/{id}',
      handle: async (call, state) => {
        await removeService(controlOf(server, state, call), call.id)
        sendEmpty(call, 200)
      },
    },
    {
      place: 'leader',
      method: 'GET',
      path: '/services/{id}/logs',
      handle: async (call, state) => {
        const service = find(state.view, 'service', call.id)
        requireContainerService(service)
        await streamLogs(call, server.cluster, state, {
          serviceId: service.id,
          tasks: state.view.tasksOfService(service.id),
          tty: service.spec.TaskTemplate?.ContainerSpec?.TTY ?? false,
        })
      },
    },
    {
      place: 'manager',
      method: 'GET',
      path: '/tasks',
      handle: async (call, state) => {
        const tasks = listTasks(state.view, parseFilters(parameter(call, 'filters'), TASK_FILTERS))
        await sendList(
          call,
          server.clock,
          (function* () {
            for (const task of tasks) yield encodeTask(state.view, task)
          })(),
        )
      },
    },
    {
      place: 'manager',
      method: 'GET',
      path: '/tasks/{id}',
      handle: async (call, state) => sendJsonText(call, 200, encodeTask(state.view, find(state.view, 'task', call.id))),
    },
    {
      place: 'leader',
      method: 'GET',
      path: '/tasks/{id}/logs',
      handle: async (call, state) => {
        const task = find(state.view, 'task', call.id)
        await streamLogs(call, server.cluster, state, {
          serviceId: undefined,
          tasks: [task],
          tty: task.spec.ContainerSpec?.TTY ?? false,
        })
      },
    },
  ]
}
