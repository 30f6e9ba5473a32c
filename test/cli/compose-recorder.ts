// A daemon that takes a stack and remembers what it was sent: `docker stack deploy` and `swarmctl stack deploy` speak to
// the same one, and what they send is compared. It has a network, a secret and a config of every name that it is asked for.

import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'

export interface Recorded {
  /** "POST /services/create" */
  readonly call: string
  readonly query: Readonly<Record<string, string>>
  readonly body: Readonly<Record<string, unknown>>
}

interface Stored {
  readonly id: string
  readonly version: number
  readonly spec: Readonly<Record<string, unknown>>
}

type Kind = 'networks' | 'services' | 'secrets' | 'configs'

const idOf = (name: string) => `id-of-${name}`

export class StackRecorder {
  readonly #objects: Record<Kind, Map<string, Stored>> = {
    networks: new Map(),
    services: new Map(),
    secrets: new Map(),
    configs: new Map(),
  }
  readonly #server = createServer((request, response) => void this.#answer(request, response))
  #calls: Recorded[] = []

  async listen(socket: string): Promise<void> {
    this.#server.listen(socket)
    await once(this.#server, 'listening')
  }

  close(): void {
    this.#server.close()
    this.#server.closeAllConnections()
  }

  /** What changed something since the last time, in the order of kinds and names. */
  take(): readonly Recorded[] {
    const kinds = ['networks', 'secrets', 'configs', 'services']
    const rank = ({ call, body }: Recorded) => `${kinds.indexOf(call.split('/')[1]!)} ${String(body.Name)} ${call}`
    const taken = this.#calls.sort((a, b) => (rank(a) < rank(b) ? -1 : 1))
    this.#calls = []
    return taken
  }

  /** As if a person had run `service update --force` three times on each service. */
  force(): void {
    for (const [name, stored] of this.#objects.services) {
      const template = stored.spec.TaskTemplate as Readonly<Record<string, unknown>>
      const spec = { ...stored.spec, TaskTemplate: { ...template, ForceUpdate: 3 } }
      this.#objects.services.set(name, { ...stored, spec, version: stored.version + 3 })
    }
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://daemon')
    const path = url.pathname.replace(/^\/v[0-9.]+/, '')
    const text = await readText(request)
    const body = text === '' ? {} : (JSON.parse(text) as Readonly<Record<string, unknown>>)
    const [, kind = '', ref, action] = path.split('/').map(decodeURIComponent)
    const send = (status: number, answer: unknown) => {
      response.writeHead(status, { 'content-type': 'application/json', 'api-version': '1.51', ostype: 'linux' })
      response.end(request.method === 'HEAD' ? '' : JSON.stringify(answer))
    }
    if (path === '/_ping') return send(200, 'OK')
    if (path.startsWith('/swarmd/')) return send(404, { message: 'page not found' })
    if (path === '/info') return send(200, { Swarm: { ControlAvailable: true, LocalNodeState: 'active' } })
    const objects = (this.#objects as Readonly<Record<string, Map<string, Stored>>>)[kind]
    if (!objects) return send(200, [])
    if (request.method === 'POST') {
      this.#calls.push({ call: `POST ${path}`, query: Object.fromEntries(url.searchParams), body })
      const name = String(body.Name)
      const stored = { id: idOf(name), version: ref === 'create' ? 10 : 11, spec: body }
      objects.set(name, stored)
      return send(ref === 'create' ? 201 : 200, action ? {} : { ID: stored.id, Id: stored.id })
    }
    const shown: (stored: Stored) => object = kind === 'networks' ? showNetwork : showObject
    if (ref !== undefined) {
      const stored = [...objects.values()].find(({ id, spec }) => spec.Name === ref || id === ref)
      if (stored) return send(200, shown(stored))
      if (kind === 'networks') return send(200, { Name: ref, Id: idOf(ref), Scope: 'swarm' })
      return send(404, { message: `${kind.slice(0, -1)} ${ref} not found` })
    }
    const filters = JSON.parse(url.searchParams.get('filters') ?? '{}') as Record<string, Record<string, boolean>>
    const names = Object.keys(filters.name ?? {})
    const external = names.filter((name) => !objects.has(name))
    return send(200, [
      ...[...objects.values()].filter(({ spec }) => names.length === 0 || names.includes(String(spec.Name))).map(shown),
      ...external.map((name) => shown({ id: idOf(name), version: 1, spec: { Name: name } })),
    ])
  }
}

const showNetwork = ({ id, spec }: Stored) => ({ Id: id, Name: spec.Name, Scope: 'swarm', Labels: spec.Labels ?? {} })
const showObject = ({ id, version, spec }: Stored) => ({ ID: id, Version: { Index: version }, Spec: spec })

async function readText(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString()
}
