// /nodes, /secrets and /configs.

import { configSpecDecoder, nodeSpecDecoder, secretSpecDecoder } from '../../api/validation/object-decoders.ts'
import { refusal } from '../../api/validation/refusal.ts'
import { parseFilters } from '../../manager/control/filters.ts'
import { find } from '../../manager/control/lookup.ts'
import { listNodes, NODE_FILTERS, removeNode, updateNode } from '../../manager/control/nodes.ts'
import { encodeConfig, encodeNode, encodeSecret } from '../../manager/control/render.ts'
import {
  CONFIG_FILTERS,
  createConfig,
  createSecret,
  listSecretsOrConfigs,
  removeUnused,
  SECRET_FILTERS,
  updateLabels,
} from '../../manager/control/secrets-configs.ts'
import { versionText } from './api-version.ts'
import {
  type Call,
  decodeJson,
  flagParameter,
  parameter,
  sendEmpty,
  sendJson,
  sendJsonText,
  sendList,
  versionParameter,
} from './call.ts'
import { sightOf } from './node-state.ts'
import type { Route } from './router.ts'
import { controlOf, type ServerContext } from './server-context.ts'

/** The leader answers: it knows which managers are reachable. `self` is no name here: the CLI asks /info for its id. */
export function nodeRoutes(server: ServerContext): readonly Route[] {
  return [
    {
      place: 'leader',
      method: 'GET',
      path: '/nodes',
      handle: async (call, state) => {
        const nodes = listNodes(state.view, parseFilters(parameter(call, 'filters'), NODE_FILTERS))
        const sight = sightOf(state)
        await sendList(
          call,
          server.clock,
          nodes.map((node) => encodeNode(node, sight)),
        )
      },
    },
    {
      place: 'leader',
      method: 'GET',
      path: '/nodes/{id}',
      handle: async (call, state) =>
        sendJsonText(call, 200, encodeNode(find(state.view, 'node', call.id), sightOf(state))),
    },
    {
      place: 'leader',
      method: 'POST',
      path: '/nodes/{id}/update',
      handle: async (call, state) => {
        const version = versionParameter(call, 'node')
        const spec = decodeJson(call, nodeSpecDecoder)
        await updateNode(controlOf(server, state, call), sightOf(state), call.id, version, spec)
        sendEmpty(call, 200)
      },
    },
    {
      place: 'leader',
      method: 'DELETE',
      path: '/nodes/{id}',
      handle: async (call, state) => {
        await removeNode(controlOf(server, state, call), call.id, flagParameter(call, 'force'))
        sendEmpty(call, 200)
      },
    },
  ]
}

function templatingSince137(call: Call, what: string, templating: unknown): void {
  if (templating !== undefined && call.version < 37) {
    throw refusal(`${what} templating is not supported on the specified API version: ${versionText(call.version)}`)
  }
}

export function secretRoutes(server: ServerContext): readonly Route[] {
  return [
    {
      place: 'manager',
      method: 'GET',
      path: '/secrets',
      handle: async (call, state) => {
        const filters = parseFilters(parameter(call, 'filters'), SECRET_FILTERS)
        await sendList(call, server.clock, listSecretsOrConfigs(state.view, 'secret', filters).map(encodeSecret))
      },
    },
    {
      place: 'leader',
      method: 'POST',
      path: '/secrets/create',
      handle: async (call, state) => {
        const spec = decodeJson(call, secretSpecDecoder)
        templatingSince137(call, 'secret', spec.Templating)
        sendJson(call, 201, { ID: await createSecret(controlOf(server, state, call), spec) })
      },
    },
    {
      place: 'manager',
      method: 'GET',
      path: '/secrets/{id}',
      handle: async (call, state) => sendJsonText(call, 200, encodeSecret(find(state.view, 'secret', call.id))),
    },
    {
      place: 'leader',
      method: 'POST',
      path: '/secrets/{id}/update',
      handle: async (call, state) => {
        const spec = decodeJson(call, secretSpecDecoder)
        await updateLabels(controlOf(server, state, call), 'secret', call.id, versionParameter(call, 'secret'), spec)
        sendEmpty(call, 200)
      },
    },
    {
      place: 'leader',
      method: 'DELETE',
      path: '/secrets/{id}',
      handle: async (call, state) => {
        await removeUnused(controlOf(server, state, call), 'secret', call.id)
        sendEmpty(call, 204)
      },
    },
  ]
}

export function configRoutes(server: ServerContext): readonly Route[] {
  return [
    {
      place: 'manager',
      method: 'GET',
      path: '/configs',
      handle: async (call, state) => {
        const filters = parseFilters(parameter(call, 'filters'), CONFIG_FILTERS)
        const configs = listSecretsOrConfigs(state.view, 'config', filters)
        await sendList(
          call,
          server.clock,
          (function* () {
            for (const config of configs) yield encodeConfig(config)
          })(),
        )
      },
    },
    {
      place: 'leader',
      method: 'POST',
      path: '/configs/create',
      handle: async (call, state) => {
        const spec = decodeJson(call, configSpecDecoder)
        templatingSince137(call, 'config', spec.Templating)
        sendJson(call, 201, { ID: await createConfig(controlOf(server, state, call), spec) })
      },
    },
    {
      place: 'manager',
      method: 'GET',
      path: '/configs/{id}',
      handle: async (call, state) => sendJsonText(call, 200, encodeConfig(find(state.view, 'config', call.id))),
    },
    {
      place: 'leader',
      method: 'POST',
      path: '/configs/{id}/update',
      handle: async (call, state) => {
        const spec = decodeJson(call, configSpecDecoder)
        await updateLabels(controlOf(server, state, call), 'config', call.id, versionParameter(call, 'config'), spec)
        sendEmpty(call, 200)
      },
    },
    {
      place: 'leader',
      method: 'DELETE',
      path: '/configs/{id}',
      handle: async (call, state) => {
        await removeUnused(controlOf(server, state, call), 'config', call.id)
        sendEmpty(call, 204)
      },
    },
  ]
}
