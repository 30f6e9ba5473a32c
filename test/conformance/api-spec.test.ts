// Responses against Docker's own description of its API, where that file stands beside the project: every field that we
// answer with is one of Docker's, of Docker's type.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Ajv } from 'ajv'
import t from 'tap'
import { parse } from 'yaml'
import { ask } from '../support/api-client.ts'
import { NODE_ID } from '../support/api-cluster.ts'
import { aNode, aTask, statusOf } from '../support/objects.ts'
import { serveApi } from '../support/served-api.ts'

const DESCRIPTION = join(process.cwd(), '../shared/specs/docker-engine-api-v1.51.yaml')

type Json = { readonly [key: string]: unknown }

function asObject(value: unknown): Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : {}
}

/**
 * A Swagger 2 schema as JSON Schema in which every field may be null (Go's nil), and no field may stand that the
 * description does not have.
 */
function jsonSchema(schema: Json, definitions: Json, depth = 0): unknown {
  if (depth > 24) return {}
  const inner = (value: unknown) => jsonSchema(asObject(value), definitions, depth + 1)
  if (typeof schema.$ref === 'string') return inner(definitions[schema.$ref.replace('#/definitions/', '')])
  if (Array.isArray(schema.allOf)) {
    const parts = schema.allOf.map((part) => {
      const one = asObject(part)
      return typeof one.$ref === 'string' ? asObject(definitions[one.$ref.replace('#/definitions/', '')]) : one
    })
    const [only] = parts
    if (parts.length === 1 && only !== undefined && only.properties === undefined) return inner(only)
    const properties = Object.assign({}, ...parts.map((part) => asObject(part.properties)))
    return inner({ type: 'object', properties })
  }
  const nullable = typeof schema.type === 'string' ? { type: [schema.type, 'null'] } : {}
  if (schema.type === 'array') return { ...nullable, items: inner(schema.items) }
  if (schema.type === 'object' || schema.properties !== undefined) {
    const properties = Object.entries(asObject(schema.properties)).map(([name, value]) => [name, inner(value)])
    const map = schema.additionalProperties
    const additionalProperties =
      map === undefined ? properties.length === 0 : typeof map === 'object' ? inner(map) : map
    return { ...nullable, properties: Object.fromEntries(properties), additionalProperties }
  }
  const values = Array.isArray(schema.enum) ? { enum: [...schema.enum, null] } : {}
  return { ...nullable, ...values }
}

function responseSchema(description: Json, method: string, path: string, status: number): unknown {
  const operation = asObject(asObject(asObject(description.paths)[path])[method.toLowerCase()])
  const response = asObject(asObject(operation.responses)[String(status)])
  return jsonSchema(asObject(response.schema), asObject(description.definitions))
}

/** What dockerd answers with and its description lacks: fields by name, and a place that it describes as another object. */
const FORGOTTEN_FIELDS = new Set(['PreviousSpec', 'Healthcheck', 'ID'])
const MISDESCRIBED = /\/NetworksAttachments\/\d+\/Network$/

const SPEC = {
  Name: 'web',
  Labels: { a: 'b' },
  TaskTemplate: {
    ContainerSpec: {
      Image: 'nginx:1',
      Args: ['x'],
      Env: ['A=b'],
      Healthcheck: { Test: ['CMD', 'true'], Interval: 1_000_000_000 },
      Mounts: [{ Type: 'volume', Source: 'v', Target: '/v', VolumeOptions: { NoCopy: true } }],
      Ulimits: [{ Name: 'nofile', Soft: 1, Hard: 2 }],
    },
    Resources: {
      Limits: { NanoCPUs: 1e9, Pids: 5 },
      Reservations: { GenericResources: [{ DiscreteResourceSpec: { Kind: 'gpu', Value: 1 } }] },
    },
    Placement: {
      Constraints: ['node.role==worker'],
      Preferences: [{ Spread: { SpreadDescriptor: 'node.labels.zone' } }],
    },
    LogDriver: { Name: 'json-file', Options: { 'max-size': '1m' } },
  },
  Mode: { Replicated: { Replicas: 2 } },
  UpdateConfig: { Parallelism: 1, Delay: 1 },
  EndpointSpec: { Ports: [{ TargetPort: 80, PublishedPort: 8080 }] },
}

if (!existsSync(DESCRIPTION)) t.pass('the description of the API is not here: nothing to compare with')
else {
  t.test('responses are as Docker describes them', async (t) => {
    const description = asObject(parse(readFileSync(DESCRIPTION, 'utf8')))
    const { socket, cluster } = await serveApi(t)

    const ajv = new Ajv({ strict: false, allErrors: true })
    const check = async (method: string, template: string, path = template, body?: unknown) => {
      const answer = await ask(socket, method, path, body === undefined ? {} : { body })
      t.ok(answer.status < 300, `${method} ${path}: ${answer.status} ${answer.message}`)
      const validate = ajv.compile(
        asObject(responseSchema(description, method, template.replace(/\?.*/, ''), answer.status)),
      )
      const problems = validate(answer.json)
        ? []
        : (validate.errors ?? [])
            .filter(
              ({ instancePath, params }) =>
                !FORGOTTEN_FIELDS.has(String(params.additionalProperty)) && !MISDESCRIBED.test(instancePath),
            )
            .map(({ instancePath, message, params }) => `${instancePath} ${message} ${JSON.stringify(params)}`)
      t.same(problems, [], `${method} ${path}`)
      return asObject(answer.json)
    }

    await check('POST', '/swarm/init', '/swarm/init', { ListenAddr: '0.0.0.0:2377' })
    cluster.addIngress()
    await check('GET', '/swarm')
    const { ID: id } = await check('POST', '/services/create', '/services/create', SPEC)
    const service = await check('GET', '/services/{id}', '/services/web?insertDefaults=true')
    const version = asObject(service.Version).Index
    await check('POST', '/services/{id}/update', `/services/web/update?version=${version}`, SPEC)
    await check('GET', '/services/{id}', '/services/web')
    await check('GET', '/services', '/services?status=true')
    const network = await check('POST', '/networks/create', '/networks/create', { Name: 'over', Driver: 'overlay' })
    await check('GET', '/networks')
    await check('GET', '/networks/{id}', '/networks/over')
    cluster.apply([
      { kind: 'create', object: aNode('w1') },
      {
        kind: 'create',
        object: aTask('t1', String(id), {
          nodeId: NODE_ID,
          status: statusOf('running', {
            container: { ContainerID: 'c', PID: 1 },
            error: 'x',
            ports: [{ Protocol: 'tcp', TargetPort: 80, PublishedPort: 80, PublishMode: 'host' }],
          }),
          attachments: [{ networkId: String(network.Id), addresses: ['10.0.0.3/24'], aliases: [] }],
        }),
      },
    ])
    await check('GET', '/tasks')
    await check('GET', '/tasks/{id}', '/tasks/t1')
    await check('GET', '/nodes')
    await check('GET', '/nodes/{id}', `/nodes/${NODE_ID}`)
    const file = { Name: 'one', Data: 'aGk=', Labels: { a: 'b' } }
    await check('POST', '/secrets/create', '/secrets/create', file)
    await check('GET', '/secrets')
    await check('GET', '/secrets/{id}', '/secrets/one')
    await check('POST', '/configs/create', '/configs/create', file)
    await check('GET', '/configs')
    await check('GET', '/configs/{id}', '/configs/one')
    await check('GET', '/info')
    await check('GET', '/version')
    await check('GET', '/swarm/unlockkey')
  })
}
